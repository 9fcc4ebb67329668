"""Result files: every number with the machine, versions, commit and command that made it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TypedDict

from edgecar.bench.machine import COMMIT, Machine, machine_facts, versions
from edgecar.errors import DataError
from edgecar.files import atomic_write

SCHEMA_VERSION = 1
SCHEMA_PATH = Path(__file__).with_name("result_schema.json")

Row = Mapping[str, Any]


class BenchRow(TypedDict):
    """Cost and speed of one network at one size on one engine.

    Engine, provider, precision and the last four are None where only the cost was counted; the cost
    is None where the network is known by its artifact alone. Times are milliseconds a frame;
    ``peak_mb`` is the measured peak of inference, ``published_memory_mb`` the papers' comparison
    figure, both in units of 2^20 bytes.
    """

    network: str
    channels: int
    height: int
    width: int
    engine: str | None
    provider: str | None
    precision: str | None
    params: int | None
    published_memory_mb: float | None
    published_tflops: float | None
    gmacs: float | None
    p50_ms: float | None
    p95_ms: float | None
    fps: float | None
    peak_mb: float | None


JPEG_KEYS = (
    *("network", "set", "quality", "psnr_in", "psnr_out"),
    *("ssim_in", "ssim_out", "psnrb_in", "psnrb_out"),
)
VIDEO_KEYS = (
    *("network", "codec", "clip", "quantiser", "frames", "kbps", "psnr_in", "psnr_out"),
    *("ssim_in", "ssim_out", "worst_frame_gain_db"),
)
DESIGN_KEYS = (
    *("candidate", "width", "depth", "scale", "activation", "skips", "dilation", "branches"),
    *("optimiser", "teacher", "steps", "seconds", "params", "kmacs_per_px"),
    *("gain_q10", "gain_q20", "gain_q30", "gain_q40", "p50_ms"),
)
REALTIME_KEYS = (
    *("network", "engine", "provider", "precision", "threads", "clip", "height", "width", "frames"),
    *("preset", "crf", "b_frames", "gop", "kbps", "rounds", "changed_tiles_share"),
    *("computed_share", "windows_per_frame", "max_difference", "fps_reuse", "fps_dense"),
    *("fps_bare", "fps_decode", "fps_spp3", "fps_spp4", "fps_fspp4", "reuse_to_dense"),
    *("reuse_to_bare", "reuse_to_spp3", "reuse_to_spp4", "reuse_to_fspp4"),
)
LIVE_KEYS = (
    *("network", "height", "width", "source_fps", "seconds", "restarts", "reconnects"),
    *("frames_read", "frames_restored", "frames_passed", "frames_dropped", "frames_unaccounted"),
    *("detector_ms", "age_p50_ms", "age_p95_ms", "memory_mib", "memory_growth_mib"),
    "threads_left",
)
SERVICE_KEYS = (
    *("case", "network", "policy", "levels", "engine", "provider", "precision", "cameras"),
    *("seconds", "kills", "frames_read", "frames_restored", "frames_passed", "frames_dropped"),
    *("frames_in_flight", "read_fps", "restored_fps", "age_p50_ms", "age_p95_ms", "cpu_share"),
    *("memory_mib", "memory_growth_mib", "memory_tenths_mib", "frames_written", "frames_given"),
    *("frames_left_out", "threads_left"),
)
SERVICE_CHECK_KEYS = (*("check", "tries", "failures", "seconds", "detail"),)
PRECISION_KEYS = (
    *("network", "weights", "precision", "outcome", "why", "engine", "provider", "computed"),
    *("method", "layers", "kept", "loss_db", "worst_db", "shift_codes", "budget_db", "bytes"),
    *("classic5_db", "live1_db", "video_db", "height", "width", "rounds", "fps", "to_fp32"),
)
INT8_KEYS = (
    *("network", "weights", "made_for", "outcome", "why", "method", "layers", "kept", "pictures"),
    *("gate_db", "gate_worst_db", "budget_db", "budget_worst_db", "openvino_db"),
    *("openvino_worst_db", "exact_db", "exact_worst_db", "onnxruntime_db", "onnxruntime_worst_db"),
)
GPU_KEYS = (
    *("gpu", "compute_capability", "network", "engine", "provider", "precision", "height", "width"),
    *("tile_height", "tile_width", "batch", "p50_ms", "p95_ms", "fps", "upload_ms", "compute_ms"),
    *("download_ms", "engine_ms", "overhead_share", "floor_ms", "peak_mib", "max_code_difference"),
)
DETECTION_KEYS = (
    *("network", "detector", "head", "confidence", "least_boxes", "codec", "clip", "quantiser"),
    *("kbps", "frames", "boxes", "rare_boxes"),
    *("map50", "map50_interval", "map", "map_interval"),
    *("over_coded50", "over_coded50_interval", "over_coded", "over_coded_interval"),
    *("over_spp50", "over_spp50_interval", "over_spp", "over_spp_interval", "classes"),
)
VARIANTS_KEYS = (
    *("network", "codec", "clip", "quantiser", "limit_mbps", "max_kbps", "structure"),
    *("in_loop_filters", "frames", "kbps", "psnr_in", "psnr_out", "ssim_in", "ssim_out"),
    *("psnrb_in", "psnrb_out", "flicker_in", "flicker_out"),
)
IQA_KEYS = (
    *("method", "streams", "multi_scale", "fully_connected", "optimiser", "epochs", "steps"),
    *("seconds", "params", "target", "set", "references", "pictures", "srcc", "plcc", "pairs"),
    "same_verdict",
)
BATCH_KEYS = (
    *("way", "workers", "nodes", "threads", "network", "clips", "frames", "rounds", "seconds"),
    *("wall_seconds", "fps", "to_one_process", "parts_lost", "same_bytes"),
)
ROW_KEYS: Mapping[str, frozenset[str]] = {
    "bench": frozenset(BenchRow.__annotations__),
    "jpeg": frozenset(JPEG_KEYS),
    "video": frozenset(VIDEO_KEYS),
    "design": frozenset(DESIGN_KEYS),
    "realtime": frozenset(REALTIME_KEYS),
    "live": frozenset(LIVE_KEYS),
    "precision": frozenset(PRECISION_KEYS),
    "int8": frozenset(INT8_KEYS),
    "service": frozenset(SERVICE_KEYS),
    "service-checks": frozenset(SERVICE_CHECK_KEYS),
    "gpu": frozenset(GPU_KEYS),
    "detection": frozenset(DETECTION_KEYS),
    "variants": frozenset(VARIANTS_KEYS),
    "iqa": frozenset(IQA_KEYS),
    "batch": frozenset(BATCH_KEYS),
}
TOP_KEYS = frozenset(
    ("schema", "kind", "machine", "versions", "commit", "command", "date", "rows"),
)


@dataclass(frozen=True)
class Results:
    """One result file.

    Attributes:
        kind: ``bench``, ``jpeg``, ``video``, or another study's; it fixes the keys of the rows.
        rows: What was measured.
        machine: Where.
        versions: Library to version.
        commit: Of edgecar; None if unknown.
        command: What to type to do it again.
        date: Of the end of the measurement, UTC, ``2026-01-31T23:59:59Z``.
    """

    kind: str
    rows: Sequence[Row]
    machine: Machine
    versions: Mapping[str, str]
    commit: str | None
    command: str
    date: str


def new_results(kind: str, rows: Sequence[Row], command: str) -> Results:
    """Rows just measured on this machine, with their provenance."""
    date = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    return Results(kind, rows, machine_facts(), versions(), COMMIT, command, date)


def resumed(path: Path, command: str) -> tuple[list[Row], str]:
    """Rows that a result file has already, and all commands that made it.

    Args:
        path: Of the file; need not exist.
        command: The one that goes on.

    Raises:
        DataError: Other code made the file, or it is no result file.
    """
    if not path.exists():
        return [], command
    found = read_results(path)
    if found.commit != COMMIT:
        raise DataError(
            f"{path} was measured by commit {found.commit}, this is {COMMIT}; save to another file"
        )
    commands = dict.fromkeys([*found.command.split("; "), command])
    return list(found.rows), "; ".join(commands)


def write_results(path: Path, results: Results) -> None:
    """Write a result file, whole or not at all.

    Raises:
        DataError: A row has the wrong keys for its kind, or a number is infinite or none.
    """
    table: dict[str, Any] = {
        "schema": SCHEMA_VERSION,
        "kind": results.kind,
        "date": results.date,
        "command": results.command,
        "commit": results.commit,
        "machine": dict(results.machine),
        "versions": dict(results.versions),
        "rows": [dict(row) for row in results.rows],
    }
    _check(table, path)
    try:
        text = json.dumps(table, indent=1, ensure_ascii=False, allow_nan=False)
    except ValueError as error:
        raise DataError(f"{path}: {error}; leave that row out") from error
    with atomic_write(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def read_results(path: Path) -> Results:
    """Read a result file.

    Raises:
        DataError: The file is missing, is no JSON, or lacks what its kind must have.
    """
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read results {path}: {error}") from error
    _check(table, path)
    return Results(**{key: value for key, value in table.items() if key != "schema"})


def _check(table: Any, path: Path) -> None:
    """Keys only; `result_schema.json` says the rest."""
    if not isinstance(table, dict) or table.get("schema") != SCHEMA_VERSION:
        got = table.get("schema") if isinstance(table, dict) else type(table).__name__
        raise DataError(f"{path}: schema {got!r}, need {SCHEMA_VERSION}; measure again")
    _check_keys(table, TOP_KEYS, f"{path}")
    known = ROW_KEYS.get(table["kind"])
    for number, row in enumerate(table["rows"]):
        if not isinstance(row, dict):
            raise DataError(f"{path}: row {number} is {row!r}; need keys and values")
        if known is not None:
            _check_keys(row, known, f"{path}: row {number}")


def _check_keys(table: Mapping[str, Any], known: frozenset[str], place: str) -> None:
    missing, unknown = sorted(known - set(table)), sorted(set(table) - known)
    if missing or unknown:
        wrong = f"no {missing[0]!r}" if missing else f"unknown {unknown[0]!r}"
        raise DataError(f"{place}: {wrong}; keys must be {', '.join(sorted(known))}")
