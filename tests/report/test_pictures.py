"""Crops, error maps and the bytes of pictures."""

import base64

import cv2
import numpy as np
import pytest

from edgecar.report.pictures import (
    CROP_PX,
    LOSSLESS,
    error_maps,
    legend_colours,
    most_changed,
    png,
    scaled,
    webp,
)
from tests.report.conftest import photo_frame


def decoded(uri: str) -> np.ndarray:
    head, _, data = uri.partition(",")
    assert head in ("data:image/png;base64", "data:image/webp;base64")
    return cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)


def changed(size, better_at, worse_at):
    """Flat luma whose error of 10 codes goes away at one place and comes at another."""
    source = np.full(size, 100, np.uint8)
    coded, restored = source.copy(), source.copy()
    coded[better_at] += 10
    restored[worse_at] += 10
    return source, coded, restored


def test_spots_are_where_the_squared_error_changed_most():
    size = (240, 320)
    luma = changed(size, (slice(96, 112), slice(160, 176)), (slice(200, 203), slice(33, 40)))
    better, worse = most_changed(*luma)
    assert better.block == (96, 160, 112, 176)
    assert worse.block == (192, 32, 208, 48)
    for spot in (better, worse):
        top, left, bottom, right = spot.crop
        assert (bottom - top, right - left) == CROP_PX
        assert top <= spot.block[0]
        assert spot.block[2] <= bottom
        assert left <= spot.block[1]
        assert spot.block[3] <= right
    assert better.crop == (96 + 8 - 33, 160 + 8 - 44, 96 + 8 + 33, 160 + 8 + 44)  # in its middle


@pytest.mark.parametrize("at", [(0, 0), (239, 0), (0, 319), (239, 319)])
def test_spots_at_edges_stay_inside_the_frame(at):
    row, column = at
    spot, _ = most_changed(*changed((240, 320), (row, column), (120, 160)))
    top, left, bottom, right = spot.crop
    assert 0 <= top <= row < bottom <= 240
    assert 0 <= left <= column < right <= 320
    assert (bottom - top, right - left) == CROP_PX


def test_frames_smaller_than_a_crop_or_no_multiple_of_blocks():
    spot, _ = most_changed(*changed((50, 37), (49, 36), (0, 0)))
    assert spot.crop == (0, 0, 50, 37)
    assert spot.block == (48, 32, 50, 37)
    assert spot.block.cut(photo_frame((50, 38)).y).shape == (2, 5)


def test_no_spot_where_nothing_changed_that_way():
    source = np.full((64, 64), 100, np.uint8)
    worse = source + np.uint8(3)
    assert most_changed(source, source, source) == (None, None)
    better, bad = most_changed(source, source, worse)
    assert better is None
    assert bad is not None


def test_error_maps_have_one_scale():
    source = np.full((64, 64), 100, np.uint8)
    coded = source.copy()
    coded[:, 32:] += 20
    before, after, scale = error_maps(source, coded, source)
    assert scale == 20
    colours = legend_colours()[0]
    assert np.array_equal(before[0, 0], colours[0])
    assert np.array_equal(before[0, -1], colours[255])
    assert (after == colours[0]).all()
    _, worse, scale = error_maps(source, coded, coded + np.uint8(40))
    assert scale == 20  # that of the coded frame, so that more is not shown as less
    assert np.array_equal(worse[0, 0], colours[255])


def test_error_maps_of_hardly_any_error_stay_dark():
    source = np.full((64, 64), 100, np.uint8)
    before, _, scale = error_maps(source, source + np.uint8(1), source)
    assert scale == 4
    assert np.array_equal(before[0, 0], legend_colours()[0][63])


def test_error_maps_are_no_wider_than_a_page_needs():
    source = np.full((540, 960), 100, np.uint8)
    assert error_maps(source, source, source)[0].shape == (270, 480, 3)


def test_pictures_come_back_from_their_bytes():
    picture = np.random.default_rng(0).integers(0, 256, (24, 40, 3), np.uint8)
    assert np.array_equal(decoded(png(picture)), picture)
    assert np.array_equal(decoded(webp(picture, LOSSLESS)), picture)
    assert len(webp(picture, 50)) < len(webp(picture, 95))
    assert scaled(picture, 20).shape == (12, 20, 3)
    assert scaled(picture, 40) is not None
    assert np.array_equal(scaled(picture, 41), picture)
