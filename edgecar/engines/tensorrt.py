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
from edgecar.spec import QUANTISER

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
        facts = metadata.network
        self._picture, self._restored = self._tensors(path, facts.takes_quantiser)
        reads, writes = map(self._type, (self._picture, self._restored))
        shape = (settings.batch, *settings.tile)
        info = EngineInfo(metadata.library, library.title, facts.precision, shape, "cuda:0")
        told = facts.takes_quantiser
        super().__init__(info, facts.channels, facts.align_px, reads, writes, told)
        batch_shape = (settings.batch, self.channels, *settings.tile)
        taken = self._context.set_input_shape(self._picture, batch_shape) and (
            not told or self._context.set_input_shape(QUANTISER, (settings.batch,))
        )
        if not taken or self._context.infer_shapes():  # the names of those that stay unknown
            raise EngineError(
                f"{path}: {library.title} does not take {batch_shape}; build it again"
            )

    def _tensors(self, path: Path, told: bool) -> tuple[str, str]:
        """Return the names of the picture and of the output."""
        engine, mode = self._engine, self._library.trt.TensorIOMode.INPUT
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        inputs = [name for name in names if engine.get_tensor_mode(name) == mode]
        outputs = [name for name in names if name not in inputs]
        pictures = [name for name in inputs if name != QUANTISER]
        if (len(pictures), len(outputs)) != (1, 1) or (QUANTISER in inputs) != told:
            wanted = f"a picture and {QUANTISER!r}" if told else "a picture"
            raise EngineError(
                f"{path}: the plan has inputs {inputs} and outputs {outputs}, its metadata say "
                f"{wanted} and one output; build it again"
            )
        if told and self._type(QUANTISER) != "fp32":
            raise EngineError(f"{path}: {QUANTISER!r} is not float32; build it again")
        return pictures[0], outputs[0]

    def _type(self, name: str) -> TileType:
        kind = self._library.trt.nptype(self._engine.get_tensor_dtype(name))
        named = getattr(kind, "__name__", str(kind))
        if named not in TYPES:
            raise EngineError(f"the plan has tensors of {named}, need float32 or float16")
        return TYPES[named]

    def enqueue(self, tiles: int, quantisers: int, restored: int, stream: Any) -> None:
        addresses = {self._picture: tiles, self._restored: restored}
        if self.takes_quantiser:
            addresses[QUANTISER] = quantisers
        for name, address in addresses.items():
            if not self._context.set_tensor_address(name, address):
                raise EngineError(f"{self._library.title} refuses the address of {name}")
        if not self._context.execute_async_v3(getattr(stream, "handle", stream)):
            raise EngineError(f"{self._library.title} failed: {self._library.cause()}")

    def _free(self) -> None:
        self._context = self._engine = self._runtime = None
        super()._free()
