"""One camera on a GPU: frames go up, tiles through the network, frames down, all at a time.

There are three streams, one of them the engine's: while one frame is computed, the next is brought
up and compared with it, and the one before is brought down. Events say what must not overtake what.
The CPU waits for nothing but the number of tiles to run, which the engine does not hold up.
"""

from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgecar.engines.base import Codes
from edgecar.engines.tiles import TileEngine
from edgecar.errors import EngineError
from edgecar.runtime.cuda.arrays import DeviceArray
from edgecar.runtime.cuda.device import WORD, Device, Memory
from edgecar.runtime.runner import Ticket
from edgecar.runtime.tiles import Tile
from edgecar.spec import MIDDLE_QUANTISER, Size

SLOTS = 2  # frames on their way at a time
PITCH_PX = 256  # rows begin where device memory is fetched from
GROUP = 4  # pixels that a thread handles (kernels/grid.cuh)
MOST_STAMP = (1 << 31) - 1


def words_of_tile(channels: int, tile: Size) -> int:
    """How many words a tile reads at most: at both sides one may be cut."""
    return channels * tile[0] * (tile[1] // WORD + 2)


@dataclass(eq=False, kw_only=True)
class FrameOnDevice(Ticket):
    """Ticket of a frame on its way through a device.

    Attributes:
        source: Stream of frames that it is from.
        slot: Number of the buffers that it lies in.
        chosen: True if its tiles are those that read a change, False if they are all.
        to_host: True if the output is brought down.
        left: Tiles whose output is not in the frame yet.
    """

    source: "DeviceStream"
    slot: int
    chosen: bool
    to_host: bool
    left: int


class DeviceStream:
    """The frames of one camera, all of one size, in the memory of a device.

    Args:
        name: Camera that the frames are from.
        device: Device that everything lies on.
        engine: Engine whose tiles are cut out of frames; it stays the caller's.
        plan: Tiles of the engine's shape that cover a frame.
        size: ``(height, width)`` of the frames.
        computing: Stream that the engine works on, shared by all cameras of the engine.
        reuse: Compute only tiles that read a change; the same bytes come out.
    """

    def __init__(
        self,
        name: Hashable,
        device: Device,
        engine: TileEngine,
        plan: list[Tile],
        size: Size,
        computing: Any,
        reuse: bool,
    ) -> None:
        self.name, self.size, self.engine, self._device = name, size, engine, device
        self._count, self._reuse = len(plan), reuse
        self._pitch = -(-size[1] // PITCH_PX) * PITCH_PX
        frame_bytes = engine.channels * size[0] * self._pitch
        both = range(SLOTS)
        self._up = [device.staging(frame_bytes) for _ in both]
        self._down = [device.staging(frame_bytes) for _ in both]
        shared = device.shared
        self._frames = self._up if shared else [device.memory(frame_bytes) for _ in both]
        self._outputs = self._down if shared else [device.memory(frame_bytes) for _ in both]
        self._restored = device.memory(frame_bytes)
        self._computing = computing
        self._uploading, self._downloading = device.stream(), device.stream()
        self._uploaded, self._computed, self._downloaded = (
            [device.event() for _ in both] for _ in range(3)
        )
        self._compared = device.event()
        self._tiles = self._constant([[*tile.read[:2], *tile.keep] for tile in plan])
        self._all = self._constant([len(plan)])
        self._flags = device.memory(4 * len(plan))
        # Of both frames, since one is looked through while the other's tiles are still cut out.
        self._chosen = [device.memory(4 * len(plan)) for _ in both]
        self._found = [device.memory(4) for _ in both]
        self._found_here = device.staging(4)
        # Quantiser of the frame whose output is at hand; None if there is no such frame.
        self._held: float | None = None
        self._stamp = self._begun = 0
        self._on_the_way: deque[FrameOnDevice] = deque()

    @property
    def is_full(self) -> bool:
        """True if no further frame may begin before a result was taken."""
        return len(self._on_the_way) >= SLOTS

    def begin(
        self, frame: Codes | DeviceArray, after: Any, quantiser: float = MIDDLE_QUANTISER
    ) -> FrameOnDevice:
        """Bring a frame ``(channels, height, width)`` up and find the tiles to run.

        A frame in CPU memory may be changed as soon as this returns, and its output is brought
        down. One in device memory must stay until its result was taken, which stays there too. The
        caller runs the tiles and calls `send`.

        Args:
            frame: The codes.
            after: Event after which they are there; None if they are.
            quantiser: Quantiser of the frame. Where it moves, all tiles are run.
        """
        device, slot = self._device, self._begun % SLOTS
        held, self._held = self._held, None
        self._bring(slot, frame, after)
        chosen = self._reuse and held == quantiser
        tiles = self._changed(slot) if chosen else self._count
        device.record(self._uploaded[slot], self._uploading)
        device.wait(self._computing, self._uploaded[slot])
        _, height, width = self.engine.shape
        begun = FrameOnDevice(
            stream=self.name,
            tiles=tiles,
            pixels=tiles * height * width,
            quantiser=quantiser,
            source=self,
            slot=slot,
            chosen=chosen,
            to_host=not isinstance(frame, DeviceArray),
            left=tiles,
        )
        self._on_the_way.append(begun)
        self._begun += 1
        self._held = quantiser
        return begun

    def gather(self, frame: FrameOnDevice, first: int, count: int, to: int, told: int) -> None:
        """Cut tiles out of a frame, as the network takes them.

        Args:
            frame: A frame that was begun.
            first: Number of the first tile, among those to run.
            count: Number of tiles.
            to: Address of the first tile in the batch.
            told: Address of its quantiser.
        """
        engine, (height, width) = self.engine, self.engine.shape[1:]
        self._device.launch(
            *(f"gather_{engine.reads}", height * -(-width // GROUP), count * engine.channels),
            (self._frames[frame.slot].address, *self.size, self._pitch, engine.channels,
             *self._run_of(frame, first, count), to, frame.quantiser, told),
            self._computing,
        )  # fmt: skip

    def scatter(self, frame: FrameOnDevice, first: int, count: int, source: int) -> None:
        """Put what is kept of a network's output into the frame; arguments as for `gather`."""
        engine, (height, width) = self.engine, self.engine.shape[1:]
        self._device.launch(
            *(f"scatter_{engine.writes}", height * (width // GROUP + 2), count * engine.channels),
            (source, engine.channels, *self._run_of(frame, first, count),
             self._restored.address, self.size[0], self._pitch),
            self._computing,
        )  # fmt: skip
        frame.left -= count

    def send(self, frame: FrameOnDevice) -> None:
        """Copy the output, so that the next frame may change it, and bring the copy down."""
        device, stream, down = self._device, self._computing, self._downloading
        slot, rows = frame.slot, self.engine.channels * self.size[0]
        to, source = self._outputs[slot].address, self._restored.address
        device.copy_rows((to, self._pitch), (source, self._pitch), self._pitch, rows, stream)
        device.record(self._computed[slot], stream)
        device.wait(down, self._computed[slot])
        if frame.to_host and not device.shared:
            device.download(self._down[slot], self._outputs[slot], down)
        device.record(self._downloaded[slot], down)

    def result(self, frame: FrameOnDevice) -> Codes | DeviceArray:
        """Wait for the oldest frame on its way, ``(channels, height, width)``.

        Returns:
            A new array; where it was not brought down, a `DeviceArray` that the next frame but one
            overwrites.

        Raises:
            EngineError: Another frame is older, or this one was taken before.
        """
        if not self._on_the_way or self._on_the_way[0] is not frame:
            raise EngineError("results of a stream are taken once, in the order of its frames")
        self._on_the_way.popleft()
        if frame.to_host:
            self._device.finish(self._downloaded[frame.slot])
            codes: Codes = self._pixels(self._down[frame.slot]).copy()
            return codes
        self._device.finish(self._computed[frame.slot])
        memory, shape = self._outputs[frame.slot], (self.engine.channels, *self.size)
        return DeviceArray(
            memory.address, shape, (self.size[0] * self._pitch, self._pitch, 1), memory
        )

    def close(self) -> None:
        """Wait for everything on its way; memory is freed with the object."""
        ended = self._device.event()
        for stream in (self._uploading, self._computing, self._downloading):
            self._device.record(ended, stream)
            self._device.finish(ended)

    def _pixels(self, staged: Memory) -> Codes:
        """The frame in staging memory."""
        assert staged.host is not None
        rows = staged.host.reshape(self.engine.channels, self.size[0], self._pitch)
        pixels: Codes = rows[:, :, : self.size[1]]
        return pixels

    def _constant(self, numbers: list[Any]) -> Memory:
        """Device memory with these 32-bit numbers."""
        values = np.array(numbers, np.int32)
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
        if self._begun >= SLOTS:
            device.finish(self._downloaded[slot])  # staging memory of this slot is free
        device.finish(self._uploaded[slot])  # also if the frame that was to use it failed
        if after is not None:
            device.wait(up, after)
        if isinstance(frame, DeviceArray):
            channels, height, width = frame.shape
            for channel in range(channels):
                start = self._frames[slot].address + channel * height * self._pitch
                source = frame.address + channel * frame.strides[0], frame.strides[1]
                device.copy_rows((start, self._pitch), source, width, height, up)
        else:
            self._pixels(self._up[slot])[:] = frame
            if not device.shared:
                device.upload(self._frames[slot], self._up[slot], up)
        device.record(self._uploaded[slot], up)

    def _changed(self, slot: int) -> int:
        """How many tiles read a change; their numbers are in device memory then."""
        device, stream, engine = self._device, self._uploading, self.engine
        before, after = self._frames[1 - slot].address, self._frames[slot].address
        self._stamp = self._stamp % MOST_STAMP + 1
        height, width = engine.shape[1:]
        device.launch(
            *("changed", words_of_tile(engine.channels, (height, width)), self._count),
            (before, after, *self.size, self._pitch, engine.channels, self._tiles.address,
             self._count, height, width, self._stamp, self._flags.address),
            stream,
        )  # fmt: skip
        device.launch(
            *("listed", self._count, 1),
            (self._flags.address, self._count, self._stamp, self._chosen[slot].address,
             self._found[slot].address),
            stream,
        )  # fmt: skip
        device.download(self._found_here, self._found[slot], stream)
        device.record(self._compared, stream)
        device.finish(self._compared)
        assert self._found_here.host is not None
        return int(self._found_here.host.view(np.int32)[0])

    def _run_of(self, frame: FrameOnDevice, first: int, count: int) -> tuple[int | None, ...]:
        """Return what kernels take to find some tiles of a frame."""
        return (
            self._tiles.address,
            self._chosen[frame.slot].address if frame.chosen else None,
            self._found[frame.slot].address if frame.chosen else self._all.address,
            *(first, count, *self.engine.shape[1:]),
        )
