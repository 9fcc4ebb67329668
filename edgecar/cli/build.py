"""``edgecar build``: an artifact to a TensorRT plan."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

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
from edgecar.engines.gpu import Gpu, find_gpu
from edgecar.engines.plan import (
    SUFFIX,
    PlanMetadata,
    library_of,
    onnx_sha256,
    plan_path,
    read_plan,
    read_plan_metadata,
    settings_for,
    sidecar_of,
    why_not_here,
    write_plan,
)
from edgecar.engines.targets import LibraryName, Target, own_target, target_named, target_of
from edgecar.engines.trt_build import BuildSettings, Report
from edgecar.engines.trt_library import TITLES, load_library
from edgecar.errors import ArtifactError, EdgecarError, EngineError, ExportError
from edgecar.files import atomic_write, quoted
from edgecar.spec import Precision


@dataclass(frozen=True)
class Order:
    """Plan to build: its source, its target and its settings."""

    path: Path
    artifact: Artifact
    target: Target
    library: LibraryName
    settings: BuildSettings


def command(
    model: Annotated[
        str, typer.Argument(help="An exported .onnx file, a network's name, or a .plan.")
    ],
    target: Annotated[
        str, typer.Option(help="Box that will run it (engines/targets), or a .toml; auto: this.")
    ] = "auto",
    precision: Annotated[
        Precision | None,
        typer.Option(help="Precision to export in first; default: that of the graph."),
    ] = None,
    library: Annotated[
        LibraryName | None, typer.Option(help="Library to build with; default: the target's.")
    ] = None,
    tile: Annotated[
        str | None, typer.Option(help="Tile WIDTHxHEIGHT; default: the target's.")
    ] = None,
    batch: Annotated[
        int | None, typer.Option(min=1, help="Tiles at a time; default: the target's.")
    ] = None,
    any_batch: Annotated[
        bool, typer.Option("--any-batch", help="Take any number of tiles up to --batch.")
    ] = False,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Where to write the .plan file.")
    ] = None,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Build again, for this box, from the ONNX beside it.")
    ] = False,
    codec: Codec = "jpeg",
    workspace_mib: Annotated[
        int | None, typer.Option(min=1, help="Scratch memory; default: the target's.")
    ] = None,
    level: Annotated[
        int | None, typer.Option(min=0, max=5, help="Effort of TensorRT; default: 3.")
    ] = None,
    dla: Annotated[
        int | None, typer.Option(min=0, help="Deep learning accelerator (Jetson) to run on.")
    ] = None,
    version_compatible: Annotated[
        bool,
        typer.Option(
            "--version-compatible", help="Let later versions of TensorRT load it; slower."
        ),
    ] = False,
    hardware_compatible: Annotated[
        bool,
        typer.Option("--hardware-compatible", help="Let all GPUs from Ampere on load it; slower."),
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
    gpu, absence = _gpu_here()
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
    with status_line("building") as report:
        if model.endswith(SUFFIX):
            if not rebuild:
                _print(Path(model), _fitting(Path(model), gpu), "fits      this box", as_json)
                return
            order = _order_again(Path(model), target, library, gpu, changes)
        else:
            box = _target(target, gpu, absence)
            load_library(library or box.library)  # first: without it the rest is in vain
            artifact = read_artifact(find_artifact(model, codec))
            if precision not in (None, artifact.metadata.precision):
                artifact = _lowered(artifact, precision, _home(model), report)
            settings = settings_for(artifact, box, **changes)
            artifact = _beside(artifact, output.parent if output else _home(model))
            path = output or plan_path(artifact.path or Path(model), box)
            order = Order(path, artifact, box, library or box.library, settings)
        if order.path.suffix != SUFFIX:
            raise ArtifactError(f"output {order.path} is no {SUFFIX} file; name one")
        check_files((order.path, sidecar_of(order.path)), (target, *(() if rebuild else (model,))))
        loaded = load_library(order.library)
        if order.path.exists() and not rebuild:
            metadata = _current(order, loaded.version, gpu)
            _print(order.path, metadata, f"kept      {order.path}, which is that already", as_json)
            return
        metadata = write_plan(
            order.artifact, order.path, loaded, order.target, order.settings, gpu, report
        )
    size_mb = order.path.stat().st_size / 1e6
    _print(
        order.path, metadata, f"wrote     {order.path} ({size_mb:.2f} MB) and its .json", as_json
    )


def _gpu_here() -> tuple[Gpu | None, str]:
    """The GPU, or why there is none."""
    try:
        return find_gpu(), ""
    except EngineError as error:
        return None, str(error)


def _target(name: str, gpu: Gpu | None, absence: str) -> Target:
    if name != "auto":
        return target_named(name)
    if gpu is None:
        raise EngineError(
            f"no GPU to build for: {absence}; run this on the box that has one, or name an RTX "
            "card's: --target rtx needs none"
        )
    return target_of(gpu) or own_target(gpu)


def _home(model: str) -> Path:
    """Where a plan goes: beside a file of the user's, and for shipped networks here."""
    return Path(model).parent if is_artifact_path(model) else Path()


