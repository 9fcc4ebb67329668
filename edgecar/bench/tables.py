"""Tables of results as the commands print them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.table import Table as RichTable

from edgecar.bench.results import Row
from edgecar.evaluate.table import Table, printed, table_cells
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


def bench_table(rows: Sequence[Row]) -> RichTable:
    """Make the table of ``edgecar bench``; what was only counted has dashes for times."""
    coloured = [{**row, "colour": colour_of(row)} for row in rows]
    caption = "Memory (papers) is a comparison figure; peak is measured."
    return printed(Table(table_cells(BENCH_COLUMNS, coloured), caption=caption))


def colour_of(row: Row) -> str:
    """Colour of the frames of a ``bench`` row."""
    return "luma" if row["channels"] == 1 else "RGB"


def contest_table(found: "Contest") -> RichTable:
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
    return printed(Table(table_cells(CONTEST_COLUMNS, rows), caption=caption))
