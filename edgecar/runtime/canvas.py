"""Windows packed into one small picture, so that a frame takes one run of the network.

A window brings its halo along, so whatever lies beside it on the canvas does not reach what is kept
of it. Only at the frame's edges does a network see something else than pixels, its own padding:
windows that touch an edge of the frame lie at the same edge of the canvas.
"""

import math
from dataclasses import dataclass

from edgecar.runtime.windows import Window
from edgecar.spec import Size

# Canvases come in steps of height and width, so that an engine sees few shapes.
WIDTH_STEP_PX = 32
STEP_PX = 32
WIDTHS_TRIED = 8


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


def canvas_for(windows: list[Window], frame: Size, step_px: int = STEP_PX) -> Canvas | None:
    """A small canvas for some windows; None if one window cannot be placed.

    Args:
        windows: At least one.
        frame: Size of the aligned frame they read.
        step_px: Its height is a multiple of this, which is one of the network's alignment.
    """
    side = math.isqrt(sum(window.size[0] * window.size[1] for window in windows))
    widest = max(window.size[1] for window in windows)
    narrowest = -(-widest // WIDTH_STEP_PX) * WIDTH_STEP_PX
    fitting = range(narrowest, frame[1], WIDTH_STEP_PX)
    # A canvas about as high as wide wastes least.
    widths = [*sorted(fitting, key=lambda width: abs(width - side))[:WIDTHS_TRIED], frame[1]]
    canvases = [_Skyline(windows, frame, width, step_px).canvas() for width in widths]
    return min(filter(None, canvases), key=lambda canvas: canvas.pixels, default=None)


class _Skyline:
    """Windows dropped one after the other to where they come to lie highest up.

    The canvas is filled from its upper edge; the skyline is where it is filled to (bottom-left
    heuristic; Jylänki, "A thousand ways to pack the bin", 2010).
    """

    def __init__(self, windows: list[Window], frame: Size, width: int, step_px: int) -> None:
        self._windows, self._frame, self._width = windows, frame, width
        self._step_px = step_px
        self._segments = [(0, width, 0)]  # from column, to column, filled to row
        self._places = [(0, 0)] * len(windows)

    def canvas(self) -> Canvas | None:
        """All windows in place, the highest first; None if one has none."""
        order = sorted(range(len(self._windows)), key=lambda number: -self._windows[number].size[0])
        at_top = [n for n in order if self._windows[n].read[0] == 0]
        at_bottom = [n for n in order if self._windows[n].read[2] == self._frame[0]]
        if set(at_top) & set(at_bottom):
            return None
        if not all(self._drop(number) and not self._places[number][0] for number in at_top):
            return None
        between = [n for n in order if n not in at_top and n not in at_bottom]
        if not all(map(self._drop, between)):
            return None
        # These stand side by side at the lower edge, and the canvas is as high as they need.
        filled = self._segments
        self._segments = [(0, self._width, 0)]
        if not all(self._drop(number) and not self._places[number][0] for number in at_bottom):
            return None
        used = max(row for _, _, row in filled)
        for number in at_bottom:
            (height, width), column = self._windows[number].size, self._places[number][1]
            used = max(used, _row_under(filled, column, column + width) + height)
        canvas_height = -(-used // self._step_px) * self._step_px
        for number in at_bottom:
            row = canvas_height - self._windows[number].size[0]
            self._places[number] = row, self._places[number][1]
        return Canvas((canvas_height, self._width), self._places)

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
