"""``edgecar build``: an artifact to a TensorRT plan."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from edgecar.artifact import Artifact, find_artifact, is_artifact_path, read_artifact
from edgecar.cli.output import (
    Codec,
    Json,
    check_files,
    next_step,
    print_json,
    size_named,
    status_line,
    stdout,
)
from edgecar.engines.accelerator import gpu_here
from edgecar.engines.gpu import Gpu
from edgecar.engines.plan import (
    SUFFIX,
    BuildSettings,
    PlanMetadata,
    onnx_sha256,
    plan_path,
    read_plan,
    read_plan_metadata,
    refuse_elsewhere,
    sidecar_of,
    why_not_here,
)
from edgecar.engines.targets import LibraryName, Target, own_target, target_named, target_of
from edgecar.engines.trt_build import Report, settings_for, write_plan
from edgecar.engines.trt_library import TITLES, Library, load_library
from edgecar.errors import ArtifactError, EdgecarError, EngineError, ExportError
from edgecar.files import atomic_write, quoted
from edgecar.spec import Precision


def command(
    model: Annotated[str, typer.Argument(help="An .onnx file, a network's name, or a .plan.")],
    target: Annotated[
        str, typer.Option(help="Box that will run it (engines/targets), or a .toml; auto: this.")
    ] = "auto",
    precision: Annotated[
        Precision | None, typer.Option(help="Precision to export in first; default: the graph's.")
    ] = None,
    library: Annotated[
        LibraryName | None, typer.Option(help="Library to build with; default: the target's.")
    ] = None,
    tile: Annotated[str | None, typer.Option(help="Tile WIDTHxHEIGHT, not the target's.")] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Tiles at a time.")] = None,
    any_batch: Annotated[
        bool, typer.Option("--any-batch", help="Take any number of tiles up to --batch.")
    ] = False,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Name of the .plan.")
    ] = None,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Build a .plan again here.")] = False,
    codec: Codec = "jpeg",
    workspace_mib: Annotated[int | None, typer.Option(min=1, help="Scratch memory.")] = None,
    level: Annotated[int | None, typer.Option(min=0, max=5, help="Effort; default: 3.")] = None,
    dla: Annotated[int | None, typer.Option(min=0, help="DLA (Jetson) to run on.")] = None,
    version_compatible: Annotated[
        bool, typer.Option("--version-compatible", help="Let later versions load it; slower.")
    ] = False,
    hardware_compatible: Annotated[
        bool, typer.Option("--hardware-compatible", help="Let GPUs from Ampere on load it; slower.")
    ] = False,
    weakly_typed: Annotated[
        bool, typer.Option("--weakly-typed", help="Let TensorRT 10 choose types.")
    ] = False,
    detailed: Annotated[
        bool, typer.Option("--detailed", help="Let the inspector name the type of every layer.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Build a TensorRT plan, with its metadata in a .json file beside it.

    A plan runs on one version of TensorRT and one kind of GPU. A .plan as MODEL is checked against
    this box, and built again for it with --rebuild.

    Example: edgecar build edgecar-s --target rtx
    """
    gpu, absence = gpu_here()
    changes = {
        "tile": size_named(tile) if tile else None,
        "batch": batch,
        "workspace_mib": workspace_mib,
        "level": level,
        "dla_core": dla,
        "any_batch": any_batch or None,
        "version_compatible": version_compatible or None,
        "hardware_compatible": hardware_compatible or None,
        "weakly_typed": weakly_typed or None,
        "detailed": detailed or None,
    }
    plan = Path(model) if model.endswith(SUFFIX) else None
    if plan and not rebuild:
        metadata, _ = read_plan(plan)
        refuse_elsewhere(plan, metadata, load_library(metadata.library).version, gpu)
        _print(plan, metadata, "fits      this box", as_json)
        return
    before = read_plan_metadata(plan) if plan else None
    if plan and before:  # the same once more, for the box that this is
        model, output, library = str(plan.with_name(before.onnx)), plan, library or before.library
        stored = asdict(before.settings) | {"compute_capability": None, "precision": None}
        changes = {key: stored[key] if changes.get(key) is None else changes[key] for key in stored}
        if target == "auto" and (gpu is None or before.library != "tensorrt"):
            target = before.target
    with status_line("building") as report:
        box = _target(target, gpu, absence)
        loaded = load_library(library or box.library)  # first: without it the rest is in vain
        artifact = read_artifact(find_artifact(model, codec))
        if plan and before and onnx_sha256(artifact) != before.onnx_sha256:
            raise ArtifactError(
                f"{model} is not what {plan.name} was built from; build from it under another "
                f"name: edgecar build {quoted(model)} -o OTHER{SUFFIX}"
            )
        home = Path(model).parent if is_artifact_path(model) else Path()
        if precision not in (None, artifact.metadata.precision):
            artifact = _lowered(artifact, precision, home, report)
        settings = settings_for(artifact, box, **changes)
        artifact = _beside(artifact, output.parent if output else home)
        path = output or plan_path(artifact.path or Path(model), box)
        if path.suffix != SUFFIX:
            raise ArtifactError(f"output {path} is no {SUFFIX} file; name one")
        check_files((path, sidecar_of(path)), (target, *(() if rebuild else (model,))))
        if path.exists() and not rebuild:
            metadata = _current(path, artifact, settings, loaded, gpu)
            _print(path, metadata, f"kept      {path}, which is that already", as_json)
            return
        metadata = write_plan(artifact, path, loaded, box, settings, gpu, report)
    size_mb = path.stat().st_size / 1e6
    _print(path, metadata, f"wrote     {path} ({size_mb:.2f} MB) and its .json", as_json)


