"""The interface that pixels are restored through, and its implementation in CPU memory."""

import math
import time
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from edgecar.artifact import Metadata
from edgecar.engines.base import Codes, Engine
from edgecar.errors import EngineError, MediaError
from edgecar.runtime.change_map import Grid
from edgecar.runtime.regions import AtlasPacker, TilePlan
from edgecar.runtime.stream_cache import Reuse, StreamCache, TileRun
from edgecar.runtime.tiles import Tile, aligned_size, plan_grid, plan_windows
from edgecar.runtime.tuning import Tunings
from edgecar.spec import Size

# Activations of one tile stay below this, whatever the frame's size. An engine may hold those of
# several shapes at a time (OpenVINO: five).
TILE_MEMORY = 512 << 20


@dataclass(eq=False)
class Ticket:
    """A frame on its way through a runner.

    Attributes:
        stream: Camera that the frame is from.
        tiles: Number of tiles that were run for it.
        pixels: Number of pixels that the network read for it, halos included.
        seconds: Time spent on it so far.
        error: Failure that ended it; `FrameRunner.result` raises it.
    """

    stream: Hashable
    tiles: int = 0
    pixels: int = 0
    seconds: float = 0.0
    error: BaseException | None = None


class FrameRunner(Protocol):
    """Restores frames of any number of streams; one thread at a time may use it.

    Attributes:
        depth: Frames of a stream worth having on their way at a time: 2 where a device computes
            one while the CPU prepares the next, 1 where the CPU does both.
    """

    depth: int

    def submit(self, frame: Any, stream: Hashable) -> Ticket:
        """Start on a frame ``(C, H, W)`` of uint8 codes; at most two of a stream are on their way.

        The frame may be overwritten as soon as this returns. Tiles of all streams share batches.

        Raises:
            EngineError: The engine fails, or two frames of the stream are on their way.
            MediaError: The array is no such frame.
            WindowError: The frame is smaller than the engine's tile.
        """

    def result(self, ticket: Ticket) -> Any:
        """Wait for a frame and return it, in memory that nobody else holds.

        Tickets of a stream are taken in the order in which they were given.

        Raises:
            EngineError: The engine failed; the stream's next frame is computed in full.
        """

    def forget(self, stream: Hashable) -> None:
        """Free everything kept for a stream; nothing happens where nothing is kept."""

    def close(self) -> None:
        """Free everything kept for all streams. The engine stays open."""


@dataclass(eq=False)
class _CpuTicket(Ticket):
    """Ticket with the frame's tiles while it waits, and its output once it was computed."""

    cache: StreamCache | None = None
    run: TileRun | None = None
    planes: Codes | None = None


