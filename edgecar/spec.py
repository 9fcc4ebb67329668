"""Types that every layer uses. Standard library only."""

from typing import Literal, cast, get_args

Size = tuple[int, int]
"""``(height, width)`` in pixels."""

Context = Literal["local", "windowed"]
"""``local``: finite receptive field, tiling is exact. ``windowed``: a tile is its own picture."""

Precision = Literal["fp32", "tf32", "bf16", "fp16", "int8"]
"""Arithmetic of an engine. ``tf32``: products of 32-bit values cut to ten bits of mantissa."""

Coder = Literal["jpeg", "h264", "hevc"]
"""Coder whose artifacts a network was trained to remove. Weights are made for one coder."""

CODERS: tuple[Coder, ...] = get_args(Coder)

Purpose = Literal["view", "detect"]
"""Use of restored pictures: people view them, or a detector searches them."""

WeightsFor = Literal["jpeg", "h264", "hevc", "h264:detect"]
"""Coder that weights are made for, and after a colon the purpose of those that are not to view."""

WEIGHTS_FOR: tuple[WeightsFor, ...] = get_args(WeightsFor)


def coder_and_purpose(weights_for: WeightsFor) -> tuple[Coder, Purpose]:
    """Take apart what weights are for.

    Example:
        >>> coder_and_purpose("h264:detect"), coder_and_purpose("jpeg")
        (('h264', 'detect'), ('jpeg', 'view'))
    """
    coder, _, purpose = weights_for.partition(":")
    return cast(Coder, coder), cast(Purpose, purpose or "view")


def weights_for_purpose(coder: Coder, purpose: Purpose) -> WeightsFor:
    """Name what weights are for; the inverse of `coder_and_purpose`."""
    return cast(WeightsFor, coder if purpose == "view" else f"{coder}:{purpose}")


Rect = tuple[int, int, int, int]
"""``(top, left, bottom, right)`` in pixels; bottom and right are exclusive."""

Policy = Literal["block", "newest"]
"""Choice for frames that arrive faster than they are restored: wait, or keep the newest."""

QUANTISER = "quantiser"
"""Name of the second input of networks that are told how coarsely a picture was coded."""

MIDDLE_QUANTISER = 0.5
"""Quantiser, from 0 (lossless) to 1, that stands for an unknown one: the middle of the range."""