def _target(name: str, gpu: Gpu | None, absence: str) -> Target:
    if name != "auto":
        return target_named(name)
    if gpu is None:
        raise EngineError(
            f"no GPU to build for: {absence}; run this on the box that has one, or name an RTX "
            "card's: --target rtx needs none"
        )
    return target_of(gpu) or own_target(gpu)


def _beside(artifact: Artifact, folder: Path) -> Artifact:
    """Return the artifact in a folder, in one file: a plan is built again from it."""
    source = artifact.path or Path(f"{artifact.metadata.model}.onnx")
    copy = folder / source.name
    if not copy.exists():
        with atomic_write(copy) as temporary:
            temporary.write_bytes(artifact.onnx)
    elif read_artifact(copy).onnx != artifact.onnx:
        raise ArtifactError(f"{copy} is not what {source} is; name the one to build from")
    return Artifact(artifact.metadata, artifact.onnx, copy)


def _lowered(
    artifact: Artifact, precision: Precision | None, folder: Path, report: Report
) -> Artifact:
    """Return the artifact in a lower precision: as exported before, else past the gate now."""
    if artifact.metadata.precision != "fp32" or precision not in ("fp16", "int8"):
        raise ExportError(
            f"the graph is in {artifact.metadata.precision} and cannot be made {precision}; export "
            "the checkpoint with --precision, or leave it out here"
        )
    source = artifact.path or Path(f"{artifact.metadata.model}.onnx")
    path = folder / f"{source.stem}.{precision}.onnx"
    if path.exists():
        there = read_artifact(path)
        if there.metadata.weights_sha256 == artifact.metadata.weights_sha256:
            return there
        raise ArtifactError(f"{path} has other weights than {source}; name the one to build from")
    try:
        import onnx

        from edgecar.exporter.lower import Lowering, lowered_artifact
        from edgecar.exporter.recipe import recipe_for
    except ImportError as error:
        raise EdgecarError(
            f"{precision} needs {error.name}, which is not installed; export it elsewhere with "
            f"edgecar export --precision {precision}, or pip install 'edgecar[train]'"
        ) from error
    model = onnx.shape_inference.infer_shapes(onnx.load_model_from_string(artifact.onnx))
    lowering = Lowering(precision, for_engine="tensorrt")
    recipe = recipe_for(artifact.metadata.model)
    made, metadata = lowered_artifact(model, artifact.metadata, lowering, recipe, report)
    return Artifact(metadata, made.SerializeToString(), path)


def _current(
    path: Path, artifact: Artifact, settings: BuildSettings, library: Library, gpu: Gpu | None
) -> PlanMetadata:
    """Return the metadata of a plan that is there already; refuse one that was not asked for."""
    metadata, _ = read_plan(path)
    reason = why_not_here(metadata, library.version, gpu) if gpu else None
    if (metadata.library, metadata.version) != (library.name, library.version):
        built = f"{metadata.library} {metadata.version}"
        reason = f"it was built with {built}, this is {library.version}"
    elif metadata.onnx_sha256 != onnx_sha256(artifact):
        reason = f"it was built from another {metadata.onnx}"
    elif metadata.settings != settings:
        reason = "it was built with other settings"
    if reason:
        raise EngineError(f"{path} is there, and {reason}; add --rebuild to replace it")
    return metadata


def _print(path: Path, metadata: PlanMetadata, outcome: str, as_json: bool) -> None:
    if as_json:
        print_json({"path": str(path), **asdict(metadata)})
        return
    settings, network = metadata.settings, metadata.network
    height, width = settings.tile
    tiles = f"1 to {settings.batch} tiles" if settings.any_batch else f"{settings.batch} tile(s)"
    gpu = metadata.gpu or "any card from Ampere on"
    if metadata.compute_capability and not metadata.gpu:
        gpu = f"compute capability {metadata.compute_capability}"
    kept = f"{width - 2 * network.halo_px}x{height - 2 * network.halo_px}"
    layers = f"{metadata.layers} before fusion"
    if metadata.inspected:
        counts = [f"{count} {kind}" for kind, count in metadata.inspected["layers"].items()]
        memory_mib = metadata.inspected["device_memory_bytes"] / (1 << 20)
        layers += f", then {', '.join(counts)}; {memory_mib:.0f} MiB of activations"
    else:
        layers += "; not inspected, for want of a GPU"
    title = f"{TITLES[metadata.library]} {metadata.version}"
    stdout.print(f"network   {network.model}, {network.precision}, from {metadata.onnx}")
    stdout.print(f"built     by {title} for {metadata.target}: {gpu}")
    stdout.print(f"shape     {tiles} of {width}x{height} px, {kept} of them kept")
    stdout.print(f"layers    {layers}; built in {metadata.build_seconds:.1f} s")
    stdout.print(outcome)
    next_step(
        f"edgecar run INPUT -o OUTPUT --engine {metadata.library} --network {quoted(metadata.onnx)}"
    )
