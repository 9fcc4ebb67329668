"""Plans: which tiles of a frame a network reads, and what is kept of each.

`plan_grid` covers a frame with tiles of one shape, `plan_windows` with as few rectangles as a
memory limit allows. Every pixel is kept from exactly one tile, and nothing is blended: with the
true halo there is nothing to hide. A tile at the frame's edge has no halo there, so that the
network's own zero padding acts where it would on the whole frame.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise, product

from edgecar.engines.base import Codes
from edgecar.errors import WindowError
from edgecar.spec import Rect, Size

MAX_PIECES = 64  # per side; a frame that needs more has a limit too small to be meant

Span = tuple[int, int, int, int]
"""Along one axis: read start and end, keep start and end."""


@dataclass(frozen=True, slots=True)
class Tile:
    """One run of the network.

    Attributes:
        read: Part of the aligned frame that is read, ``(top, left, bottom, right)``.
        keep: Part of the frame that is kept of the output.
    """

    read: Rect
    keep: Rect

    @property
    def size(self) -> Size:
        """Height and width of what is read."""
        return self.read[2] - self.read[0], self.read[3] - self.read[1]

    @property
    def pixels(self) -> int:
        """Number of pixels that the network reads."""
        return self.size[0] * self.size[1]

    @property
    def kept_in_tile(self) -> tuple[slice, slice]:
        """Rows and columns of the tile's output that are kept."""
        top, left = self.read[:2]
        return (
            slice(self.keep[0] - top, self.keep[2] - top),
            slice(self.keep[1] - left, self.keep[3] - left),
        )

    def cut(self, frame: Codes) -> Codes:
        """Return the view of an aligned frame ``(C, H, W)`` that the network reads."""
        top, left, bottom, right = self.read
        return frame[:, top:bottom, left:right]

    def write(self, output: Codes, restored: Codes) -> None:
        """Copy what is kept of the tile's output into a frame."""
        top, left, bottom, right = self.keep
        rows, columns = self.kept_in_tile
        restored[:, top:bottom, left:right] = output[:, rows, columns]


