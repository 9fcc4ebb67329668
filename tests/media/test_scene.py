"""The synthetic fixed camera does what its name says."""

from itertools import pairwise

import numpy as np

from edgecar.media.scene import fixed_camera, mosaic


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


def test_noise_has_the_strength_asked_for():
    background = np.full((64, 64, 3), 128, np.uint8)
    (frame,) = fixed_camera(background, [], 1, noise=3)
    # The standard deviation of 4096 samples is within 4 % of the true one at three sigma.
    assert abs(frame.y.std() - 3) < 0.12


def test_same_seed_same_clip():
    background = np.full((16, 16, 3), 128, np.uint8)
    first, second = (list(fixed_camera(background, [], 2, seed=7)) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one.y, other.y)
