"""The table of what was measured on GPUs."""

from collections.abc import Sequence

from edgecar.bench.results import Row

GPU_INTRO = """\
Luma frames from CPU memory to CPU memory through the tiled GPU runtime, every pixel computed: p50
and p95 of frames one by one, frames a second with two on their way. *Up* and *down* are the copies
of a frame, *engine* the network alone, *runtime* what finding changes, cutting and joining tiles
add to that. The *floor* is what the network's bytes and operations would take at the speeds of a
copy and of wide convolutions that were measured on the same GPU. *Codes* is the largest difference
to ONNX Runtime on the CPU."""

NONE_MEASURED = "Not measured on a GPU: `make gpu-check` does it ([engines](../engines/README.md))."

HEADER = (
    *("GPU", "Network", "Engine", "Precision", "Frame", "p50 ms", "p95 ms", "frames/s", "up ms"),
    *("down ms", "engine ms", "runtime", "floor ms", "Peak MiB", "Codes"),
)


def gpu_cells(rows: Sequence[Row]) -> tuple[tuple[str, ...], list[list[str]]]:
    """Header and cells, a line a network, engine, precision and size.

    Args:
        rows: Of a ``gpu`` result file.
    """
    return HEADER, [_cells(row) for row in rows]


def _cells(row: Row) -> list[str]:
    floor, codes = row["floor_ms"], row["max_code_difference"]
    return [
        *(row["gpu"], row["network"], row["provider"], row["precision"]),
        f"{row['width']}×{row['height']}",
        *(f"{row[key]:.2f}" for key in ("p50_ms", "p95_ms")),
        f"{row['fps']:.1f}",
        *(f"{row[key]:.3f}" for key in ("upload_ms", "download_ms", "engine_ms")),
        f"{row['overhead_share']:.1%}",
        "–" if floor is None else f"{floor:.3f}",
        f"{row['peak_mib']:.0f}",
        "–" if codes is None else f"{codes}",
    ]