def aligned_size(frame: Size, align_px: int) -> Size:
    """The frame's size rounded up to multiples of ``align_px``.

    Example:
        >>> aligned_size((1080, 1917), 2)
        (1080, 1918)
    """
    height, width = (-(-side // align_px) * align_px for side in frame)
    return height, width


def tile_around(keep: Rect, frame: Size, halo_px: int, align_px: int = 1, step_px: int = 1) -> Tile:
    """The smallest tile that is exact on ``keep`` and has sides in steps, or those of the frame.

    Example:
        >>> tile_around((0, 10, 5, 20), (40, 40), halo_px=4, align_px=2).read
        (0, 6, 10, 24)
    """
    sides = aligned_size(frame, align_px)
    (top, bottom), (left, right) = (
        _read_around(*ends, side, halo_px, align_px, step_px)
        for ends, side in zip((keep[::2], keep[1::2]), sides, strict=True)
    )
    return Tile((top, left, bottom, right), keep)


def _read_around(
    first: int, last: int, side: int, halo_px: int, align_px: int, step_px: int = 1
) -> tuple[int, int]:
    """Where reading starts and ends along one axis to be exact from ``first`` to ``last``."""
    start = max(0, first // align_px * align_px - halo_px)
    end = min(side, -(-last // align_px) * align_px + halo_px)
    length = min(side, -(-(end - start) // step_px) * step_px)
    end = min(side, start + length)
    return end - length, end


def plan_windows(
    frame: Size, *, halo_px: int, align_px: int = 1, max_read_px: int = 1 << 20
) -> list[Tile]:
    """Cover a frame with the rectangles that read least, none above a limit.

    Args:
        frame: ``(height, width)``.
        halo_px: Pixels read around what is kept, at inner edges.
        align_px: Tiles start and end at multiples of this.
        max_read_px: Most pixels one tile may read.

    Returns:
        Tiles in reading order. Their ``keep`` areas are disjoint and fill the frame.

    Raises:
        WindowError: The frame is empty, or the limit leaves no room beside the halos.

    Example:
        >>> [w.keep for w in plan_windows((8, 4), halo_px=1, max_read_px=20)]
        [(0, 0, 4, 4), (4, 0, 8, 4)]
    """
    _check(frame, halo_px, align_px)
    rows, columns = (
        [_pieces(side, count, halo_px, align_px) for count in range(1, MAX_PIECES + 1)]
        for side in frame
    )
    # Total and largest tile are products of the sides', so every grid is weighed at once.
    fitting = [
        (sum(map(_read, row)) * sum(map(_read, column)), row, column)
        for row, column in product(rows, columns)
        if max(map(_read, row)) * max(map(_read, column)) <= max_read_px
    ]
    if not fitting:
        least = (2 * halo_px + align_px) ** 2
        raise WindowError(
            f"{max_read_px} px per tile are too few for a frame of {frame[0]}x{frame[1]} px with "
            f"halos of {halo_px} px; allow at least {4 * least} px"
        )
    _, row, column = min(fitting, key=lambda entry: entry[0])
    return _tiles(row, column)


def _pieces(side: int, count: int, halo_px: int, align_px: int) -> list[Span]:
    """Near-equal spans of one axis with aligned inner edges."""
    inner = {round(side * i / count / align_px) * align_px for i in range(1, count)}
    edges = [0, *sorted(edge for edge in inner if 0 < edge < side), side]
    padded = -(-side // align_px) * align_px
    return [
        (*_read_around(first, last, padded, halo_px, align_px), first, last)
        for first, last in pairwise(edges)
    ]


def _read(span: Span) -> int:
    return span[1] - span[0]


def _tiles(rows: list[Span], columns: list[Span]) -> list[Tile]:
    return [
        Tile((row[0], column[0], row[1], column[1]), (row[2], column[2], row[3], column[3]))
        for row, column in product(rows, columns)
    ]


def plan_grid(frame: Size, tile: Size, *, halo_px: int, align_px: int = 1) -> list[Tile]:
    """Cover a frame with tiles of one shape.

    Where the frame is not a whole number of steps, the last row and column move back to the edge
    and their neighbours overlap more. Arguments and result are those of `plan_windows`, but for
    ``tile``, the size that every tile reads, halos included.

    Raises:
        WindowError: The frame is smaller than a tile, the tile is not aligned, or two halos leave
            nothing of it.

    Example:
        >>> [w.read[1] for w in plan_grid((4, 10), (4, 6), halo_px=1)]
        [0, 4]
    """
    _check(frame, halo_px, align_px)
    padded = aligned_size(frame, align_px)
    rows, columns = (
        list(_steps(*sides, halo_px, align_px)) for sides in zip(padded, frame, tile, strict=True)
    )
    return _tiles(rows, columns)


def _steps(side: int, real: int, tile: int, halo_px: int, align_px: int) -> Iterator[Span]:
    """Equal spans of one axis, the last moved back to the edge."""
    if tile % align_px:
        raise WindowError(f"tile {tile} px is no multiple of {align_px} px; use one that is")
    if side < tile:
        raise WindowError(
            f"the frame is {real} px on one side, the tile {tile} px; build the engine for "
            f"a tile of at most {side} px"
        )
    step = tile - 2 * halo_px
    if side > tile and step < align_px:
        raise WindowError(
            f"tile {tile} px leaves nothing after two halos of {halo_px} px; use a tile of at "
            f"least {2 * halo_px + align_px} px"
        )
    kept = 0
    for first in range(0, side - tile, step) if side > tile else ():
        end = first + tile - halo_px
        yield first, first + tile, kept, end
        kept = end
    yield side - tile, side, kept, real


def _check(frame: Size, halo_px: int, align_px: int) -> None:
    if min(frame) < 1:
        raise WindowError(f"a frame of {frame[0]}x{frame[1]} px has no pixels; give another")
    if halo_px < 0 or align_px < 1 or halo_px % align_px:
        raise WindowError(
            f"halo {halo_px} px is no multiple of the alignment {align_px} px; round it up"
        )
