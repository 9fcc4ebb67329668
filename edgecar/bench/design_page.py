"""The table of a design study: what each candidate costs and gains, and which are worth it."""

from collections.abc import Sequence
from statistics import fmean

from edgecar.bench.results import Row

DESIGN_INTRO = """\
How the shapes of edgecar's own networks were chosen: candidates trained alike, for JPEG, on
photographs, and compared on held-out ones; test sets have no part in it. *q10* to *q40* are the
mean gains in luma PSNR over the coded picture, in dB, output rounded to 8 bits; *p50 ms* the median
time of a whole 1080p frame, every pixel computed, all candidates taking turns in one process. In
bold: candidates that no other beats, by gaining more on average at no more kMAC per pixel, or as
much at fewer."""

GAINS = ("gain_q10", "gain_q20", "gain_q30", "gain_q40")


def mean_gain_db(row: Row) -> float:
    """Of a candidate, over the qualities."""
    return fmean(row[key] for key in GAINS)


def beaten(row: Row, rows: Sequence[Row]) -> bool:
    """Whether a candidate is off the front: another costs no more, gains no less, and is better."""
    cost, gain = row["kmacs_per_px"], mean_gain_db(row)
    others = [(other["kmacs_per_px"], mean_gain_db(other)) for other in rows]
    return any(c <= cost and g >= gain and (c, g) != (cost, gain) for c, g in others)


def design_cells(rows: Sequence[Row]) -> tuple[tuple[str, ...], list[list[str]]]:
    """Header and cells of the table, the cheapest candidate first, then the better one.

    Args:
        rows: Of a ``design`` result file.
    """
    header = (
        *("Candidate", "Width", "Depth", "Scale", "Activation", "Skips", "Dilation", "Branches"),
        *("Optimiser", "Teacher", "Steps", "Parameters", "kMAC/px"),
        *("q10", "q20", "q30", "q40", "Mean", "p50 ms"),
    )
    ordered = sorted(rows, key=lambda row: (row["kmacs_per_px"], -mean_gain_db(row)))
    return header, [_cells(row, rows) for row in ordered]


def _cells(row: Row, rows: Sequence[Row]) -> list[str]:
    name = row["candidate"]
    return [
        name if beaten(row, rows) else f"**{name}**",
        *(str(row[key]) for key in ("width", "depth", "scale", "activation")),
        "yes" if row["skips"] else "–",
        str(row["dilation"]),
        "yes" if row["branches"] else "–",
        row["optimiser"],
        row["teacher"] or "–",
        f"{row['steps']:,}",
        f"{row['params']:,}",
        f"{row['kmacs_per_px']:.2f}",
        *(f"{gain:+.2f}" for gain in (*(row[key] for key in GAINS), mean_gain_db(row))),
        "–" if row["p50_ms"] is None else f"{row['p50_ms']:.1f}",
    ]
