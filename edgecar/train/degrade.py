"""Coders that a network learns to undo."""

from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

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


def jpeg_coded(luma: Luma, quality: int) -> Luma:
    """A grey picture after JPEG at ``quality`` (1 to 100), as all published tables code it."""
    _, code = cv2.imencode(".jpg", luma, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(code, cv2.IMREAD_GRAYSCALE), dtype=np.uint8)
