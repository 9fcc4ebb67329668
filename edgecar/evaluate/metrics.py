"""Quality of 8-bit luma (PSNR, SSIM, PSNR-B, flicker; reference first), and BD-rate of coders."""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from edgecar.errors import DataError

Luma = NDArray[np.uint8]
Window = Literal["gaussian", "uniform"]

PEAK = 255.0
PSNR_CAP_DB = 100.0
"""Stands for the infinite PSNR of equal pictures, which no mean could hold."""
C1, C2 = (0.01 * PEAK) ** 2, (0.03 * PEAK) ** 2  # Wang et al. 2004, K1 and K2
WINDOW_PX = {"gaussian": 11, "uniform": 7}
SIGMA_PX = 1.5
BLOCK_PX = 8  # of the JPEG and H.264 transforms
DEGREE = 3  # of the polynomial of BD-rate
STILL_CODES = 2
"""Largest change of a source pixel, in codes, that still counts as noise."""


def psnr(reference: Luma, picture: Luma) -> float:
    """Peak signal-to-noise ratio in dB of uint8 pictures of one shape; infinite if they are equal.

    Raises:
        DataError: The shapes differ or the codes are not uint8.
    """
    return _decibels(_mean_squared_error(reference, picture))


def capped_psnr(reference: Luma, picture: Luma) -> float:
    """PSNR for means: at most 100 dB, also for equal pictures."""
    return min(PSNR_CAP_DB, psnr(reference, picture))


