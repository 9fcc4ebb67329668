"""TensorRT plans and the metadata beside them.

A plan stays a raw plan that any tool loads. What it was made from, by what and for what is in
``<plan>.json`` beside it, because a plan runs on one version of TensorRT and one kind of GPU only,
and says so late and in few words. It also holds machine code: one without its metadata, or with
other bytes than they name, is not loaded.
"""

import hashlib
import json
import time
from collections import Counter
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from edgecar.artifact import Artifact
from edgecar.engines.answer import mirrored
from edgecar.engines.base import CODE
from edgecar.engines.gpu import Gpu
from edgecar.engines.select import default_engine, open_engine
from edgecar.engines.targets import LibraryName, Target
from edgecar.engines.trt_build import BuildSettings, Report, build_engine
from edgecar.engines.trt_library import TITLES, Library
from edgecar.engines.trt_lint import refuse_misread_bytes
from edgecar.errors import ArtifactError, EngineError, WindowError
from edgecar.files import atomic_write, cache_folder, quoted
from edgecar.metadata import Metadata, answer_from_table, packed_answer, quality_from_table
from edgecar.spec import Size

FORMAT = 1
SUFFIX = ".plan"


@dataclass(frozen=True)
class PlanMetadata:
    """Metadata of a plan.

    Attributes:
        library: Library that it was built with.
        version: Version of that library.
        target: Name of the target; the file's for one of the user's.
        gpu: GPU that it was built on; empty if there was none.
        compute_capability: Compute capability that it runs on; empty: any from Ampere on.
        cuda: Newest version of CUDA that the driver there ran; empty if there was none.
        board: Jetson that it was built on, with its release; empty elsewhere.
        onnx: Name of the file it was built from, in the same folder.
        onnx_sha256: Hash of that graph with its weights (`onnx_sha256`).
        plan_sha256: Hash of the plan.
        network: Metadata of that file.
        settings: How it was built.
        layers: Number of layers before they were fused.
        inspected: Layers of the plan by type of what they write, and bytes of device memory; None
            where it could not be loaded.
        build_seconds: How long building took.
    """

    library: str
    version: str
    target: str
    gpu: str
    compute_capability: str
    cuda: str
    board: str
    onnx: str
    onnx_sha256: str
    plan_sha256: str
    network: Metadata
    settings: BuildSettings
    layers: int
    inspected: dict[str, Any] | None
    build_seconds: float


@dataclass(frozen=True)
class Plan:
    """A plan that its metadata vouch for."""

    path: Path
    metadata: PlanMetadata
    content: bytes


def plan_path(onnx: Path, target: Target) -> Path:
    """Return the path of the plan of a graph for a target, if no other is given.

    Example:
        >>> from edgecar.engines.targets import target_named
        >>> plan_path(Path("yard/edgecar-s.jpeg.fp16.onnx"), target_named("t4")).as_posix()
        'yard/edgecar-s.jpeg.fp16.t4.plan'
    """
    return onnx.with_name(f"{onnx.stem}.{target.name}{SUFFIX}")


def sidecar_of(plan: Path) -> Path:
    """Return the file with a plan's metadata."""
    return plan.with_name(f"{plan.name}.json")


def onnx_sha256(artifact: Artifact) -> str:
    """Hash of a graph with its weights: the same whether those are in the file or beside it."""
    return hashlib.sha256(artifact.onnx).hexdigest()


def library_of(metadata: PlanMetadata) -> LibraryName:
    """Return the library that a plan was built with."""
    return "tensorrt-rtx" if metadata.library == "tensorrt-rtx" else "tensorrt"


