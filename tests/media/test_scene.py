"""Synthetic cameras do what their names say."""

from itertools import pairwise

import numpy as np
import pytest
from skimage import data

from edgecar.media import scene
from edgecar.media.color import frame_with_bgr
from edgecar.media.frame import Frame, chroma_size
from edgecar.media.scene import (
    BT709,
    fixed_camera,
    in_full_range,
    mosaic,
    moving_camera,
    with_clock,
)

PHOTO = np.ascontiguousarray(data.astronaut()[:240, :360, ::-1])
SIZE = (64, 96)


def test_mosaic_keeps_every_pixel_of_its_photos():
    photos = [np.full((30, 40, 3), 50, np.uint8), np.full((20, 25, 3), 200, np.uint8)]
    canvas = mosaic(photos, (70, 100))
    assert canvas.shape == (70, 100, 3)
    assert set(np.unique(canvas)) == {50, 200}  # nothing interpolated, nothing left empty


def test_only_the_movers_move_where_there_is_no_noise():
    background = np.random.default_rng(0).integers(60, 190, (90, 120, 3), np.uint8)
    mover = np.full((24, 30, 3), 250, np.uint8)
    frames = list(fixed_camera(background, [mover], 4, noise=0))
    assert [frame.pts for frame in frames] == [0, 1, 2, 3]
    changed = [(a.y != b.y).mean() for a, b in pairwise(frames)]
    assert all(0 < share < 2 * 24 * 30 / (90 * 120) for share in changed)


@pytest.mark.parametrize("kind", ["fixed", "moving"])
def test_noise_has_the_strength_asked_for(kind):
    background = np.full((80, 80, 3), 128, np.uint8)
    if kind == "fixed":
        (frame,) = fixed_camera(background[:64, :64], [], 1, noise=3)
    else:
        (frame,) = moving_camera(background, (64, 64), 1, noise=3)
    # The standard deviation of 4096 samples is within 4 % of the true one at three sigma.
    assert abs(frame.y.std() - 3) < 0.12


def test_moving_camera_makes_frames_of_a_clip():
    frames, again, other = (list(moving_camera(PHOTO, SIZE, 6, seed=seed)) for seed in (1, 1, 2))
    assert [(f.pts, f.size, f.time_base, f.colour) for f in frames] == [
        (number, SIZE, 1 / scene.RATE_FPS, BT709) for number in range(6)
    ]
    assert all((a.y != b.y).mean() > 0.2 for a, b in pairwise(frames))  # it moves
    assert all(
        (a.y == b.y).all() and (a.u == b.u).all() for a, b in zip(frames, again, strict=True)
    )
    assert (frames[0].y != other[0].y).any()


def test_panning_shows_the_photograph_pixel_by_pixel(monkeypatch):
    class Chosen:
        """No noise, no zoom and no turn."""

        drawn = iter([np.array((2.0, 1.0)), 0.0, 0.0])
        uniform = staticmethod(lambda _low, _high: 0.8)
        normal = staticmethod(lambda *_spread: next(Chosen.drawn))

    monkeypatch.setattr(scene.np.random, "default_rng", lambda _seed: Chosen)
    photo = PHOTO[:80, :120]  # 1.25 times the frame: at a zoom of 0.8, one pixel is one pixel
    frames = list(moving_camera(photo, SIZE, 4))
    blank = Frame(*(np.zeros(s, np.uint8) for s in (SIZE, *[chroma_size(SIZE)] * 2)), colour=BT709)
    for number, frame in enumerate(frames):
        time = number - 2  # the middle of the clip looks at the middle of the photograph
        top, left = (80 - 64) // 2 + time, (120 - 96) // 2 + 2 * time
        seen = np.ascontiguousarray(photo[top : top + 64, left : left + 96])
        np.testing.assert_array_equal(frame.y, frame_with_bgr(blank, seen).y)


def test_full_range_stretches_luma_and_says_so():
    y, chroma = np.array([[0, 16, 126], [235, 255, 17]], np.uint8), np.full((1, 2), 128, np.uint8)
    (frame,) = in_full_range([Frame(y, chroma, chroma, colour=BT709)])
    assert frame.y.tolist() == [[0, 0, 128], [255, 255, 1]]
    assert (frame.colour.full_range, frame.colour.matrix) == (True, BT709.matrix)


def test_a_clock_is_burnt_in_and_runs():
    before = list(fixed_camera(np.full((120, 320, 3), 100, np.uint8), [], 30, noise=0))
    ground = int(before[0].y[0, 0])
    looks = set()
    for seed in (1, 2, 3, 1):
        after = list(with_clock(before, white=235, black=16, seed=seed))
        painted = [(a.y != b.y) for a, b in zip(after, before, strict=True)]
        assert all(0.001 < mask.mean() < 0.5 for mask in painted)
        assert after[0].y.max() == 235
        assert 16 <= after[0].y.min() <= ground
        changes = [n for n, (a, b) in enumerate(pairwise(after), 1) if (a.y != b.y).any()]
        assert changes == [25]  # once a second
        looks.add(after[0].y.tobytes())
    assert len(looks) == 3  # the same seed looks alike
    assert (before[0].y == ground).all()  # the frames given stay as they are
