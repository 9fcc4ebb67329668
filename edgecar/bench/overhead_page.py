"""The table of what the runtime adds to the bare engine."""

from collections.abc import Sequence

from edgecar.bench.results import Row

OVERHEAD_INTRO = """\
*edgecar run* reads a clip from a file and restores it to null, every pixel computed; the *bare
engine* is fed with the same windows, ready as floats, in turn with it in one process. Peak memory
is above a process that only imported the libraries."""


def overhead_cells(rows: Sequence[Row]) -> tuple[tuple[str, ...], list[list[str]]]:
    """Header and cells, a line a row."""
    header = ("Network", "Frame", "Provider", "Precision", "What", "Value", "Unit")
    return header, [
        [
            row["network"],
            f"{row['width']}×{row['height']}",
            row["provider"],
            row["precision"],
            row["what"],
            f"{row['value']:.2f}",
            row["unit"],
        ]
        for row in rows
    ]
