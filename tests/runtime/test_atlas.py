"""Tiles on an atlas: where they may lie, and that they do not touch each other."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecar.runtime.change_map import Grid
from edgecar.runtime.regions import SLACK, STEP_PX, Atlas, AtlasPacker, RegionMerger, TilePlan
from edgecar.runtime.tiles import Tile


def rectangles(tiles: list[Tile], atlas: Atlas) -> list[tuple[int, int, int, int]]:
    return [
        (row, column, row + tile.size[0], column + tile.size[1])
        for tile, (row, column) in zip(tiles, atlas.places, strict=True)
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
    for tile in RegionMerger(grid).tiles(stale):
        top, left, bottom, right = tile.keep
        kept[top:bottom, left:right] = True
        for start, end, first, last, side in (
            (tile.read[0], tile.read[2], top, bottom, grid.size[0]),
            (tile.read[1], tile.read[3], left, right, grid.size[1]),
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
    tiles = RegionMerger(grid).tiles(stale)
    atlas = AtlasPacker(grid.size).atlas(tiles) if tiles else None
    if atlas is None:
        return
    taken = np.zeros(atlas.size, np.uint8)
    for tile, (top, left, bottom, right) in zip(tiles, rectangles(tiles, atlas), strict=True):
        assert top >= 0
        assert left >= 0
        assert taken[top:bottom, left:right].shape == tile.size
        taken[top:bottom, left:right] += 1
        touches = [at == side for at, side in zip(tile.read, (0, 0, *grid.size), strict=True)]
        place, edges = (top, left, bottom, right), (0, 0, *atlas.size)
        lies = [at == side for at, side in zip(place, edges, strict=True)]
        assert all(lie for touch, lie in zip(touches, lies, strict=True) if touch)
        assert top % grid.align_px == 0
        assert left % grid.align_px == 0
    assert taken.max() == 1


def test_a_canvas_is_little_larger_than_its_windows():
    tiles = [
        Tile((top, left, top + 56, left + 120), (top + 12, left + 12, top + 44, left + 108))
        for top in range(100, 900, 100)
        for left in range(100, 1700, 200)
    ]
    atlas = AtlasPacker((1080, 1920)).atlas(tiles)
    assert atlas is not None
    read = sum(tile.size[0] * tile.size[1] for tile in tiles)
    assert read <= atlas.pixels <= 1.15 * read
    assert atlas.size[0] % STEP_PX == 0


def test_a_window_as_high_as_the_frame_has_no_place():
    assert AtlasPacker((64, 64)).atlas([Tile((0, 8, 64, 40), (0, 20, 64, 28))]) is None


def test_a_box_as_high_as_the_frame_is_divided():
    grid = Grid((320, 320), halo_px=4)
    stale = np.zeros((80, 80), np.uint8)
    stale[:, 32] = 1
    tiles = RegionMerger(grid).tiles(stale)
    assert len(tiles) == 2
    atlas = AtlasPacker(grid.size).atlas(tiles)
    assert atlas is not None
    assert atlas.pixels < 320 * 320
    assert TilePlan(tiles, atlas).pixels == atlas.pixels


def one_window(height: int, width: int) -> list[Tile]:
    """A tile somewhere in the middle of a large frame, 12 px of halo included."""
    top, left = 200, 200
    keep = top + 12, left + 12, top + height - 12, left + width - 12
    return [Tile((top, left, top + height, left + width), keep)]


def test_a_size_in_use_is_taken_unless_it_is_much_too_large():
    packer = AtlasPacker((1080, 1920))
    large = packer.atlas(one_window(320, 320))
    near = packer.atlas(one_window(280, 310))
    far = packer.atlas(one_window(200, 310))
    assert large is not None
    assert near is not None
    assert far is not None
    assert near.size == large.size == (320, 320)
    assert far.size == (224, 320)
    assert large.pixels > SLACK * far.pixels


def test_sizes_are_limited_and_the_one_unused_longest_goes():
    packer = AtlasPacker((1080, 1920), most=2)
    sizes = [packer.atlas(one_window(height, 96)).size for height in (96, 800, 600)]
    assert sizes == [(96, 96), (800, 96), (800, 96)]  # the limit is reached
    assert packer.atlas(one_window(96, 1500)).size == (96, 1504)  # nothing else fits
    assert packer.atlas(one_window(600, 96)).size == (800, 96)
    assert packer.atlas(one_window(64, 96)).size == (64, 96)  # (96, 96) went


def test_windows_at_the_lower_edge_lie_there_on_a_larger_canvas_too():
    packer, frame = AtlasPacker((1080, 1920), most=1), (1080, 1920)
    packer.atlas(one_window(310, 320))
    bottom = Tile((frame[0] - 100, 300, frame[0], 500), (frame[0] - 88, 312, frame[0], 488))
    atlas = packer.atlas([*one_window(210, 310), bottom])
    assert atlas is not None
    assert atlas.size == (320, 320)
    assert atlas.places[1][0] + 100 == 320
