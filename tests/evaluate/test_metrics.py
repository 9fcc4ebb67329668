import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage import data
from skimage.metrics import structural_similarity

from edgecar.errors import DataError
from edgecar.evaluate.metrics import (
    RatePoint,
    bd_rate,
    blocking_effect,
    capped_psnr,
    flicker,
    psnr,
    psnr_b,
    ssim,
)
from edgecar.media.pictures import jpeg_coded

SKIMAGE_OPTIONS = {
    "gaussian": {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False},
    "uniform": {},
}
# Both sides sum float64 of up to 255² in another order: 1e-10 would do, a wrong window or
# covariance is off by 1e-4 and more.
SSIM_TOLERANCE = 1e-8
CAMERA = data.camera()[100:260, 60:283]  # a real picture with odd sides, 160×223


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width), dtype=np.uint8)


def test_psnr_by_hand():
    clean = np.zeros((4, 5), np.uint8)
    assert psnr(clean, clean + np.uint8(255)) == 0.0
    one_off = clean.copy()
    one_off[1, 2] = 20  # mean squared error 400 / 20
    assert psnr(clean, one_off) == pytest.approx(10 * math.log10(255**2 / 20))
    assert psnr(clean, clean.copy()) == math.inf
    assert capped_psnr(clean, clean.copy()) == 100
    black = np.zeros((2160, 3840), np.uint8)
    assert psnr(black, ~black) == 0.0  # does not overflow


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1))
@settings(max_examples=50, deadline=None)
def test_psnr_is_that_of_floating_point_arithmetic(height, width, seed):
    first, second = noise(height, width, seed), noise(height, width, seed + 1)
    error = np.mean((first.astype(np.float64) - second) ** 2)
    expected = math.inf if error == 0 else 10 * math.log10(255**2 / error)
    assert psnr(first, second) == pytest.approx(expected)  # the last bits of the logarithm
    assert psnr(first, second) == psnr(second, first)


@pytest.mark.parametrize(("window", "side"), [("gaussian", 11), ("uniform", 7)])
def test_ssim_is_that_of_scikit_image(window, side):
    one_window = noise(side, side), noise(side, side, 1)
    for first, second in (*((CAMERA, jpeg_coded(CAMERA, q)) for q in (5, 40, 95)), one_window):
        expected = structural_similarity(first, second, data_range=255, **SKIMAGE_OPTIONS[window])
        assert ssim(first, second, window=window) == pytest.approx(expected, abs=SSIM_TOLERANCE)
    with pytest.raises(DataError, match=f"at least {side} px"):
        ssim(first[1:], second[1:], window=window)
    flat = np.full((16, 16), 200, np.uint8)  # no variance to divide by
    for picture in (CAMERA, flat):
        assert ssim(picture, picture.copy(), window=window) == 1.0


def looped_psnr_b(reference: np.ndarray, picture: np.ndarray) -> float:
    """The paper's sums written out pair by pair, for sides that are multiples of 8."""
    height, width = picture.shape
    edge, inside = [], []
    for row in range(height):
        for column in range(width):
            code = int(picture[row, column])
            if column + 1 < width:
                pairs = edge if column % 8 == 7 else inside
                pairs.append((code - int(picture[row, column + 1])) ** 2)
            if row + 1 < height:
                pairs = edge if row % 8 == 7 else inside
                pairs.append((code - int(picture[row + 1, column])) ** 2)
    edge_mean, inside_mean = sum(edge) / len(edge), sum(inside) / len(inside)
    factor = 0.0
    if edge_mean > inside_mean:
        factor = math.log2(8) / math.log2(min(height, width)) * (edge_mean - inside_mean)
    errors = [(int(a) - int(b)) ** 2 for a, b in zip(reference.flat, picture.flat, strict=True)]
    return 10 * math.log10(255**2 / (sum(errors) / len(errors) + factor))


@pytest.mark.parametrize("quality", [5, 20, 90])
@pytest.mark.parametrize("shape", [(16, 16), (24, 40), (64, 32)])
def test_psnr_b_is_that_of_the_papers_sums(shape: tuple[int, int], quality: int) -> None:
    clean = np.ascontiguousarray(CAMERA[: shape[0], : shape[1]])
    coded = jpeg_coded(clean, quality)
    assert psnr_b(clean, coded) == pytest.approx(looped_psnr_b(clean, coded))  # order of sums


def step(width: int, height: int, at: int) -> np.ndarray:
    picture = np.zeros((height, width), np.uint8)
    picture[:, at:] = 10
    return picture


