"""Windows on a canvas: where they may lie, and that they do not touch each other."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecar.runtime.canvas import STEP_PX, Canvas, Work, canvas_for
from edgecar.runtime.cells import Grid
from edgecar.runtime.cover import Coverer
from edgecar.runtime.windows import Window


def rectangles(windows: list[Window], canvas: Canvas) -> list[tuple[int, int, int, int]]:
    return [
        (row, column, row + window.size[0], column + window.size[1])
        for window, (row, column) in zip(windows, canvas.places, strict=True)
    ]


@st.composite
def stale_grids(draw):
    """A grid, and a map of its stale cells with some in it."""
    align = draw(st.sampled_from([1, 2, 8]))
    sides = st.integers(1, 40).map(lambda count: 16 * count)
    size = draw(st.tuples(sides, sides))
    grid = Grid(size, draw(st.sampled_from([0, 8, 24])), align)
    share, seed = draw(st.floats(0.02, 0.6)), draw(st.integers(0, 99))
    clump = draw(st.sampled_from([1, 3, 8]))
    shape = tuple(side // grid.fine_px for side in size)
    some = np.random.default_rng(seed).random([-(-side // clump) for side in shape]) < share
    stale = np.kron(some, np.ones((clump, clump))).astype(np.uint8)[: shape[0], : shape[1]]
    return grid, stale


@settings(deadline=None, max_examples=150)
@given(stale_grids())
def test_every_stale_cell_is_kept_by_a_window_with_its_halo(case):
    grid, stale = case
    kept = np.zeros(grid.stored_size, bool)
    for window in Coverer(grid).windows(stale):
        top, left, bottom, right = window.keep
        kept[top:bottom, left:right] = True
        for start, end, first, last, side in (
            (window.read[0], window.read[2], top, bottom, grid.size[0]),
            (window.read[1], window.read[3], left, right, grid.size[1]),
        ):
            assert start % grid.align_px == 0
            assert end % grid.align_px == 0
            assert 0 <= start <= max(0, first - grid.halo_px)
            assert min(side, last + grid.halo_px) <= end <= side
    height, width = grid.size
    wanted = np.kron(stale, np.ones((grid.fine_px, grid.fine_px), np.uint8))[:height, :width]
    assert kept[:height, :width][wanted > 0].all()


@settings(deadline=None, max_examples=150)
@given(stale_grids())
def test_windows_do_not_overlap_and_lie_at_the_edges_they_touch(case):
    grid, stale = case
    windows = Coverer(grid).windows(stale)
    canvas = canvas_for(windows, grid.size) if windows else None
    if canvas is None:
        return
    taken = np.zeros(canvas.size, np.uint8)
    for window, (top, left, bottom, right) in zip(
        windows, rectangles(windows, canvas), strict=True
    ):
        assert top >= 0
        assert left >= 0
        assert taken[top:bottom, left:right].shape == window.size
        taken[top:bottom, left:right] += 1
        touches = [at == side for at, side in zip(window.read, (0, 0, *grid.size), strict=True)]
        place, edges = (top, left, bottom, right), (0, 0, *canvas.size)
        lies = [at == side for at, side in zip(place, edges, strict=True)]
        assert all(lie for touch, lie in zip(touches, lies, strict=True) if touch)
        assert top % grid.align_px == 0
        assert left % grid.align_px == 0
    assert taken.max() == 1


def test_a_canvas_is_little_larger_than_its_windows():
    windows = [
        Window((top, left, top + 56, left + 120), (top + 12, left + 12, top + 44, left + 108))
        for top in range(100, 900, 100)
        for left in range(100, 1700, 200)
    ]
    canvas = canvas_for(windows, (1080, 1920))
    assert canvas is not None
    read = sum(window.size[0] * window.size[1] for window in windows)
    assert read <= canvas.pixels <= 1.15 * read
    assert canvas.size[0] % STEP_PX == 0


def test_a_window_as_high_as_the_frame_has_no_place():
    assert canvas_for([Window((0, 8, 64, 40), (0, 20, 64, 28))], (64, 64)) is None


def test_a_box_as_high_as_the_frame_is_divided():
    grid = Grid((320, 320), halo_px=4)
    stale = np.zeros((80, 80), np.uint8)
    stale[:, 32] = 1
    windows = Coverer(grid).windows(stale)
    assert len(windows) == 2
    canvas = canvas_for(windows, grid.size)
    assert canvas is not None
    assert canvas.pixels < 320 * 320
    assert Work(windows, canvas).pixels == canvas.pixels
