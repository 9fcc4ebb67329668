"""The patch protocol: every pixel counts, patches are what the paper feeds its network."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecar.errors import DataError
from edgecar.evaluate.scorer import BATCH, PATCH_PX, patch_starts, picture_score, planes_of


@given(st.integers(PATCH_PX, 2000))
def test_patches_cover_a_side_and_no_more_than_needed(side):
    starts = patch_starts(side)
    assert starts[0] == 0
    assert starts[-1] == side - PATCH_PX
    assert len(starts) == -(-side // PATCH_PX)
    assert all(0 < b - a <= PATCH_PX for a, b in pairwise(starts))


def test_planes_are_the_distorted_picture_and_the_residual_map():
    reference = np.full((130, 140), 100, np.uint8)
    distorted = reference.copy()
    distorted[0, 0], distorted[0, 1] = 90, 255
    planes = planes_of(reference, distorted)
    assert planes.shape == (2, 130, 140)
    assert planes[:, 0, 0].tolist() == [90, 10]
    assert planes[:, 0, 1].tolist() == [255, 155]
    assert planes[:, 5, 5].tolist() == [100, 0]


def test_a_score_is_the_mean_over_all_patches():
    rng = np.random.default_rng(0)
    reference = rng.integers(0, 256, (128 * 5, 128 * 7), np.uint8)
    distorted = rng.integers(0, 256, reference.shape, np.uint8)
    sizes = []

    buffer = np.empty((BATCH, 1), np.float32)

    def mean_of_distorted(patches):
        assert patches.dtype == np.float32
        sizes.append(len(patches))
        buffer[: len(patches), 0] = patches[:, 0].mean(axis=(1, 2))
        return buffer[: len(patches)]  # used again by the next batch, as engines do

    score = picture_score(reference, distorted, mean_of_distorted)
    assert sizes == [32, 3]
    # float32 means of 16384 values each
    assert score == pytest.approx(distorted.mean() / 255, abs=1e-5)


@pytest.mark.parametrize(
    ("size", "other", "words"),
    [((127, 300), (127, 300), "300x127; a score needs at least 128"),
     ((128, 128), (128, 129), "one size")],
)  # fmt: skip
def test_unfit_pictures_are_refused(size, other, words):
    with pytest.raises(DataError, match=words):
        planes_of(np.zeros(size, np.uint8), np.zeros(other, np.uint8))