def ssim(reference: Luma, picture: Luma, *, window: Window = "gaussian") -> float:
    """Mean structural similarity of ``(H, W)`` uint8 pictures; 1 if they are equal.

    Wang et al., "Image Quality Assessment: From Error Visibility to Structural Similarity", IEEE
    TIP 2004: K1 .01, K2 .03, L 255, windows that lie wholly inside the picture. Tables differ in
    the window, so it must be named beside the numbers:

    - ``gaussian``: 11×11, σ 1.5, population covariance, as in Wang et al. and most papers.
    - ``uniform``: 7×7 mean, sample covariance: scikit-image's default, and that of table 6 of
      the MSFAN paper (JPEG on Classic5: .769, .845, .876; the Gaussian gives .760, .834, .867).

    Raises:
        DataError: The pictures do not match, or a side is shorter than the window.
    """
    side = WINDOW_PX[window]
    _check_pair(reference, picture, side)
    margin = slice(side // 2, -(side // 2))  # windows there leave the picture
    scale = 1.0 if window == "gaussian" else side**2 / (side**2 - 1)

    def mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
        if window == "gaussian":
            blurred = cv2.GaussianBlur(values, (side, side), SIGMA_PX)
        else:
            blurred = cv2.blur(values, (side, side))
        return np.asarray(blurred[margin, margin], dtype=np.float64)

    x, y = reference.astype(np.float64), picture.astype(np.float64)
    mean_x, mean_y = mean(x), mean(y)
    spread_x = scale * (mean(x * x) - mean_x**2)
    spread_y = scale * (mean(y * y) - mean_y**2)
    shared = scale * (mean(x * y) - mean_x * mean_y)
    likeness = (2 * mean_x * mean_y + C1) * (2 * shared + C2)
    likeness /= (mean_x**2 + mean_y**2 + C1) * (spread_x + spread_y + C2)
    return float(likeness.mean())


def psnr_b(reference: Luma, picture: Luma) -> float:
    """PSNR in dB with the visibility of the 8×8 blocks of ``picture`` added to the error.

    Yim and Bovik, "Quality Assessment of Deblocked Images", IEEE TIP 2011, with one block size.
    Not symmetric; the grid of ``picture``, ``(H, W)``, starts at the top left.

    Raises:
        DataError: The pictures do not match, or a side is shorter than a block.
    """
    _check_pair(reference, picture, BLOCK_PX)
    return _decibels(_mean_squared_error(reference, picture) + blocking_effect(picture))


def blocking_effect(picture: Luma) -> float:
    """Excess of the squared difference of neighbours across 8×8 block edges over that inside."""
    height, width = picture.shape
    codes = picture.astype(np.int64)
    across, down = np.diff(codes, axis=1) ** 2, np.diff(codes, axis=0) ** 2
    last = BLOCK_PX - 1
    at_edges = float(across[:, last::BLOCK_PX].sum() + down[last::BLOCK_PX].sum())
    inside = float(across.sum() + down.sum()) - at_edges
    # The paper's numbers: fractions where a side is no multiple of 8. Only with them do the LIVE1
    # columns of published tables come out.
    edge_pairs = height * (width / BLOCK_PX - 1) + width * (height / BLOCK_PX - 1)
    if edge_pairs == 0:  # a single block
        return 0.0
    excess: float = at_edges / edge_pairs - inside / (across.size + down.size - edge_pairs)
    weight = math.log2(BLOCK_PX) / math.log2(min(height, width))
    return weight * max(0.0, excess)


def flicker(
    reference_before: Luma, reference: Luma, picture_before: Luma, picture: Luma
) -> float | None:
    """Mean absolute change of the error, in codes, where the source stands still.

    Key frames and coarser B-frames make the error pulse. Two neighbouring frames, ``(H, W)`` uint8,
    are compared at the pixels that differ by 2 codes or less in the source; None if there are none.
    """
    for other in (reference_before, picture_before, picture):
        _check_alike(reference, other)
    still = cv2.absdiff(reference, reference_before) <= STILL_CODES
    if not still.any():
        return None
    error = np.subtract(picture, reference, dtype=np.int16)
    error_before = np.subtract(picture_before, reference_before, dtype=np.int16)
    return float(np.abs(error - error_before)[still].mean())


def _check_pair(reference: Luma, picture: Luma, least_px: int) -> None:
    if reference.ndim != 2 or min(reference.shape) < least_px:
        shape = "×".join(map(str, reference.shape))
        raise DataError(f"picture is {shape}; need (H, W) luma of at least {least_px} px each way")
    _check_alike(reference, picture)


def _check_alike(reference: Luma, picture: Luma) -> None:
    if reference.dtype != np.uint8 or picture.dtype != np.uint8:
        raise DataError(
            f"codes are {reference.dtype} and {picture.dtype}; need uint8: round and clip first"
        )
    if reference.shape != picture.shape:
        raise DataError(
            f"reference is {reference.shape}, picture {picture.shape}; give pictures of one size"
        )


def _mean_squared_error(reference: Luma, picture: Luma) -> float:
    _check_alike(reference, picture)
    total: float = cv2.norm(reference, picture, cv2.NORM_L2SQR)
    return total / reference.size


def _decibels(squared_error: float) -> float:
    return math.inf if squared_error == 0 else 10 * math.log10(PEAK**2 / squared_error)


class RatePoint(NamedTuple):
    """Rate in kbit/s and PSNR in dB of a coded clip."""

    kbps: float
    psnr: float


def bd_rate(anchor: Sequence[RatePoint], test: Sequence[RatePoint]) -> float:
    """Return the mean difference of rate at equal PSNR in percent; below 0 if ``test`` needs less.

    Bjøntegaard, "Calculation of average PSNR differences between RD-curves", VCEG-M33, 2001: a
    cubic through the logarithm of the rate over PSNR, and the mean distance of two such curves
    over the range of PSNR that both have.

    Raises:
        DataError: A curve has fewer than four points, a rate is not above 0, or PSNR does not
            overlap.
    """
    for name, points in (("anchor", anchor), ("test", test)):
        if len({point.psnr for point in points}) <= DEGREE:
            raise DataError(
                f"BD-rate got {len(points)} points of the {name}; need {DEGREE + 1} of "
                "different PSNR: code at more quantisers"
            )
        if min(point.kbps for point in points) <= 0:
            raise DataError(f"BD-rate got a rate of 0 in the {name}; need rates above 0")
    low = max(min(point.psnr for point in points) for points in (anchor, test))
    high = min(max(point.psnr for point in points) for points in (anchor, test))
    if low >= high:
        raise DataError(
            f"BD-rate needs curves that overlap; one ends at {high:.2f} dB, the other begins at "
            f"{low:.2f} dB: code at other quantisers"
        )

    def mean_log_rate(points: Sequence[RatePoint]) -> float:
        logarithms = [math.log(point.kbps) for point in points]
        # `fit` scales PSNR to -1..1: powers of 40 dB would cost digits.
        fit = np.polynomial.Polynomial.fit([point.psnr for point in points], logarithms, DEGREE)
        integral = fit.integ()
        return float(integral(high) - integral(low)) / (high - low)

    return 100 * (math.exp(mean_log_rate(test) - mean_log_rate(anchor)) - 1)
