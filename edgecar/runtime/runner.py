"""The interface that pixels are restored through, and its implementation in CPU memory."""

import math
import threading
import time
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from edgecar.engines.base import Codes, Engine
from edgecar.errors import EngineError, MediaError
from edgecar.metadata import Metadata
from edgecar.runtime.change_map import Grid
from edgecar.runtime.stream_cache import Reuse, StreamCache
from edgecar.runtime.tiles import Tile, plan_grid, plan_windows
from edgecar.runtime.tuning import Tunings
from edgecar.spec import MIDDLE_QUANTISER, Size

# Activations of one tile stay below this, whatever the frame's size. An engine may hold those of
# several shapes at a time (OpenVINO: five).
TILE_MEMORY = 512 << 20


@dataclass(eq=False)
class Ticket:
    """A frame on its way through a runner; its counts are known once its result was taken.

    Attributes:
        stream: Camera that the frame is from.
        tiles: Number of tiles that were run for it.
        pixels: Number of pixels that the network read for it, halos included.
        seconds: Time spent on it.
        quantiser: Quantiser that the network was told, 0 to 1.
    """

    stream: Hashable
    tiles: int = 0
    pixels: int = 0
    seconds: float = 0.0
    quantiser: float = MIDDLE_QUANTISER


class FrameRunner(Protocol):
    """Restores frames of any number of streams; one thread at a time may use it.

    Attributes:
        depth: Frames of a stream worth having on their way at a time: while one is computed, the
            next is prepared.
    """

    depth: int

    def submit(self, frame: Any, stream: Hashable, quantiser: float = MIDDLE_QUANTISER) -> Ticket:
        """Take a frame ``(C, H, W)`` of uint8 codes; at most two of a stream are on their way.

        A frame in CPU memory must not be changed any more: the next one is compared with it. Where
        the stream's quantiser moves, a frame is computed in full, if the network takes one.

        Raises:
            EngineError: The engine fails, or two frames of the stream are on their way.
            MediaError: The array is no such frame.
            WindowError: The frame is smaller than the engine's tile.
        """

    def start(self) -> None:
        """Begin to compute what was submitted, in batches of all streams' tiles.

        Without it, that begins with a result that is asked for or with the stream's next frame.
        """

    def result(self, ticket: Ticket) -> Any:
        """Wait for a frame and return it; in CPU memory it is read-only.

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
    """Ticket with the frame, its stream's cache, and the job that computes it once that began."""

    frame: Codes | None = None
    cache: StreamCache | None = None
    restored: Codes | None = None
    job: "Future[None] | None" = None


