"""A GPU made of the CPU: the kernels' own bodies, and streams that run as late as they may.

Nothing is done when it is enqueued. Only when somebody waits for an event, streams take steps, in
an order drawn by lot, until it is reached: what is not said with events goes wrong for some lot.
"""

import ctypes
import random
import weakref
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from edgecar.engines.base import Engine
from edgecar.engines.tiles import TileEngine
from edgecar.runtime.cuda.arrays import DeviceArray
from edgecar.runtime.cuda.device import Memory
from tests.runtime.cuda.host_kernels import run

ALIGNED = 256
HANDLES = 1000  # of the first stream; those below mean default streams
CAPACITY = 1 << 30


@dataclass(eq=False)
class Mark:
    """One setting of an event."""

    reached: bool = False


@dataclass(eq=False)
class Event:
    mark: Mark = field(default_factory=lambda: Mark(reached=True))  # never set, it holds nobody up


@dataclass(eq=False)
class Stream:
    number: int
    queue: deque[Callable[[], None] | Mark] = field(default_factory=deque)

    @property
    def ready(self) -> bool:
        head = self.queue[0] if self.queue else None
        return head is not None and (head.reached if isinstance(head, Mark) else True)


class HostDevice:
    """A device in CPU memory, whose streams run as the lots of a seed say.

    Args:
        seed: Of the lots.
        shared: Staging memory is device memory, as on a Jetson.
        prefer: Number of a stream that takes all steps it can before any other.
    """

    def __init__(self, seed: int = 0, shared: bool = False, prefer: int | None = None) -> None:
        self.shared = shared
        self._lots, self._prefer = random.Random(seed), prefer
        self.streams: list[Stream] = []
        self.live: dict[int, int] = {}
        """Bytes of each allocation that somebody holds."""
        self.done: list[str] = []
        """What was done, in order."""

    def staging(self, size: int) -> Memory:
        memory = self.memory(size)
        return memory if self.shared else Memory(0, size, memory.host)

    def memory(self, size: int) -> Memory:
        raw = np.zeros(size + ALIGNED, np.uint8)
        start = -raw.ctypes.data % ALIGNED
        self.live[id(raw)] = raw.nbytes
        weakref.finalize(raw, self.live.pop, id(raw))
        host = raw[start : start + size]
        return Memory(host.ctypes.data, size, host)

    def stream(self) -> Stream:
        self.streams.append(Stream(len(self.streams)))
        return self.streams[-1]

    def handle(self, stream: Stream) -> int:
        return HANDLES + stream.number

    def join(self, stream: Stream, handle: int) -> None:
        event = self.event()
        self.record(event, self.streams[handle - HANDLES])
        self.wait(stream, event)

    def free_bytes(self) -> int:
        return CAPACITY - sum(self.live.values())

    def event(self) -> Event:
        return Event()

    def record(self, event: Event, stream: Stream) -> None:
        mark = event.mark = Mark()
        self.later(stream, lambda: setattr(mark, "reached", True))

    def wait(self, stream: Stream, event: Event) -> None:
        stream.queue.append(event.mark)

    def finish(self, event: Event) -> None:
        while not event.mark.reached:
            ready = [stream for stream in self.streams if stream.ready]
            assert ready, "streams wait for one another"
            preferred = [stream for stream in ready if stream.number == self._prefer]
            stream = preferred[0] if preferred else self._lots.choice(ready)
            step = stream.queue.popleft()
            if not isinstance(step, Mark):
                step()

    def upload(self, to: Memory, source: Memory, stream: Stream) -> None:
        self._move("upload", to.address, source.host.ctypes.data, source.size, stream)

    def download(self, to: Memory, source: Memory, stream: Stream) -> None:
        self._move("download", to.host.ctypes.data, source.address, to.size, stream)

    def copy_rows(self, to, source, width: int, rows: int, stream: Stream) -> None:
        def copy() -> None:
            for row in range(rows):
                ctypes.memmove(to[0] + row * to[1], source[0] + row * source[1], width)
            self.done.append("copy")

        self.later(stream, copy)

    def launch(self, kernel: str, items: int, layers: int, arguments, stream: Stream) -> None:
        assert items > 0
        assert layers > 0

        self.later(stream, lambda: (run(kernel, *arguments), self.done.append(kernel)))

    def call(self, function: Callable[[], None], stream: Stream) -> None:
        self.later(stream, lambda: (function(), self.done.append("network")))

    def close(self) -> None:
        pass

    def _move(self, name: str, to: int, source: int, size: int, stream: Stream) -> None:
        self.later(stream, lambda: (ctypes.memmove(to, source, size), self.done.append(name)))

    def later(self, stream: Stream, work: Callable[[], Any]) -> None:
        """Enqueue any work, such as what another library does on a stream of its own."""
        stream.queue.append(work)


class ReferenceTiles(TileEngine):
    """Any engine in place of one that runs where tiles lie: through CPU memory, to compare with."""

    broken: Exception | None = None

    def __init__(self, device: HostDevice, engine: Engine, shape: tuple[int, int, int]) -> None:
        info, told = replace(engine.info, shape=shape), engine.takes_quantiser
        super().__init__(info, engine.channels, engine.align_px, takes_quantiser=told)
        self._device, self._engine = device, engine
        self._given, self._back = (device.staging(4 * self.values) for _ in range(2))
        self._told = device.staging(4 * shape[0])

    def enqueue(self, tiles: int, quantisers: int, restored: int, stream: Stream) -> None:
        if self.broken:
            raise self.broken
        batch, height, width = self.shape
        given, back = (
            memory.host.view(np.float32).reshape(batch, self.channels, height, width)
            for memory in (self._given, self._back)
        )
        self._device.download(self._given, Memory(tiles, self._given.size), stream)
        self._device.download(self._told, Memory(quantisers, self._told.size), stream)
        told = self._told.host.view(np.float32)
        self._device.call(lambda: np.copyto(back, self._engine.run(given, told)), stream)
        self._device.upload(Memory(restored, self._back.size), self._back, stream)


def on_device(device: HostDevice, frame, pitch: int) -> DeviceArray:
    """A frame ``(channels, height, width)`` in memory whose rows are ``pitch`` bytes apart."""
    channels, height, width = frame.shape
    memory = device.memory(channels * height * pitch)
    memory.host.reshape(channels, height, pitch)[:, :, :width] = frame
    return DeviceArray(memory.address, frame.shape, (height * pitch, pitch, 1), memory)


def from_device(array: DeviceArray):
    """The values as another library would read them."""
    given = array.__cuda_array_interface__
    start = given["data"][0] - array.owner.address
    values = array.owner.host[start:].view(np.dtype(given["typestr"]))
    return np.lib.stride_tricks.as_strided(values, given["shape"], given["strides"])