class CpuRunner:
    """Change map, regions, atlas, engine: everything in CPU memory.

    A frame is computed when somebody asks for it or for another one that waits, or when the next
    frame of its stream comes, together with all others that wait.

    Args:
        engine: Engine to run tiles with; it stays the caller's to close.
        metadata: Metadata of the artifact that the engine runs.
        tunings: Settings by the size of frames.
        reuse: How outputs are used again; None computes every frame in full.
        tile: ``(height, width)`` of equal tiles, halos included; None lets free regions cover the
            frame.
    """

    depth = 1

    def __init__(
        self,
        engine: Engine,
        metadata: Metadata,
        tunings: Tunings,
        reuse: Reuse | None = None,
        tile: Size | None = None,
    ) -> None:
        self._engine, self._metadata, self._tunings = engine, metadata, tunings
        self._reuse, self._tile = reuse, tile
        self._plans: dict[Size, list[Tile]] = {}
        self._packers: dict[Size, AtlasPacker] = {}
        self.caches: dict[Hashable, StreamCache] = {}
        """Last frame and output of each stream."""
        self._waiting: list[_CpuTicket] = []

    def submit(self, frame: Codes, stream: Hashable) -> Ticket:
        """See `FrameRunner`."""
        began = time.perf_counter()
        if frame.dtype != np.uint8:
            raise MediaError(f"got {frame.dtype} pixels, need uint8 codes in 0..255")
        if any(ticket.stream == stream for ticket in self._waiting):
            self._compute()
        cache = self._cache_of(stream, frame.shape)
        padded = cache.take(frame)
        reuses = self._reuse and (self._reuse != Reuse() or self._tunings.of(cache.size).reuse)
        plan = cache.stale() if reuses else TilePlan(self.plan(cache.size))
        ticket = _CpuTicket(stream, len(plan.tiles), plan.pixels)
        ticket.cache = cache
        ticket.run = TileRun(plan, padded, cache.restored, cache.scratch)
        ticket.seconds = time.perf_counter() - began
        self._waiting.append(ticket)
        return ticket

    def result(self, ticket: Ticket) -> Codes:
        """See `FrameRunner`."""
        assert isinstance(ticket, _CpuTicket)
        if ticket in self._waiting:
            self._compute()
        if ticket.error is not None:
            raise ticket.error
        if ticket.planes is None:
            raise EngineError("the result of this frame was taken before; submit it again")
        planes, ticket.planes = ticket.planes, None
        return planes

    def forget(self, stream: Hashable) -> None:
        """See `FrameRunner`."""
        self.caches.pop(stream, None)
        for ticket in self._waiting:
            if ticket.stream == stream:
                ticket.error = EngineError(f"stream {stream!r} was forgotten; submit it again")
        self._waiting = [ticket for ticket in self._waiting if ticket.error is None]

    def close(self) -> None:
        """See `FrameRunner`."""
        for stream in tuple(self.caches):
            self.forget(stream)
        self._packers.clear()

    def plan(self, size: Size) -> list[Tile]:
        """Return the tiles that cover a frame of ``(height, width)``."""
        if size not in self._plans:
            metadata, fixed = self._metadata, self._engine.info.shape
            tile = fixed[1:] if fixed else self._tile
            halo_px, align_px = metadata.halo_px, metadata.align_px
            if tile:
                plan = plan_grid(size, tile, halo_px=halo_px, align_px=align_px)
            else:
                most_px = TILE_MEMORY // metadata.bytes_per_px
                most_px = min(self._tunings.of(size).max_read_px, most_px)
                plan = plan_windows(size, halo_px=halo_px, align_px=align_px, max_read_px=most_px)
            self._plans[size] = plan
        return self._plans[size]

    def _compute(self) -> None:
        """Run the tiles of all frames that wait in one go, so that they fill batches."""
        tickets, self._waiting = self._waiting, []
        began = time.perf_counter()
        inputs = [
            (ticket.run, number, codes)
            for ticket in tickets
            if ticket.run is not None
            for number, codes in enumerate(ticket.run.inputs())
        ]

        def take(position: int, output: Codes) -> None:
            run, number, _ = inputs[position]
            run.take(number, output)

        try:
            self._engine.run_codes([codes for _, _, codes in inputs], take)
        except BaseException as error:  # raised for each of them by `result`
            for ticket in tickets:
                ticket.error = error
            return
        seconds = time.perf_counter() - began
        pixels = max(1, sum(ticket.pixels for ticket in tickets))
        for ticket in tickets:
            cache, run = ticket.cache, ticket.run
            assert cache is not None
            assert run is not None
            ticket.seconds += seconds * ticket.pixels / pixels
            cache.accept(run.plan, ticket.seconds)
            ticket.planes = cache.output()
            ticket.cache = ticket.run = None

    def _cache_of(self, stream: Hashable, shape: tuple[int, ...]) -> StreamCache:
        """Return the cache of a stream; a new one where its frames change their size."""
        cache = self.caches.get(stream)
        if cache is None or cache.restored.shape != shape:
            size: Size = (shape[1], shape[2])
            metadata, tuning = self._metadata, self._tunings.of(size)
            aligned = aligned_size(size, metadata.align_px)
            grid = Grid(aligned, metadata.halo_px, metadata.align_px, tuning.kept_px)
            free = not (self._engine.info.shape or self._tile) and metadata.context == "local"
            tolerance = self._reuse.tolerance if self._reuse else 0
            if size not in self._packers:
                step_px = math.lcm(tuning.step_px, metadata.align_px)
                self._packers[size] = AtlasPacker(aligned, step_px)
            cache = StreamCache(
                grid, shape[0], self.plan(size), free, tolerance, self._packers[size]
            )
            self.caches[stream] = cache
        return cache
