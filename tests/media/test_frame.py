from dataclasses import FrozenInstanceError
from fractions import Fraction

import numpy as np
import pytest

from edgecar.errors import MediaError
from edgecar.media.frame import Colour, Frame


def planes(height, width):
    half = ((height + 1) // 2, (width + 1) // 2)
    return [np.zeros(shape, np.uint8) for shape in ((height, width), half, half)]


@pytest.mark.parametrize("size", [(1, 1), (4, 6), (5, 7), (1080, 1920)])
def test_size_is_that_of_luma(size):
    assert Frame(*planes(*size)).size == size


@pytest.mark.parametrize(
    ("plane", "value"),
    [
        (0, np.zeros((5, 7), np.float32)),
        (0, np.zeros((5, 7, 1), np.uint8)),
        (0, np.zeros((0, 7), np.uint8)),
        (1, np.zeros((2, 4), np.uint8)),
        (2, np.zeros((3, 3), np.uint8)),
        (2, np.zeros((3, 4), np.int8)),
    ],
)
def test_wrong_planes_are_refused_with_both_shapes(plane, value):
    wrong = planes(5, 7)
    wrong[plane] = value
    with pytest.raises(MediaError, match=r"\(.*need") as caught:
        Frame(*wrong)
    assert "\n" not in str(caught.value)


def test_new_luma_keeps_everything_else():
    frame = Frame(*planes(5, 7), 42, Fraction(1, 90000), Colour(True, 1, 1, 1))
    brighter = frame.with_luma(frame.y + 9)
    assert np.all(brighter.y == 9)
    assert np.all(frame.y == 0)
    assert brighter.u is frame.u
    assert brighter.v is frame.v
    assert (brighter.pts, brighter.time_base, brighter.colour) == (
        frame.pts,
        frame.time_base,
        frame.colour,
    )


def test_repr_tells_the_shape_and_no_pixels():
    text = repr(Frame(*planes(480, 640), 7, Fraction(1, 25)))
    assert "640x480" in text
    assert "array" not in text


def test_new_luma_of_another_shape_is_refused():
    with pytest.raises(MediaError, match=r"\(6, 7\).*\(5, 7\)"):
        Frame(*planes(5, 7)).with_luma(np.zeros((6, 7), np.uint8))


def test_frames_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        Frame(*planes(5, 7)).pts = 3