class CpuRunner:
    """Change map, regions, engine: everything in CPU memory, in one thread of its own.

    Args:
        engine: Engine to run tiles with; it stays the caller's to close.
        metadata: Metadata of the artifact that the engine runs.
        tunings: Settings by the size of frames.
        reuse: Function that says how outputs are used again for frames of a size; None computes
            every frame in full.
        tile: ``(height, width)`` of equal tiles, halos included; None lets free regions cover the
            frame.
    """

    depth = 2

    def __init__(
        self,
        engine: Engine,
        metadata: Metadata,
        tunings: Tunings,
        reuse: Callable[[Size], Reuse | None] = lambda _size: None,
        tile: Size | None = None,
    ) -> None:
        self._engine, self._metadata, self._tunings = engine, metadata, tunings
        self._reuse, self._tile = reuse, tile
        self._plans: dict[Size, list[Tile]] = {}
        self.caches: dict[Hashable, StreamCache] = {}
        """Last frame and output of each stream."""
        self._tickets: list[_CpuTicket] = []  # those whose results were not taken
        self._worker: ThreadPoolExecutor | None = None
        self._worker_id = 0

    def submit(self, frame: Codes, stream: Hashable, quantiser: float = MIDDLE_QUANTISER) -> Ticket:
        """See `FrameRunner`."""
        if frame.dtype != np.uint8:
            raise MediaError(f"got {frame.dtype} pixels, need uint8 codes in 0..255")
        before = [ticket for ticket in self._tickets if ticket.stream == stream]
        if len(before) == self.depth:
            raise EngineError(f"{self.depth} frames are on their way; take a result first")
        if before:
            self.start()
        told = quantiser if self._metadata.takes_quantiser else MIDDLE_QUANTISER
        cache = self._cache_of(stream, frame.shape)
        ticket = _CpuTicket(stream, quantiser=told, frame=frame, cache=cache)
        self._tickets.append(ticket)
        return ticket

    def start(self) -> None:
        """See `FrameRunner`."""
        waiting = [ticket for ticket in self._tickets if ticket.job is None]
        if not waiting:
            return
        if self._worker is None:
            self._worker = ThreadPoolExecutor(1, "cpu-runner")
        job = self._worker.submit(self._compute, waiting)
        for ticket in waiting:
            ticket.job = job

    def result(self, ticket: Ticket) -> Codes:
        """See `FrameRunner`."""
        assert isinstance(ticket, _CpuTicket)
        if ticket not in self._tickets:
            raise EngineError("this frame was taken before, or given up; submit it again")
        self.start()
        assert ticket.job is not None
        try:
            ticket.job.result()
        finally:
            if ticket in self._tickets:
                self._tickets.remove(ticket)
        restored, ticket.restored = ticket.restored, None
        assert restored is not None
        return restored

    def forget(self, stream: Hashable) -> None:
        """See `FrameRunner`."""
        self.caches.pop(stream, None)
        self._tickets = [ticket for ticket in self._tickets if ticket.stream != stream]

    def close(self) -> None:
        """See `FrameRunner`."""
        self.caches.clear()
        self._tickets.clear()
        worker, self._worker = self._worker, None
        if worker is not None:
            # The collector of garbage may close a runner in any thread, this one's as well.
            worker.shutdown(wait=threading.get_ident() != self._worker_id, cancel_futures=True)

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

    def _compute(self, tickets: list[_CpuTicket]) -> None:
        """Run the tiles of frames of several streams in one go, so that they fill batches."""
        self._worker_id = threading.get_ident()
        began = time.perf_counter()
        begun = []
        for ticket in tickets:
            assert ticket.cache is not None
            assert ticket.frame is not None
            run = ticket.cache.begin(ticket.frame, ticket.quantiser)
            ticket.frame = None
            ticket.tiles, ticket.pixels = len(run.tiles), sum(tile.pixels for tile in run.tiles)
            begun.append((ticket, ticket.cache, run))
        tiles = [(run, tile) for _, _, run in begun for tile in run.tiles]
        quantisers = [ticket.quantiser for ticket, _, run in begun for _ in run.tiles]

        def take(number: int, output: Codes) -> None:
            run, tile = tiles[number]
            tile.write(output, run.restored)

        self._engine.run_codes([tile.cut(run.padded) for run, tile in tiles], take, quantisers)
        for ticket, cache, run in begun:
            ticket.restored = cache.accept(run)
        pixels = max(1, sum(ticket.pixels for ticket in tickets))
        seconds = time.perf_counter() - began
        for ticket in tickets:
            ticket.seconds = seconds * ticket.pixels / pixels

    def _cache_of(self, stream: Hashable, shape: tuple[int, ...]) -> StreamCache:
        """Return the cache of a stream; a new one where its frames change their size."""
        cache = self.caches.get(stream)
        if cache is None or cache.shape != shape:
            channels, height, width = shape
            size, metadata = (height, width), self._metadata
            tuning = self._tunings.of(size)
            step_px = math.lcm(tuning.step_px, metadata.align_px)
            grid = Grid(size, metadata.halo_px, metadata.align_px, tuning.kept_px, step_px)
            free = not (self._engine.info.shape or self._tile) and metadata.context == "local"
            cache = StreamCache(grid, channels, self.plan(size), free, self._reuse(size))
            self.caches[stream] = cache
        return cache
