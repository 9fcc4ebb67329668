"""Regions of a frame to compute again, each as a tile of its own."""

import math

import numpy as np
from numpy.typing import NDArray

from edgecar.runtime.change_map import CellMap, Grid
from edgecar.runtime.tiles import Tile, tile_around

TILE_PX = 1500  # price of running one tile more, in pixels

# Merging boxes takes time: where there are more than the frame is worth, they are made on a grid
# twice as coarse.
MOST_BOXES = 96
PX_PER_BOX = 8192

Boxes = NDArray[np.int64]
"""``(..., 4)``: top, left, bottom and right in cells of the fine grid."""


def tiles_of(stale: CellMap, grid: Grid) -> list[Tile]:
    """Tiles that together keep every stale cell.

    Runs of stale cells in each row of the coarse grid, shrunk to what is stale in them, are merged
    for as long as that costs less, halos included. What is kept of two tiles may overlap; it is the
    same there.

    Args:
        stale: 1 for every cell of the fine grid to compute.
        grid: Grid of the frame.
    """
    most = min(MOST_BOXES, 1 + grid.size[0] * grid.size[1] // PX_PER_BOX)
    boxes = _boxes(stale, math.lcm(grid.kept_px, grid.align_px) // grid.fine_px, most)
    if not len(boxes):
        return []
    prices = _prices(boxes, grid)
    savings = prices[:, None] + prices - _prices(_around(boxes[:, None], boxes), grid)
    np.fill_diagonal(savings, -1)
    alive = np.ones(len(boxes), bool)
    while savings.max() > 0:
        one, other = divmod(int(savings.argmax()), len(boxes))
        boxes[one] = _around(boxes[one], boxes[other])
        prices[one] = _prices(boxes[one], grid)
        alive[other] = False
        savings[other] = savings[:, other] = -1
        row = prices[one] + prices - _prices(_around(boxes[one], boxes), grid)
        row[~alive] = row[one] = -1
        savings[one] = savings[:, one] = row
    return [_tile(box, grid) for box in boxes[alive]]


def price(tiles: list[Tile]) -> int:
    """Cost of running tiles, in pixels: those that are read, and the handling of each tile."""
    return sum(tile.pixels + TILE_PX for tile in tiles)


def _prices(boxes: Boxes, grid: Grid) -> Boxes:
    """Return the price of a tile for each box."""
    sides = (boxes[..., 2:] - boxes[..., :2]) * grid.fine_px + 2 * grid.halo_px
    read: Boxes = np.minimum(-(-sides // grid.step_px) * grid.step_px, grid.size)
    prices: Boxes = read[..., 0] * read[..., 1] + TILE_PX
    return prices


def _tile(box: Boxes, grid: Grid) -> Tile:
    top, left, bottom, right = (int(edge) * grid.fine_px for edge in box)
    keep = top, left, min(bottom, grid.size[0]), min(right, grid.size[1])
    return tile_around(keep, grid.size, grid.halo_px, grid.align_px, grid.step_px)


def _boxes(stale: CellMap, count: int, most: int) -> Boxes:
    """Boxes around all cells that are 1, at most so many.

    Args:
        stale: Fine cells.
        count: Fine cells on a side of a coarse one; doubled until there are few boxes.
        most: Boxes.
    """
    rows, columns = (-(-side // count) for side in stale.shape)
    padded = np.zeros((rows * count, columns * count), np.uint8)
    padded[: stale.shape[0], : stale.shape[1]] = stale
    cells = padded.reshape(rows, count, columns, count)
    upright, across = cells.max(axis=3), cells.max(axis=1)  # rows and columns with something stale
    some = across.max(axis=2)
    steps = np.diff(some.astype(np.int8), axis=1, prepend=0, append=0)
    lines, firsts = np.nonzero(steps == 1)
    if len(lines) > most and count < max(stale.shape):
        return _boxes(stale, 2 * count, most)
    if not len(lines):
        return np.zeros((0, 4), np.int64)
    lasts = np.nonzero(steps == -1)[1] - 1
    line, column = np.nonzero(some)  # row by row: the cells of a run follow one another
    runs = np.flatnonzero(steps[line, column] == 1)
    tops = np.minimum.reduceat(upright.argmax(axis=1)[line, column], runs)
    bottoms = count - np.minimum.reduceat(upright[:, ::-1].argmax(axis=1)[line, column], runs)
    lefts = across[lines, firsts].argmax(axis=1)
    rights = count - across[lines, lasts, ::-1].argmax(axis=1)
    starts = lines * count + tops, firsts * count + lefts
    return np.stack([*starts, lines * count + bottoms, lasts * count + rights], axis=1)


def _around(one: Boxes, other: Boxes) -> Boxes:
    """The smallest boxes around pairs of boxes."""
    starts = np.minimum(one[..., :2], other[..., :2])
    ends = np.maximum(one[..., 2:], other[..., 2:])
    return np.concatenate([starts, ends], axis=-1)
