from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgecar.errors import MediaError
from edgecar.media.color import (
    array_of,
    bgr_from_frame,
    bgr_with_luma,
    colour_of,
    frame_with_bgr,
    luma_from_bgr,
    paper_luma_from_bgr,
)
from edgecar.media.frame import Colour, Frame, chroma_size
from tests.media.conftest import read_all, write_all

# Weights of red and blue in luma, by matrix code (H.273, table 4).
WEIGHTS = {1: (0.2126, 0.0722), 2: (0.299, 0.114), 6: (0.299, 0.114), 9: (0.2627, 0.0593)}
# OpenCV rounds with 15-bit weights, which differ from the decimal ones by 3e-5 of 255 at most.
LUMA_TOLERANCE = 0.5 + 0.01
# Rounding to the nearest code, and OpenCV's three weights of 10 bits.
EXACT_TOLERANCE = 0.5 + 3 * 255 / 2**11


@st.composite
def pictures(draw):
    size = draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))
    return draw(hnp.arrays(np.uint8, (*size, 3))), draw(hnp.arrays(np.uint8, size))


@settings(deadline=None)
@given(pictures())
def test_luma_is_that_of_jpeg_and_grey_is_its_own(picture):
    bgr, grey = picture
    exact = bgr.astype(np.float64) @ [0.114, 0.587, 0.299]
    assert np.abs(luma_from_bgr(bgr) - exact).max() <= LUMA_TOLERANCE
    assert np.array_equal(luma_from_bgr(cv2.merge([grey, grey, grey])), grey)


@settings(deadline=None)
@given(pictures())
def test_luma_change_is_added_to_every_channel_and_exact_where_nothing_saturates(picture):
    bgr, new_y = picture
    old_y = luma_from_bgr(bgr)
    wanted = bgr.astype(int) + (new_y.astype(int) - old_y)[..., None]
    changed = bgr_with_luma(bgr, old_y, new_y)
    assert np.array_equal(changed, np.clip(wanted, 0, 255))
    inside = np.all((wanted >= 0) & (wanted <= 255), axis=2)
    assert np.array_equal(luma_from_bgr(changed)[inside], new_y[inside])


def flat_frame(yuv, colour, size=(16, 24)):
    shapes = (size, chroma_size(size), chroma_size(size))
    filled = [np.full(shape, code, np.uint8) for shape, code in zip(shapes, yuv, strict=True)]
    return Frame(*filled, 5, Fraction(1, 25), colour)


def bgr_of(yuv, colour):
    """The definition, in floating point."""
    kr, kb = WEIGHTS[colour.matrix]
    y, u, v = yuv[0] * 1.0, yuv[1] - 128.0, yuv[2] - 128.0
    if not colour.full_range:
        y, u, v = (y - 16) * 255 / 219, u * 255 / 224, v * 255 / 224
    red, blue = y + 2 * (1 - kr) * v, y + 2 * (1 - kb) * u
    return np.clip([blue, (y - kr * red - kb * blue) / (1 - kr - kb), red], 0, 255)


COLOURS = st.builds(Colour, st.sampled_from([True, False, None]), st.sampled_from(sorted(WEIGHTS)))
CODES = st.tuples(*[st.integers(0, 255)] * 3)


@settings(deadline=None)
@given(CODES, COLOURS)
@example((225, 255, 0), Colour(False, 1))  # swscale's accurate path makes this blue black
def test_frames_show_by_their_own_range_and_matrix(yuv, colour):
    frame, expected = flat_frame(yuv, colour), bgr_of(yuv, colour)
    assert np.abs(bgr_from_frame(frame) - expected).max() <= EXACT_TOLERANCE
    assert np.abs(bgr_from_frame(frame, fast=True) - expected).max() <= 3 + 0.5


@settings(deadline=None)
@given(CODES, COLOURS)
def test_a_picture_put_into_a_frame_comes_out_again(codes, colour):
    frame = flat_frame((90, 128, 128), colour)
    bgr = np.empty((*frame.size, 3), np.uint8)
    bgr[:] = codes
    replaced = frame_with_bgr(frame, bgr)
    assert (replaced.pts, replaced.time_base, replaced.colour) == (5, Fraction(1, 25), colour)
    # A code of limited-range chroma is 255 / 224 * 2 * (1 - 0.0593) = 2.1 steps of blue wide; half
    # of that is lost in chroma, 0.6 in luma and 0.5 in the result.
    assert np.abs(bgr_from_frame(replaced).astype(int) - bgr).max() <= 3


