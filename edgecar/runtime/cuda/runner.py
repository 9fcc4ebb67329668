"""Frames restored on a GPU, tile by tile; tiles of all cameras share batches."""

import time
from collections.abc import Callable, Hashable
from contextlib import suppress
from typing import Any

import numpy as np

from edgecar.engines.base import checked_quantisers
from edgecar.engines.tiles import ITEM_BYTES, TileEngine
from edgecar.errors import EngineError, MediaError
from edgecar.runtime.cuda.arrays import frame_from_array, is_on_device
from edgecar.runtime.cuda.device import Device
from edgecar.runtime.cuda.device_stream import SLOTS, DeviceStream, FrameOnDevice
from edgecar.runtime.runner import Ticket
from edgecar.runtime.tiles import plan_grid
from edgecar.spec import MIDDLE_QUANTISER, Size

QUANTISER_BYTES = 4  # float32


class TileBatch:
    """A batch that fills with tiles of any frames; it runs when it is full, or when told to."""

    def __init__(self, device: Device, engine: TileEngine, computing: Any) -> None:
        self._device, self._engine, self._computing = device, engine, computing
        self._given = device.memory(engine.values * ITEM_BYTES[engine.reads])
        self._told = device.memory(QUANTISER_BYTES * engine.shape[0])
        self._made = device.memory(engine.values * ITEM_BYTES[engine.writes])
        self._pieces: list[tuple[FrameOnDevice, int, int, int]] = []
        """Tiles of frames: the first one, its slot in the batch, and their number."""
        self._used = 0

    def add(self, frame: FrameOnDevice) -> None:
        """Add all tiles of a frame; runs every batch that gets full."""
        first = 0
        while first < frame.tiles:
            count = min(frame.tiles - first, self._engine.shape[0] - self._used)
            self._pieces.append((frame, first, self._used, count))
            self._used += count
            first += count
            if self._used == self._engine.shape[0]:
                self.run()
        if not frame.tiles:
            frame.source.send(frame)

    def holds(self, source: DeviceStream) -> bool:
        """Return True if tiles of a camera wait here."""
        return any(frame.source is source for frame, *_ in self._pieces)

    def drop(self, source: DeviceStream) -> None:
        """Leave out the tiles of a camera."""
        self._pieces = [piece for piece in self._pieces if piece[0].source is not source]

    def run(self) -> None:
        """Run what there is; frames whose last tile it holds are sent down."""
        pieces, self._pieces, self._used = self._pieces, [], 0
        if not pieces:
            return
        engine, values = self._engine, self._engine.values // self._engine.shape[0]
        for frame, first, slot, count in pieces:
            to = self._given.address + slot * values * ITEM_BYTES[engine.reads]
            told = self._told.address + slot * QUANTISER_BYTES
            frame.source.gather(frame, first, count, to, told)
        told = self._told.address
        engine.enqueue(self._given.address, told, self._made.address, self._computing)
        for frame, first, slot, count in pieces:
            source = self._made.address + slot * values * ITEM_BYTES[engine.writes]
            frame.source.scatter(frame, first, count, source)
            if not frame.left:
                frame.source.send(frame)