@pytest.mark.parametrize(
    ("picture", "factor"),
    [
        # 8 pairs across the edge differ by 10, no other; weight log 8 / log 8
        (step(16, 8, at=8), 100.0),
        (step(16, 8, at=8).T, 100.0),
        # of 16 + 16 edge pairs half differ; weight log 8 / log 16
        (step(16, 16, at=8), 0.75 * 50.0),
        # one and a half blocks: 8 (12/8 - 1) pairs by the paper's formula, though there are 8
        (step(12, 8, at=8), 200.0),
        # inside a block: smoother at the edges than elsewhere
        (step(16, 16, at=4), 0.0),
        (np.full((16, 16), 7, np.uint8), 0.0),
        (noise(8, 8), 0.0),  # one block has no edge
    ],
)
def test_blocking_effect_by_hand(picture: np.ndarray, factor: float) -> None:
    assert blocking_effect(picture) == pytest.approx(factor)


def test_only_the_judged_picture_has_blocks() -> None:
    blocks, flat = step(16, 16, at=8), np.full((16, 16), 5, np.uint8)
    assert psnr(flat, blocks) == psnr(blocks, flat) == psnr_b(blocks, flat)
    assert psnr_b(flat, blocks) == pytest.approx(10 * math.log10(255**2 / (25 + 37.5)))
    assert psnr_b(flat, flat.copy()) == math.inf


@pytest.mark.parametrize("measure", [psnr, ssim, psnr_b])
def test_views_are_taken_and_unfit_pictures_explained(measure):
    first, second = noise(40, 40), noise(40, 40, 1)
    copied = measure(first[::-1, 4:].copy(), second[::-1, 4:].copy())
    assert measure(first[::-1, 4:], second[::-1, 4:]) == copied
    with pytest.raises(DataError, match="pictures of one size"):
        measure(noise(32, 32), noise(32, 33))
    with pytest.raises(DataError, match="need uint8"):
        measure(noise(32, 32), noise(32, 32) / 255)


def test_structure_needs_luma():
    with pytest.raises(DataError, match=r"32×32×3; need \(H, W\)"):
        ssim(np.zeros((32, 32, 3), np.uint8), np.zeros((32, 32, 3), np.uint8))
    with pytest.raises(DataError, match="at least 8 px"):
        psnr_b(noise(7, 32), noise(7, 32))


def flat(code: int) -> np.ndarray:
    return np.full((8, 8), code, np.uint8)


def test_flicker_is_the_change_of_the_error():
    source = flat(100)
    assert flicker(source, source, flat(103), flat(103)) == 0  # wrong, but steadily so
    assert flicker(source, source, flat(103), flat(96)) == 7
    assert flicker(source, source, flat(96), flat(103)) == 7
    half = flat(100)
    half[:, :4] = 104
    assert flicker(source, source, source, half) == 2


def test_flicker_counts_only_where_the_source_stands_still():
    before, now = flat(100), flat(100)
    now[:, :4] = 200  # moves
    now[:, 4] = 102  # noise
    now[:, 5] = 103  # too much of it
    judged = now.copy()
    judged[:, :4] = 0
    judged[:, 5] = 0
    assert flicker(before, now, before, judged) == 0
    judged[:, 4] += 3
    assert flicker(before, now, before, judged) == 1  # a third of 3 codes
    assert flicker(before, flat(200), before, flat(0)) is None
    with pytest.raises(DataError, match="pictures of one size"):
        flicker(flat(1), flat(1), flat(1), flat(1)[:4])


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
def test_bd_rate_of_published_curves(anchor, test, percent):
    assert bd_rate(anchor, test) == pytest.approx(percent, abs=1e-5)  # printed to six digits
    assert bd_rate(anchor[::-1], test[::-1]) == pytest.approx(percent, abs=1e-5)
    back = 100 * (1 / (1 + percent / 100) - 1)
    assert bd_rate(test, anchor) == pytest.approx(back, abs=1e-5)


@pytest.mark.parametrize(
    ("anchor", "words"),
    [
        (points([1, 2, 3], [30, 31, 32]), "got 3 points of the anchor; need 4"),
        (points([1, 2, 3, 4], [30, 31, 32, 32]), "need 4 of different PSNR"),
        (points([0, 2, 3, 4], [30, 31, 32, 33]), "rate of 0 in the anchor"),
        (points([1, 2, 3, 4], [40, 41, 42, 43]), "one ends at 33.00 dB, the other begins at 40.00"),
    ],
)
def test_curves_that_cannot_be_compared_are_explained(anchor, words):
    with pytest.raises(DataError, match=words):
        bd_rate(anchor, points([1, 2, 3, 4], np.arange(30.0, 34)))
