"""Coders that a network learns to undo."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edgecar.media.still_codec import jpeg_coded

Luma = NDArray[np.uint8]


class Degradation(Protocol):
    """Turns a clean picture into what a camera would send of it."""

    @property
    def name(self) -> str:
        """Short description, stored with the weights: ``jpeg 10-40``."""
        ...

    def __call__(self, luma: Luma, rng: np.random.Generator) -> Luma:
        """The coded picture, ``(H, W)`` like the clean one."""
        ...


class Jpeg:
    """JPEG at a quality drawn anew for every picture.

    Args:
        low: Lowest quality, 1 to 100.
        high: Highest quality, inclusive.
    """

    def __init__(self, low: int, high: int) -> None:
        self.low, self.high = low, high

    @property
    def name(self) -> str:
        return f"jpeg {self.low}-{self.high}"

    def __call__(self, luma: Luma, rng: np.random.Generator) -> Luma:
        return jpeg_coded(luma, int(rng.integers(self.low, self.high + 1)))
