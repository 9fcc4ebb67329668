"""TensorRT plans and the metadata beside them.

A plan stays a raw plan that any tool loads. What it was made from, by what and for what is in
``<plan>.json`` beside it, because a plan runs on one version of TensorRT and one kind of GPU only,
and says so late and in few words. It also holds machine code: one without its metadata, or with
other bytes than they name, is not loaded.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from edgecar.artifact import Artifact
from edgecar.engines.gpu import Gpu
from edgecar.engines.targets import LIBRARIES, LibraryName, Target
from edgecar.engines.trt_library import TITLES
from edgecar.errors import ArtifactError, EngineError
from edgecar.files import atomic_write, quoted
from edgecar.metadata import Metadata, answer_from_table, quality_from_table
from edgecar.spec import Precision, Size

FORMAT = 1
SUFFIX = ".plan"


@dataclass(frozen=True)
class BuildSettings:
    """How a plan is built."""

    tile: Size  # (height, width) that the engine reads
    batch: int  # tiles at a time; with `any_batch` the most of them
    workspace_mib: int  # scratch memory that may be planned with
    any_batch: bool = False  # take from one tile to `batch`, and be fastest with `batch`
    level: int = 3  # effort from 0 to 5; TensorRT's own default
    # To build for; TensorRT-RTX only. Empty: TensorRT builds for the GPU here, TensorRT-RTX one
    # plan for every card from Ampere on.
    compute_capability: str = ""
    precision: Precision = "fp32"  # of the graph
    weakly_typed: bool = False  # let TensorRT choose types, as 10.x may do
    version_compatible: bool = False  # the plan also loads in later versions of TensorRT
    hardware_compatible: bool = False  # the plan also loads on other GPUs from Ampere on
    dla_core: int | None = None  # deep learning accelerator to run on; None is the GPU
    detailed: bool = False  # keep what the inspector needs to name every layer's type


@dataclass(frozen=True)
class PlanMetadata:
    """Source, maker and purpose of a plan."""

    library: LibraryName
    version: str  # of the library
    target: str  # name of the target file
    gpu: str  # that it was built on; empty if there was none
    compute_capability: str  # that it runs on; empty: any from Ampere on
    cuda: str  # newest version that the driver there ran; empty if there was none
    board: str  # Jetson that it was built on, with its release; empty elsewhere
    onnx: str  # name of the file it was built from, in the same folder
    onnx_sha256: str  # of that graph with its weights
    plan_sha256: str  # of the plan
    network: Metadata  # of that file
    settings: BuildSettings
    layers: int  # before they were fused
    # Layers by type of what they write, and bytes of memory; None where it could not be loaded.
    inspected: dict[str, Any] | None
    build_seconds: float


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


def save_plan(path: Path, metadata: PlanMetadata, content: bytes) -> None:
    """Write a plan with its metadata."""
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)
    with atomic_write(sidecar_of(path)) as temporary:
        temporary.write_text(json.dumps({"format": FORMAT, **asdict(metadata)}, indent=2) + "\n")


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
        if table.pop("format") != FORMAT or table["library"] not in LIBRARIES:
            raise ValueError("another format or library")
        facts, settings = table["network"], table["settings"]
        quality, answer = facts["quality"], facts.get("known_answer")  # older ones have none
        facts["quality"] = quality_from_table(quality) if quality else None
        facts["known_answer"] = answer_from_table(answer) if answer else None
        table["network"] = Metadata(**facts)
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


def read_plan(path: Path) -> tuple[PlanMetadata, bytes]:
    """Return a plan's metadata and its bytes; `why_not_here` tells if it runs here.

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
    return metadata, content


def why_not_here(metadata: PlanMetadata, version: str, gpu: Gpu | None) -> str | None:
    """Return why a plan does not run with a version of its library on a GPU; None if it should."""
    settings, wanted = metadata.settings, metadata.compute_capability
    if metadata.version != version and not settings.version_compatible:
        return f"it was built with {TITLES[metadata.library]} {metadata.version}, this is {version}"
    if gpu is None:
        return "there is no NVIDIA GPU here"
    if not wanted or settings.hardware_compatible:
        runs, there = float(gpu.compute_capability) >= 8, "GPUs from Ampere on"
    else:
        runs = wanted == gpu.compute_capability and metadata.gpu in ("", gpu.name)
        there = f"{metadata.gpu} ({wanted})" if metadata.gpu else f"compute capability {wanted}"
    here = f"{gpu.name} ({gpu.compute_capability})"
    return None if runs else f"it was built for {there}, this is {here}"


def refuse_elsewhere(path: Path, metadata: PlanMetadata, version: str, gpu: Gpu | None) -> None:
    """Raise EngineError if a plan does not run on this machine (`why_not_here`)."""
    reason = why_not_here(metadata, version, gpu)
    if reason:
        raise EngineError(
            f"{path} does not run here: {reason}; edgecar build {quoted(path)} --rebuild"
        )
