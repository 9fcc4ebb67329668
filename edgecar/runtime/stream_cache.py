"""Exact reuse: where a network's input did not change, neither did its output."""

import weakref
from dataclasses import dataclass, field

import numpy as np

from edgecar.engines.base import Codes
from edgecar.errors import ReuseError
from edgecar.runtime.change_map import CellMap, Grid, changed_cells, stale_cells, tolerated_cells
from edgecar.runtime.regions import Atlas, AtlasPacker, CostModel, RegionMerger, TilePlan
from edgecar.runtime.stats import Stats
from edgecar.runtime.tiles import Tile
from edgecar.spec import Size

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


class Scratch:
    """A picture to lay tiles on, kept from frame to frame."""

    def __init__(self) -> None:
        self._codes = np.zeros(0, np.uint8)

    def picture(self, channels: int, atlas: Atlas) -> Codes:
        """``(C, H, W)``; what lay there before may still be seen between the tiles."""
        shape = (channels, *atlas.size)
        count = channels * atlas.pixels
        if self._codes.size < count:
            self._codes = np.zeros(count, np.uint8)
        return self._codes[:count].reshape(shape)


@dataclass
class TileRun:
    """Tiles of a frame to run, and the place of their output.

    Attributes:
        plan: Tiles, and their atlas if they share one.
        padded: The frame they read, ``(C, H, W)``.
        restored: Gets what they keep, ``(C, H, W)``.
        scratch: To lay them on.
    """

    plan: TilePlan
    padded: Codes
    restored: Codes
    scratch: Scratch = field(default_factory=Scratch)

    def inputs(self) -> list[Codes]:
        """Return what the engine reads: every tile, or all of them on their atlas."""
        reads = [tile.read for tile in self.plan.tiles]
        views = [self.padded[:, top:bottom, left:right] for top, left, bottom, right in reads]
        atlas = self.plan.atlas
        if atlas is None:
            return views
        picture = self.scratch.picture(self.padded.shape[0], atlas)
        for view, (row, column) in zip(views, atlas.places, strict=True):
            picture[:, row : row + view.shape[1], column : column + view.shape[2]] = view
        return [picture]

    def take(self, number: int, output: Codes) -> None:
        """Keep what the engine made of one input.

        Args:
            number: Number of the input, in the order of `inputs`.
            output: Output, of the same shape as that input.
        """
        atlas = self.plan.atlas
        if atlas is None:
            self._keep(number, output)
            return
        for tile, (row, column) in enumerate(atlas.places):
            self._keep(tile, output[:, row:, column:])

    def _keep(self, number: int, output: Codes) -> None:
        tile = self.plan.tiles[number]
        top, left, bottom, right = tile.keep
        rows, columns = tile.kept_in_tile
        self.restored[:, top:bottom, left:right] = output[:, rows, columns]


# Frames after which a lossy output is compared with the exact one, where nothing else was asked.
LOSS_EVERY = 25

# On a busy scene the search for tiles takes a tenth of what the smallest network does: it is left
# out where it was in vain before, but for a try now and then.
FULL_ABOVE_RISE = 0.02


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

        Args:
            full: The frame computed in full, ``(C, H, W)``.
            restored: The frame restored with reuse, ``(C, H, W)``.
            stats: Receives the mean square loss and the count of comparisons.

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


