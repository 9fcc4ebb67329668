"""An ONNX graph to a TensorRT plan with its metadata."""

import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgecar.artifact import Artifact
from edgecar.engines.answer import mirrored
from edgecar.engines.base import CODE, one_line
from edgecar.engines.gpu import Gpu
from edgecar.engines.plan import BuildSettings, PlanMetadata, onnx_sha256, save_plan
from edgecar.engines.select import default_engine, open_engine
from edgecar.engines.targets import Target
from edgecar.engines.trt_library import Library
from edgecar.engines.trt_lint import refuse_misread_bytes
from edgecar.errors import EngineError, OutputError, WindowError
from edgecar.files import atomic_write, cache_folder
from edgecar.metadata import Metadata, packed_answer
from edgecar.spec import QUANTISER, Precision, Size

if TYPE_CHECKING:
    from onnx import ModelProto

Report = Callable[[str], None]
"""Called with what is being done."""

LOWER: dict[Precision, tuple[str, ...]] = {"fp16": ("FP16",), "int8": ("INT8", "FP16")}
"""Flags without which a network that is not strongly typed stays in FP32."""


def settings_for(artifact: Artifact, target: Target, **changes: Any) -> BuildSettings:
    """Return the target's settings for a graph, with changes that are not None."""
    metadata = artifact.metadata
    if metadata.precision not in target.precisions:
        raise EngineError(
            f"{target.name} takes {', '.join(target.precisions)}, the graph is in "
            f"{metadata.precision}; export it with --precision {target.precisions[0]}"
        )
    given = {
        "compute_capability": target.compute_capability,
        "precision": metadata.precision,
        **{key: value for key, value in changes.items() if value is not None},
    }
    settings = replace(BuildSettings(target.tile, target.batch, target.workspace_mib), **given)
    least = 2 * metadata.halo_px + metadata.align_px
    for side in settings.tile:
        if side % metadata.align_px or side < least:
            raise WindowError(
                f"tile {settings.tile[1]}x{settings.tile[0]} px, {metadata.model} needs sides that "
                f"are multiples of {metadata.align_px} px and at least {least} px; give --tile "
                "WIDTHxHEIGHT"
            )
    return settings


def write_plan(
    artifact: Artifact,
    path: Path,
    library: Library,
    target: Target,
    settings: BuildSettings,
    gpu: Gpu | None,
    report: Report = lambda _what: None,
) -> PlanMetadata:
    """Build a plan and write it with its metadata; nothing is written if that fails.

    The artifact must lie in the folder of ``path``. Only TensorRT-RTX builds without a GPU.
    """
    if artifact.path is None:
        raise EngineError("the artifact is in no file to build a plan from; write it to one")
    if not library.is_rtx:
        _refuse_other_box(library, target, gpu)
    refuse_misread_bytes(artifact.onnx)
    measured = gpu is not None and not library.is_rtx  # else any GPU of the capability runs it
    capability = gpu.compute_capability if gpu and measured else settings.compute_capability
    kind = "".join(c if c.isalnum() else "-" for c in gpu.name.lower()) if gpu else "none"
    timings = cache_folder("engines", f"{library.name}-{library.version}-{kind}.timings")
    began = time.perf_counter()
    plan, layers = build_engine(library, artifact.onnx, settings, timings, report)
    seconds = round(time.perf_counter() - began, 3)
    metadata = PlanMetadata(
        library=library.name,
        version=library.version,
        target=target.name,
        gpu=gpu.name if gpu and measured else "",
        compute_capability=capability,
        cuda=gpu.cuda if gpu else "",
        board=f"{gpu.board}; {gpu.l4t}" if gpu and gpu.l4t else "",
        onnx=artifact.path.name,
        onnx_sha256=onnx_sha256(artifact),
        plan_sha256=hashlib.sha256(plan).hexdigest(),
        network=metadata_at_tile(artifact, settings.tile),
        settings=settings,
        layers=layers,
        inspected=_inspected(library, plan) if gpu else None,
        build_seconds=seconds,
    )
    save_plan(path, metadata, plan)
    return metadata


