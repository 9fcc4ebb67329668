"""Bjøntegaard's measure."""

import numpy as np
import pytest

from edgecar.errors import DataError
from edgecar.evaluate.metrics import RatePoint, bd_rate


def points(rates, decibels):
    return [RatePoint(rate, psnr) for rate, psnr in zip(rates, decibels, strict=True)]


# Curves that implementations are published with, and what they give by a cubic (VCEG-M33): those
# of the Python port of the Matlab script, and of FAU's package `bjontegaard`.
PUBLISHED = [
    (
        points([686.76, 309.58, 157.11, 85.95], [40.28, 37.18, 34.24, 31.42]),
        points([893.34, 407.8, 204.93, 112.75], [40.39, 37.21, 34.17, 31.24]),
        31.397374,
    ),
    (
        points([9487.76, 4593.60, 2486.44, 1358.24], [40.037, 38.615, 36.845, 34.851]),
        points([9787.80, 4469.00, 2451.52, 1356.24], [40.121, 38.651, 36.970, 34.987]),
        -4.420463,
    ),
]


@pytest.mark.parametrize(("anchor", "test", "percent"), PUBLISHED)
def test_published_curves(anchor, test, percent):
    assert bd_rate(anchor, test) == pytest.approx(percent, abs=1e-5)  # printed to six digits
    assert bd_rate(anchor[::-1], test[::-1]) == pytest.approx(percent, abs=1e-5)
    back = 100 * (1 / (1 + percent / 100) - 1)
    assert bd_rate(test, anchor) == pytest.approx(back, abs=1e-5)


def test_a_better_picture_at_the_same_rate_saves_rate():
    anchor = points([100, 200, 400, 800], [30, 33, 36, 39])
    better = [RatePoint(kbps, psnr + 0.3) for kbps, psnr in anchor]
    # Rate doubles every 3 dB: 0.3 dB are a tenth of an octave.
    assert bd_rate(anchor, better) == pytest.approx(100 * (2**-0.1 - 1))
    assert bd_rate(anchor, anchor) == pytest.approx(0, abs=1e-9)


def test_only_what_both_curves_reach_counts():
    anchor = points([100, 200, 400, 800], [30, 33, 36, 39])
    longer = [RatePoint(0.9 * kbps, psnr) for kbps, psnr in anchor] + [RatePoint(1440, 42)]
    assert bd_rate(anchor, longer) == pytest.approx(-10)


@pytest.mark.parametrize(
    ("anchor", "words"),
    [
        (points([1, 2, 3], [30, 31, 32]), "got 3 points of the anchor; need 4"),
        (points([1, 2, 3, 4], [30, 31, 32, 32]), "need 4 of different PSNR"),
        (points([0, 2, 3, 4], [30, 31, 32, 33]), "rate of 0 in the anchor"),
        (points([1, 2, 3, 4], [40, 41, 42, 43]), "one ends at 33.00 dB, the other begins at 40.00"),
    ],
)
def test_what_cannot_be_measured_is_explained(anchor, words):
    with pytest.raises(DataError, match=words):
        bd_rate(anchor, points([1, 2, 3, 4], np.arange(30.0, 34)))