class StreamCache:
    """The last frame of one camera and its output.

    One frame is enough: with B-frames that alternate between references, a second one was tried and
    left hardly a cell less to compute.

    Args:
        grid: Grid of the frames.
        channels: Number of channels of the frames.
        plan: Tiles that cover a frame.
        free: The network sees only as far as its halo and the engine takes any shape: what is stale
            may be cut out as it comes. Else tiles of the plan are run.
        tolerance: See `Reuse`.
        packer: Packer of atlases, shared by cameras that share an engine; None makes one.
    """

    def __init__(
        self,
        grid: Grid,
        channels: int,
        plan: list[Tile],
        free: bool,
        tolerance: int,
        packer: AtlasPacker | None = None,
    ) -> None:
        self.restored = np.zeros((channels, *_frame_of(plan)), np.uint8)
        """The output of the last frame, to be brought up to date by the caller."""
        self._pool = FramePool(self.restored.shape)
        self.scratch = Scratch()
        """To lay tiles on."""
        self._grid, self._plan, self._tolerance = grid, plan, tolerance
        self._packer = packer or AtlasPacker(grid.size)
        self._merger = RegionMerger(grid) if free else None
        self._cost = CostModel()
        self._full_above = 1.0  # share of stale cells at which the search for tiles was in vain
        self._known = np.zeros((channels, *grid.stored_size), np.uint8)
        self._now = np.zeros_like(self._known)
        self._holds = False

    @property
    def size(self) -> Size:
        """``(height, width)`` of the frames."""
        return self.restored.shape[1], self.restored.shape[2]

    def take(self, frame: Codes) -> Codes:
        """Copy a frame ``(C, H, W)``; returns it as the network reads it.

        The last row and column are repeated up to the alignment.
        """
        height, width = frame.shape[1:]
        rows, columns = self._grid.size
        now = self._now
        now[:, :height, :width] = frame
        now[:, :height, width:columns] = now[:, :height, width - 1 : width]
        now[:, height:rows, :columns] = now[:, height - 1 : height, :columns]
        return now[:, :rows, :columns]

    def stale(self) -> TilePlan:
        """Return the tiles that the frame that was taken makes necessary.

        From now until `accept` the memory holds nothing, so that a failure between leaves no output
        behind that is half one frame's and half another's.
        """
        held, self._holds = self._holds, False
        full = TilePlan(self._plan)
        if not held:
            return full
        changed = self._changed()
        if not changed.any():
            return TilePlan([])
        if self._merger is None:
            return TilePlan([tile for tile in self._plan if self._reads(tile, changed)])
        stale = stale_cells(changed, self._grid)
        share = float(stale.mean())
        if share >= self._full_above:
            self._full_above += FULL_ABOVE_RISE * (1 - self._full_above)
            return full
        tiles = self._merger.tiles(stale)
        packed = TilePlan(tiles, self._packer.atlas(tiles))
        if packed.atlas and self._cost.prefers(packed, full):
            return packed
        self._full_above = share
        return full

    def output(self) -> Codes:
        """A copy of `restored`, for whoever asked for the frame to keep or to write into."""
        copy = self._pool.array()
        np.copyto(copy, self.restored)
        return copy

    def accept(self, plan: TilePlan, seconds: float) -> None:
        """`restored` is now the output of the frame that was taken.

        Args:
            plan: Tiles that were run.
            seconds: How long all of it took.
        """
        self._cost.learn(plan, seconds)
        if self._tolerance:
            # What was not computed is the output of what was known, however little that differs:
            # else a slow fade would never be noticed.
            for tile in plan.tiles:
                known, now = (self._kept(tile, frame) for frame in (self._known, self._now))
                known[:] = now
        else:
            self._known, self._now = self._now, self._known
        self._holds = True

    def _kept(self, tile: Tile, stored: Codes) -> Codes:
        """Return what a tile keeps, up to the end of the stored frame at its edges."""
        top, left, bottom, right = tile.keep
        height, width = self.restored.shape[1:]
        return stored[
            :, top : None if bottom == height else bottom, left : None if right == width else right
        ]

    def _changed(self) -> CellMap:
        if self._tolerance:
            return tolerated_cells(self._known, self._now, self._grid.fine_px, self._tolerance)
        return changed_cells(self._known, self._now, self._grid.fine_px)

    def _reads(self, tile: Tile, changed: CellMap) -> bool:
        side = self._grid.fine_px
        top, left, bottom, right = tile.read
        rows, columns = (
            slice(top // side, -(-bottom // side)),
            slice(left // side, -(-right // side)),
        )
        return bool(changed[rows, columns].any())


def _frame_of(plan: list[Tile]) -> Size:
    """Size of the frame that a plan covers."""
    return max(tile.keep[2] for tile in plan), max(tile.keep[3] for tile in plan)
