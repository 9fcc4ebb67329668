"""Regions of a frame to compute again, and the atlas that packs them into one picture.

A region brings its halo along, so whatever lies beside it in the atlas does not reach what is kept
of it. Only at the frame's edges does a network see something else than pixels, its own padding:
regions that touch an edge of the frame lie at the same edge of the atlas.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgecar.runtime.change_map import CellMap, Grid
from edgecar.runtime.tiles import Tile, tile_around
from edgecar.spec import Size

# Atlases come in steps of height and width.
WIDTH_STEP_PX = 32
STEP_PX = 32
WIDTHS_TRIED = 8

# An engine prepares itself for every new size, which takes time, and keeps what it made, which
# takes memory. So a size in use is taken where it is not much larger than the best, the more so
# where there are many.
SIZES = 24
SLACK, SLACK_OF_MANY = 1.2, 1.5


@dataclass(frozen=True)
class Atlas:
    """Where tiles lie.

    Attributes:
        size: ``(height, width)``.
        places: Row and column of each tile's upper left corner, in the order given.
    """

    size: Size
    places: list[tuple[int, int]]

    @property
    def pixels(self) -> int:
        """Number of pixels that the network reads."""
        return self.size[0] * self.size[1]


@dataclass(frozen=True)
class TilePlan:
    """Tiles to run for a frame.

    Attributes:
        tiles: Tiles of the frame.
        atlas: Where they lie if they are run all at once; None runs them one by one.
    """

    tiles: list[Tile]
    atlas: Atlas | None = None

    @property
    def pixels(self) -> int:
        """Number of pixels that the network reads."""
        if self.atlas:
            return self.atlas.pixels
        return sum(tile.size[0] * tile.size[1] for tile in self.tiles)


class AtlasPacker:
    """Finds atlases for tiles of frames of one size, of few sizes in the long run.

    Args:
        frame: Size of the aligned frames that tiles read.
        step_px: Step of the heights of atlases; a multiple of the network's alignment.
        most: Sizes in use at a time.
    """

    def __init__(self, frame: Size, step_px: int = STEP_PX, most: int = SIZES) -> None:
        self._frame, self._step_px, self._most = frame, step_px, most
        self._in_use: dict[Size, None] = {}  # the one used last comes last

    def atlas(self, tiles: list[Tile]) -> Atlas | None:
        """A small atlas; None if one of the tiles, at least one, cannot be placed."""
        packed = {
            (-(-skyline.height // self._step_px) * self._step_px, width): skyline
            for width in self._widths(tiles)
            if (skyline := _packed(tiles, self._frame, width)) is not None
        }
        if not packed:
            return None
        best = min(packed, key=_pixels)
        ready = {
            size: skyline
            for size in self._in_use
            for (height, width), skyline in packed.items()
            if size[1] == width and size[0] >= height
        }
        size = min(ready, key=_pixels, default=best)
        skyline = ready.get(size, packed[best])
        slack = SLACK if len(self._in_use) < self._most else SLACK_OF_MANY
        if _pixels(size) > slack * _pixels(best):
            size, skyline = best, packed[best]
        self._use(size)
        return skyline.atlas(size[0])

    def _widths(self, tiles: list[Tile]) -> list[int]:
        """Those worth trying: an atlas about as high as wide wastes least."""
        side = math.isqrt(sum(tile.size[0] * tile.size[1] for tile in tiles))
        widest = max(tile.size[1] for tile in tiles)
        narrowest = -(-widest // WIDTH_STEP_PX) * WIDTH_STEP_PX
        fitting = range(narrowest, self._frame[1], WIDTH_STEP_PX)
        nearest = sorted(fitting, key=lambda width: abs(width - side))
        return [*nearest[:WIDTHS_TRIED], *fitting[:1], self._frame[1]]

    def _use(self, size: Size) -> None:
        if size not in self._in_use and len(self._in_use) >= self._most:
            del self._in_use[next(iter(self._in_use))]
        self._in_use.pop(size, None)
        self._in_use[size] = None


def _pixels(size: Size) -> int:
    return size[0] * size[1]


def _packed(tiles: list[Tile], frame: Size, width: int) -> "_Skyline | None":
    skyline = _Skyline(tiles, frame, width)
    return skyline if skyline.pack() else None


class _Skyline:
    """Tiles dropped one after the other to where they come to lie highest up.

    The atlas is filled from its upper edge; the skyline is where it is filled to (bottom-left
    heuristic; Jylänki, "A thousand ways to pack the bin", 2010).
    """

    def __init__(self, tiles: list[Tile], frame: Size, width: int) -> None:
        self._tiles, self._frame, self._width = tiles, frame, width
        self._segments = [(0, width, 0)]  # from column, to column, filled to row
        self._places = [(0, 0)] * len(tiles)
        self._at_bottom: list[int] = []
        self.height = 0
        """Least height of the atlas, once packed."""

    def pack(self) -> bool:
        """Put all tiles in place, the highest first; False if one has none."""
        order = sorted(range(len(self._tiles)), key=lambda number: -self._tiles[number].size[0])
        at_top = [n for n in order if self._tiles[n].read[0] == 0]
        at_bottom = [n for n in order if self._tiles[n].read[2] == self._frame[0]]
        if set(at_top) & set(at_bottom):
            return False
        if not all(self._drop(number) and not self._places[number][0] for number in at_top):
            return False
        between = [n for n in order if n not in at_top and n not in at_bottom]
        if not all(map(self._drop, between)):
            return False
        # These stand side by side at the lower edge, and the atlas is as high as they need.
        filled = self._segments
        self._segments = [(0, self._width, 0)]
        if not all(self._drop(number) and not self._places[number][0] for number in at_bottom):
            return False
        self.height = max(row for _, _, row in filled)
        for number in at_bottom:
            (height, width), column = self._tiles[number].size, self._places[number][1]
            self.height = max(self.height, _row_under(filled, column, column + width) + height)
        self._at_bottom = at_bottom
        return True

    def atlas(self, height: int) -> Atlas:
        """Return the atlas of a height, which is at least `height`."""
        places = list(self._places)
        for number in self._at_bottom:
            places[number] = height - self._tiles[number].size[0], places[number][1]
        return Atlas((height, self._width), places)

    def _drop(self, number: int) -> bool:
        """Place a tile where it lies highest; False if it has no place."""
        height, width = self._tiles[number].size
        columns = self._columns(number)
        spots = [(_row_under(self._segments, c, c + width), c) for c in columns]
        if not spots:
            return False
        row, column = self._places[number] = min(spots)
        self._fill(column, column + width, row + height)
        return True

    def _columns(self, number: int) -> list[int]:
        """Where a tile may begin."""
        _, left, _, right = self._tiles[number].read
        last = self._width - (right - left)
        at_left, at_right = left == 0, right == self._frame[1]
        if last < 0 or (at_left and at_right and last):
            return []
        if at_left or at_right:
            return [0 if at_left else last]
        return [first for first, _, _ in self._segments if first <= last]

    def _fill(self, first: int, end: int, row: int) -> None:
        left = [(a, min(b, first), r) for a, b, r in self._segments if a < first]
        right = [(max(a, end), b, r) for a, b, r in self._segments if b > end]
        self._segments = [*left, (first, end, row), *right]


def _row_under(segments: list[tuple[int, int, int]], first: int, end: int) -> int:
    return max(row for a, b, row in segments if a < end and b > first)


TILE_PX = 1500  # what handling a tile on an atlas costs, in pixels
ATLAS_FACTOR = 1.2  # of an atlas's pixels over a full frame's, until it was measured
RISE, FALL = 0.1, 0.5  # share of a measurement in the next estimate, above and below the last
TRY_EVERY = 200  # frames after which the other way is measured again


class CostModel:
    """Picks the faster way to bring a frame up to date; the output is the same either way.

    Speed changes with the engine, the network and what else the machine does, and an atlas has its
    own price: shapes that an engine has not seen, tiles to copy, a cover to find.
    """

    def __init__(self) -> None:
        self._seconds_per_px: dict[bool, float] = {}  # on an atlas; in full
        self._since_tried = 0

    def prefers(self, atlas: TilePlan, full: TilePlan) -> bool:
        """Return True if an atlas is expected to be faster than the full frame."""
        known = self._seconds_per_px
        factor = known[True] / known[False] if len(known) == 2 else ATLAS_FACTOR
        cheaper = factor * _weight(atlas) < _weight(full)
        self._since_tried = 0 if cheaper else self._since_tried + 1
        # An estimate that was bad once would stay so: what it turns down is never measured.
        return cheaper or (self._since_tried % TRY_EVERY == 0 and atlas.pixels < full.pixels)

    def learn(self, plan: TilePlan, seconds: float) -> None:
        """Note how long a frame took, from finding what is stale to the last byte."""
        if not plan.tiles:
            return
        on_atlas, measured = plan.atlas is not None, seconds / _weight(plan)
        before = self._seconds_per_px.get(on_atlas, measured)
        # First runs and those in which another program had the CPU say little; fast ones do.
        share = FALL if measured < before else RISE
        self._seconds_per_px[on_atlas] = before + share * (min(measured, 2 * before) - before)


def _weight(plan: TilePlan) -> float:
    return plan.pixels + (TILE_PX * len(plan.tiles) if plan.atlas else 0)


# Merging boxes takes time: where there are more than the frame is worth, they are made on a grid
# twice as coarse.
MOST_BOXES = 96
PX_PER_BOX = 8192

Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class RegionMerger:
    """Plans the tiles that compute some cells of a frame.

    Args:
        grid: Grid of the frame.
    """

    grid: Grid

    def tiles(self, stale: CellMap) -> list[Tile]:
        """Tiles that together keep every stale cell.

        Runs of stale cells in each row of the coarse grid, shrunk to what is stale in them, are
        merged for as long as that reads less, halos included. What is kept of two tiles may
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
        return [tile for box in boxes[alive] for tile in self._tiles(*map(int, box))]

    def _savings(self, one: Numbers, others: Numbers, prices: Numbers) -> Numbers:
        """Return how much a box around both saves over two, which cost ``prices`` together."""
        return prices - self._prices(_around(one, others))

    def _prices(self, boxes: Numbers) -> Numbers:
        """Return the price of each box in pixels: those read for it, and its handling."""
        reach = 2 * self.grid.halo_px
        rows, columns = boxes[..., 2] - boxes[..., 0], boxes[..., 3] - boxes[..., 1]
        side = self.grid.fine_px
        return (rows * side + reach) * (columns * side + reach) + TILE_PX

    def _tiles(self, top: int, left: int, bottom: int, right: int) -> list[Tile]:
        """Return the tile of a box; two where one would read the frame from top to bottom."""
        whole = self._tile(top, left, bottom, right)
        if whole.read[0] > 0 or whole.read[2] < self.grid.size[0] or bottom - top < 2:
            return [whole]
        middle = (top + bottom) // 2
        return [self._tile(top, left, middle, right), self._tile(middle, left, bottom, right)]

    def _tile(self, top: int, left: int, bottom: int, right: int) -> Tile:
        grid, side = self.grid, self.grid.fine_px
        height, width = grid.size
        keep = top * side, left * side, min(bottom * side, height), min(right * side, width)
        return tile_around(keep, grid.size, grid.halo_px, grid.align_px)


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
