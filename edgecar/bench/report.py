"""Tables made from result files, for the terminal and for ``benchmarks/README.md``.

``python -m edgecar.bench.report`` writes the page and its charts; with ``--check`` it only says
whether the page is what the result files give.
"""

import argparse
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rich.box import SIMPLE_HEAD
from rich.table import Table

from edgecar.bench.chart import chart
from edgecar.bench.detection_page import detection_cells
from edgecar.bench.gains import video_cells
from edgecar.bench.jpeg_page import jpeg_cells
from edgecar.bench.machine import machine_line
from edgecar.bench.markdown import number
from edgecar.bench.page import Named, readme, speed_cells, timed_rows
from edgecar.bench.results import Results, Row, read_results
from edgecar.bench.variants_page import bd_cells, variants_tables
from edgecar.errors import EdgecarError
from edgecar.files import atomic_write, shipped
from edgecar.runtime.tune import WORTH
from edgecar.zoo.shipped import manifest

if TYPE_CHECKING:  # it needs torch, of which tables do without
    from edgecar.bench.select_precision import Contest

NOT_IN_TERMINAL = 3  # columns of the page: clip, frames and objects are in the title
BY_CLASS = "mAP50 by class"
NARROW = ((3, 5, 6, 7, 8), (3, 5, 9, 10, 11), (3, 4, 5, 12))
"""Columns of the page by tables for 80 columns: at IoU 0.50, from there to 0.95, and by class."""
STALE_EXIT = 3  # the check ran and the answer is no


def terminal_table(rows: Sequence[Row]) -> Table:
    """Rows of a ``bench`` result file as ``edgecar bench`` prints them.

    Rows that were only counted have no times; their columns show a dash.
    """
    table = Table(
        box=SIMPLE_HEAD, caption="Memory (papers) is a comparison figure; peak is measured."
    )
    names = ("Network", "Input", "Engine", "Precision", "Params", "Memory MB (papers)")
    numbers = ("TFLOPS (papers)", "GMAC", "p50 ms", "p95 ms", "frames/s", "Peak MB")
    for index, name in enumerate((*names, *numbers)):
        side: Literal["left", "right"] = "left" if index < 4 else "right"
        table.add_column(name, justify=side, no_wrap=index < 3)
    for row in rows:
        network, frame, _, *used, p50, p95, fps, peak, memory = speed_cells(row)
        params = "–" if row["params"] is None else f"{row['params']:,}"
        cost = (params, memory, number(row["published_tflops"], 4), number(row["gmacs"], 3))
        table.add_row(network, frame, *used, *cost, p50, p95, fps, peak)
    return table


def contest_table(found: "Contest") -> Table:
    """Precisions of a network: how fast each was, what it loses, and what became of it."""
    height, width = found.size
    caption = (
        f"{found.provider}, {width}x{height} px, in turn. A precision is taken if it is {WORTH:g} "
        "times as fast as FP32 in three quarters of the rounds."
    )
    computed = next(s.computed for s in found.standings if s.precision == "fp32")
    if computed not in (None, "fp32"):
        caption += f" FP32 is its graph as the engine computes it if it is let: in {computed}."
    table = Table(box=SIMPLE_HEAD, caption=caption, caption_justify="left")
    figures = ("Frames/s", "Times FP32", "Slowest quarter", "Loses dB", "Worst dB")
    for name in ("Graph", "Computed in", *figures, "Outcome"):
        table.add_column(name, justify="right" if name in figures else "left")
    for standing in found.standings:
        quality = standing.quality
        table.add_row(
            standing.precision,
            standing.computed or "–",
            number(standing.fps, 1),
            number(standing.ratio, 2),
            number(standing.least_ratio, 2),
            number(quality.loss_db if quality else None, 3),
            number(quality.worst_db if quality else None, 3),
            f"{standing.outcome}: {standing.why}" if standing.why else standing.outcome,
        )
    return table


def jpeg_table(rows: Sequence[Row]) -> Table:
    """Rows of a ``jpeg`` result file beside the published ones, as ``edgecar eval jpeg`` prints."""
    table = Table(box=SIMPLE_HEAD, caption="Luma; averages over the set.")
    (set_name,) = {row["set"] for row in rows}
    header, lines = jpeg_cells([("this run", rows)], set_name)
    for index, name in enumerate(header):
        table.add_column(name, justify="right" if 2 <= index <= 5 else "left")
    for line in lines:
        table.add_row(*line)
    return table


