"""Rectangles that cover scattered cells, so that a network reads as little as possible."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgecar.runtime.cells import CellMap, Grid
from edgecar.runtime.cost import WINDOW_PX
from edgecar.runtime.windows import Window, window_around

# Merging boxes takes time: where there are more than the frame is worth, they are made on a grid
# twice as coarse.
MOST_BOXES = 96
PX_PER_BOX = 8192

Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class Coverer:
    """Plans the windows that compute some cells of a frame.

    Args:
        grid: Of the frame.
    """

    grid: Grid

    def windows(self, stale: CellMap) -> list[Window]:
        """Windows that together keep every stale cell.

        Runs of stale cells in each row of the coarse grid, shrunk to what is stale in them, are
        merged for as long as that reads less, halos included. What is kept of two windows may
        overlap; it is the same there.

        Args:
            stale: 1 for every cell of the fine grid to compute.
        """
        height, width = self.grid.size
        most = min(MOST_BOXES, 1 + height * width // PX_PER_BOX)
        boxes = _boxes(stale, self.grid.cell_px // self.grid.fine_px, most)
        if not len(boxes):
            return []
        prices = self._prices(boxes)
        savings = self._savings(boxes[:, None], boxes, prices[:, None] + prices)
        np.fill_diagonal(savings, -1)
        alive = np.ones(len(boxes), bool)
        while True:
            one, other = divmod(int(savings.argmax()), len(boxes))
            if savings[one, other] <= 0:
                break
            boxes[one] = _around(boxes[one], boxes[other])
            prices[one] = self._prices(boxes[one])
            alive[other] = False
            savings[other] = savings[:, other] = -1
            row = self._savings(boxes[one], boxes, prices[one] + prices)
            row[~alive] = row[one] = -1
            savings[one] = savings[:, one] = row
        return [window for box in boxes[alive] for window in self._windows(*map(int, box))]

    def _savings(self, one: Numbers, others: Numbers, prices: Numbers) -> Numbers:
        """What a box around both saves over each alone, which cost ``prices`` together."""
        return prices - self._prices(_around(one, others))

    def _prices(self, boxes: Numbers) -> Numbers:
        """Of each box, in pixels: what is read for it, and its handling."""
        reach = 2 * self.grid.halo_px
        rows, columns = boxes[..., 2] - boxes[..., 0], boxes[..., 3] - boxes[..., 1]
        side = self.grid.fine_px
        return (rows * side + reach) * (columns * side + reach) + WINDOW_PX

    def _windows(self, top: int, left: int, bottom: int, right: int) -> list[Window]:
        """Of a box; two where one would read the frame from its upper edge to its lower one."""
        whole = self._window(top, left, bottom, right)
        if whole.read[0] > 0 or whole.read[2] < self.grid.size[0] or bottom - top < 2:
            return [whole]
        middle = (top + bottom) // 2
        return [self._window(top, left, middle, right), self._window(middle, left, bottom, right)]

    def _window(self, top: int, left: int, bottom: int, right: int) -> Window:
        grid, side = self.grid, self.grid.fine_px
        height, width = grid.size
        keep = top * side, left * side, min(bottom * side, height), min(right * side, width)
        return window_around(keep, grid.size, grid.halo_px, grid.align_px)


def _boxes(stale: CellMap, count: int, most: int) -> Numbers:
    """Boxes around all cells that are 1, at most so many, as ``(n, 4)``: top, left, bottom, right.

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


def _around(one: Numbers, other: Numbers) -> Numbers:
    """The smallest boxes around pairs of boxes."""
    starts = np.minimum(one[..., :2], other[..., :2])
    ends = np.maximum(one[..., 2:], other[..., 2:])
    return np.concatenate([starts, ends], axis=-1)