def _refuse_other_box(library: Library, target: Target, gpu: Gpu | None) -> None:
    """Raise EngineError unless the target's GPU is here: TensorRT times kernels on it."""
    if gpu is None:
        wrong = f"{library.title} builds on the GPU that will run the plan, and there is none here"
    elif target.compute_capability not in ("", gpu.compute_capability):
        wrong = (
            f"target {target.name} has compute capability {target.compute_capability}, this is "
            f"{gpu.name} ({gpu.compute_capability})"
        )
    else:
        return
    raise EngineError(f"{wrong}; run this on the {target.name} itself")


def metadata_at_tile(artifact: Artifact, tile: Size) -> Metadata:
    """Return an artifact's metadata with a known answer that a plan of one tile can reproduce.

    A network that pools over its whole input gives another output in each tile: it is computed
    here, on the CPU, by an engine that passed the artifact's own check.
    """
    metadata, answer = artifact.metadata, artifact.metadata.known_answer
    if answer is None or metadata.context == "local":
        return metadata
    name = "onnxruntime" if find_spec("onnxruntime") else default_engine()
    codes = answer.codes()
    height, width = codes.shape[1:]
    with open_engine(artifact, name) as opened:
        told = None if answer.quantiser is None else [answer.quantiser]
        unit = opened.run(mirrored(codes, tile)[None] * CODE, told)[0, :, :height, :width]
    made = packed_answer(
        *(codes, 255 * unit, answer.error_codes2, answer.allowed_db, tile, answer.quantiser)
    )
    return replace(metadata, known_answer=made)


def _inspected(library: Library, plan: bytes) -> dict[str, Any] | None:
    """Return what TensorRT's inspector says of a plan; None if it cannot be loaded here."""
    trt = library.trt
    engine = trt.Runtime(library.log).deserialize_cuda_engine(plan)
    if engine is None:
        return None
    inspector = engine.create_engine_inspector()
    described = json.loads(inspector.get_engine_information(trt.LayerInformationFormat.JSON))
    kinds: Counter[str] = Counter()
    for layer in described.get("Layers", []):  # mere names without detailed verbosity
        outputs = layer.get("Outputs") if isinstance(layer, dict) else None
        first = outputs[0] if outputs else {}
        kinds[first.get("Format/Datatype") or first.get("Datatype") or "unknown"] += 1
    memory = int(getattr(engine, "device_memory_size_v2", 0))
    return {"layers": dict(sorted(kinds.items())), "device_memory_bytes": memory}


