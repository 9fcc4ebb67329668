"""The seam between the tiled GPU runtime and the libraries that run networks there."""

from abc import abstractmethod
from typing import Any, Literal

import numpy as np

from edgecar.artifact import Artifact
from edgecar.closing import Closing
from edgecar.engines.base import EngineInfo
from edgecar.engines.libraries import imported_onnxruntime
from edgecar.engines.onnxruntime import new_session, provider_line
from edgecar.errors import EngineError

TileType = Literal["fp32", "fp16", "int8"]
"""Of what lies in a batch: floats in [0, 1], halves of them, or quantised codes."""

ITEM_BYTES: dict[TileType, int] = {"fp32": 4, "fp16": 2, "int8": 1}


class TileEngine(Closing):
    """Runs batches of one shape that lie in device memory.

    Work is enqueued: it is done when the stream has come so far. As with `Engine`, the same tile
    gives the same bytes whatever its slot and neighbours.

    Args:
        info: What runs; its shape is that of the batch.
        channels: Of tiles.
        align_px: Of the network.
        reads: What lies in a batch.
        writes: What is made of it.
        scale: Of codes that were quantised, for ``int8``.
        capturable: Whether its work may be captured in a CUDA graph.
    """

    def __init__(
        self,
        info: EngineInfo,
        channels: int,
        align_px: int = 1,
        reads: TileType = "fp32",
        writes: TileType = "fp32",
        scale: float = 1.0,
        capturable: bool = False,
    ) -> None:
        if info.shape is None:
            raise EngineError(f"{info.name} takes any shape, need one batch and tile shape")
        self.info, self.shape = info, info.shape
        self.channels, self.align_px = channels, align_px
        self.reads, self.writes, self.scale, self.capturable = reads, writes, scale, capturable

    @property
    def values(self) -> int:
        """In a batch."""
        batch, height, width = self.shape
        return batch * self.channels * height * width

    @abstractmethod
    def enqueue(self, tiles: int, restored: int, stream: Any) -> None:
        """Restore a batch.

        Args:
            tiles: Address of ``(batch, channels, height, width)`` of `reads`, a multiple of 256.
            restored: Address of as many of `writes`.
            stream: To do it on.

        Raises:
            EngineError: The library refuses.
        """

    def close(self) -> None:
        """Free what the engine holds."""


class OnnxRuntimeTiles(TileEngine):
    """ONNX Runtime on tiles where they lie, without copies.

    Args:
        artifact: What to run.
        shape: ``(batch, height, width)``.
        stream: Handle of the stream that all work is enqueued on; None for CPU memory.

    Raises:
        EngineError: ONNX Runtime or its CUDA provider is absent, or refuses the graph.
    """

    def __init__(self, artifact: Artifact, shape: tuple[int, int, int], stream: int | None) -> None:
        cuda = stream is not None
        provider = "cuda" if cuda else "cpu"
        # TF32 is on by default, and cuts products to ten bits of mantissa.
        given = {"user_compute_stream": str(stream), "use_tf32": "0"} if cuda else {}
        self._session = new_session(artifact.onnx, provider, given)
        self._options = imported_onnxruntime().RunOptions()
        if cuda:  # whoever reads the output waits on the same stream
            self._options.add_run_config_entry("disable_synchronize_execution_providers", "1")
        self._device = provider
        self._names = self._session.get_inputs()[0].name, self._session.get_outputs()[0].name
        info = EngineInfo(
            name="onnxruntime:cuda" if cuda else "onnxruntime",
            provider=provider_line(provider),
            precision=artifact.metadata.precision,
            shape=shape,
            device="cuda:0" if cuda else "cpu",
        )
        super().__init__(info, artifact.metadata.channels, artifact.metadata.align_px)

    def enqueue(self, tiles: int, restored: int, stream: Any) -> None:  # noqa: ARG002
        batch, height, width = self.shape
        shape = (batch, self.channels, height, width)
        binding = self._session.io_binding()
        binding.bind_input(self._names[0], self._device, 0, np.float32, shape, tiles)
        binding.bind_output(self._names[1], self._device, 0, np.float32, shape, restored)
        try:
            self._session.run_with_iobinding(binding, self._options)
        except Exception as error:  # its classes are private and share no base
            raise EngineError(
                f"ONNX Runtime failed: {' '.join(str(error).split())[:200]}"
            ) from error