def test_chroma_put_into_a_frame_is_that_of_the_mean_colour_of_four_pixels():
    bgr = np.random.default_rng(0).integers(0, 256, (17, 23, 3), np.uint8)
    colour = Colour(full_range=True, matrix=1)  # Kr 0.2126, Kb 0.0722
    replaced = frame_with_bgr(flat_frame((90, 128, 128), colour, (17, 23)), bgr)
    blue, green, red = np.pad(bgr, ((0, 1), (0, 1), (0, 0)), "edge").transpose(2, 0, 1) * 1.0
    luma = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    assert np.abs(replaced.y - luma[:17, :23]).max() <= 0.51
    means = [plane.reshape(9, 2, 12, 2).mean((1, 3)) for plane in (blue, red, luma)]
    cb, cr = (means[0] - means[2]) / 1.8556 + 128, (means[1] - means[2]) / 1.5748 + 128
    assert np.abs(replaced.u - cb).max() <= 0.51
    assert np.abs(replaced.v - cr).max() <= 0.51
    with pytest.raises(MediaError, match="need the same size"):
        frame_with_bgr(replaced, np.zeros((16, 26, 3), np.uint8))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (Colour(False, 6, 6, 6), Colour(True, 6, 6, 6)),
        (Colour(True, 1, 1, 1), Colour(False, 1, 1, 1)),
        (Colour(False, 1, 1, 1), Colour(False, 6, 6, 6)),
        (Colour(True, 6, 6, 6), Colour(False, 1, 1, 1)),
    ],
)
def test_colours_that_change_on_the_way_look_the_same_in_the_output(
    make_clip, tmp_path, first, second
):
    """A camera that was set up anew: the file states the range and matrix of its first frame."""
    raw = {"container": "h264", "frames": 3, "options": {"crf": "1", "g": "1"}}
    parts = [make_clip(f"{c.full_range}{c.matrix}", colour=c, **raw) for c in (first, second)]
    source, target = tmp_path / "both.264", tmp_path / "out.mp4"
    source.write_bytes(b"".join(part.read_bytes() for part in parts))
    frames, reader = read_all(source)
    assert [frame.colour for frame in frames] == [first] * 3 + [second] * 3
    words = "frames of another colour range or matrix converted to the first's"
    assert write_all(target, reader.facts, frames, crf=1).warnings == {words: 3}
    # By themselves: in one file, FFmpeg's pixel format stays that of the first.
    before, after = [rgb for part in parts for rgb in shown_rgb(part)], shown_rgb(target)
    assert len(before) == len(after) == 6
    for one, other in zip(before, after, strict=True):
        # Without the fine detail that chroma of half the size loses. Not converted: 2.3 to 7.6.
        assert np.abs(one - other).mean() < 1


def shown_rgb(path):
    """Blurred frames as FFmpeg shows them by what each states."""
    with av.open(str(path)) as container:
        shown = [p.to_ndarray(format="rgb24") for p in container.decode(video=0)]
    return [cv2.blur(rgb.astype(np.float32), (9, 9)) for rgb in shown]


class Stored(bytearray):
    """A plane of 3 rows of 2 samples, with padding behind each."""

    width, height = 2, 3


@pytest.mark.parametrize(
    ("line_size", "rows"), [(4, [[1, 2], [3, 4], [5, 6]]), (-4, [[5, 6], [3, 4], [1, 2]])]
)
def test_lines_may_be_stored_from_the_bottom_up(line_size, rows):
    plane = Stored([1, 2, 9, 9, 3, 4, 9, 9, 5, 6, 9, 9])
    plane.line_size = line_size
    assert array_of(plane).tolist() == rows


def test_a_format_of_full_range_says_so_where_nothing_else_does():
    assert colour_of(av.VideoFrame(16, 16, "yuvj420p")).full_range is True
    assert colour_of(av.VideoFrame(16, 16, "yuv420p")).full_range is None


def test_luma_of_the_papers_weighs_each_colour():
    blue, green, red = np.eye(3, dtype=np.uint8)[:, None] * 255
    luma = [int(paper_luma_from_bgr(colour[None])[0, 0]) for colour in (blue, green, red)]
    assert luma == [41, 145, 81]  # 16 + 24.966, 128.553, 65.481
