"""Plans cover every pixel once and read what the halo asks for."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecar.errors import WindowError
from edgecar.runtime.tiles import Tile, aligned_size, plan_grid, plan_windows

sizes = st.tuples(st.integers(1, 300), st.integers(1, 300))
aligns = st.sampled_from([1, 2, 4, 16])
halo_steps = st.integers(0, 12)


def assert_covers_once(plan: list[Tile], size: tuple[int, int]) -> None:
    kept = np.zeros(size, np.int32)
    for tile in plan:
        top, left, bottom, right = tile.keep
        kept[top:bottom, left:right] += 1
    assert kept.min() == kept.max() == 1


def assert_reads_halo(plan: list[Tile], size: tuple[int, int], halo: int, align: int) -> None:
    """Every tile reads the halo around what it keeps, or stops at the aligned frame's edge."""
    edges = (0, 0, *aligned_size(size, align))
    signs = (1, 1, -1, -1)
    for tile in plan:
        for read, keep, edge, sign in zip(tile.read, tile.keep, edges, signs, strict=True):
            assert (keep - read) * sign >= halo or read == edge
        assert all(side % align == 0 for side in tile.read)
        assert min(tile.read) >= 0
        assert tile.read[2] <= edges[2]
        assert tile.read[3] <= edges[3]


@given(size=sizes, align=aligns, steps=halo_steps, share=st.floats(0.2, 1.5))
def test_free_plan_covers_once_within_the_limit(size, align, steps, share):
    halo = align * steps
    limit = max(int(share * size[0] * size[1]), (2 * halo + 2 * align) ** 2 * 4)
    plan = plan_windows(size, halo_px=halo, align_px=align, max_read_px=limit)
    assert_covers_once(plan, size)
    assert_reads_halo(plan, size, halo, align)
    assert all(tile.size[0] * tile.size[1] <= limit for tile in plan)


@given(
    size=sizes,
    align=aligns,
    steps=halo_steps,
    tile_steps=st.tuples(st.integers(1, 20), st.integers(1, 20)),
)
def test_grid_covers_once_with_one_shape(size, align, steps, tile_steps):
    halo = align * steps
    padded = aligned_size(size, align)
    tile = tuple(
        min(side, 2 * halo + align * extra) // align * align
        for side, extra in zip(padded, tile_steps, strict=True)
    )
    plan = plan_grid(size, tile, halo_px=halo, align_px=align)
    assert {tile.size for tile in plan} == {tile}
    assert_covers_once(plan, size)
    assert_reads_halo(plan, size, halo, align)


def test_a_frame_that_fits_is_one_window():
    (tile,) = plan_windows((100, 120), halo_px=12, align_px=2)
    assert tile == Tile((0, 0, 100, 120), (0, 0, 100, 120))


def test_free_plan_reads_less_than_square_tiles():
    size, limit = (1080, 1920), 1 << 18
    free = plan_windows(size, halo_px=12, align_px=2, max_read_px=limit)
    squares = plan_grid(size, (512, 512), halo_px=12, align_px=2)
    read = [sum(w.size[0] * w.size[1] for w in plan) for plan in (free, squares)]
    assert read[0] < read[1]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plan_grid((50, 50), (64, 64), halo_px=4), "for a tile of at most 50 px"),
        (lambda: plan_grid((90, 90), (64, 64), halo_px=32), "use a tile of at least 65 px"),
        (lambda: plan_grid((90, 90), (63, 64), halo_px=4, align_px=2), "no multiple of 2 px"),
        (lambda: plan_windows((90, 90), halo_px=3, align_px=2), "halo 3 px is no multiple"),
        (lambda: plan_windows((0, 90), halo_px=2), "no pixels"),
        (lambda: plan_windows((900, 900), halo_px=12, max_read_px=400), "allow at least 2500 px"),
    ],
)  # fmt: skip
def test_impossible_plans_say_what_to_do(call, message):
    with pytest.raises(WindowError, match=message):
        call()


def test_the_tile_that_an_error_asks_for_works():
    assert_covers_once(plan_grid((90, 90), (65, 65), halo_px=32), (90, 90))