def settings_for(artifact: Artifact, target: Target, **changes: Any) -> BuildSettings:
    """Return the settings with which a graph is built for a target.

    Args:
        artifact: The graph.
        target: The box.
        changes: Fields of `BuildSettings`; None leaves the target's.

    Raises:
        WindowError: The tile does not suit the network.
        EngineError: The target does not take the graph's precision.
    """
    metadata = artifact.metadata
    if metadata.precision not in target.precisions:
        raise EngineError(
            f"{target.name} takes {', '.join(target.precisions)}, the graph is in "
            f"{metadata.precision}; export it with --precision {target.precisions[0]}"
        )
    own = {
        "tile": target.tile,
        "batch": target.batch,
        "workspace_mib": target.workspace_mib,
        "compute_capability": target.compute_capability,
        "precision": metadata.precision,
    }
    given = {key: value for key, value in changes.items() if value is not None}
    settings = BuildSettings(**{**own, **given})
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

    Args:
        artifact: A file that lies in the folder of ``path``.
        path: Path of the plan.
        library: To build with.
        target: To build for.
        settings: How.
        gpu: GPU of this machine; None if there is none, which only TensorRT-RTX builds without.
        report: Told what is being done.

    Raises:
        EngineError: The graph, or a setting, is refused, or this is another GPU than the target's.
    """
    if artifact.path is None:
        raise EngineError("the artifact is in no file to build a plan from; write it to one")
    _refuse_other_box(library, target, gpu)
    refuse_misread_bytes(artifact.onnx)
    kept = _timings(library, gpu)
    timings = kept.read_bytes() if kept.is_file() else b""
    began = time.perf_counter()
    built = build_engine(library, artifact.onnx, settings, timings, report)
    seconds = time.perf_counter() - began
    if built.timing_cache:
        _keep_private(kept, built.timing_cache)
    metadata = PlanMetadata(
        library=library.name,
        version=library.version,
        target=target.name,
        gpu=gpu.name if gpu and not library.is_rtx else "",
        compute_capability=_capability(library, settings, gpu),
        cuda=gpu.cuda if gpu else "",
        board=f"{gpu.board}; {gpu.l4t}" if gpu and gpu.l4t else "",
        onnx=artifact.path.name,
        onnx_sha256=onnx_sha256(artifact),
        plan_sha256=hashlib.sha256(built.plan).hexdigest(),
        network=metadata_at_tile(artifact, settings.tile),
        settings=settings,
        layers=built.layers,
        inspected=inspected(library, built.plan) if gpu else None,
        build_seconds=round(seconds, 3),
    )
    with atomic_write(path) as temporary:
        temporary.write_bytes(built.plan)
    with atomic_write(sidecar_of(path)) as temporary:
        temporary.write_text(json.dumps({"format": FORMAT, **asdict(metadata)}, indent=2) + "\n")
    return metadata


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
        unit = opened.run(mirrored(codes, tile)[None] * CODE)[0, :, :height, :width]
    made = packed_answer(codes, 255 * unit, answer.error_codes2, answer.allowed_db, tile)
    return replace(metadata, known_answer=made)


def read_plan_metadata(path: Path) -> PlanMetadata:
    """Return the metadata beside a plan.

    Raises:
        ArtifactError: They are missing, or not understood.
    """
    sidecar = sidecar_of(path)
    if not sidecar.is_file():
        raise ArtifactError(
            f"{path}: no {sidecar.name} beside it; a plan runs machine code, so only plans with "
            "their metadata are loaded: build it here with edgecar build MODEL.onnx"
        )
    try:
        table = json.loads(sidecar.read_text())
        if table.pop("format") != FORMAT:
            raise ValueError("another format")
        metadata, settings = table["network"], table["settings"]
        quality = metadata["quality"]
        quality = quality_from_table(quality) if quality else None
        stored = metadata.get("known_answer")  # plans built before there was one have none
        answer = answer_from_table(stored) if stored else None
        table["network"] = Metadata(**{**metadata, "quality": quality, "known_answer": answer})
        table["settings"] = BuildSettings(**{**settings, "tile": tuple(settings["tile"])})
        missing = {field.name for field in fields(PlanMetadata)} ^ set(table)
        if missing:
            raise ValueError(f"{min(missing)!r} is missing or unknown")
        return PlanMetadata(**table)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArtifactError(
            f"{sidecar}: not understood ({error}); build the plan again with edgecar build "
            "MODEL.onnx --rebuild"
        ) from error


def read_plan(path: Path) -> Plan:
    """Return a plan with its metadata; `why_not_here` tells if it runs here.

    Raises:
        ArtifactError: It or its metadata are missing, or it has other bytes than they name.
    """
    if not path.is_file():
        raise ArtifactError(f"{path}: no such file; make one with: edgecar build MODEL.onnx")
    metadata = read_plan_metadata(path)
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != metadata.plan_sha256:
        raise ArtifactError(
            f"{path}: other bytes than {sidecar_of(path).name} names (cut off, or replaced); build "
            f"it again with: edgecar build {quoted(path)} --rebuild"
        )
    return Plan(path, metadata, content)


def why_not_here(metadata: PlanMetadata, version: str, gpu: Gpu | None) -> str | None:
    """Return why a plan does not run on this machine, in words; None if it should.

    Args:
        metadata: Metadata of the plan.
        version: Version of the library of that name here.
        gpu: GPU of this machine; None if there is none.
    """
    title = TITLES[library_of(metadata)]
    if metadata.version != version and not metadata.settings.version_compatible:
        return f"it was built with {title} {metadata.version}, this is {version}"
    if gpu is None:
        return "there is no NVIDIA GPU here"
    wanted, got = metadata.compute_capability, gpu.compute_capability
    there = f"{metadata.gpu} ({wanted})" if metadata.gpu else f"compute capability {wanted}"
    if not wanted or metadata.settings.hardware_compatible:
        ampere = float(got) >= 8
        return (
            None if ampere else f"it was built for GPUs from Ampere on, this is {gpu.name} ({got})"
        )
    if wanted != got or (metadata.gpu and metadata.gpu != gpu.name):
        return f"it was built for {there}, this is {gpu.name} ({got})"
    return None


def inspected(library: Library, plan: bytes) -> dict[str, Any] | None:
    """Return what TensorRT's inspector says of a plan; None if it cannot be loaded here."""
    trt = library.trt
    engine = trt.Runtime(library.log).deserialize_cuda_engine(plan)
    if engine is None:
        return None
    inspector = engine.create_engine_inspector()
    described = json.loads(inspector.get_engine_information(trt.LayerInformationFormat.JSON))
    return {
        "layers": layer_types(described),
        "device_memory_bytes": int(getattr(engine, "device_memory_size_v2", 0)),
    }


