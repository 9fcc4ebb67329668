"""``edgecar bench``: cost, speed and memory of networks at one frame size."""

from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from edgecar.artifact import is_artifact_path, read_artifact, shipped_names
from edgecar.cli.output import (
    Json,
    PrecisionName,
    check_files,
    next_step,
    own_command,
    print_json,
    progress_bar,
    quality_line,
    size_named,
    stderr,
    stdout,
    warn_if_slow,
)
from edgecar.engines.base import EngineInfo
from edgecar.engines.select import NAMES
from edgecar.spec import Precision
from edgecar.zoo.shipped import network_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgecar.bench.results import BenchRow

YARDSTICKS = ("arcnn", "fastarcnn")  # in every table
DEFAULT = "edgecar-xs,edgecar-s,edgecar-m,msfan"


def command(
    res: Annotated[
        str, typer.Option(help="480p, 720p, 1080p, 4k or WIDTHxHEIGHT; several with commas.")
    ] = "1080p",
    networks: Annotated[
        str, typer.Option(help="Names or .onnx files, with commas between; or all.")
    ] = DEFAULT,
    engine: Annotated[
        str,
        typer.Option(help=f"{', '.join(NAMES)}, several with commas; none: cost only."),
    ] = "auto",
    precision: PrecisionName = None,
    channels: Annotated[int, typer.Option(help="1 luma, 3 RGB.")] = 1,
    chart: Annotated[Path | None, typer.Option(help="Write a bar chart (PNG) there.")] = None,
    save: Annotated[Path | None, typer.Option(help="Write a result file (JSON) there.")] = None,
    as_json: Json = False,
) -> None:
    """Measure networks on whole frames, codes in and codes out, every pixel computed.

    Memory and TFLOPS in the papers' convention stand beside the true multiply-accumulates and the
    measured peak. ARCNN and FastARCNN are always in the table.

    Example: edgecar bench --res 1080p
    """
    from edgecar.bench.machine import machine_line
    from edgecar.bench.results import new_results, write_results
    from edgecar.bench.speed import Setting, bench_row
    from edgecar.bench.tables import bench_table

    names = chosen(networks)
    check_files((save, chart), names)
    for file in filter(is_artifact_path, names):
        read_artifact(Path(file))  # a mistake in a path shows now, not after an hour
    choices = product(map(size_named, res.split(",")), names, engine.split(","))
    settings = [
        Setting(network, channels, size, name, precision) for size, network, name in choices
    ]
    rows = []
    with progress_bar("measuring") as progress:
        for done, setting in enumerate(settings):
            progress(done, len(settings))
            rows.append(bench_row(setting))
    results = new_results("bench", rows, command=own_command())
    if save:
        write_results(save, results)
    if chart:
        from edgecar.bench.chart import chart as draw

        draw(rows, chart, machine=machine_line(results.machine))
    if as_json:
        print_json({"machine": results.machine, "commit": results.commit, "rows": rows})
        return
    stdout.print(bench_table(rows))
    timed = list(zip(settings, rows, strict=True))
    for network in filter(is_artifact_path, names):
        _print_gate(network, [row for setting, row in timed if setting.network == network])
    stderr.print(f"machine   {machine_line(results.machine)}")
    for path in (save, chart):
        if path:
            stdout.print(f"wrote     {path}")
    next_step("edgecar run INPUT -o OUTPUT --network edgecar-s")


def _print_gate(file: str, rows: "Sequence[BenchRow]") -> None:
    """Print what the gate measured, and a warning where INT8 is slow on this engine."""
    metadata = read_artifact(Path(file)).metadata
    if not metadata.quality:
        return
    kept = f"; kept: {', '.join(metadata.quality.kept)}" if metadata.quality.kept else ""
    stdout.print(f"gate      {file}: {quality_line(metadata.quality)}{kept}")
    for row in rows:
        if row["engine"] and row["provider"] and row["precision"]:
            used = (row["engine"], row["provider"], cast("Precision", row["precision"]))
            warn_if_slow(metadata, EngineInfo(*used, shape=None, device=""))


def chosen(networks: str) -> list[str]:
    """The networks asked for, the yardsticks first."""
    if networks == "all":
        asked = [network["name"] for network in network_table()]
    else:
        asked = [name.strip() for name in networks.split(",") if name.strip()]
    names = list(dict.fromkeys([*YARDSTICKS, *asked]))
    if find_spec("torch"):
        return names
    there = [name for name in names if name.endswith(".onnx") or name in shipped_names()]
    absent = [name for name in names if name not in there]
    if absent:
        stderr.print(
            f"note      left out, no weights ship: {', '.join(absent)}; to time them with fresh "
            "ones: pip install 'edgecar[train]'"
        )
    return there
