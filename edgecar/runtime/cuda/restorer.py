"""Frames in, restored frames out, tile by tile on a GPU."""

from collections.abc import Hashable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np

from edgecar.closing import Closing
from edgecar.engines.base import Batch, Codes, Engine
from edgecar.engines.tiles import TileEngine
from edgecar.errors import EngineError, MediaError
from edgecar.runtime.cuda.arrays import DeviceArray, arrival, is_on_device
from edgecar.runtime.cuda.device import Device, Memory
from edgecar.runtime.cuda.device_stream import DeviceStream
from edgecar.runtime.tiles import plan_grid


class TiledRestorer(Closing):
    """Cleans frames of any size, of any number of cameras, with one engine of one shape.

    Args:
        device: That it runs on.
        engine: That runs batches of tiles; it stays the caller's to close.
        halo_px: Of the network.
        reuse: Compute only tiles that read a change; the same bytes come out.
        graphs: Launch batches as CUDA graphs where the engine allows it; the same bytes come out.
        computing: Stream that the engine works on, one at a time; None makes one.
    """

    def __init__(
        self,
        device: Device,
        engine: TileEngine,
        halo_px: int,
        *,
        reuse: bool = True,
        graphs: bool = True,
        computing: Any = None,
    ) -> None:
        self._device, self.engine, self._halo_px = device, engine, halo_px
        self._reuse, self._graphs = reuse, graphs
        self._computing = computing or device.stream()
        self._arriving, self._arrived = device.stream(), device.event()
        self._device_streams: dict[Hashable, DeviceStream] = {}
        self.windows_run = 0
        self.frames = 0

    def __call__(self, frame: Any, stream: Hashable = None) -> Any:
        """Restore a frame ``(height, width)`` or ``(channels, height, width)`` of uint8.

        One in device memory (``__cuda_array_interface__``, DLPack) gives a `DeviceArray`, any other
        a new array in CPU memory of the same shape. What other libraries still do to a frame on
        streams of theirs is waited for on the GPU.

        Args:
            frame: The codes.
            stream: Which camera it is from: outputs are used again within a stream.

        Raises:
            MediaError: It is no such array.
            WindowError: It is smaller than a tile.
            EngineError: The engine fails.
        """
        device_stream, given, after = self._device_stream_of(frame, stream)
        stays = isinstance(given, DeviceArray)
        self._submit(device_stream, given, after, to_host=not stays)
        if stays:
            return device_stream.result_on_device()
        return device_stream.result().reshape(frame.shape)

    def restore_all(
        self, frames: Sequence[Codes], streams: Sequence[Hashable]
    ) -> list[tuple[Codes, int]]:
        """Restore frames of several cameras together, all of them on their way at a time.

        Args:
            frames: ``(channels, height, width)`` of uint8, in CPU memory.
            streams: Which camera each is from; every one another.

        Returns:
            Outputs in new arrays, and how many tiles each took.

        Raises:
            EngineError: The engine fails; then none of these cameras has a frame on its way.
        """
        begun: list[tuple[DeviceStream, int]] = []
        try:
            for frame, stream in zip(frames, streams, strict=True):
                device_stream, given, after = self._device_stream_of(frame, stream)
                begun.append((device_stream, self._submit(device_stream, given, after)))
            return [(device_stream.result(), tiles) for device_stream, tiles in begun]
        except Exception:
            for stream in streams:  # they begin anew: results must not come a frame late
                with suppress(EngineError):
                    self.forget(stream)
            raise

    def submit(self, frame: Any, stream: Hashable = None) -> None:
        """Start on a frame; two of a camera may be on their way, the third needs a `result`."""
        self._submit(*self._device_stream_of(frame, stream))

    def result(self, stream: Hashable = None) -> Codes:
        """The oldest frame of a camera that is on its way, ``(channels, height, width)``."""
        if stream not in self._device_streams:
            raise EngineError(f"no frame of stream {stream!r} is on its way; submit one first")
        return self._device_streams[stream].result()

    def forget(self, stream: Hashable) -> None:
        """Free a camera's memory, after its frames on their way."""
        device_stream = self._device_streams.pop(stream, None)
        if device_stream is not None:
            device_stream.close()

    def close(self) -> None:
        """Free the memory of all cameras."""
        for stream in tuple(self._device_streams):
            self.forget(stream)

    def _submit(
        self,
        device_stream: DeviceStream,
        given: Codes | DeviceArray,
        after: Any,
        to_host: bool = True,
    ) -> int:
        """How many tiles it took."""
        tiles = device_stream.submit(given, after, to_host=to_host).tiles
        self.windows_run += tiles
        self.frames += 1
        return tiles

    def _given(self, frame: Any) -> tuple[Codes | DeviceArray, Any]:
        """The codes of a frame, and the event that they are there after; None: they are."""
        if not is_on_device(frame):
            return _host_codes(frame), None
        device, arriving = self._device, self._arriving
        found = arrival(frame, device.handle(arriving))
        if found.stream is not None:
            device.join(arriving, found.stream)
        device.record(self._arrived, arriving)
        return found.array, self._arrived

    def _device_stream_of(
        self, frame: Any, stream: Hashable
    ) -> tuple[DeviceStream, Codes | DeviceArray, Any]:
        """The device_stream of a camera, a new one where its frames change their size."""
        given, after = self._given(frame)
        channels, height, width = given.shape
        if channels != self.engine.channels:
            raise MediaError(f"got {channels} channel(s), the network takes {self.engine.channels}")
        size = height, width
        device_stream = self._device_streams.get(stream)
        if device_stream is None or device_stream.size != size:
            self.forget(stream)
            plan = plan_grid(
                size,
                self.engine.shape[1:],
                halo_px=self._halo_px,
                align_px=self.engine.align_px,
            )
            device_stream = DeviceStream(
                *(self._device, self.engine, plan, size, self._computing),
                reuse=self._reuse,
                graphs=self._graphs,
            )
            self._device_streams[stream] = device_stream
        return device_stream, given, after


class ReferenceTiles(TileEngine):
    """Any `Engine` in place of one that runs where tiles lie: through CPU memory, to compare with.

    Args:
        device: Whose memory tiles lie in.
        engine: Of any shape, or of this one.
        shape: ``(batch, height, width)``.
    """

    def __init__(self, device: Device, engine: Engine, shape: tuple[int, int, int]) -> None:
        super().__init__(replace(engine.info, shape=shape), engine.channels, engine.align_px)
        self._device, self._engine = device, engine
        self._given, self._back = (device.staging(4 * self.values) for _ in range(2))

    def enqueue(self, tiles: int, restored: int, stream: Any) -> None:
        count = 4 * self.values
        self._device.download(self._given, Memory(tiles, count), stream)
        self._device.call(self._run, stream)
        self._device.upload(Memory(restored, count), self._back, stream)

    def _run(self) -> None:
        assert self._given.host is not None
        assert self._back.host is not None
        batch, height, width = self.shape
        shape = (batch, self.channels, height, width)
        given: Batch = self._given.host.view(np.float32).reshape(shape)
        self._back.host.view(np.float32).reshape(shape)[:] = self._engine.run(given)


def _host_codes(frame: Any) -> Codes:
    if not isinstance(frame, np.ndarray) or frame.dtype != np.uint8 or frame.ndim not in (2, 3):
        got = f"{frame.dtype} {frame.shape}" if isinstance(frame, np.ndarray) else type(frame)
        raise MediaError(f"got {got}, need uint8 (H, W) or (C, H, W)")
    return frame if frame.ndim == 3 else frame[None]
