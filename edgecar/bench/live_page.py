"""The table of what was seen of live streams."""

from collections.abc import Sequence

from edgecar.bench.results import Row

LIVE_INTRO = """\
A camera's H.264 over RTSP through `edgecar.stream`, every frame restored unless a newer one has
overtaken it. The server is killed and started again every minute (*restarts*). *Lost* frames are
those read but neither restored, passed nor dropped at the end. *Age* is the time from a frame's
arrival, decoded, until it is handed over to whoever uses it, here for *detector* ms a frame.
*Growth* is that of resident memory since the first tenth of the run."""

HEADER = (
    *("Network", "Stream", "Minutes", "Restarts", "Read", "Restored", "Dropped", "Lost"),
    *("Detector ms", "Age p50 ms", "Age p95 ms", "Memory MiB", "Growth MiB", "Threads left"),
)


def live_cells(rows: Sequence[Row]) -> tuple[tuple[str, ...], list[list[str]]]:
    """Header and cells, a line a run.

    Args:
        rows: Of a ``live`` result file.
    """
    return HEADER, [_cells(row) for row in rows]


def _cells(row: Row) -> list[str]:
    return [
        row["network"],
        f"{row['width']}×{row['height']} at {row['source_fps']:.0f} frames/s",
        f"{row['seconds'] / 60:.0f}",
        f"{row['restarts']}",
        *(f"{row[f'frames_{name}']:,}" for name in ("read", "restored", "dropped", "unaccounted")),
        f"{row['detector_ms']:.0f}",
        *(f"{row[key]:.0f}" for key in ("age_p50_ms", "age_p95_ms")),
        *(f"{row[key]:.1f}" for key in ("memory_mib", "memory_growth_mib")),
        f"{row['threads_left']}",
    ]
