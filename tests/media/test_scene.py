"""The synthetic fixed camera does what its name says."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from skimage import data

from edgecar.media import scene
from edgecar.media.color import frame_with_bgr
from edgecar.media.frame import Frame
from edgecar.media.scene import (
    BT709,
    RATE_FPS,
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


class Chosen:
    """A random generator that draws what the test wants."""

    def __init__(self, zoom: float, speed: tuple[float, float], swell: float, turn: float) -> None:
        self._zoom, self._normal = zoom, iter([np.array(speed), swell, turn])

    def uniform(self, low: float, high: float) -> float:
        assert low <= self._zoom <= high
        return self._zoom

    def normal(self, *_spread: float) -> object:
        return next(self._normal)


@pytest.fixture
def filmed(monkeypatch):
    """Films with a path of the test's choice."""

    def film(photo, *, zoom=1.0, speed=(0.0, 0.0), swell=0.0, turn=0.0, frames=5):
        chosen = Chosen(zoom, speed, swell, turn)
        monkeypatch.setattr(scene.np.random, "default_rng", lambda _seed: chosen)
        made = list(moving_camera(photo, SIZE, frames))
        monkeypatch.undo()
        return made

    return film


def luma_of(bgr: np.ndarray) -> np.ndarray:
    blank = np.zeros(SIZE, np.uint8), *np.zeros((2, 32, 48), np.uint8)
    return frame_with_bgr(Frame(*blank, colour=BT709), np.ascontiguousarray(bgr)).y


def slopes(luma: np.ndarray) -> tuple[float, float]:
    """Of the plane nearest to a picture: per pixel to the right and down, in codes."""
    rows, columns = np.mgrid[: luma.shape[0], : luma.shape[1]]
    terms = np.column_stack([columns.ravel(), rows.ravel(), np.ones(luma.size)])
    across, down, _ = np.linalg.lstsq(terms, luma.ravel().astype(float), rcond=None)[0]
    return across, down


def test_moving_camera_makes_frames_of_a_clip():
    frames = list(moving_camera(PHOTO, SIZE, 6, seed=1))
    assert [frame.pts for frame in frames] == list(range(6))
    assert {frame.size for frame in frames} == {SIZE}
    assert {frame.time_base for frame in frames} == {1 / RATE_FPS}
    assert {frame.colour for frame in frames} == {BT709}
    assert all((a.y != b.y).mean() > 0.2 for a, b in pairwise(frames))  # it moves
    again, other = (list(moving_camera(PHOTO, SIZE, 6, seed=seed)) for seed in (1, 2))
    for frame, same in zip(frames, again, strict=True):
        np.testing.assert_array_equal(frame.y, same.y)
        np.testing.assert_array_equal(frame.u, same.u)
    assert (frames[0].y != other[0].y).any()


def test_panning_shows_the_photograph_pixel_by_pixel(filmed):
    photo = PHOTO[:80, :120]  # 1.25 times the frame: at a zoom of 0.8, one pixel is one pixel
    frames = filmed(photo, zoom=0.8, speed=(2.0, 1.0), frames=4)
    for number, frame in enumerate(frames):
        time = number - 2  # the middle of the clip looks at the middle of the photograph
        top, left = (80 - 64) // 2 + time, (120 - 96) // 2 + 2 * time
        expected = luma_of(photo[top : top + 64, left : left + 96])
        np.testing.assert_array_equal(frame.y, expected)


# A plane through 6144 samples rounded to codes: its slopes are good to 0.3 / (96 · 6144^½ / 12^½).
SLOPE_ERROR = 1e-3
RAMP = np.repeat(np.tile(np.arange(240, dtype=np.uint8), (160, 1))[..., None], 3, axis=2)
LUMA_A_CODE = 219 / 255  # of limited range, for grey


def test_zooming_changes_the_scale_from_frame_to_frame(filmed):
    frames = filmed(RAMP, zoom=0.6, swell=0.1, frames=4)
    for number, frame in enumerate(frames):
        across, down = slopes(frame.y)
        # 240 / 96 = 160 / 64 = 2.5 pixels of the photograph a pixel, times 0.6, and 1.1 a frame.
        expected = 2.5 * 0.6 * 1.1 ** (number - 2) * LUMA_A_CODE
        assert abs(across - expected) < SLOPE_ERROR
        assert abs(down) < SLOPE_ERROR


def test_turning_turns_about_the_middle(filmed):
    frames = filmed(RAMP, zoom=0.6, turn=0.1, frames=4)
    for number, frame in enumerate(frames):
        across, down = slopes(frame.y)
        assert abs(np.arctan2(-down, across) - 0.1 * (number - 2)) < SLOPE_ERROR
        assert abs(np.hypot(across, down) - 1.5 * LUMA_A_CODE) < SLOPE_ERROR
        # The middle stays where it is: code 120 of the ramp, at the corner of four pixels.
        middle = frame.y[31:33, 47:49].mean()
        assert abs(middle - (16 + LUMA_A_CODE * (120 - 1.5 / 2))) < 1.5  # rounding; half a pixel


def test_it_may_look_beyond_the_edge(filmed):
    """The photograph is mirrored there: nothing is black."""
    white = np.full((80, 120, 3), 255, np.uint8)
    frames = filmed(white, zoom=1.0, speed=(40.0, 40.0), frames=5)
    assert all((frame.y == 235).all() for frame in frames)


@pytest.mark.parametrize("size", [(64, 96), (128, 72)])
def test_zoom_stays_within_the_photograph(size):
    """The whole frame is filled by 0.6 to 1.0 of what fits, whichever side is the tighter."""
    for seed in range(20):
        first = next(moving_camera(RAMP, size, 1, seed=seed))
        across, down = slopes(first.y)
        fits = min(160 / size[0], 240 / size[1]) * LUMA_A_CODE
        # One frame is half a frame before the middle; path and turn are small.
        assert 0.59 * fits < np.hypot(across, down) < 1.01 * fits


def still(value: int, frames: int = 30, size=(120, 320)) -> list[Frame]:
    background = np.full((*size, 3), 128, np.uint8)
    seen = fixed_camera(background, [], frames, noise=0)
    return [replace(frame, y=np.full(size, value, np.uint8)) for frame in seen]


def test_full_range_stretches_luma_and_says_so():
    y = np.array([[0, 16, 126], [235, 255, 17]], np.uint8)
    chroma = np.full((1, 2), 128, np.uint8)
    (frame,) = in_full_range([Frame(y, chroma, chroma, colour=BT709)])
    assert frame.y.tolist() == [[0, 0, 128], [255, 255, 1]]
    assert frame.colour.full_range is True
    assert frame.colour.matrix == BT709.matrix


@pytest.mark.parametrize("seed", range(6))
def test_a_clock_is_burnt_in_and_runs(seed):
    before = still(100)
    after = list(with_clock(before, white=235, black=16, seed=seed))
    painted = [(a.y != b.y) for a, b in zip(after, before, strict=True)]
    assert all(0.001 < mask.mean() < 0.5 for mask in painted)
    assert after[0].y.max() == 235
    assert 16 <= after[0].y.min() <= 100
    changes = [n for n, (a, b) in enumerate(pairwise(after), 1) if (a.y != b.y).any()]
    assert changes == [25]  # once a second
    assert (before[0].y == 100).all()  # the frames given stay as they are


def test_clocks_look_different_and_the_same_seed_alike():
    looks = {
        next(with_clock(still(100, 1), white=255, black=0, seed=s)).y.tobytes()
        for s in (1, 2, 3, 1)
    }
    assert len(looks) == 3
