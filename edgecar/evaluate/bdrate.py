"""Bjøntegaard's measure: how much rate one coder saves over another at equal quality."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from edgecar.errors import DataError

DEGREE = 3
FEWEST_POINTS = DEGREE + 1


class RatePoint(NamedTuple):
    """A coded clip: its rate in kbit/s, and PSNR in dB."""

    kbps: float
    psnr: float


def bd_rate(anchor: Sequence[RatePoint], test: Sequence[RatePoint]) -> float:
    """Mean difference of rate at equal PSNR, in percent; below 0 where ``test`` needs less.

    Bjøntegaard, "Calculation of average PSNR differences between RD-curves", VCEG-M33, 2001: a
    cubic through the logarithm of the rate over PSNR, and the mean distance of two such curves
    over the range of PSNR that both have.

    Args:
        anchor: What is compared with, four points or more in any order.
        test: The same for the other coder.

    Raises:
        DataError: There are fewer points, a rate is not above 0, or PSNR does not overlap.

    Example:
        >>> anchor = [RatePoint(100 * 2**step, 30.0 + 3 * step) for step in range(4)]
        >>> round(bd_rate(anchor, [RatePoint(0.9 * kbps, psnr) for kbps, psnr in anchor]), 6)
        -10.0
    """
    for name, points in (("anchor", anchor), ("test", test)):
        if len({point.psnr for point in points}) < FEWEST_POINTS:
            raise DataError(
                f"BD-rate got {len(points)} points of the {name}; need {FEWEST_POINTS} of "
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
    difference = _mean_log_rate(test, low, high) - _mean_log_rate(anchor, low, high)
    return 100 * (math.exp(difference) - 1)


def _mean_log_rate(points: Sequence[RatePoint], low: float, high: float) -> float:
    """Of the cubic through the points, over a range of PSNR."""
    psnr = [point.psnr for point in points]
    # Scaled by numpy to -1..1: powers of 40 dB would cost digits.
    curve = np.polynomial.Polynomial.fit(psnr, [math.log(point.kbps) for point in points], DEGREE)
    integral = curve.integ()
    return float(integral(high) - integral(low)) / (high - low)
