"""Interface between the GPU runtime and the libraries that run networks there."""

import copy
from abc import abstractmethod
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from edgecar.artifact import Artifact
from edgecar.engines.base import Batch, Engine, EngineInfo, Quantisers, one_line
from edgecar.engines.libraries import imported_onnxruntime
from edgecar.engines.onnxruntime import new_session, provider_line
from edgecar.errors import EngineError
from edgecar.spec import Size

TileType = Literal["fp32", "fp16"]
"""Type of the values in a batch: floats in [0, 1], single or half."""

ITEM_BYTES: dict[TileType, int] = {"fp32": 4, "fp16": 2}


class TileEngine(Engine):
    """Engine whose batches, all of one shape, lie in device memory.

    Work is enqueued: it is done when the stream has come so far. As with every engine, the same
    tile gives the same bytes whatever its slot and neighbours.

    Args:
        info: Description of what runs. Its shape is that of the batch.
        channels: Number of channels of a tile.
        align_px: Multiple that the sides of a tile must be.
        reads: Type of the values in a batch.
        writes: Type of the values that the network makes of them.
        takes_quantiser: True if the network is told the quantiser of each tile.
    """

    # Device (`edgecar.runtime.cuda.device.Device`) that memory is taken from, and its stream that
    # all work is enqueued on; set by `on`.
    device: Any = None
    stream: Any = None

    def __init__(
        self,
        info: EngineInfo,
        channels: int,
        align_px: int = 1,
        reads: TileType = "fp32",
        writes: TileType = "fp32",
        takes_quantiser: bool = False,
    ) -> None:
        if info.shape is None:
            raise EngineError(f"{info.name} takes any shape, need one batch and tile shape")
        super().__init__(info, channels, align_px, takes_quantiser)
        self.shape = info.shape
        self.reads, self.writes = reads, writes

    def on(self, device: Any, stream: Any = None) -> "TileEngine":
        """Use a device from now on, and close it with the engine; returns the engine."""
        self.device, self.stream = device, stream or device.stream()
        return self

    def fitted(self, size: Size) -> "TileEngine":  # noqa: ARG002
        """Return the engine for frames of ``(height, width)``: itself where it has one shape."""
        return self

    @property
    def values(self) -> int:
        """Number of values in a batch."""
        batch, height, width = self.shape
        return batch * self.channels * height * width

    @abstractmethod
    def enqueue(self, tiles: int, quantisers: int, restored: int, stream: Any) -> None:
        """Enqueue the restoring of ``(batch, channels, height, width)`` values, by address.

        Addresses are multiples of 256; there are values of `reads`, and will be of `writes`.
        Quantisers are ``(batch,)`` float32 in [0, 1]; artifacts without that input ignore them.
        """

    def _run(self, batch: Batch, quantisers: Quantisers) -> Batch:
        """Bring a batch up from CPU memory, and its output down."""
        device, stream = self.device, self.stream
        if (self.reads, self.writes) != ("fp32", "fp32"):
            raise EngineError(f"{self.info.name} takes {self.reads}, batches are fp32")
        up, told, down = (device.staging(part.nbytes) for part in (batch, quantisers, batch))
        up.host.view(np.float32)[:] = batch.reshape(-1)
        told.host.view(np.float32)[:] = quantisers
        given, known, made = up, told, down
        if not device.shared:
            given, known, made = (device.memory(part.size) for part in (up, told, down))
            device.upload(given, up, stream)
            device.upload(known, told, stream)
        self.enqueue(given.address, known.address, made.address, stream)
        if not device.shared:
            device.download(down, made, stream)
        done = device.event()
        device.record(done, stream)
        device.finish(done)
        restored: Batch = down.host.view(np.float32).reshape(batch.shape)
        return restored

    def _free(self) -> None:
        if self.device is not None:
            self.device.close()


class OnnxRuntimeTiles(TileEngine):
    """ONNX Runtime on tiles where they lie, without copies.

    All work is enqueued on the stream of a handle; with None, tiles lie in CPU memory.
    """

    def __init__(
        self,
        artifact: Artifact,
        shape: tuple[int, int, int],
        stream: int | None,
        tf32: bool = False,
    ) -> None:
        provider = "cpu" if stream is None else "cuda"
        given, name, device = {}, "onnxruntime", "cpu"
        self._options = imported_onnxruntime().RunOptions()
        if stream is not None:
            # TF32 is on by default, and cuts products to ten bits of mantissa.
            given = {"user_compute_stream": str(stream), "use_tf32": str(int(tf32))}
            # Whoever reads the output waits on the same stream.
            self._options.add_run_config_entry("disable_synchronize_execution_providers", "1")
            name, device = "onnxruntime:cuda", "cuda:0"
        self._session, self._provider = new_session(artifact.onnx, provider, given), provider
        self._inputs = [value.name for value in self._session.get_inputs()]
        self._output = self._session.get_outputs()[0].name
        precision = "tf32" if tf32 else artifact.metadata.precision
        info = EngineInfo(name, provider_line(provider), precision, shape, device)
        facts = artifact.metadata
        super().__init__(
            info, facts.channels, facts.align_px, takes_quantiser=facts.takes_quantiser
        )

    def fitted(self, size: Size) -> TileEngine:
        """Return this engine for smaller tiles where frames are smaller than its own."""
        align = self.align_px
        sides = (-(-side // align) * align for side in size)
        height, width = (min(pair) for pair in zip(self.shape[1:], sides, strict=True))
        if (height, width) == self.shape[1:]:
            return self
        fitted = copy.copy(self)  # it shares the session
        fitted.shape = (self.shape[0], height, width)
        fitted.info = replace(self.info, shape=fitted.shape)
        return fitted

    def enqueue(self, tiles: int, quantisers: int, restored: int, stream: Any) -> None:  # noqa: ARG002
        batch, height, width = self.shape
        shape = (batch, self.channels, height, width)
        given = (tiles, shape), (quantisers, (batch,))
        binding = self._session.io_binding()
        for name, (address, dims) in zip(self._inputs, given, strict=False):
            binding.bind_input(name, self._provider, 0, np.float32, dims, address)
        binding.bind_output(self._output, self._provider, 0, np.float32, shape, restored)
        try:
            self._session.run_with_iobinding(binding, self._options)
        except Exception as error:  # its classes are private and share no base
            raise EngineError(f"ONNX Runtime failed: {one_line(error)}") from error
