"""The tables of the service: cameras side by side, a soak, and what it must bear."""

from collections.abc import Sequence

from edgecar.bench.results import Row

SERVICE_INTRO = """\
`edgecar serve` with several 720p cameras that stand still (tollgate, blocks, cups; CRF 35 at 25
frames/s), everything in one process: decoding, restoring, outputs. *Age* is from a frame's arrival,
decoded, until its outputs have it: of the camera that is worst off. *CPU* is the share of all
cores. Under load the *policy* is to *shed*, which takes smaller networks and then none, or to
*drop* frames; *ran* says how much of the time cameras had which network. In a *soak* the cameras
are RTSP servers that are killed at random, each every 10 to 40 s, and the first camera is recorded;
*left out* are pictures that came faster than they could be coded, as a camera that comes back sends
them. *Memory* is resident, after the warm-up; *growth* is from there to the highest sample; *each
tenth* has the median of every tenth of the run, the first being the warm-up."""

HEADER = (
    *(
        "Case",
        "Network",
        "Engine",
        "Policy",
        "Cameras",
        "Minutes",
        "Kills",
        "Read/s",
        "Restored/s",
        "Ran",
    ),
    *("Read", "Restored", "Passed", "Dropped", "In flight", "Age p50 ms", "p95 ms", "CPU"),
    *("Memory MiB", "Growth MiB", "Each tenth MiB", "Recorded", "Threads left"),
)

CHECKS_INTRO = """\
*Fuzz* sends what the API's schema allows, and what it does not; a failure is an answer of the 500s.
*Kill* ends a recording process (SIGKILL) at a random picture; a failure is a file that lacks more
than its last fragment of the pictures that it was given."""

CHECKS_HEADER = ("Check", "Tries", "Failures", "Seconds", "Detail")


def service_cells(rows: Sequence[Row]) -> tuple[tuple[str, ...], list[list[str]]]:
    """Header and cells, a line a run.

    Args:
        rows: Of a ``service`` result file.
    """
    return HEADER, [_cells(row) for row in rows]


def check_cells(rows: Sequence[Row]) -> tuple[tuple[str, ...], list[list[str]]]:
    """Header and cells, a line a check.

    Args:
        rows: Of a ``service-checks`` result file.
    """
    return CHECKS_HEADER, [
        [
            row["check"],
            f"{row['tries']:,}",
            f"{row['failures']}",
            f"{row['seconds']:.0f}",
            ", ".join(f"{key}: {value:,}" for key, value in row["detail"].items()),
        ]
        for row in rows
    ]


def _cells(row: Row) -> list[str]:
    recorded = "–"
    if row["frames_given"] is not None:
        recorded = f"{row['frames_written']:,} of {row['frames_given']:,}"
        recorded += f", {row['frames_left_out']:,} left out" if row["frames_left_out"] else ""
    return [
        row["case"],
        row["network"],
        f"{row['engine']}, {row['precision']}",
        row["policy"],
        f"{row['cameras']}",
        f"{row['seconds'] / 60:.0f}",
        f"{row['kills']}",
        *(f"{row[key]:.1f}" for key in ("read_fps", "restored_fps")),
        ", ".join(f"{name} {share:.0%}" for name, share in row["levels"].items()) or "–",
        *(f"{row[f'frames_{key}']:,}" for key in ("read", "restored", "passed", "dropped")),
        f"{row['frames_in_flight']}",
        *(f"{row[key]:.0f}" for key in ("age_p50_ms", "age_p95_ms")),
        f"{row['cpu_share']:.0%}",
        *(f"{row[key]:.0f}" for key in ("memory_mib", "memory_growth_mib")),
        " ".join(f"{mib:.0f}" for mib in row["memory_tenths_mib"]) or "–",
        recorded,
        "–" if row["threads_left"] is None else f"{row['threads_left']}",
    ]
