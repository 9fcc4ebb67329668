"""The table of what archives take with one process, with workers and with nodes."""

from collections.abc import Sequence

from edgecar.bench.results import Row

BATCH_INTRO = """\
`edgecar batch` on the same clips in several ways, cut into the same parts. *Seconds* are those of
restoring, *whole command* has the start of Python and, without a cluster, of Ray besides. Nodes are
on one machine, which they share. The killed node ends without a word once the first part is done;
parts that were begun on it are *lost* and done by the other. Outputs are compared byte for byte."""

HEADER = (
    *("Way", "Workers × threads", "Network", "Clips", "Frames", "Seconds", "Whole command s"),
    *("frames/s", "Times one process", "Parts lost", "Outputs"),
)


def batch_cells(rows: Sequence[Row]) -> tuple[tuple[str, ...], list[list[str]]]:
    """Header and cells, a line a way.

    Args:
        rows: Of a ``batch`` result file.
    """
    return HEADER, [_cells(row) for row in rows]


def _cells(row: Row) -> list[str]:
    return [
        row["way"],
        f"{row['workers']} × {row['threads']}",
        row["network"],
        f"{row['clips']}",
        f"{row['frames']:,}",
        f"{row['seconds']:.1f}",
        f"{row['wall_seconds']:.1f}",
        f"{row['fps']:.1f}",
        f"{row['to_one_process']:.2f}",
        f"{row['parts_lost']}",
        "the same bytes" if row["same_bytes"] else "other bytes",
    ]
