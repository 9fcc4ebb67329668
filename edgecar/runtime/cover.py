"""Rectangles that cover scattered cells, so that a network reads as little as possible."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgecar.runtime.cells import CellMap, Grid, pooled
from edgecar.runtime.cost import WINDOW_PX
from edgecar.runtime.windows import Window, window_around

# Merging takes time with their square: more are looked at on a grid twice as coarse.
MOST_BOXES = 96

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

        Neighbours are merged for as long as that reads less, halos included. What is
        kept of two windows may overlap; it is the same there.

        Args:
            stale: 1 for every cell to compute, of the grid's ``shape``.
        """
        boxes = _boxes(stale)
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
        side = self.grid.cell_px
        return (rows * side + reach) * (columns * side + reach) + WINDOW_PX

    def _windows(self, top: int, left: int, bottom: int, right: int) -> list[Window]:
        """Of a box; two where one would touch the frame's upper edge and its lower one."""
        middle = self.grid.shape[0] // 2
        if top == 0 and bottom == self.grid.shape[0] and middle:
            return [self._window(0, left, middle, right), self._window(middle, left, bottom, right)]
        return [self._window(top, left, bottom, right)]

    def _window(self, top: int, left: int, bottom: int, right: int) -> Window:
        grid, side = self.grid, self.grid.cell_px
        height, width = grid.size
        keep = top * side, left * side, min(bottom * side, height), min(right * side, width)
        return window_around(keep, grid.size, grid.halo_px, grid.align_px)


def _boxes(cells: CellMap) -> Numbers:
    """At most `MOST_BOXES` boxes around all cells that are 1."""
    boxes = _runs(cells)
    if len(boxes) <= MOST_BOXES:
        return boxes
    rows, columns = cells.shape
    even = np.pad(cells, ((0, rows % 2), (0, columns % 2)))
    return np.minimum(2 * _boxes(pooled(even, 2)), (rows, columns, rows, columns))


def _runs(cells: CellMap) -> Numbers:
    """Uninterrupted runs of each row, as boxes ``(n, 4)``: top, left, bottom and right."""
    steps = np.diff(cells.astype(np.int8), axis=1, prepend=0, append=0)
    rows, firsts = np.nonzero(steps == 1)
    _, ends = np.nonzero(steps == -1)
    return np.stack([rows, firsts, rows + 1, ends], axis=1)


def _around(one: Numbers, other: Numbers) -> Numbers:
    """The smallest boxes around pairs of boxes."""
    starts = np.minimum(one[..., :2], other[..., :2])
    ends = np.maximum(one[..., 2:], other[..., 2:])
    return np.concatenate([starts, ends], axis=-1)
