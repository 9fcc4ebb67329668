"""Cells of a frame that differ from the frame before, and the outputs that this makes stale."""

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edgecar.engines.base import Codes
from edgecar.spec import Size

CellMap = NDArray[np.uint8]
"""``(rows, columns)``, 0 or 1 for each cell."""

COMPARED_PX = 4  # bytes that are compared as one number
KEPT_PX = 32  # side of the cells in which stale outputs are gathered
STEP_PX = 32  # step of the sides of tiles


@dataclass(frozen=True)
class Grid:
    """How a frame is divided.

    A fine grid finds what changed: deblocking carries a block's change three pixels over its edge,
    and every pixel more would pull in another halo. On a coarse one neighbours are gathered.

    Attributes:
        size: ``(height, width)`` of the frame.
        halo_px: How far the network sees.
        align_px: Alignment of the network, whose outputs depend on whole multiples of it.
        kept_px: Side of the coarse cells; a multiple of 4, rounded up to the fine ones.
        step_px: Step of the sides of tiles; a multiple of ``align_px``.
    """

    size: Size
    halo_px: int
    align_px: int = 1
    kept_px: int = KEPT_PX
    step_px: int = STEP_PX

    @property
    def fine_px(self) -> int:
        """Side of the cells that are compared."""
        return math.lcm(COMPARED_PX, self.align_px)

    @property
    def stored_size(self) -> Size:
        """The frame's size rounded up to whole cells of the fine grid."""
        height, width = (-(-side // self.fine_px) * self.fine_px for side in self.size)
        return height, width


def changed_cells(before: Codes, after: Codes, fine_px: int, tolerance: int = 0) -> CellMap:
    """Cells of the fine grid in which any byte differs by more than ``tolerance`` codes.

    Args:
        before: ``(C, H, W)`` with contiguous rows; sides are multiples of ``fine_px``.
        after: Later frame of the same shape.
        fine_px: A multiple of 4.
        tolerance: Difference that is ignored.
    """
    if tolerance:
        differs = np.maximum(before, after) - np.minimum(before, after) > tolerance
        return pooled(np.asarray(differs.any(axis=0), np.uint8), fine_px)
    channels, height = after.shape[:2]
    words = before.view(np.uint32) != after.view(np.uint32)  # (C, H, W / 4)
    rows = words.reshape(channels, height // COMPARED_PX, COMPARED_PX, -1)
    found = rows[:, :, 0] | rows[:, :, 1] | rows[:, :, 2] | rows[:, :, 3]
    return pooled(np.asarray(found.any(axis=0), np.uint8), fine_px // COMPARED_PX)


def stale_cells(changed: CellMap, grid: Grid) -> CellMap:
    """Cells of the fine grid whose outputs depend on a changed one."""
    reach = -(-grid.halo_px // grid.fine_px)
    kernel = np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
    stale: CellMap = np.asarray(cv2.dilate(changed, kernel), np.uint8)
    return stale


def pooled(cells: CellMap, count: int) -> CellMap:
    """1 where any of ``count`` × ``count`` cells is."""
    if count == 1:
        return cells
    rows, columns = cells.shape[0] // count, cells.shape[1] // count
    by_row: CellMap = cells.reshape(rows, count, -1).max(axis=1)
    pooled: CellMap = by_row.reshape(rows, columns, count).max(axis=2)
    return pooled
