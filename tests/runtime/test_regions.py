"""Which cells changed, what depends on them, and the tiles that compute it again."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecar.runtime.change_map import Grid, changed_cells, pooled, stale_cells
from edgecar.runtime.regions import TILE_PX, price, tiles_of


@pytest.mark.parametrize("fine_px", [4, 8, 16])
@given(places=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 63), st.integers(0, 95))))
def test_a_cell_changed_if_any_of_its_bytes_did(fine_px, places):
    before = np.random.default_rng(0).integers(1, 255, (3, 64, 96), np.uint8)
    after = np.zeros((3, 64, 128), np.uint8)[:, :, :96]  # rows with gaps, as decoders have
    after[:] = before
    expected = np.zeros((64 // fine_px, 96 // fine_px), np.uint8)
    for channel, row, column in places:
        after[channel, row, column] = before[channel, row, column] - 1
        expected[row // fine_px, column // fine_px] = 1
    np.testing.assert_array_equal(changed_cells(before, after, fine_px), expected)


def test_tolerance_is_the_largest_change_that_is_ignored():
    before, after = np.full((2, 1, 64, 96), 10, np.uint8)
    after[0, 10, 10], after[0, 50, 50] = 9, 13
    assert changed_cells(before, after, 4, 2).sum() == 1
    assert changed_cells(before, after, 4, 3).sum() == 0


@pytest.mark.parametrize(("halo_px", "align_px"), [(0, 1), (9, 1), (12, 2), (24, 8), (32, 16)])
def test_stale_cells_are_those_within_the_halo(halo_px, align_px):
    grid = Grid((512, 512), halo_px, align_px)
    fine = grid.fine_px
    changed = np.zeros((512 // fine, 512 // fine), np.uint8)
    row, column = 200, 304
    changed[row // fine, column // fine] = 1
    stale = stale_cells(changed, grid)

    def within(reach: int) -> np.ndarray:
        seen = np.zeros((512, 512), np.uint8)
        seen[row - reach : row + reach + 1, column - reach : column + reach + 1] = 1
        return pooled(seen, fine)

    assert (stale >= within(halo_px)).all()  # every output that sees the change,
    assert (stale <= within(halo_px + 2 * fine)).all()  # and none much further away


@st.composite
def stale_grids(draw):
    """A grid, and a map of its stale cells with some in it."""
    align = draw(st.sampled_from([1, 2, 8]))
    size = draw(st.tuples(st.integers(16, 640), st.integers(16, 640)))
    step = draw(st.sampled_from([8, 32, 128]))
    grid = Grid(size, draw(st.sampled_from([0, 8, 24])), align, step_px=step)
    share, seed = draw(st.floats(0.02, 0.6)), draw(st.integers(0, 99))
    clump = draw(st.sampled_from([1, 3, 8]))
    shape = tuple(side // grid.fine_px for side in grid.stored_size)
    some = np.random.default_rng(seed).random([-(-side // clump) for side in shape]) < share
    stale = np.kron(some, np.ones((clump, clump))).astype(np.uint8)[: shape[0], : shape[1]]
    return grid, stale


@settings(max_examples=150)
@given(stale_grids())
def test_every_stale_cell_is_kept_by_a_tile_with_its_halo(case):
    grid, stale = case
    kept = np.zeros(grid.size, bool)
    tiles = tiles_of(stale, grid)
    for tile in tiles:
        top, left, bottom, right = tile.keep
        kept[top:bottom, left:right] = True
        for start, end, first, last, side in (
            (tile.read[0], tile.read[2], top, bottom, grid.size[0]),
            (tile.read[1], tile.read[3], left, right, grid.size[1]),
        ):
            aligned = -(-side // grid.align_px) * grid.align_px
            assert start % grid.align_px == end % grid.align_px == 0
            assert 0 <= start <= max(0, first - grid.halo_px)
            assert min(aligned, last + grid.halo_px) <= end <= aligned
            assert (end - start) % grid.step_px == 0 or end - start == aligned
    assert price(tiles) == sum(tile.size[0] * tile.size[1] + TILE_PX for tile in tiles)
    height, width = grid.size
    wanted = np.kron(stale, np.ones((grid.fine_px, grid.fine_px), np.uint8))[:height, :width]
    assert kept[wanted > 0].all()


def test_near_changes_share_a_tile_and_far_ones_do_not():
    grid, stale = Grid((1080, 1920), halo_px=12), np.zeros((270, 480), np.uint8)
    stale[20, (20, 30)] = stale[200, 400] = 1
    near, far = sorted(tiles_of(stale, grid), key=lambda tile: tile.keep)
    assert near.keep == (80, 80, 84, 124)
    assert far.keep == (800, 1600, 804, 1604)
    assert [near.size, far.size] == [(32, 96), (32, 32)]
