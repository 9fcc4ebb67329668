"""Types that every layer uses. Standard library only."""

from typing import Literal, get_args

Size = tuple[int, int]
"""``(height, width)`` in pixels."""

Context = Literal["local", "windowed"]
"""``local``: finite receptive field, tiling is exact. ``windowed``: a tile is its own picture."""

Precision = Literal["fp32", "tf32", "bf16", "fp16", "int8"]
"""Arithmetic of an engine. ``tf32``: products of 32-bit values cut to ten bits of mantissa."""

Coder = Literal["jpeg", "h264", "hevc"]
"""Coder whose artifacts a network was trained to remove. Weights are made for one coder."""

CODERS: tuple[Coder, ...] = get_args(Coder)

Rect = tuple[int, int, int, int]
"""``(top, left, bottom, right)`` in pixels; bottom and right are exclusive."""

Policy = Literal["block", "newest"]
"""Choice for frames that arrive faster than they are restored: wait, or keep the newest."""

QUANTISER = "quantiser"
"""Name of the second input of networks that are told how coarsely a picture was coded."""

MIDDLE_QUANTISER = 0.5
"""Quantiser, from 0 (lossless) to 1, that stands for an unknown one: the middle of the range."""
