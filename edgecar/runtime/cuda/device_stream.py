"""One camera on a GPU: frames up, tiles through the network, frames down, all at a time.

Three streams, one of them the engine's: while one frame is computed, the next one is on its way up
and the one before on its way down. What must not overtake what is said with events, so that nothing
but the number of tiles to compute is ever waited for.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgecar.closing import Closing
from edgecar.engines.base import Codes
from edgecar.engines.tiles import ITEM_BYTES, TileEngine
from edgecar.errors import EngineError
from edgecar.runtime.cuda.arrays import DeviceArray
from edgecar.runtime.cuda.device import WORD, Device, Memory
from edgecar.runtime.tiles import Tile
from edgecar.spec import Size

SLOTS = 2  # frames on their way at a time
PITCH_PX = 256  # rows begin where device memory is fetched from
GROUP = 4  # pixels that a thread handles (kernels/grid.cuh)
MOST_STAMP = (1 << 31) - 1


def words_of_tile(channels: int, tile: Size) -> int:
    """How many words a tile reads at most: at both sides one may be cut."""
    return channels * tile[0] * (tile[1] // WORD + 2)


@dataclass(frozen=True)
class Counts:
    """What was computed for a frame.

    Attributes:
        tiles: Of them, how many.
        batches: That they took.
    """

    tiles: int
    batches: int


class DeviceStream(Closing):
    """The frames of one camera, of one size.

    Args:
        device: That it runs on.
        engine: That runs batches of tiles; it stays the caller's.
        plan: Tiles of the engine's shape that cover a frame.
        size: Of frames, ``(height, width)``.
        computing: Stream that the engine works on; device_stream that share an engine share it.
        reuse: Compute only tiles that read a change; the same bytes come out.
        graphs: Launch a batch as one graph where the engine allows it; the same bytes come out.
    """

    def __init__(
        self,
        device: Device,
        engine: TileEngine,
        plan: list[Tile],
        size: Size,
        computing: Any,
        *,
        reuse: bool = True,
        graphs: bool = True,
    ) -> None:
        self.size, self._device, self._engine = size, device, engine
        self._count, self._reuse = len(plan), reuse
        self._graphs = graphs and engine.capturable
        self._pitch = -(-size[1] // PITCH_PX) * PITCH_PX
        frame_bytes = engine.channels * size[0] * self._pitch
        both = range(SLOTS)
        self._up = [device.staging(frame_bytes) for _ in both]
        self._down = [device.staging(frame_bytes) for _ in both]
        shared = device.shared
        self._frames = self._up if shared else [device.memory(frame_bytes) for _ in both]
        self._outputs = self._down if shared else [device.memory(frame_bytes) for _ in both]
        self._restored = device.memory(frame_bytes)
        self._tiles = device.memory(engine.values * ITEM_BYTES[engine.reads])
        self._made = device.memory(engine.values * ITEM_BYTES[engine.writes])
        self._computing = computing
        self._uploading, self._downloading = device.stream(), device.stream()
        self._uploaded, self._computed, self._downloaded = (
            [device.event() for _ in both] for _ in range(3)
        )
        self._compared = device.event()
        table = np.array([[*tile.read[:2], *tile.keep] for tile in plan], np.int32)
        self._windows, self._all = (
            self._constant(table),
            self._constant(np.array([len(plan)], np.int32)),
        )
        self._flags, self._chosen, self._found = (
            device.memory(4 * count) for count in (len(plan), len(plan), 1)
        )
        self._found_here = device.staging(4)
        self._holds = False
        self._stamp = 0
        self._submitted = self._taken = 0
        self._launches: dict[tuple[int, int, bool], Callable[[], None] | None] = {}

    def submit(
        self, frame: Codes | DeviceArray, after: Any = None, *, to_host: bool = True
    ) -> Counts:
        """Start on a frame ``(channels, height, width)``; at most two are on their way.

        A frame in CPU memory may be changed as soon as this returns; one in device memory must
        stay until its result was taken.

        Args:
            frame: The codes.
            after: Event that they are there after; None: they are.
            to_host: Bring the output down, for `result`; without, only `result_on_device` has it.

        Raises:
            EngineError: Two frames are on their way already, or the engine fails; after that the
                next frame is computed in full.
        """
        if self._submitted - self._taken >= SLOTS:
            raise EngineError(f"{SLOTS} frames are on their way; take a result first")
        slot = self._submitted % SLOTS
        held, self._holds = self._holds, False
        self._bring(slot, frame, after)
        chosen = self._reuse and held
        tiles = self._changed(slot) if chosen else self._count
        batches = -(-tiles // self._engine.shape[0])
        for number in range(batches):
            self._batch(slot, number, chosen)
        self._send(slot, to_host)
        self._submitted += 1
        self._holds = True
        return Counts(tiles, batches)

    def result(self) -> Codes:
        """The oldest frame on its way, ``(channels, height, width)``, in a new array.

        Raises:
            EngineError: There is none.
        """
        slot = self._next()
        self._device.finish(self._downloaded[slot])
        host = self._down[slot].host
        assert host is not None
        frame: Codes = self._rows(host)[:, :, : self.size[1]].copy()
        return frame

    def result_on_device(self) -> DeviceArray:
        """The same where it lies, without a copy; overwritten by the next frame but one."""
        slot = self._next()
        self._device.finish(self._computed[slot])
        memory = self._outputs[slot]
        shape = (self._engine.channels, *self.size)
        strides = (self.size[0] * self._pitch, self._pitch)
        return DeviceArray(memory.address, shape, strides, memory)

    def close(self) -> None:
        """Wait for everything on its way and destroy the graphs. Memory goes with it."""
        ended = self._device.event()
        for stream in (self._uploading, self._computing, self._downloading):
            self._device.record(ended, stream)
            self._device.finish(ended)
        self._launches.clear()

    def _next(self) -> int:
        if self._taken == self._submitted:
            raise EngineError("no frame is on its way; submit one first")
        self._taken += 1
        return (self._taken - 1) % SLOTS

    def _rows(self, memory: Codes) -> Codes:
        rows: Codes = memory.reshape(self._engine.channels, self.size[0], self._pitch)
        return rows

    def _constant(self, values: Any) -> Memory:
        """Device memory with these numbers."""
        staged = self._device.staging(values.nbytes)
        assert staged.host is not None
        staged.host[:] = values.reshape(-1).view(np.uint8)
        memory = self._device.memory(values.nbytes)
        self._device.upload(memory, staged, self._computing)
        done = self._device.event()
        self._device.record(done, self._computing)
        self._device.finish(done)
        return memory

    def _bring(self, slot: int, frame: Codes | DeviceArray, after: Any) -> None:
        """Put a frame into device memory, once the frame before last is done with."""
        device, up = self._device, self._uploading
        if self._submitted >= SLOTS:
            device.finish(self._downloaded[slot])  # staging memory of this slot is free
        device.finish(self._uploaded[slot])  # also if the frame that was to use it failed
        device.wait(up, self._compared)  # with which nobody reads the frame before last
        if after is not None:
            device.wait(up, after)
        if isinstance(frame, DeviceArray):
            channels, height, width = frame.shape
            for channel in range(channels):
                start = self._frames[slot].address + channel * height * self._pitch
                source = frame.address + channel * frame.strides[0], frame.strides[1]
                device.copy_rows((start, self._pitch), source, width, height, up)
        else:
            host = self._up[slot].host
            assert host is not None
            self._rows(host)[:, :, : self.size[1]] = frame
            if not device.shared:
                device.upload(self._frames[slot], self._up[slot], up)
        device.record(self._uploaded[slot], up)
        device.wait(self._computing, self._uploaded[slot])

    def _changed(self, slot: int) -> int:
        """How many tiles read a change; their numbers are in device memory then."""
        device, stream, engine = self._device, self._computing, self._engine
        before, after = self._frames[1 - slot].address, self._frames[slot].address
        self._stamp = self._stamp % MOST_STAMP + 1
        height, width = engine.shape[1:]
        device.launch(
            *("changed", words_of_tile(engine.channels, (height, width)), self._count),
            (before, after, *self.size, self._pitch, engine.channels, self._windows.address,
             self._count, height, width, self._stamp, self._flags.address),
            stream,
        )  # fmt: skip
        device.launch(
            *("listed", self._count, 1),
            (self._flags.address, self._count, self._stamp, self._chosen.address,
             self._found.address),
            stream,
        )  # fmt: skip
        device.download(self._found_here, self._found, stream)
        device.record(self._compared, stream)
        device.finish(self._compared)
        assert self._found_here.host is not None
        return int(self._found_here.host.view(np.int32)[0])

    def _batch(self, slot: int, number: int, chosen: bool) -> None:
        """Compute a batch: plainly the first time, which engines need, and as a graph later on."""
        key = slot, number, chosen
        replay = self._launches.get(key)
        if replay is not None:
            replay()
            return

        def work() -> None:
            self._enqueue(slot, number * self._engine.shape[0], chosen)

        if self._graphs and key in self._launches:
            replay = self._device.captured(work, self._computing)
            self._graphs = replay is not None
            if replay is not None:
                self._launches[key] = replay
                replay()
                return
        self._launches[key] = None
        work()

    def _enqueue(self, slot: int, first: int, chosen: bool) -> None:
        engine, device, stream = self._engine, self._device, self._computing
        batch, height, width = engine.shape
        tile = (
            self._windows.address,
            self._chosen.address if chosen else None,
            self._found.address if chosen else self._all.address,
            *(first, batch, height, width),
        )
        layers = batch * engine.channels
        device.launch(
            *(f"gather_{engine.reads}", height * -(-width // GROUP), layers),
            (self._frames[slot].address, *self.size, self._pitch, engine.channels, *tile,
             engine.scale, self._tiles.address),
            stream,
        )  # fmt: skip
        engine.enqueue(self._tiles.address, self._made.address, stream)
        device.launch(
            *(f"scatter_{engine.writes}", height * (width // GROUP + 2), layers),
            (self._made.address, engine.channels, *tile, self._restored.address, self.size[0],
             self._pitch),
            stream,
        )  # fmt: skip

    def _send(self, slot: int, to_host: bool) -> None:
        """Copy the output, so that the next frame may change it, and bring the copy down."""
        device, stream, down = self._device, self._computing, self._downloading
        output, rows = self._outputs[slot], self._engine.channels * self.size[0]
        device.copy_rows(
            (output.address, self._pitch),
            (self._restored.address, self._pitch),
            *(self._pitch, rows, stream),
        )
        device.record(self._computed[slot], stream)
        device.wait(down, self._computed[slot])
        if to_host and not device.shared:
            device.download(self._down[slot], output, down)
        device.record(self._downloaded[slot], down)
