"""TensorRT plans on tiles in device memory; TensorRT-RTX is the same with another library."""

from pathlib import Path
from typing import Any

from edgecar.engines.base import EngineInfo
from edgecar.engines.gpu import Gpu, find_gpu
from edgecar.engines.plan import Plan, library_of, read_plan, why_not_here
from edgecar.engines.tiles import TileEngine, TileType
from edgecar.engines.trt_library import Library, load_library
from edgecar.errors import EngineError
from edgecar.files import quoted


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
        plan = read_plan(path)
        library = library or load_library(library_of(plan.metadata))
        reason = why_not_here(plan.metadata, library.version, gpu or find_gpu())
        if reason:
            raise EngineError(
                f"{path} does not run here: {reason}; edgecar build {quoted(path)} --rebuild"
            )
        self._library = library
        self._load(plan)
        self._names = self._tensors(plan)
        metadata, settings = plan.metadata, plan.metadata.settings
        info = EngineInfo(
            name=metadata.library,
            provider=library.title,
            precision=metadata.network.precision,
            shape=(settings.batch, *settings.tile),
            device="cuda:0",
        )
        super().__init__(
            info,
            metadata.network.channels,
            metadata.network.align_px,
            reads=self._type(self._names[0]),
            writes=self._type(self._names[1]),
            capturable=True,
        )
        shape = (settings.batch, self.channels, *settings.tile)
        if not self._context.set_input_shape(self._names[0], shape):
            raise EngineError(f"{path}: {library.title} does not take {shape}; build it again")
        if self._context.infer_shapes():
            raise EngineError(f"{path}: shapes stay unknown to {library.title}; build it again")

    def _load(self, plan: Plan) -> None:
        trt, log = self._library.trt, self._library.log
        log.quiet()
        if plan.metadata.settings.version_compatible:
            # Such a plan brings its own runtime along; its hash was compared just now.
            self._runtime = trt.Runtime(log)
            self._runtime.engine_host_code_allowed = True
        else:
            self._runtime = trt.Runtime(log)  # must outlive the engine
        self._engine = self._runtime.deserialize_cuda_engine(plan.content)
        if self._engine is None:
            cause = self._library.cause("it does not say why")
            raise EngineError(
                f"{plan.path}: {self._library.title} does not load it: {cause}; edgecar build "
                f"{plan.path} --rebuild"
            )
        self._context = self._engine.create_execution_context()
        if self._context is None:
            raise EngineError(
                f"{plan.path}: no memory for its activations "
                f"({self._library.cause('it does not say why')}); build it with a smaller --batch"
            )

    def _tensors(self, plan: Plan) -> tuple[str, str]:
        """Names of input and output."""
        engine, mode = self._engine, self._library.trt.TensorIOMode.INPUT
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        inputs = [name for name in names if engine.get_tensor_mode(name) == mode]
        outputs = [name for name in names if name not in inputs]
        if (len(inputs), len(outputs)) != (1, 1):
            raise EngineError(
                f"{plan.path}: {len(inputs)} input(s) and {len(outputs)} output(s), need one each"
            )
        return inputs[0], outputs[0]

    def _type(self, name: str) -> TileType:
        """Return the type of a tensor, in our words."""
        kind = self._library.trt.nptype(self._engine.get_tensor_dtype(name))
        words: dict[str, TileType] = {"float32": "fp32", "float16": "fp16", "int8": "int8"}
        named = getattr(kind, "__name__", str(kind))
        if named not in words:
            raise EngineError(f"the plan has tensors of {named}, need float32, float16 or int8")
        return words[named]

    def enqueue(self, tiles: int, restored: int, stream: Any) -> None:
        context = self._context
        for name, address in zip(self._names, (tiles, restored), strict=True):
            if not context.set_tensor_address(name, address):
                raise EngineError(f"{self._library.title} refuses the address of {name}")
        if not context.execute_async_v3(getattr(stream, "handle", stream)):
            cause = self._library.cause("it does not say why")
            raise EngineError(f"{self._library.title} failed: {cause}")

    def _unload(self) -> None:
        self._context = self._engine = self._runtime = None
