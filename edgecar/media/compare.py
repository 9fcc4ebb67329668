"""Before and after in one picture."""

from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edgecar.media.facts import NO_NOTES, StreamFacts
from edgecar.media.frame import Frame

Layout = Literal["split", "side"]
"""``split``: left half before, right half after. ``side``: both whole, beside each other."""

DIVIDER_PX = 2  # white line between before and after
WHITE, GREY = 235, 128  # luma code that is white enough in either range; chroma code of no colour


def compared(before: Frame, after: Frame, layout: Layout) -> Frame:
    """Return a frame that shows ``before`` left of ``after``, with the facts of ``after``.

    Its size is that of `compared_facts`.
    """
    half = after.size[1] // 2  # in chroma columns; an odd last column is left out
    return replace(
        after,
        y=_joined(before.y[:, : 2 * half], after.y[:, : 2 * half], layout, WHITE, DIVIDER_PX),
        u=_joined(before.u[:, :half], after.u[:, :half], layout, GREY, DIVIDER_PX // 2),
        v=_joined(before.v[:, :half], after.v[:, :half], layout, GREY, DIVIDER_PX // 2),
    )


def compared_facts(facts: StreamFacts, layout: Layout) -> StreamFacts:
    """Return the facts of a stream of compared frames. Audio and notes are in the restored file."""
    height, width = facts.size
    shown = width // 2 * 2 * (2 if layout == "side" else 1)
    return replace(facts, size=(height, shown), audio_from=None, sound=None, notes=NO_NOTES)


def compared_pictures(
    before: NDArray[np.uint8], after: NDArray[np.uint8], layout: Layout
) -> NDArray[np.uint8]:
    """Join two ``(H, W, 3)`` pictures."""
    return _joined(before, after, layout, 255, DIVIDER_PX)


def _joined(
    before: NDArray[np.uint8], after: NDArray[np.uint8], layout: Layout, fill: int, divider_px: int
) -> NDArray[np.uint8]:
    """Join both with a divider of ``fill`` over the last columns of ``before``."""
    width = before.shape[1]
    # A multiple of four luma columns is a whole number of chroma columns in both halves.
    seam = width if layout == "side" else width // (2 * divider_px) * divider_px
    rest = after if layout == "side" else after[:, seam:]
    joined = np.concatenate([before[:, :seam], rest], axis=1)
    joined[:, max(0, seam - divider_px) : seam] = fill
    return joined
