"""Crops and the bytes of pictures."""

import base64

import cv2
import numpy as np
import pytest

from edgecar.report.frames import CROP_PX, LOSSLESS, data_uri, most_changed, scaled


def changed(size, better_at, worse_at):
    """Flat luma whose error of 10 codes goes away at one place and comes at another."""
    source = np.full(size, 100, np.uint8)
    coded, restored = source.copy(), source.copy()
    coded[better_at] += 10
    restored[worse_at] += 10
    return source, coded, restored


def test_spots_are_where_the_squared_error_changed_most():
    places = (slice(96, 112), slice(160, 176)), (slice(200, 203), slice(33, 40))
    (better, middle), (worse, _) = most_changed(*changed((240, 320), *places))
    assert better == (96, 160, 112, 176)
    assert worse == (192, 32, 208, 48)
    assert middle == (96 + 8 - 33, 160 + 8 - 44, 96 + 8 + 33, 160 + 8 + 44)  # around the block


@pytest.mark.parametrize("at", [(0, 0), (239, 0), (0, 319), (239, 319)])
def test_spots_at_edges_stay_inside_the_frame(at):
    row, column = at
    (_, (top, left, bottom, right)), _ = most_changed(*changed((240, 320), at, (120, 160)))
    assert 0 <= top <= row < bottom <= 240
    assert 0 <= left <= column < right <= 320
    assert (bottom - top, right - left) == CROP_PX


def test_small_frames_and_frames_where_nothing_changed():
    (block, crop), _ = most_changed(*changed((50, 37), (49, 36), (0, 0)))
    assert (block, crop) == ((48, 32, 50, 37), (0, 0, 50, 37))
    source = np.full((64, 64), 100, np.uint8)
    assert most_changed(source, source, source) == (None, None)
    better, worse = most_changed(source, source, source + np.uint8(3))
    assert (better is None, worse is None) == (True, False)


def test_pictures_come_back_from_their_bytes():
    picture = np.random.default_rng(0).integers(0, 256, (24, 40, 3), np.uint8)
    for quality, form in ((None, "png"), (LOSSLESS, "webp")):
        head, _, text = data_uri(picture, quality).partition(",")
        assert head == f"data:image/{form};base64"
        back = cv2.imdecode(np.frombuffer(base64.b64decode(text), np.uint8), cv2.IMREAD_COLOR)
        assert np.array_equal(back, picture)
    assert len(data_uri(picture, 50)) < len(data_uri(picture, 95))
    assert scaled(picture, 20).shape == (12, 20, 3)
    assert np.array_equal(scaled(picture, 41), picture)
