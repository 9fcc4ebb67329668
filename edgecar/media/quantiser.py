"""The quantiser of a coder on one scale for networks: 0 is lossless, 1 the coarsest there is."""

import math
from collections import deque
from collections.abc import Iterable, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from edgecar.spec import MIDDLE_QUANTISER

HIGHEST_QUANTISER = 51  # QP and CRF of H.264 and HEVC
COARSEST_STEP = 256  # of JPEG: tables in eight bits end at 255

LUMA_AT_50 = np.array(
    [
        [16, 11, 12, 14, 12, 10, 16, 14, 13, 14, 18, 17, 16, 19, 24, 40],
        [26, 24, 22, 22, 24, 49, 35, 37, 29, 40, 58, 51, 61, 60, 57, 51],
        [56, 55, 64, 72, 92, 78, 64, 68, 87, 69, 55, 56, 80, 109, 81, 87],
        [95, 98, 103, 104, 103, 62, 77, 113, 121, 112, 100, 120, 92, 101, 103, 99],
    ]
).ravel()
"""Luma quantisation of JPEG's quality 50, in zigzag order (ITU-T T.81, table K.1)."""

# A quantiser that follows every frame makes still pixels flicker two to three times as much, and
# nothing computed for the frame before could be used again.
MEAN_OF_FRAMES = 24
FIRST_FRAMES = 12
HELD_QP = 3.0  # change of the mean for which the quantiser moves
QP_STEP = 3  # held quantisers are multiples of it


def quantiser_from_qp(qp: float) -> float:
    """Return the quantiser of a QP of H.264 or HEVC, 0 to 51; what lies outside is clipped.

    Example:
        >>> quantiser_from_qp(25.5)
        0.5
    """
    return min(max(qp / HIGHEST_QUANTISER, 0.0), 1.0)


def quantiser_from_jpeg_steps(steps: Sequence[int] | NDArray[np.integer]) -> float:
    """Return the quantiser of a JPEG's luma table: its mean step, on a logarithmic scale.

    Example:
        >>> quantiser_from_jpeg_steps([1] * 64), quantiser_from_jpeg_steps([16] * 64)
        (0.0, 0.5)
    """
    mean = min(max(float(np.mean(steps)), 1.0), COARSEST_STEP)
    return math.log2(mean) / math.log2(COARSEST_STEP)


def quantiser_from_jpeg_quality(quality: int) -> float:
    """Return the quantiser of a quality setting, 1 to 100, of the usual libraries.

    Example:
        >>> quantiser_from_jpeg_quality(100)
        0.0
    """
    return quantiser_from_jpeg_steps(luma_table(quality))


def luma_table(quality: int) -> NDArray[np.int64]:
    """Return the luma table of a quality, 1 to 100, in zigzag order (libjpeg's jpeg_set_quality).

    Example:
        >>> luma_table(50)[:3]
        array([16, 11, 12])
    """
    percent = 5000 // quality if quality < 50 else 200 - 2 * quality
    table: NDArray[np.int64] = np.clip((LUMA_AT_50 * percent + 50) // 100, 1, 255)
    return table


def jpeg_quality_from_quantiser(quantiser: float) -> int:
    """Return the quality setting whose quantiser is nearest, 1 to 100; the finest of equal ones.

    Example:
        >>> jpeg_quality_from_quantiser(quantiser_from_jpeg_quality(35))
        35
    """
    return 100 - int(np.abs(_quantisers_of_qualities() - quantiser).argmin())


@lru_cache
def _quantisers_of_qualities() -> NDArray[np.float64]:
    """Quantisers of qualities 100 down to 1."""
    return np.array([quantiser_from_jpeg_quality(quality) for quality in range(100, 0, -1)])


class SlowQuantiser:
    """The quantiser of a stream, which moves a few times a minute at most.

    It is the mean QP of the last 24 frames, kept until the mean moves by more than three, and
    rounded to a multiple of three. The first frame's own is kept until there are twelve.
    """

    def __init__(self) -> None:
        self._last: deque[float] = deque(maxlen=MEAN_OF_FRAMES)
        self._qp: int | None = None

    def after(self, qp: float | None) -> float | None:
        """Take the mean QP of the next frame; return the quantiser, None before any is known.

        A frame without a QP, such as a damaged one, changes nothing.
        """
        if qp is not None:
            self._last.append(qp)
            mean = sum(self._last) / len(self._last)
            if self._qp is None or (
                len(self._last) >= FIRST_FRAMES and abs(mean - self._qp) > HELD_QP
            ):
                self._qp = QP_STEP * round(mean / QP_STEP)
        return None if self._qp is None else quantiser_from_qp(self._qp)


def slow_quantisers(qps: Iterable[float | None]) -> list[float]:
    """Return the quantiser of each frame of a stream, as at run time; the middle where unknown.

    Example:
        >>> slow_quantisers([None, 29.0, 31.5, 51.0])
        [0.5, 0.5882352941176471, 0.5882352941176471, 0.5882352941176471]
    """
    slow = SlowQuantiser()
    found = (slow.after(qp) for qp in qps)
    return [MIDDLE_QUANTISER if quantiser is None else quantiser for quantiser in found]
