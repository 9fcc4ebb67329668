"""Planes and colours as decoders hand them over."""

import av
import numpy as np
import pytest

from edgecar.media.color import array_of, colour_of, paper_luma_from_bgr


class Stored(bytearray):
    """A plane of 3 rows of 2 samples, with padding behind each."""

    width, height = 2, 3


@pytest.mark.parametrize(
    ("line_size", "rows"), [(4, [[1, 2], [3, 4], [5, 6]]), (-4, [[5, 6], [3, 4], [1, 2]])]
)
def test_lines_may_be_stored_from_the_bottom_up(line_size, rows) -> None:
    plane = Stored([1, 2, 9, 9, 3, 4, 9, 9, 5, 6, 9, 9])
    plane.line_size = line_size
    assert array_of(plane).tolist() == rows


def test_a_format_of_full_range_says_so_where_nothing_else_does() -> None:
    assert colour_of(av.VideoFrame(16, 16, "yuvj420p")).full_range is True
    assert colour_of(av.VideoFrame(16, 16, "yuv420p")).full_range is None


def test_luma_of_the_papers_weighs_each_colour() -> None:
    blue, green, red = np.eye(3, dtype=np.uint8)[:, None] * 255
    luma = [int(paper_luma_from_bgr(colour[None])[0, 0]) for colour in (blue, green, red)]
    assert luma == [41, 145, 81]  # 16 + 24.966, 128.553, 65.481
