"""Windows packed into one small picture, so that a frame takes one run of the network.

A window brings its halo along, so whatever lies beside it on the canvas does not reach what is kept
of it. Only at the frame's edges does a network see something else than pixels, its own padding:
windows that touch an edge of the frame lie at the same edge of the canvas.
"""

import math
from dataclasses import dataclass

from edgecar.runtime.windows import Window
from edgecar.spec import Size

# Canvases come in steps of height and width.
WIDTH_STEP_PX = 32
STEP_PX = 32
WIDTHS_TRIED = 8

# An engine prepares itself for every new size, which takes time, and keeps what it made, which
# takes memory. So a size in use is taken where it is not much larger than the best, the more so
# where there are many.
SIZES = 24
SLACK, SLACK_OF_MANY = 1.2, 1.5


@dataclass(frozen=True)
class Canvas:
    """Where windows lie.

    Attributes:
        size: ``(height, width)``.
        places: Row and column of each window's upper left corner, in the order given.
    """

    size: Size
    places: list[tuple[int, int]]

    @property
    def pixels(self) -> int:
        """What the network reads."""
        return self.size[0] * self.size[1]


@dataclass(frozen=True)
class Work:
    """What to run for a frame.

    Attributes:
        windows: Of the frame.
        canvas: Where they lie if they are run all at once; None runs them one by one.
    """

    windows: list[Window]
    canvas: Canvas | None = None

    @property
    def pixels(self) -> int:
        """What the network reads."""
        if self.canvas:
            return self.canvas.pixels
        return sum(window.size[0] * window.size[1] for window in self.windows)


class Packer:
    """Finds canvases for windows of frames of one size, of few sizes in the long run.

    Args:
        frame: Size of the aligned frames that windows read.
        step_px: Of the heights of canvases; a multiple of the network's alignment.
        most: Sizes in use at a time.
    """

    def __init__(self, frame: Size, step_px: int = STEP_PX, most: int = SIZES) -> None:
        self._frame, self._step_px, self._most = frame, step_px, most
        self._in_use: dict[Size, None] = {}  # the one used last comes last

    def canvas(self, windows: list[Window]) -> Canvas | None:
        """A small canvas; None if one of the windows, at least one, cannot be placed."""
        packed = {
            (-(-skyline.height // self._step_px) * self._step_px, width): skyline
            for width in self._widths(windows)
            if (skyline := _packed(windows, self._frame, width)) is not None
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
        return skyline.canvas(size[0])

    def _widths(self, windows: list[Window]) -> list[int]:
        """Those worth trying: a canvas about as high as wide wastes least."""
        side = math.isqrt(sum(window.size[0] * window.size[1] for window in windows))
        widest = max(window.size[1] for window in windows)
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


def _packed(windows: list[Window], frame: Size, width: int) -> "_Skyline | None":
    skyline = _Skyline(windows, frame, width)
    return skyline if skyline.pack() else None


class _Skyline:
    """Windows dropped one after the other to where they come to lie highest up.

    The canvas is filled from its upper edge; the skyline is where it is filled to (bottom-left
    heuristic; Jylänki, "A thousand ways to pack the bin", 2010).
    """

    def __init__(self, windows: list[Window], frame: Size, width: int) -> None:
        self._windows, self._frame, self._width = windows, frame, width
        self._segments = [(0, width, 0)]  # from column, to column, filled to row
        self._places = [(0, 0)] * len(windows)
        self._at_bottom: list[int] = []
        self.height = 0
        """What the canvas needs at least, once packed."""

    def pack(self) -> bool:
        """Put all windows in place, the highest first; False if one has none."""
        order = sorted(range(len(self._windows)), key=lambda number: -self._windows[number].size[0])
        at_top = [n for n in order if self._windows[n].read[0] == 0]
        at_bottom = [n for n in order if self._windows[n].read[2] == self._frame[0]]
        if set(at_top) & set(at_bottom):
            return False
        if not all(self._drop(number) and not self._places[number][0] for number in at_top):
            return False
        between = [n for n in order if n not in at_top and n not in at_bottom]
        if not all(map(self._drop, between)):
            return False
        # These stand side by side at the lower edge, and the canvas is as high as they need.
        filled = self._segments
        self._segments = [(0, self._width, 0)]
        if not all(self._drop(number) and not self._places[number][0] for number in at_bottom):
            return False
        self.height = max(row for _, _, row in filled)
        for number in at_bottom:
            (height, width), column = self._windows[number].size, self._places[number][1]
            self.height = max(self.height, _row_under(filled, column, column + width) + height)
        self._at_bottom = at_bottom
        return True

    def canvas(self, height: int) -> Canvas:
        """Of this height, which is at least what is needed."""
        places = list(self._places)
        for number in self._at_bottom:
            places[number] = height - self._windows[number].size[0], places[number][1]
        return Canvas((height, self._width), places)

    def _drop(self, number: int) -> bool:
        """Place a window where it lies highest; False if it has no place."""
        height, width = self._windows[number].size
        columns = self._columns(number)
        spots = [(_row_under(self._segments, c, c + width), c) for c in columns]
        if not spots:
            return False
        row, column = self._places[number] = min(spots)
        self._fill(column, column + width, row + height)
        return True

    def _columns(self, number: int) -> list[int]:
        """Where a window may begin."""
        _, left, _, right = self._windows[number].read
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
