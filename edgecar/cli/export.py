"""``edgecar export``: a checkpoint to a checked ONNX artifact."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from edgecar.artifact import read_artifact
from edgecar.cli.output import (
    Codec,
    Json,
    check_files,
    next_step,
    print_json,
    quality_line,
    status_line,
    stderr,
    stdout,
)
from edgecar.engines.plan import SUFFIX
from edgecar.engines.triton import served_graph, served_plan, write_repository
from edgecar.errors import EdgecarError, SettingsError
from edgecar.exporter.recipe import ForEngine
from edgecar.files import quoted

if TYPE_CHECKING:
    from edgecar.bench.select_precision import Contest
    from edgecar.exporter.lower import Lowering
    from edgecar.exporter.to_onnx import Exported

ExportPrecision = Literal["fp32", "fp16", "int8", "auto"]
EXPORTED = (".onnx", SUFFIX)
"""Files that are what others become here."""


def command(
    checkpoint: Annotated[
        str,
        typer.Argument(
            help="A .pt, .pth, .pkl or .safetensors file, or a network's name; with --triton also "
            "an exported .onnx or a built .plan."
        ),
    ],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Where to write the .onnx file.")
    ] = None,
    codec: Codec = "jpeg",
    recipe: Annotated[
        Path | None, typer.Option(help="Settings to use instead of the network's own (TOML).")
    ] = None,
    precision: Annotated[
        ExportPrecision,
        typer.Option(
            "--precision",
            help="Arithmetic that the graph asks for; auto: the fastest here that keeps the "
            "picture.",
        ),
    ] = "fp32",
    calibrate: Annotated[
        Path | None,
        typer.Option(
            help="Folder of pictures, or clip, as the network will see them, to fit a lower "
            "precision to and judge it on; default: photographs, coded for the purpose."
        ),
    ] = None,
    budget_db: Annotated[
        float | None,
        typer.Option(help="Loss of PSNR allowed on average; thrice that on one picture."),
    ] = None,
    for_engine: Annotated[
        ForEngine | None,
        typer.Option(
            help="Engine to write INT8 down for; default: openvino, which tensorrt reads as well; "
            "for auto: the one that is the default here."
        ),
    ] = None,
    triton: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Put it also into this Triton model repository."),
    ] = None,
    instances: Annotated[
        int | None,
        typer.Option(min=1, help="Number of instances on every GPU; default 1. Needs --triton."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Turn a checkpoint into an ONNX file that was checked against torch.

    The halo that tiles need is derived from the graph and stored in the file. A lower precision is
    written only if it keeps the picture; else nothing is, and the exit code is 3. With auto, those
    that keep it are timed here, and the fastest is written if it is worth it.

    Example: edgecar export edgecar-s --precision int8
    """
    if instances and not triton:
        raise SettingsError("got --instances without --triton, which alone needs it; add --triton")
    if Path(checkpoint).suffix in EXPORTED:
        asked = (output, recipe, calibrate, budget_db, for_engine)
        if triton is None or precision != "fp32" or any(each is not None for each in asked):
            raise SettingsError(
                f"{checkpoint} is exported already; all there is to do with it here is --triton DIR"
            )
        _serve(Path(checkpoint), triton, instances or 1, as_json)
        return
    check_files((output,), (checkpoint, recipe, calibrate))
    try:
        from edgecar.bench.select_precision import export_fastest
        from edgecar.bench.tables import contest_table
        from edgecar.exporter.to_onnx import export, source_of
    except ImportError as error:
        raise EdgecarError(
            f"export needs {error.name}, which is not installed; pip install 'edgecar[train]'"
        ) from error
    lowering = _lowering(precision, calibrate, budget_db, for_engine)
    found: Contest | None = None
    with status_line("exporting") as report:
        if lowering and precision == "auto":
            source = source_of(checkpoint, codec=codec, recipe=recipe)
            done, found = export_fastest(source, lowering, output, report)
        else:
            done = export(
                checkpoint, output, codec=codec, recipe=recipe, lowering=lowering, report=report
            )
    served: Path | None = None
    if triton:
        served = write_repository(served_graph(read_artifact(done.path), instances or 1), triton)
    if done.shipped:
        stderr.print(
            f"note      no file {checkpoint} here; exporting edgecar's own {done.metadata.model} "
            f"weights for {codec} ({done.metadata.trained_on})"
        )
    if as_json:
        document = {
            "path": str(done.path),
            "shipped": done.shipped,
            "params": done.params,
            **asdict(done.metadata),
            "source": done.source,
            "restored": asdict(done.restored) if done.restored else None,
            **({"triton": str(served)} if served else {}),
            **({"contest": asdict(found)} if found else {}),
        }
        print_json(document)
        return
    if found:
        stdout.print(contest_table(found))
    _print(done)
    if lowering and not calibrate:
        stderr.print(
            "note      judged on photographs; to judge on your own frames: --calibrate DIR or CLIP"
        )
    if served:
        stdout.print(f"wrote     {served}")
    next_step(f"edgecar run INPUT -o OUTPUT --network {quoted(done.path)}")