class CudaRunner:
    """Restores frames of any number of cameras with one engine (see `FrameRunner`).

    A frame ``(height, width)`` or ``(channels, height, width)`` of uint8 may lie in CPU memory or
    in device memory (DLPack, ``__cuda_array_interface__``). In device memory it must stay as it is
    until its result was taken, and the result is a `DeviceArray` that the next frame but one of the
    camera overwrites. What other libraries still do to a frame on streams of theirs is waited for
    on the GPU.

    Args:
        device: Device that it runs on.
        engine: Engine that runs batches of tiles; it stays the caller's to close.
        halo_px: Halo of the network.
        reuse: Compute only tiles that read a change; the same bytes come out. A function says so
            for frames of a size.
        computing: Stream that the engine works on, one at a time; None makes one.
    """

    depth = SLOTS

    def __init__(
        self,
        device: Device,
        engine: TileEngine,
        halo_px: int,
        *,
        reuse: bool | Callable[[Size], bool] = True,
        computing: Any = None,
    ) -> None:
        self._device, self.engine, self._halo_px = device, engine, halo_px
        self._reuse, self._computing = reuse, computing or device.stream()
        self._arriving, self._arrived = device.stream(), device.event()
        self._streams: dict[Hashable, DeviceStream] = {}
        self._batches: dict[tuple[int, int, int], TileBatch] = {}

    def submit(
        self, frame: Any, stream: Hashable = None, quantiser: float = MIDDLE_QUANTISER
    ) -> Ticket:
        """See `FrameRunner`; a quantiser goes up as an argument of the kernel that cuts tiles.

        Raises:
            MediaError: It is no such frame.
            WindowError: It is smaller than a tile.
            EngineError: The engine fails, two frames of the camera are on their way, or the
                quantiser is not from 0 to 1.
        """
        with self.engine.turn:
            if not self.engine.is_open:
                raise EngineError("the engine of these frames is closed; open it again")
            checked_quantisers([quantiser], 1)
            told = quantiser if self.engine.takes_quantiser else MIDDLE_QUANTISER
            began, arrived = time.perf_counter(), None
            if is_on_device(frame):
                frame, arrived = (
                    frame_from_array(frame, self._device, self._arriving),
                    self._arrived,
                )
                self._device.record(arrived, self._arriving)
            elif (
                not isinstance(frame, np.ndarray)
                or frame.dtype != np.uint8
                or frame.ndim not in (2, 3)
            ):
                got = (
                    f"{frame.dtype} {frame.shape}" if isinstance(frame, np.ndarray) else type(frame)
                )
                raise MediaError(f"got {got}, need uint8 (H, W) or (C, H, W)")
            elif frame.ndim == 2:
                frame = frame[None]
            source = self._stream_of(stream, frame.shape)
            if source.is_full:
                raise EngineError(f"{SLOTS} frames are on their way; take a result first")
            batch = self._batches[source.engine.shape]
            try:
                if batch.holds(source):
                    batch.run()
                ticket = source.begin(frame, arrived, told)
                batch.add(ticket)
            except EngineError:
                self._begin_anew()
                raise
            ticket.seconds = time.perf_counter() - began
            return ticket

    def start(self) -> None:
        """See `FrameRunner`; full batches run at once, and others wait for more tiles."""

    def result(self, ticket: Ticket) -> Any:
        """See `FrameRunner`."""
        assert isinstance(ticket, FrameOnDevice)
        with self.engine.turn:
            began, source = time.perf_counter(), ticket.source
            if self._streams.get(ticket.stream) is not source:
                raise EngineError("this frame was given up after a failure; submit it again")
            batch = self._batches[source.engine.shape]
            try:
                if batch.holds(source):
                    batch.run()
            except EngineError:
                self._begin_anew()
                raise
            planes = source.result(ticket)
            ticket.seconds += time.perf_counter() - began
            return planes

    def forget(self, stream: Hashable) -> None:
        """See `FrameRunner`; waits for the camera's frames on their way."""
        with self.engine.turn:
            source = self._streams.pop(stream, None)
            if source is None:
                return
            for batch in self._batches.values():
                batch.drop(source)
            if not self._streams:
                self._batches.clear()
            if self.engine.is_open:
                source.close()

    def close(self) -> None:
        """See `FrameRunner`."""
        for stream in tuple(self._streams):
            self.forget(stream)

    def _begin_anew(self) -> None:
        """Forget all cameras: after a failure nobody knows whose tiles were run."""
        for stream in tuple(self._streams):
            with suppress(EngineError):
                self.forget(stream)

    def _stream_of(self, stream: Hashable, shape: tuple[int, ...]) -> DeviceStream:
        """Return what is kept of a camera; begins anew where its frames change their size."""
        channels, height, width = shape
        if channels != self.engine.channels:
            raise MediaError(f"got {channels} channel(s), the network takes {self.engine.channels}")
        size = height, width
        source = self._streams.get(stream)
        if source is not None and source.size == size:
            return source
        self.forget(stream)
        device, computing, engine = self._device, self._computing, self.engine.fitted(size)
        tile, align_px = engine.shape[1:], engine.align_px
        plan = plan_grid(size, tile, halo_px=self._halo_px, align_px=align_px)
        if engine.shape not in self._batches:
            self._batches[engine.shape] = TileBatch(device, engine, computing)
        reuse = self._reuse(size) if callable(self._reuse) else self._reuse
        source = DeviceStream(stream, device, engine, plan, size, computing, reuse)
        self._streams[stream] = source
        return source
