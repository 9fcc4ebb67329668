"""Exact reuse: where a network's input did not change, neither did its output."""

import weakref
from dataclasses import dataclass

import numpy as np

from edgecar.engines.base import Codes
from edgecar.errors import ReuseError
from edgecar.runtime.change_map import CellMap, Grid, changed_cells, stale_cells
from edgecar.runtime.regions import price, tiles_of
from edgecar.runtime.stats import Stats
from edgecar.runtime.tiles import Tile
from edgecar.spec import MIDDLE_QUANTISER

MOST_FREE = 8  # a pipeline holds about as many frames; what is more is given back


class FramePool:
    """Hands out arrays of one shape without allocating for every frame.

    An array comes back when it and all views of it are gone, whoever held them. Allocating anew
    costs more than filling: the system hands out large arrays page by page, each zeroed.

    Example:
        >>> pool = FramePool((1, 2, 3))
        >>> first = pool.array()
        >>> place = first.ctypes.data
        >>> del first
        >>> pool.array().ctypes.data == place
        True
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._shape = shape
        self._free: list[Codes] = []

    def array(self) -> Codes:
        """An array of the shape, with anything in it."""
        memory = self._free.pop() if self._free else np.empty(self._shape, np.uint8)
        handle = _Handle(memory)
        weakref.finalize(handle, _give_back, self._free, memory).atexit = False
        return np.asarray(handle)


class _Handle:
    """Object that numpy keeps alive for as long as an array or a view of it lives."""

    def __init__(self, memory: Codes) -> None:
        self.__array_interface__ = memory.__array_interface__


def _give_back(free: list[Codes], memory: Codes) -> None:
    if len(free) < MOST_FREE:
        free.append(memory)


# Frames after which a lossy output is compared with the exact one, where nothing else was asked.
LOSS_EVERY = 25


@dataclass(frozen=True)
class Reuse:
    """How outputs are used again.

    Attributes:
        tolerance: Codes by which a pixel may change without being computed again. 0 is exact; more
            is not.
        verify_every: Compute every so many frames in full as well, and compare. A difference is an
            error, or with a tolerance its price, which is counted. 0: never, and with a tolerance
            every `LOSS_EVERY`.
    """

    tolerance: int = 0
    verify_every: int = 0

    def compares(self, frame: int) -> bool:
        """Return True if a frame, counted from 1, is computed in full as well."""
        every = self.verify_every or (LOSS_EVERY if self.tolerance else 0)
        return bool(every) and frame % every == 0

    def compare(self, full: Codes, restored: Codes, stats: Stats) -> None:
        """Count the loss of a frame restored with reuse against the same frame computed in full.

        Raises:
            ReuseError: The frames differ although reuse is to be exact (`tolerance` 0).
        """
        losses = full.astype(np.float32) - restored
        stats.frames_compared += 1
        stats.mean_square_losses += float(np.mean(losses * losses, dtype=np.float64))
        differing = int(np.count_nonzero(losses))
        if differing and not self.tolerance:
            raise ReuseError(
                f"reuse gave {differing} other bytes than computing frame {stats.frames} in "
                "full; run with --no-reuse, and report this with the clip"
            )


# A pixel of a tile of its own costs more than one of a large tile: shapes that change, less to
# share among threads.
PART_FACTOR = 1.2

# Where comparing was in vain several times in a row, so many frames are computed in full without.
MOST_BLIND = 8


@dataclass
class FrameRun:
    """A frame on its way.

    Attributes:
        tiles: Tiles to run.
        padded: Frame that they read.
        restored: Frame that gets their output.
        known: Frame that the output is that of: the one read, but for changes within a tolerance.
    """

    tiles: list[Tile]
    padded: Codes
    restored: Codes
    known: Codes


class StreamCache:
    """The last frame of one camera and its output.

    One frame is enough: with B-frames that alternate between references, a second one was tried and
    left hardly a cell less to compute. Neither is copied: the frame is compared where it lies, and
    the output is the array that was handed out.

    Args:
        grid: Grid of the frames.
        channels: Number of channels of the frames.
        plan: Tiles that cover a frame.
        free: The network sees only as far as its halo and the engine takes any shape: what is stale
            may be cut out as it comes. Else tiles of the plan are run.
        reuse: How outputs are used again; None runs every tile of every frame.
    """

    def __init__(
        self, grid: Grid, channels: int, plan: list[Tile], free: bool, reuse: Reuse | None
    ) -> None:
        self.shape = (channels, *grid.size)
        self._grid, self._plan, self._free, self._reuse = grid, plan, free, reuse
        self._restored = FramePool(self.shape)
        self._padded = FramePool((channels, *grid.stored_size))
        self._last: tuple[Codes, Codes] | None = None  # frame and output
        self._quantiser = MIDDLE_QUANTISER  # of the last frame
        self._in_vain = self._blind = 0

    def begin(self, frame: Codes, quantiser: float = MIDDLE_QUANTISER) -> FrameRun:
        """Find the tiles to run for a frame ``(C, H, W)``, which must not change any more.

        Outputs for another quantiser are forgotten.
        """
        padded = self._whole_cells(frame)
        if quantiser != self._quantiser:
            self._last, self._quantiser = None, quantiser
        if self._last is None or self._reuse is None:
            return FrameRun(self._plan, padded, self._restored.array(), padded)
        known, restored = self._last
        tiles = self._stale_tiles(known, padded, self._reuse.tolerance)
        if tiles and tiles is not self._plan:
            before, restored = restored, self._restored.array()
            np.copyto(restored, before)
        elif tiles:
            restored = self._restored.array()
        if not self._reuse.tolerance or tiles is self._plan:
            return FrameRun(tiles, padded, restored, padded)
        # What is not computed is the output of what was known, however little that differs: else a
        # slow fade would never be noticed.
        known = known.copy()
        for tile in tiles:
            top, left, bottom, right = tile.keep
            known[:, top:bottom, left:right] = padded[:, top:bottom, left:right]
        self._repeat_edges(known)
        return FrameRun(tiles, padded, restored, known)

    def accept(self, run: FrameRun) -> Codes:
        """Remember a frame whose tiles were all run, and return its output, which is read-only."""
        run.restored.flags.writeable = False
        if self._reuse is not None:
            self._last = run.known, run.restored
        return run.restored

    def _whole_cells(self, frame: Codes) -> Codes:
        """Return the frame itself, or a copy that is filled up to whole cells."""
        height, width = frame.shape[1:]
        if (height, width) == self._grid.stored_size and frame.strides[2] == 1:
            return frame
        padded = self._padded.array()
        padded[:, :height, :width] = frame
        self._repeat_edges(padded)
        return padded

    def _repeat_edges(self, padded: Codes) -> None:
        """Repeat the last row and column of a frame as far as the array reaches."""
        height, width = self._grid.size
        padded[:, :height, width:] = padded[:, :height, width - 1 : width]
        padded[:, height:] = padded[:, height - 1 : height]

    def _stale_tiles(self, known: Codes, now: Codes, tolerance: int) -> list[Tile]:
        """Return the tiles that read a change; the plan where running all of it costs less."""
        if self._blind:
            self._blind -= 1
            return self._plan
        changed = changed_cells(known, now, self._grid.fine_px, tolerance)
        tiles = self._tiles_for(changed) if changed.any() else []
        if tiles is not self._plan:
            self._in_vain = 0
            return tiles
        self._blind = min(MOST_BLIND, 2**self._in_vain // 2)
        self._in_vain += 1
        return self._plan

    def _tiles_for(self, changed: CellMap) -> list[Tile]:
        if not self._free:
            tiles = [tile for tile in self._plan if self._reads(tile, changed)]
            return tiles if len(tiles) < len(self._plan) else self._plan
        full = price(self._plan)
        stale = stale_cells(changed, self._grid)
        if PART_FACTOR * int(stale.sum()) * self._grid.fine_px**2 >= full:
            return self._plan
        tiles = tiles_of(stale, self._grid)
        return tiles if PART_FACTOR * price(tiles) < full else self._plan

    def _reads(self, tile: Tile, changed: CellMap) -> bool:
        top, left, bottom, right = tile.read
        side = self._grid.fine_px
        rows = slice(top // side, -(-bottom // side))
        columns = slice(left // side, -(-right // side))
        return bool(changed[rows, columns].any())
