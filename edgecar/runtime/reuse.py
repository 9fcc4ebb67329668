"""Exact reuse: where a network's input did not change, neither did its output."""

from dataclasses import dataclass

import numpy as np

from edgecar.engines.base import Codes
from edgecar.errors import ReuseError
from edgecar.runtime.canvas import Packer, Work
from edgecar.runtime.cells import CellMap, Grid, changed_cells, stale_cells, tolerated_cells
from edgecar.runtime.cost import CostModel
from edgecar.runtime.cover import Coverer
from edgecar.runtime.execution import Scratch
from edgecar.runtime.frame_pool import FramePool
from edgecar.runtime.stats import Stats
from edgecar.runtime.windows import Window
from edgecar.spec import Size

# Frames after which a lossy output is compared with the exact one, where nothing else was asked.
LOSS_EVERY = 25

# On a busy scene the search for windows takes a tenth of what the smallest network does: it is left
# out where it was in vain before, but for a try now and then.
HOPE = 0.02


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
        """Whether a frame, counted from 1, is computed in full as well."""
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


class Memory:
    """The last frame of one camera and its output.

    One frame is enough: with B-frames that alternate between references, a second one was tried and
    left hardly a cell less to compute.

    Args:
        grid: Of the frames.
        channels: Of the frames.
        plan: Windows that cover a frame.
        free: The network sees only as far as its halo and the engine takes any shape: what is stale
            may be cut out as it comes. Else windows of the plan are run.
        tolerance: See `Reuse`.
        packer: Of windows of such frames; cameras that share an engine share one. None: an own.
    """

    def __init__(
        self,
        grid: Grid,
        channels: int,
        plan: list[Window],
        free: bool,
        tolerance: int,
        packer: Packer | None = None,
    ) -> None:
        self.restored = np.zeros((channels, *_frame_of(plan)), np.uint8)
        """The output of the last frame, to be brought up to date by the caller."""
        self._leases = FramePool(self.restored.shape)
        self.scratch = Scratch()
        """To lay windows on."""
        self._grid, self._plan, self._tolerance = grid, plan, tolerance
        self._packer = packer or Packer(grid.size)
        self._coverer = Coverer(grid) if free else None
        self._cost = CostModel()
        self._hopeless = 1.0  # share of stale cells at which the search for windows was in vain
        self._known = np.zeros((channels, *grid.stored_size), np.uint8)
        self._now = np.zeros_like(self._known)
        self._holds = False

    @property
    def size(self) -> Size:
        """Of the frames, ``(height, width)``."""
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

    def stale(self) -> Work:
        """What the frame that was taken makes necessary.

        From now until `accept` the memory holds nothing, so that a failure between leaves no output
        behind that is half one frame's and half another's.
        """
        held, self._holds = self._holds, False
        full = Work(self._plan)
        if not held:
            return full
        changed = self._changed()
        if not changed.any():
            return Work([])
        if self._coverer is None:
            return Work([window for window in self._plan if self._reads(window, changed)])
        stale = stale_cells(changed, self._grid)
        share = float(stale.mean())
        if share >= self._hopeless:
            self._hopeless += HOPE * (1 - self._hopeless)
            return full
        windows = self._coverer.windows(stale)
        packed = Work(windows, self._packer.canvas(windows))
        if packed.canvas and self._cost.prefers(packed, full):
            return packed
        self._hopeless = share
        return full

    def output(self) -> Codes:
        """A copy of `restored`, for whoever asked for the frame to keep or to write into."""
        copy = self._leases.array()
        np.copyto(copy, self.restored)
        return copy

    def accept(self, work: Work, seconds: float) -> None:
        """`restored` is now the output of the frame that was taken.

        Args:
            work: What was run.
            seconds: How long all of it took.
        """
        self._cost.learn(work, seconds)
        if self._tolerance:
            # What was not computed is the output of what was known, however little that differs:
            # else a slow fade would never be noticed.
            for window in work.windows:
                known, now = (self._kept(window, frame) for frame in (self._known, self._now))
                known[:] = now
        else:
            self._known, self._now = self._now, self._known
        self._holds = True

    def _kept(self, window: Window, stored: Codes) -> Codes:
        """What a window keeps, up to the end of what is stored where that is the frame's edge."""
        top, left, bottom, right = window.keep
        height, width = self.restored.shape[1:]
        return stored[
            :, top : None if bottom == height else bottom, left : None if right == width else right
        ]

    def _changed(self) -> CellMap:
        if self._tolerance:
            return tolerated_cells(self._known, self._now, self._grid.fine_px, self._tolerance)
        return changed_cells(self._known, self._now, self._grid.fine_px)

    def _reads(self, window: Window, changed: CellMap) -> bool:
        side = self._grid.fine_px
        top, left, bottom, right = window.read
        rows, columns = (
            slice(top // side, -(-bottom // side)),
            slice(left // side, -(-right // side)),
        )
        return bool(changed[rows, columns].any())


def _frame_of(plan: list[Window]) -> Size:
    """Size of the frame that a plan covers."""
    return max(window.keep[2] for window in plan), max(window.keep[3] for window in plan)