def _beside(artifact: Artifact, folder: Path) -> Artifact:
    """The artifact in a folder, in one file: a plan is built again from it."""
    source = artifact.path or Path(f"{artifact.metadata.model}.onnx")
    copy = folder / source.name
    if copy.exists():
        if read_artifact(copy).onnx != artifact.onnx:
            raise ArtifactError(f"{copy} is not what {source} is; name the one to build from")
    else:
        with atomic_write(copy) as temporary:
            temporary.write_bytes(artifact.onnx)
    return Artifact(artifact.metadata, artifact.onnx, copy)


def _lowered(
    artifact: Artifact, precision: Precision | None, folder: Path, report: Report
) -> Artifact:
    """The artifact in a lower precision: what was exported before, else past the gate now.

    Raises:
        ExportError: It is in a lower precision already, or there is no such export.
        GateError: It would lose too much.
    """
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

        from edgecar.exporter.recipe import recipe_for
        from edgecar.exporter.to_onnx import Lowering, lowered_artifact
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


def _fitting(path: Path, gpu: Gpu | None) -> PlanMetadata:
    """The metadata of a plan that runs here.

    Raises:
        EngineError: It does not; says why.
    """
    metadata = read_plan(path).metadata
    library = load_library(library_of(metadata))
    reason = why_not_here(metadata, library.version, gpu)
    if reason:
        raise EngineError(
            f"{path} does not run here: {reason}; edgecar build {quoted(path)} --rebuild"
        )
    return metadata


def _current(order: Order, version: str, gpu: Gpu | None) -> PlanMetadata:
    """The metadata of a plan that is there already, if it is the one that was asked for.

    Raises:
        EngineError: It is another; says which.
    """
    metadata = read_plan(order.path).metadata
    reason = why_not_here(metadata, version, gpu) if gpu else None
    if metadata.version != version or metadata.library != order.library:
        reason = f"it was built with {metadata.library} {metadata.version}, this is {version}"
    elif metadata.onnx_sha256 != onnx_sha256(order.artifact):
        reason = f"it was built from another {metadata.onnx}"
    elif metadata.settings != order.settings:
        reason = "it was built with other settings"
    if reason:
        raise EngineError(f"{order.path} is there, and {reason}; add --rebuild to replace it")
    return metadata


def _order_again(
    path: Path, target: str, library: LibraryName | None, gpu: Gpu | None, changes: dict[str, Any]
) -> Order:
    """The same plan once more, for the box that this is."""
    metadata = read_plan_metadata(path)
    was = library_of(metadata)
    here = (target_of(gpu) or own_target(gpu)) if gpu and was == "tensorrt" else None
    box = target_named(target) if target != "auto" else here or target_named(metadata.target)
    source = path.with_name(metadata.onnx)
    artifact = read_artifact(source)
    if onnx_sha256(artifact) != metadata.onnx_sha256:
        raise ArtifactError(
            f"{source} is not what {path.name} was built from; build from it under another name: "
            f"edgecar build {quoted(source)} -o OTHER{SUFFIX}"
        )
    own = asdict(metadata.settings) | {"compute_capability": box.compute_capability}
    given = {key: value for key, value in changes.items() if value is not None}
    return Order(
        path, artifact, box, library or was, settings_for(artifact, box, **{**own, **given})
    )


def _print(path: Path, metadata: PlanMetadata, outcome: str, as_json: bool) -> None:
    if as_json:
        print_json({"path": str(path), **asdict(metadata)})
        return
    settings, network = metadata.settings, metadata.network
    height, width = settings.tile
    tiles = f"1 to {settings.batch} tiles" if settings.any_batch else f"{settings.batch} tile(s)"
    gpu = metadata.gpu or (
        f"compute capability {metadata.compute_capability}"
        if metadata.compute_capability
        else "any card from Ampere on"
    )
    stdout.print(f"network   {network.model}, {network.precision}, from {metadata.onnx}")
    title = TITLES[library_of(metadata)]
    stdout.print(f"built     by {title} {metadata.version} for {metadata.target}: {gpu}")
    kept = f"{width - 2 * network.halo_px}x{height - 2 * network.halo_px}"
    stdout.print(f"shape     {tiles} of {width}x{height} px, {kept} of them kept")
    stdout.print(f"layers    {_layers(metadata)}; built in {metadata.build_seconds:.1f} s")
    stdout.print(outcome)
    next_step(
        f"edgecar run INPUT -o OUTPUT --engine {metadata.library} --network {quoted(metadata.onnx)}"
    )


def _layers(metadata: PlanMetadata) -> str:
    if metadata.inspected is None:
        return f"{metadata.layers} before fusion; not inspected, for want of a GPU"
    counts = ", ".join(f"{count} {kind}" for kind, count in metadata.inspected["layers"].items())
    memory_mib = metadata.inspected["device_memory_bytes"] / (1 << 20)
    return f"{metadata.layers} before fusion, then {counts}; {memory_mib:.0f} MiB of activations"
