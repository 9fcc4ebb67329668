"""The tables of a precision study: what FP16, bfloat16 and INT8 lose and gain."""

from collections.abc import Iterable, Sequence

from edgecar.bench.markdown import number
from edgecar.bench.results import Row

PRECISION_INTRO = """\
Each network that ships, in FP32 and below. PSNR in dB with the output rounded to 8 bits: means over
Classic5 and LIVE1 at JPEG quality 10, or over the coded clips; *loss* is against FP32 there.
The *gate* is what an export was judged by: loss on other pictures, on average and on the worst.
*Kept* are the convolutions in higher precision. Frames/s are on whole frames, every pixel computed,
the precisions of a network in turn in one process; *times FP32* is the median ratio of a round to
the FP32 graph computed in FP32 by the same engine. bf16 is the FP32 graph as the engine computes it
if it is let. FP16 that the engine computes in something else is not timed, and its PSNR is ONNX
Runtime's, which rounds as the graph says. Below 1 it is slower; what the gate refused says why."""

INT8_INTRO = """\
INT8 as it is exported now, with weights of at most seven bits, whose sums no CPU cuts off (the
tables above are of eight bits). The gate's loss in dB stands beside what was measured apart from
it, with the finished file on the gate's pictures: the mean, and the worst picture in brackets.
*OpenVINO* and *ONNX Runtime* ran on the machine named below the table, which has VNNI only where
that is listed. *Exact* is the arithmetic of VNNI and of GPUs, sums that do not end at 16 bits,
computed in float32 by ONNX Runtime without its optimisations; a CPU with VNNI was not measured."""

MEASURED = ("openvino", "exact", "onnxruntime")
"""Engines and arithmetic that INT8 files are measured by."""

TITLES = {"jpeg": "Weights for JPEG", "h264": "Weights for H.264", "hevc": "Weights for HEVC"}
COLUMNS = {
    "jpeg": (("classic5_db", "Classic5 dB"), ("live1_db", "LIVE1 dB")),
    "h264": (("video_db", "H.264 dB"),),
    "hevc": (("video_db", "HEVC dB"),),
}
COMMON = ("Ranges", "Kept", "Gate dB", "Worst dB", "kB", "Frames/s", "Times FP32", "Outcome")


def precision_settings(rows: Sequence[Row]) -> list[str]:
    """The coders that there are rows of weights for, in the order of the page."""
    return [coder for coder in TITLES if any(row["weights"] == coder for row in rows)]


def precision_cells(rows: Iterable[Row], coder: str) -> tuple[tuple[str, ...], list[list[str]]]:
    """Header and cells of the rows of one coder's weights.

    Args:
        rows: Of a ``precision`` result file.
        coder: Which weights.
    """
    own = [row for row in rows if row["weights"] == coder]
    fp32 = {row["network"]: row for row in own if row["precision"] == "fp32"}
    names = [title for _, title in COLUMNS[coder]]
    header = ("Network", "Graph", "Computed in", *(n for name in names for n in (name, "loss")))
    return (*header, *COMMON), [_cells(row, fp32.get(row["network"]), coder) for row in own]


def _cells(row: Row, base: Row | None, coder: str) -> list[str]:
    decibels: list[str] = []
    for key, _ in COLUMNS[coder]:
        value, before = row[key], base[key] if base else None
        loss = None if value is None or before is None else before - value
        decibels += [number(value, 2), number(loss, 3)]
    kept = "–" if row["kept"] is None else f"{row['kept']} of {row['layers']}"
    return [
        row["network"],
        row["precision"],
        row["computed"] or "–",
        *decibels,
        row["method"] or "–",
        kept,
        number(row["loss_db"], 3),
        number(row["worst_db"], 3),
        number(None if row["bytes"] is None else row["bytes"] / 1000, 0),
        number(row["fps"], 2),
        number(row["to_fp32"], 2),
        f"{row['outcome']}: {row['why']}" if row["why"] else row["outcome"],
    ]


def int8_cells(rows: Iterable[Row]) -> tuple[tuple[str, ...], list[list[str]]]:
    """Header and cells of the rows of an ``int8`` result file."""
    header = ("Network", "Weights", "Made for", "Kept", "Allowed dB", "Gate dB", "OpenVINO")
    return (*header, "Exact", "ONNX Runtime", "Outcome"), [_int8_cells(row) for row in rows]


def _int8_cells(row: Row) -> list[str]:
    figures = [
        f"{number(row[f'{key}_db'], 3)} ({number(row[f'{key}_worst_db'], 3)})"
        if row[f"{key}_db"] is not None
        else "–"
        for key in ("budget", "gate", *MEASURED)
    ]
    kept = "–" if row["kept"] is None else f"{row['kept']} of {row['layers']}"
    outcome = f"{row['outcome']}: {row['why']}" if row["why"] else row["outcome"]
    return [row["network"], row["weights"], row["made_for"], kept, *figures, outcome]