def layer_types(described: dict[str, Any]) -> dict[str, int]:
    """Return how many layers write which type, from the inspector's description.

    Without detailed verbosity layers are mere names, of an unknown type.

    Example:
        >>> layer_types({"Layers": [{"Outputs": [{"Format/Datatype": "Half"}]}, "Reformat"]})
        {'Half': 1, 'unknown': 1}
    """
    counts: Counter[str] = Counter()
    for layer in described.get("Layers", []):
        outputs = layer.get("Outputs") if isinstance(layer, dict) else None
        first = outputs[0] if outputs else {}
        counts[first.get("Format/Datatype") or first.get("Datatype") or "unknown"] += 1
    return dict(sorted(counts.items()))


def _refuse_other_box(library: Library, target: Target, gpu: Gpu | None) -> None:
    """TensorRT times kernels on the GPU at hand: it builds for that one only."""
    if library.is_rtx:
        return
    if gpu is None:
        raise EngineError(
            f"{library.title} builds on the GPU that will run the plan, and there is none here; "
            f"run this on the {target.name} itself"
        )
    if target.compute_capability not in ("", gpu.compute_capability):
        raise EngineError(
            f"target {target.name} has compute capability {target.compute_capability}, this is "
            f"{gpu.name} ({gpu.compute_capability}); run this on the {target.name} itself"
        )


def _capability(library: Library, settings: BuildSettings, gpu: Gpu | None) -> str:
    return settings.compute_capability if library.is_rtx or gpu is None else gpu.compute_capability


def _timings(library: Library, gpu: Gpu | None) -> Path:
    """The file of timings on this kind of GPU."""
    name = "".join(c if c.isalnum() else "-" for c in gpu.name.lower()) if gpu else "none"
    return cache_folder("engines", f"{library.name}-{library.version}-{name}.timings")


def _keep_private(path: Path, content: bytes) -> None:
    with suppress(OSError):  # a build without them takes longer and gives the same
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with atomic_write(path) as temporary:
            temporary.write_bytes(content)
