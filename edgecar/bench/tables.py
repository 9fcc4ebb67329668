"""Tables of results as the commands print them."""

from collections.abc import Container, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from edgecar.bench.results import Row
from edgecar.evaluate.tables import (
    Cells,
    bd_cells,
    detection_cells,
    jpeg_cells,
    table_cells,
    variants_tables,
    video_cells,
)
from edgecar.runtime.tune import WORTH

if TYPE_CHECKING:  # it needs torch, of which tables do without
    from edgecar.bench.select_precision import Contest

SPEED_COLUMNS = (
    *(("Network", "{network}"), ("Input", "{width}×{height} {colour}"), ("Engine", "{engine}")),
    *(("Provider", "{provider}"), ("Precision", "{precision}"), ("p50 ms", "{p50_ms:.2f}")),
    *(("p95 ms", "{p95_ms:.2f}"), ("frames/s", "{fps:.1f}"), ("Peak MB", "{peak_mb:.0f}")),
    ("Memory MB (papers)", "{published_memory_mb:.2f}"),
)
BENCH_COLUMNS = (
    *(*SPEED_COLUMNS[:2], ("Engine", "{provider}"), SPEED_COLUMNS[4]),
    *(("Params", "{params:,}"), SPEED_COLUMNS[9]),
    *(("TFLOPS (papers)", "{published_tflops:.4f}"), ("GMAC", "{gmacs:.3f}"), *SPEED_COLUMNS[5:9]),
)
CONTEST_COLUMNS = (
    *(("Graph", "{precision}"), ("Computed in", "{computed}"), ("Frames/s", "{fps:.1f}")),
    *(("Times FP32", "{ratio:.2f}"), ("Slowest quarter", "{least_ratio:.2f}")),
    *(("Loses dB", "{loss_db:.3f}"), ("Worst dB", "{worst_db:.3f}"), ("Outcome", "{ended}")),
)
WORDS = frozenset(
    ("Network", "Input", "Engine", "Precision", "Graph", "Computed in", "Outcome", "On", "At")
)
"""Columns that are aligned to the left; figures are aligned to the right."""

BY_CLASS = "mAP50 by class"
NARROW = ((3, 5, 6, 7, 8), (3, 5, 9, 10, 11), (3, 4, 5, 12))
"""Columns of detection by tables for 80 columns: at IoU 0.50, from there to 0.95, and by class."""


def printed(
    cells: Cells, *, left: Container[str] = WORDS, max_width: int | None = None, **looks: Any
) -> Table:
    """Make a table for the terminal.

    Args:
        cells: Header and lines.
        left: Columns that are aligned to the left.
        max_width: Width of a column at most, in letters.
        looks: Title, caption and other settings of the table.
    """
    header, lines = cells
    table = Table(box=SIMPLE_HEAD, title_justify="left", **looks)
    for name in header:
        table.add_column(name, justify="left" if name in left else "right", max_width=max_width)
    for line in lines:
        table.add_row(*line)
    return table


def markdown(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """Make a table in Markdown."""
    return "\n".join(
        f"| {' | '.join(cells)} |" for cells in (header, ["---"] * len(header), *lines)
    )


def bench_table(rows: Sequence[Row]) -> Table:
    """Make the table of ``edgecar bench``; what was only counted has dashes for times."""
    coloured = [{**row, "colour": colour_of(row)} for row in rows]
    table = printed(
        table_cells(BENCH_COLUMNS, coloured),
        caption="Memory (papers) is a comparison figure; peak is measured.",
    )
    for column in table.columns[:3]:
        column.no_wrap = True
    return table


def colour_of(row: Row) -> str:
    """Colour of the frames of a ``bench`` row."""
    return "luma" if row["channels"] == 1 else "RGB"


def contest_table(found: "Contest") -> Table:
    """Make the table of the precisions of a network: speed, loss and outcome of each."""
    height, width = found.size
    caption = (
        f"{found.provider}, {width}x{height} px, in turn. A precision is taken if it is {WORTH:g} "
        "times as fast as FP32 in three quarters of the rounds."
    )
    computed = next(s.computed for s in found.standings if s.precision == "fp32")
    if computed not in (None, "fp32"):
        caption += f" FP32 is its graph as the engine computes it if it is let: in {computed}."
    rows = [
        {
            **vars(standing),
            "loss_db": standing.quality.loss_db if standing.quality else None,
            "worst_db": standing.quality.worst_db if standing.quality else None,
            "ended": ": ".join(filter(None, (standing.outcome, standing.why))),
        }
        for standing in found.standings
    ]
    return printed(table_cells(CONTEST_COLUMNS, rows), caption=caption, caption_justify="left")


def jpeg_table(rows: Sequence[Row]) -> Table:
    """Make the table of ``edgecar eval jpeg``: measured rows beside published ones."""
    (set_name,) = {row["set"] for row in rows}
    left = ("Quality", "Network", "Source")
    cells = jpeg_cells([("this run", rows)], set_name)
    return printed(cells, left=left, caption="Luma; averages over the set.")


def video_table(rows: Sequence[Row], codec: str) -> Table:
    """Make the table of ``edgecar eval h264`` and ``hevc``."""
    caption = "First line: the coded clips, luma PSNR in dB and SSIM; below: gain over it."
    return printed(video_cells(rows, codec), caption=caption)


def variants_report(rows: Sequence[Row]) -> list[Table]:
    """Make the tables of ``edgecar eval … --variants``."""
    titled = variants_tables(rows)
    if any(row["codec"] == "hevc" for row in rows):
        titled["BD-rate in %, over x265 with its filters"] = bd_cells(rows)
    return [
        printed(cells, left=cells[0][:1], max_width=12, title=title)
        for title, cells in titled.items()
    ]


def detection_tables(rows: Sequence[Row], *, narrow: bool = False) -> list[Table]:
    """Make the tables of ``edgecar eval detect``.

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
        for part in NARROW if narrow else (tuple(range(3, len(header))),):
            chosen = tuple(header[i] for i in part), [[line[i] for i in part] for line in lines]
            tables.append(printed(chosen, left=("At", "Network", BY_CLASS)))
            for column in tables[-1].columns:
                column.no_wrap = column.header != BY_CLASS
        tables[
            -len(NARROW) if narrow else -1
        ].title = f"{clip}: {first['frames']} frames, {objects}{left_out}"
    tables[-1].caption = "mAP × 100; [95 % interval over frames]: one with 0 in it shows nothing."
    return tables
