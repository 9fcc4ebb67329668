from dataclasses import FrozenInstanceError
from fractions import Fraction

import numpy as np
import pytest

from edgecar.errors import MediaError
from edgecar.media.frame import Colour, Frame, chroma_size


def frame(height, width, *more):
    half = chroma_size((height, width))
    return Frame(*(np.zeros(shape, np.uint8) for shape in ((height, width), half, half)), *more)


def test_size_is_that_of_luma():
    assert frame(5, 7).size == (5, 7)
    assert frame(1, 1).size == (1, 1)


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
    right = frame(5, 7)
    planes = [right.y, right.u, right.v]
    planes[plane] = value
    with pytest.raises(MediaError, match=r"\(.*need") as caught:
        Frame(*planes)
    assert "\n" not in str(caught.value)


def test_new_luma_keeps_everything_else():
    old = frame(5, 7, 42, Fraction(1, 90000), Colour(True, 1, 1, 1))
    new = old.with_luma(old.y + 9)
    assert np.all(new.y == 9)
    assert np.all(old.y == 0)
    for name in ("u", "v", "pts", "time_base", "colour"):
        assert getattr(new, name) is getattr(old, name)
    with pytest.raises(MediaError, match=r"\(6, 7\).*\(5, 7\)"):
        old.with_luma(np.zeros((6, 7), np.uint8))


def test_repr_tells_the_shape_and_no_pixels_and_nothing_can_be_changed():
    shown = frame(480, 640, 7, Fraction(1, 25))
    assert "640x480" in repr(shown)
    assert "array" not in repr(shown)
    with pytest.raises(FrozenInstanceError):
        shown.pts = 3
