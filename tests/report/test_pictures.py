"""Crops, error maps and the bytes of pictures."""

import base64

import cv2
import numpy as np
import pytest

from edgecar.report.drawing import COLOURS, drawn, in_words
from edgecar.report.pictures import (
    BLOCK_PX,
    CROP_PX,
    LOSSLESS,
    cropped,
    error_maps,
    legend_colours,
    most_changed,
    png,
    scaled,
    webp,
)
from tests.report.conftest import exhibit, photo_frame


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
    assert cropped(photo_frame((50, 38)).y, spot.block).shape == (2, 5)


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
    maps = error_maps(source, coded, source)
    assert maps.scale_codes == 20
    colours = legend_colours()[0]
    assert np.array_equal(maps.coded[0, 0], colours[0])
    assert np.array_equal(maps.coded[0, -1], colours[255])
    assert (maps.restored == colours[0]).all()
    worse = error_maps(source, coded, coded + np.uint8(40))
    assert worse.scale_codes == 20  # that of the coded frame, so that more is not shown as less
    assert np.array_equal(worse.restored[0, 0], colours[255])


def test_error_maps_of_hardly_any_error_stay_dark():
    source = np.full((64, 64), 100, np.uint8)
    maps = error_maps(source, source + np.uint8(1), source)
    assert maps.scale_codes == 4
    assert np.array_equal(maps.coded[0, 0], legend_colours()[0][63])


def test_error_maps_are_no_wider_than_a_page_needs():
    source = np.full((540, 960), 100, np.uint8)
    assert error_maps(source, source, source).coded.shape == (270, 480, 3)


def test_pictures_come_back_from_their_bytes():
    picture = np.random.default_rng(0).integers(0, 256, (24, 40, 3), np.uint8)
    assert np.array_equal(decoded(png(picture)), picture)
    assert np.array_equal(decoded(webp(picture, LOSSLESS)), picture)
    assert len(webp(picture, 50)) < len(webp(picture, 95))
    assert scaled(picture, 20).shape == (12, 20, 3)
    assert scaled(picture, 40) is not None
    assert np.array_equal(scaled(picture, 41), picture)


def test_blocks_are_those_of_a_macroblock():
    assert BLOCK_PX == 16


def test_detections_are_drawn_in_their_colours(boxes):
    shown = exhibit(1.0, boxes=boxes)
    source, coded, restored = drawn(shown, boxes, 960)
    assert source.shape == (96, 160, 3)
    # The left edge of each box, half way down: found, missed (dashed), false.
    assert tuple(coded[55, 8]) == COLOURS["found"]
    assert any(tuple(pixel) == COLOURS["missed"] for pixel in coded[20:80, 60])
    assert not all(tuple(pixel) == COLOURS["missed"] for pixel in coded[40:75, 60])
    assert tuple(coded[45, 110]) == COLOURS["false"]
    assert tuple(restored[55, 60]) == COLOURS["found"]
    assert not any(tuple(pixel) == COLOURS["false"] for pixel in restored.reshape(-1, 3))
    assert tuple(source[55, 8]) == COLOURS["object"]
    assert in_words(boxes.coded) == "1 found, 1 missed, 1 false"


def test_boxes_follow_a_frame_that_is_scaled(boxes):
    shown = exhibit(1.0, boxes=boxes)
    _, coded, _ = drawn(shown, boxes, 80)
    assert coded.shape == (48, 80, 3)
    assert any(tuple(pixel) == COLOURS["found"] for pixel in coded[10:36, 4])


def test_drawing_leaves_the_exhibit_as_it_is(boxes):
    shown = exhibit(1.0, boxes=boxes)
    before = shown.coded.y.copy()
    first = drawn(shown, boxes, 960)
    assert np.array_equal(shown.coded.y, before)
    assert all(np.array_equal(a, b) for a, b in zip(first, drawn(shown, boxes, 960), strict=True))
