"""The quantiser of a coder on one scale for networks: 0 is lossless, 1 the coarsest there is."""

import math
from collections import deque
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgecar.media.coding import luma_table
from edgecar.media.video_codec import HIGHEST_QUANTISER

COARSEST_STEP = 256  # of JPEG: tables in eight bits end at 255

# A quantiser that follows every frame makes still pixels flicker two to three times as much, and
# nothing computed for the frame before could be used again.
MEAN_OF_FRAMES = 12
HELD_QP = 2.0  # change of the mean for which the quantiser moves
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


class SlowQuantiser:
    """The quantiser of a stream, which moves a few times a minute at most.

    It is the mean QP of the last twelve frames, kept until the mean moves by more than two, and
    rounded to a multiple of three.
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
            if self._qp is None or abs(mean - self._qp) > HELD_QP:
                self._qp = QP_STEP * round(mean / QP_STEP)
        return None if self._qp is None else quantiser_from_qp(self._qp)
