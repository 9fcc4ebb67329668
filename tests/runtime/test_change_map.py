"""Which cells changed, and what depends on them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecar.runtime.change_map import Grid, changed_cells, pooled, stale_cells, tolerated_cells


def frames(shape=(1, 64, 96)):
    before = np.random.default_rng(0).integers(1, 255, shape, np.uint8)
    return before, before.copy()


@pytest.mark.parametrize("fine_px", [4, 8, 16])
@given(
    places=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 63), st.integers(0, 95))),
)
def test_a_cell_changed_if_any_of_its_bytes_did(fine_px, places):
    before, after = frames((3, 64, 96))
    expected = np.zeros((64 // fine_px, 96 // fine_px), np.uint8)
    for channel, row, column in places:
        after[channel, row, column] = before[channel, row, column] - 1
        expected[row // fine_px, column // fine_px] = 1
    np.testing.assert_array_equal(changed_cells(before, after, fine_px), expected)
    np.testing.assert_array_equal(tolerated_cells(before, after, fine_px, 0), expected)


def test_tolerance_is_the_largest_change_that_is_ignored():
    before, after = frames()
    after[0, 10, 10] -= 1
    before[0, 50, 50], after[0, 50, 50] = 10, 13
    assert tolerated_cells(before, after, 4, 2).sum() == 1
    assert tolerated_cells(before, after, 4, 3).sum() == 0


@pytest.mark.parametrize(("halo_px", "align_px"), [(0, 1), (9, 1), (12, 2), (24, 8), (32, 16)])
def test_stale_cells_are_those_within_the_halo(halo_px, align_px):
    grid = Grid((512, 512), halo_px, align_px)
    fine = grid.fine_px
    changed = np.zeros((512 // fine, 512 // fine), np.uint8)
    row, column = 200, 304
    changed[row // fine, column // fine] = 1
    stale = stale_cells(changed, grid)
    # Every output that sees the changed pixel is stale ...
    seen = np.zeros((512, 512), np.uint8)
    seen[row - halo_px : row + halo_px + 1, column - halo_px : column + halo_px + 1] = 1
    assert (stale >= pooled(seen, fine)).all()
    # ... and none further away than the halo and the grids' coarseness.
    reach = halo_px + 2 * fine
    near = np.zeros((512, 512), np.uint8)
    near[row - reach : row + reach + 1, column - reach : column + reach + 1] = 1
    assert (stale <= pooled(near, fine)).all()


def test_nothing_beyond_the_frame_is_stale():
    grid = Grid((40, 50), halo_px=12, align_px=2)
    changed = np.ones((grid.stored_size[0] // 4, grid.stored_size[1] // 4), np.uint8)
    assert stale_cells(changed, grid).sum() == 10 * 13


def test_the_grid_reaches_over_the_frame():
    grid = Grid((1080, 1918), halo_px=12, align_px=2)
    assert grid.shape == (34, 60)
    assert grid.stored_size == (1088, 1920)
