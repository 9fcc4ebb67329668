"""An ONNX graph to a TensorRT plan."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgecar.engines.trt_library import Library
from edgecar.errors import EngineError
from edgecar.spec import Precision, Size

if TYPE_CHECKING:
    from onnx import ModelProto

Report = Callable[[str], None]
"""Called with what is being done."""

BUILDER_LEVEL = 3  # of 0 to 5; TensorRT's own default
LOWER: dict[Precision, tuple[str, ...]] = {"fp16": ("FP16",), "int8": ("INT8", "FP16")}
"""Flags without which a network that is not strongly typed stays in FP32."""


@dataclass(frozen=True)
class BuildSettings:
    """How a plan is built.

    Attributes:
        tile: ``(height, width)`` that the engine reads.
        batch: Tiles at a time; with ``any_batch`` the most of them.
        any_batch: Take from one tile to ``batch``, and be fastest with ``batch``.
        workspace_mib: Scratch memory that may be planned with.
        level: Effort from 0 to 5.
        compute_capability: To build for; TensorRT-RTX only. Empty: TensorRT builds for the GPU
            here, TensorRT-RTX one plan for every card from Ampere on.
        precision: Precision of the graph.
        weakly_typed: Let TensorRT choose types, as 10.x may do.
        version_compatible: The plan also loads in later versions of TensorRT.
        hardware_compatible: The plan also loads on other GPUs from Ampere on.
        dla_core: Deep learning accelerator to run on; None is the GPU.
        detailed: Keep what the inspector needs to name every layer's type.
    """

    tile: Size
    batch: int
    workspace_mib: int
    any_batch: bool = False
    level: int = BUILDER_LEVEL
    compute_capability: str = ""
    precision: Precision = "fp32"
    weakly_typed: bool = False
    version_compatible: bool = False
    hardware_compatible: bool = False
    dla_core: int | None = None
    detailed: bool = False


@dataclass(frozen=True)
class Built:
    """Outcome of a build.

    Attributes:
        plan: Bytes of the plan.
        layers: Number of layers before they were fused.
        timing_cache: To build the next plan sooner; empty with TensorRT-RTX, which times nothing.
    """

    plan: bytes
    layers: int
    timing_cache: bytes


def build_engine(
    library: Library,
    onnx_bytes: bytes,
    settings: BuildSettings,
    timing_cache: bytes = b"",
    report: Report = lambda _what: None,
) -> Built:
    """Build a plan.

    Args:
        library: To build with.
        onnx_bytes: A graph with one input ``(N, C, H, W)`` and one output of that shape.
        settings: How.
        timing_cache: Cache of an earlier build; one of another GPU or version is not used.
        report: Told what is being done.

    Raises:
        EngineError: The graph, or a setting, is refused.
    """
    trt = library.trt
    library.log.quiet()
    fixed = with_tile(onnx_bytes, settings)
    try:
        builder = trt.Builder(library.log)
    except (RuntimeError, TypeError) as error:  # without a GPU, pybind has nothing to return
        cause = library.cause(str(error))
        raise EngineError(f"{library.title} cannot build here: {cause}") from error
    network = builder.create_network(_network_flags(trt, settings))
    parser = trt.OnnxParser(network, library.log)  # must live until the plan is built
    if not parser.parse(fixed.SerializeToString()):
        raise EngineError(f"{library.title} cannot read the graph: {_first_error(parser)}")
    config = builder.create_builder_config()
    _configure(library, config, settings)
    _place(library, builder, config, settings)
    cache = _use_timing_cache(library, config, timing_cache)
    if settings.any_batch:
        _add_profile(builder, config, fixed, settings)
    if hasattr(config, "progress_monitor"):
        config.progress_monitor = _monitor(trt, report)
    plan = builder.build_serialized_network(network, config)  # None says no, without an exception
    if plan is None:
        raise EngineError(_no_plan(library, settings))
    return Built(
        bytes(plan),
        network.num_layers,
        b"" if cache is None else bytes(config.get_timing_cache().serialize()),
    )


def _no_plan(library: Library, settings: BuildSettings) -> str:
    cause = library.cause("it does not say why")
    if "OutOfMemory" not in cause:
        return f"{library.title} built no plan: {cause}"
    height, width = settings.tile
    return (
        f"{library.title} needs more scratch memory than {settings.workspace_mib} MiB for "
        f"{settings.batch} tile(s) of {width}x{height} px at a time; use a smaller --batch "
        "or --tile, or a larger --workspace-mib"
    )


def with_tile(onnx_bytes: bytes, settings: BuildSettings) -> "ModelProto":
    """The graph for one tile shape: shapes that are known need no arithmetic when it runs.

    Raises:
        EngineError: It is no such graph.
    """
    import onnx

    try:
        model = onnx.load_model_from_string(onnx_bytes)
        (picture,), (restored,) = model.graph.input, model.graph.output
        for value in (picture, restored):
            batch, _, height, width = value.type.tensor_type.shape.dim
            height.dim_value, width.dim_value = settings.tile
            if settings.any_batch:
                batch.dim_param = "batch"
            else:
                batch.dim_value = settings.batch
        del model.graph.value_info[:]
        return onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    except Exception as error:  # protobuf's own classes are private to its implementation
        cause = " ".join(str(error).split())[:200] or type(error).__name__
        height, width = settings.tile
        raise EngineError(
            f"not a graph from pictures to pictures of {height}x{width} px: {cause}"
        ) from error


def _network_flags(trt: Any, settings: BuildSettings) -> int:
    if settings.weakly_typed:
        return 0
    return 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)


def _configure(library: Library, config: Any, settings: BuildSettings) -> None:
    """Apply the settings that do not depend on the GPU."""
    trt = library.trt
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, settings.workspace_mib << 20)
    config.builder_optimization_level = settings.level
    if settings.detailed:
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if settings.precision == "fp32":
        config.clear_flag(trt.BuilderFlag.TF32)  # on by default: ten bits of mantissa
    if settings.weakly_typed:
        for name in LOWER.get(settings.precision, ()):
            if not hasattr(trt.BuilderFlag, name):
                raise EngineError(
                    f"{library.title} has no weak typing; leave --weakly-typed out, the graph says "
                    "its types itself"
                )
            config.set_flag(getattr(trt.BuilderFlag, name))
    if settings.version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    if settings.hardware_compatible:
        if library.is_rtx:
            raise EngineError(
                "TensorRT-RTX needs no --hardware-compatible: leave it out and take --target rtx"
            )
        config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.AMPERE_PLUS


def _place(library: Library, builder: Any, config: Any, settings: BuildSettings) -> None:
    """Choose what the plan is to run on."""
    trt = library.trt
    if library.is_rtx and settings.compute_capability:
        name = f"SM{settings.compute_capability.replace('.', '')}"
        known = [entry for entry in trt.ComputeCapability.__members__ if entry.startswith("SM")]
        if name not in known:
            raise EngineError(
                f"{library.title} builds for {', '.join(known)}, not {name}; build with --library "
                "tensorrt on that box"
            )
        config.num_compute_capabilities = 1
        config.set_compute_capability(getattr(trt.ComputeCapability, name), 0)
    if settings.dla_core is not None:
        cores = getattr(builder, "num_DLA_cores", 0)
        if settings.dla_core >= cores:
            raise EngineError(
                f"{library.title} sees {cores} DLA core(s) here, asked for number "
                f"{settings.dla_core}; leave --dla out to build for the GPU"
            )
        config.default_device_type = trt.DeviceType.DLA
        config.DLA_core = settings.dla_core
        config.set_flag(trt.BuilderFlag.GPU_FALLBACK)


def _use_timing_cache(library: Library, config: Any, content: bytes) -> Any:
    """The cache in use; None where there are no timings to keep."""
    if library.is_rtx:
        return None
    cache = config.create_timing_cache(content)
    if not config.set_timing_cache(cache, ignore_mismatch=False):
        cache = config.create_timing_cache(b"")  # of another GPU or version
        config.set_timing_cache(cache, ignore_mismatch=False)
    return cache


def _add_profile(builder: Any, config: Any, model: "ModelProto", settings: BuildSettings) -> None:
    picture = model.graph.input[0]
    channels = picture.type.tensor_type.shape.dim[1].dim_value
    shapes = [(batch, channels, *settings.tile) for batch in (1, settings.batch, settings.batch)]
    profile = builder.create_optimization_profile()
    profile.set_shape(picture.name, *shapes)
    if config.add_optimization_profile(profile) < 0:
        raise EngineError(f"TensorRT refuses batches from 1 to {settings.batch}")


def _monitor(trt: Any, report: Report) -> Any:
    """Passes on the phases and steps of a build."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self._steps: dict[str, int] = {}

        def phase_start(self, phase_name: str, _parent: str | None, num_steps: int) -> None:
            self._steps[phase_name] = num_steps
            report(phase_name)

        def step_complete(self, phase_name: str, step: int) -> bool:
            report(f"{phase_name}, step {step + 1} of {self._steps.get(phase_name, step + 1)}")
            return True  # False would cancel the build

        def phase_finish(self, phase_name: str) -> None:
            self._steps.pop(phase_name, None)

    return Monitor()


def _first_error(parser: Any) -> str:
    errors = [parser.get_error(index) for index in range(parser.num_errors)]
    return " ".join(errors[0].desc().split())[:300] if errors else "it does not say why"