def build_engine(
    library: Library,
    onnx_bytes: bytes,
    settings: BuildSettings,
    timings: Path | None = None,
    report: Report = lambda _what: None,
) -> tuple[bytes, int]:
    """Return a plan, and the number of layers before they were fused.

    Timings of kernels are kept in a file, so that the next plan is built sooner.
    """
    trt = library.trt
    library.log.complaints.clear()
    model = with_tile(onnx_bytes, settings)
    try:
        builder = trt.Builder(library.log)
    except (RuntimeError, TypeError) as error:  # without a GPU, pybind has nothing to return
        cause = library.cause(str(error))
        raise EngineError(f"{library.title} cannot build here: {cause}") from error
    typed = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network = builder.create_network(0 if settings.weakly_typed else typed)
    parser = trt.OnnxParser(network, library.log)  # must live until the plan is built
    if not parser.parse(model.SerializeToString()):
        said = parser.get_error(0).desc() if parser.num_errors else "it does not say why"
        raise EngineError(f"{library.title} cannot read the graph: {' '.join(said.split())[:300]}")
    config = _configured(library, builder, settings)
    if settings.any_batch:
        sizes = (1, settings.batch, settings.batch)  # least, best and most
        profile = builder.create_optimization_profile()
        for value in model.graph.input:
            rest = [dim.dim_value for dim in value.type.tensor_type.shape.dim[1:]]
            profile.set_shape(value.name, *((size, *rest) for size in sizes))
        if config.add_optimization_profile(profile) < 0:
            raise EngineError(f"{library.title} refuses batches from 1 to {settings.batch}")
    if hasattr(config, "progress_monitor"):
        config.progress_monitor = _monitor(trt, report)
    kept = None if library.is_rtx else timings  # which times nothing
    if kept:
        _read_timings(config, kept)
    plan = builder.build_serialized_network(network, config)  # None says no, without an exception
    if plan is None:
        cause, (height, width) = library.cause(), settings.tile
        if "OutOfMemory" not in cause and "workspace size" not in cause:
            raise EngineError(f"{library.title} built no plan: {cause}")
        raise EngineError(
            f"{library.title} needs more scratch memory than {settings.workspace_mib} MiB for "
            f"{settings.batch} tile(s) of {width}x{height} px at a time; use a smaller --batch "
            "or --tile, or a larger --workspace-mib"
        )
    if kept:
        _keep_timings(config, kept)
    return bytes(plan), network.num_layers


def with_tile(onnx_bytes: bytes, settings: BuildSettings) -> "ModelProto":
    """Return the graph for one tile shape: known shapes need no arithmetic when it runs."""
    import onnx

    try:
        model = onnx.load_model_from_string(onnx_bytes)
        (_, *told), (_,) = model.graph.input, model.graph.output
        if [value.name for value in told] not in ([], [QUANTISER]):
            raise ValueError(f"its second input must be {QUANTISER!r}")
        for value in (*model.graph.input, *model.graph.output):
            batch, *sides = value.type.tensor_type.shape.dim
            if value.name != QUANTISER:
                _, height, width = sides
                height.dim_value, width.dim_value = settings.tile
            if settings.any_batch:
                batch.dim_param = "batch"
            else:
                batch.dim_value = settings.batch
        del model.graph.value_info[:]
        return onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    except Exception as error:  # protobuf's own classes are private to its implementation
        height, width = settings.tile
        raise EngineError(
            f"not a graph from pictures to pictures of {height}x{width} px: {one_line(error)}"
        ) from error


def _configured(library: Library, builder: Any, settings: BuildSettings) -> Any:
    """Return a configuration of the builder with all settings but the tile and batch."""
    trt, config = library.trt, builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, settings.workspace_mib << 20)
    config.builder_optimization_level = settings.level
    if settings.detailed:
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if settings.precision == "fp32":
        config.clear_flag(trt.BuilderFlag.TF32)  # on by default: ten bits of mantissa
    for name in LOWER.get(settings.precision, ()) if settings.weakly_typed else ():
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
    return config


def _read_timings(config: Any, file: Path) -> None:
    cache = config.create_timing_cache(file.read_bytes() if file.is_file() else b"")
    if not config.set_timing_cache(cache, ignore_mismatch=False):  # of another GPU or version
        config.set_timing_cache(config.create_timing_cache(b""), ignore_mismatch=False)


def _keep_timings(config: Any, file: Path) -> None:
    with suppress(OSError, OutputError):  # a build without them takes longer and gives the same
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with atomic_write(file) as temporary:
            temporary.write_bytes(bytes(config.get_timing_cache().serialize()))


def _monitor(trt: Any, report: Report) -> Any:
    """Return an object that passes on the phases and steps of a build."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        def phase_start(self, phase: str, _parent: str | None, steps: int) -> None:
            report(f"{phase}, {steps} steps")

        def step_complete(self, phase: str, step: int) -> bool:
            report(f"{phase}, step {step + 1}")
            return True  # False would cancel the build

        def phase_finish(self, phase: str) -> None:
            pass

    return Monitor()