def _lowering(
    precision: ExportPrecision,
    calibrate: Path | None,
    budget_db: float | None,
    for_engine: ForEngine | None,
) -> "Lowering | None":
    """Return the lower precision asked for; refuse options that it has no use for."""
    from edgecar.bench.select_precision import native_form
    from edgecar.exporter.lower import Lowering

    given = {"--calibrate": calibrate, "--budget-db": budget_db, "--for-engine": for_engine}
    unused = [option for option, value in given.items() if value is not None]
    if precision == "fp32":
        if unused:
            raise SettingsError(
                f"got {unused[0]} without a lower precision, which alone needs it; add --precision "
                "int8 or fp16"
            )
        return None
    if precision == "auto":
        return Lowering("int8", calibrate, budget_db, for_engine or native_form())
    if precision == "fp16" and for_engine:
        raise SettingsError("got --for-engine with fp16, whose one form serves all; leave it out")
    return Lowering(precision, calibrate, budget_db, for_engine or "openvino")


def _serve(path: Path, folder: Path, instances: int, as_json: bool) -> None:
    """Put what was exported before into a Triton repository; needs no torch."""
    if path.suffix == SUFFIX:
        model = served_plan(path, instances)
    else:
        model = served_graph(read_artifact(path), instances)
    written = write_repository(model, folder)
    if as_json:
        print_json({"triton": str(written), "platform": model.platform, **asdict(model.metadata)})
        return
    stdout.print(f"model     {model.name}, {model.platform}; {model.batches}")
    stdout.print(f"serves    {written}")
    next_step(f"tritonserver --model-repository {quoted(folder)} {model.needs}".rstrip())


def _print(done: "Exported") -> None:
    """Print what was exported, and how good it is."""
    metadata, quality, restored = done.metadata, done.metadata.quality, done.restored
    colour = "luma" if metadata.channels == 1 else "RGB"
    tiles = "tiles are exact"
    if metadata.context != "local":
        tiles = "pools over the picture: tiles differ from whole frames"
    lines = {
        metadata.model: f"{colour}, {done.params:,} parameters",
        "halo": f"{metadata.halo_px} px, windows at multiples of {metadata.align_px} px; {tiles}",
        "parity": f"max {metadata.parity_max_error:.1e} of 1.0 against torch on real crops, "
        f"allowed {metadata.parity_budget:.0e}",
    }
    if done.source:
        lines["read"] = done.source
    if restored:
        gain = f"{restored.before_db:.1f} to {restored.after_db:.1f} dB on photographs"
        lines["restores"] = f"{gain}, {restored.undoes}"
        if restored.note:
            stderr.print(f"warning   {restored.note}")
    if quality:
        lines["gate"] = quality_line(quality)
        lines["judged on"] = quality.data
        lines["form"] = f"made for {' and '.join(quality.engines)}"
        if quality.kept:
            lines["kept"] = ", ".join(quality.kept)
    size_mb = done.path.stat().st_size / 1e6
    lines["wrote"] = f"{done.path} ({size_mb:.2f} MB, {metadata.precision})"
    for word, text in lines.items():
        stdout.print(f"{word:<9} {text}")