def video_table(rows: Sequence[Row], codec: str) -> Table:
    """Rows of a ``video`` result file as ``edgecar eval h264`` and ``hevc`` print them."""
    table = Table(
        box=SIMPLE_HEAD,
        caption="First line: the coded clips, luma PSNR in dB and SSIM; below: gain over it.",
    )
    header, lines = video_cells(rows, codec)
    for name in header:
        table.add_column(name, justify="left" if name in ("Network", "On") else "right")
    for line in lines:
        table.add_row(*line)
    return table


def variants_report(rows: Sequence[Row]) -> list[Table]:
    """Rows of a ``variants`` result file as ``--variants`` prints them."""
    titled = variants_tables(rows)
    if any(row["codec"] == "hevc" for row in rows):
        titled["BD-rate in %, over x265 with its filters"] = bd_cells(rows)
    tables: list[Table] = []
    for title, (header, lines) in titled.items():
        table = Table(box=SIMPLE_HEAD, title=title, title_justify="left")
        for column, name in enumerate(header):
            table.add_column(name, justify="right" if column else "left", max_width=12)
        for line in lines:
            table.add_row(*line)
        tables.append(table)
    return tables


def detection_tables(rows: Sequence[Row], *, narrow: bool = False) -> list[Table]:
    """Rows of a ``detection`` result file as ``edgecar eval detect`` prints them.

    Args:
        rows: Result rows of one or several clips.
        narrow: Fit 80 columns: three tables for each clip in place of one.
    """
    tables: list[Table] = []
    for clip in dict.fromkeys(row["clip"] for row in rows):
        own = [row for row in rows if row["clip"] == clip]
        first, rare = own[0], own[0]["rare_boxes"]
        objects = ", ".join(f"{entry['boxes']} {entry['name']}" for entry in first["classes"])
        left_out = f"; {rare} of rarer classes left out" if rare else ""
        header, lines = detection_cells(own)
        wide = range(NOT_IN_TERMINAL, len(header))
        parts = [_detection_columns(header, lines, part) for part in (NARROW if narrow else [wide])]
        parts[0].title = f"{clip}: {first['frames']} frames, {objects}{left_out}"
        tables += parts
    tables[-1].caption = "mAP × 100; [95 % interval over frames]: one with 0 in it shows nothing."
    return tables


def _detection_columns(
    header: Sequence[str], lines: Sequence[Sequence[str]], columns: Sequence[int]
) -> Table:
    table = Table(box=SIMPLE_HEAD, title_justify="left")
    for column in columns:
        name = header[column]
        words = name in ("At", "Network", BY_CLASS)
        table.add_column(name, justify="left" if words else "right", no_wrap=name != BY_CLASS)
    for line in lines:
        table.add_row(*(line[column] for column in columns))
    return table


def load_all(folder: Path) -> list[Named]:
    """Stem and content of every result file in ``folder``, sorted by name.

    Raises:
        DataError: A file is not a result file.
    """
    return [(path.stem, read_results(path)) for path in sorted(folder.glob("*.json"))]


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the page and its charts, or with ``--check`` say whether the page is current.

    Returns:
        Exit code: 0 done or current, 1 a result file is unfit, 3 stale.
    """
    parser = argparse.ArgumentParser(prog="python -m edgecar.bench.report", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 3 if stale")
    parser.add_argument("--folder", type=Path, default=shipped("benchmarks"))
    options = parser.parse_args(arguments)
    folder: Path = options.folder
    try:
        results = load_all(folder / "results")
        text = readme(results, manifest())
        if options.check:
            return _check(folder, text, _charts(results))
        for name, result in _charts(results).items():
            chart(result.rows, folder / f"{name}.png", machine=machine_line(result.machine))
        with atomic_write(folder / "README.md") as temporary:
            temporary.write_text(text, encoding="utf-8")
    except EdgecarError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


def _charts(results: Sequence[Named]) -> Mapping[str, Results]:
    return {
        name: result
        for name, result in results
        if result.kind == "bench" and timed_rows(result.rows)
    }


def _check(folder: Path, text: str, charts: Iterable[str]) -> int:
    page = folder / "README.md"
    current = page.exists() and page.read_text(encoding="utf-8") == text
    missing = [name for name in charts if not (folder / f"{name}.png").exists()]
    if current and not missing:
        return 0
    what = page.name if not current else f"{missing[0]}.png"
    sys.stderr.write(f"{folder.name}/{what} does not fit the result files; run: make tables\n")
    return STALE_EXIT


if __name__ == "__main__":
    raise SystemExit(main())
