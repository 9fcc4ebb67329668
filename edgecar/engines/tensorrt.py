"""TensorRT plans on tiles in device memory; TensorRT-RTX is the same with another library."""

from pathlib import Path
from typing import Any

from edgecar.engines.base import EngineInfo
from edgecar.engines.gpu import Gpu, find_gpu
from edgecar.engines.plan import read_plan, refuse_elsewhere
from edgecar.engines.tiles import TileEngine, TileType
from edgecar.engines.trt_library import Library, load_library
from edgecar.errors import EngineError
from edgecar.files import quoted

TYPES: dict[str, TileType] = {"float32": "fp32", "float16": "fp16"}
"""Not codes in eight bits: a plan does not tell their step."""


class TensorrtTiles(TileEngine):
    """Runs a plan whose metadata say that it may run here.

    It makes no CUDA call of its own: memory and streams are the caller's.

    Args:
        path: Path of the TensorRT plan. Its metadata (.json) must be in the same folder.
        library: Library to run it with; None loads the one that it was built with.
        gpu: GPU of this machine; None asks the driver.

    Raises:
        ArtifactError: The plan or its metadata are missing, or it has other bytes than they name.
        EngineError: It was built for another GPU or version, or TensorRT refuses it.
    """

    def __init__(self, path: Path, library: Library | None = None, gpu: Gpu | None = None) -> None:
        metadata, content = read_plan(path)
        settings = metadata.settings
        self._library = library = library or load_library(metadata.library)
        refuse_elsewhere(path, metadata, library.version, gpu or find_gpu())
        library.log.complaints.clear()
        self._runtime = library.trt.Runtime(library.log)  # must outlive the engine
        if settings.version_compatible:  # such a plan brings its own runtime along
            self._runtime.engine_host_code_allowed = True  # its hash was compared just now
        self._engine = self._runtime.deserialize_cuda_engine(content)
        if self._engine is None:
            raise EngineError(
                f"{path}: {library.title} does not load it: {library.cause()}; edgecar build "
                f"{quoted(path)} --rebuild"
            )
        self._context = self._engine.create_execution_context()
        if self._context is None:
            raise EngineError(
                f"{path}: no memory for its activations ({library.cause()}); build it with a "
                "smaller --batch"
            )
        self._names = self._tensors(path)
        reads, writes = map(self._type, self._names)
        shape = (settings.batch, *settings.tile)
        facts = metadata.network
        info = EngineInfo(metadata.library, library.title, facts.precision, shape, "cuda:0")
        super().__init__(info, facts.channels, facts.align_px, reads, writes)
        batch_shape = (settings.batch, self.channels, *settings.tile)
        taken = self._context.set_input_shape(self._names[0], batch_shape)
        if not taken or self._context.infer_shapes():  # the names of those that stay unknown
            raise EngineError(
                f"{path}: {library.title} does not take {batch_shape}; build it again"
            )

    def _tensors(self, path: Path) -> tuple[str, str]:
        """Return the names of input and output."""
        engine, mode = self._engine, self._library.trt.TensorIOMode.INPUT
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        inputs = [name for name in names if engine.get_tensor_mode(name) == mode]
        outputs = [name for name in names if name not in inputs]
        if (len(inputs), len(outputs)) != (1, 1):
            raise EngineError(
                f"{path}: {len(inputs)} input(s) and {len(outputs)} output(s), need one each"
            )
        return inputs[0], outputs[0]

    def _type(self, name: str) -> TileType:
        kind = self._library.trt.nptype(self._engine.get_tensor_dtype(name))
        named = getattr(kind, "__name__", str(kind))
        if named not in TYPES:
            raise EngineError(f"the plan has tensors of {named}, need float32 or float16")
        return TYPES[named]

    def enqueue(self, tiles: int, restored: int, stream: Any) -> None:
        for name, address in zip(self._names, (tiles, restored), strict=True):
            if not self._context.set_tensor_address(name, address):
                raise EngineError(f"{self._library.title} refuses the address of {name}")
        if not self._context.execute_async_v3(getattr(stream, "handle", stream)):
            raise EngineError(f"{self._library.title} failed: {self._library.cause()}")

    def _free(self) -> None:
        self._context = self._engine = self._runtime = None
        super()._free()
