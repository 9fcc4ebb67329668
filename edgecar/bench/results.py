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


_SCHEMA = json.loads(SCHEMA_PATH.read_text(encoding="utf-8"))
TOP_KEYS = frozenset(_SCHEMA["required"])
ROW_KEYS: Mapping[str, frozenset[str]] = {
    name.removesuffix("_row"): frozenset(table["required"])
    for name, table in _SCHEMA["$defs"].items()
    if name.endswith("_row")
}
"""Keys of every kind of row; `result_schema.json` says what their values may be."""


@dataclass(frozen=True)
class Results:
    """One result file.

    Attributes:
        kind: ``bench``, ``jpeg``, ``video``, or another study's; it fixes the keys of the rows.
        rows: Measured values, a mapping each.
        machine: Machine that measured.
        versions: Library to version.
        commit: Commit of edgecar; None if unknown.
        command: Command that repeats the measurement.
        date: End of the measurement, UTC, ``2026-01-31T23:59:59Z``.
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
    """Rows that a result file has already, and all commands that made it; it need not exist.

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


def table_of(results: Results) -> dict[str, Any]:
    """Return results as a result file holds them."""
    keys = ("kind", "date", "command", "commit", "machine", "versions")
    table = {"schema": SCHEMA_VERSION, **{key: getattr(results, key) for key in keys}}
    return {**table, "rows": [dict(row) for row in results.rows]}


def write_results(path: Path, results: Results) -> None:
    """Write a result file, whole or not at all.

    Raises:
        DataError: A row has the wrong keys for its kind, or a number is infinite or none.
    """
    table = table_of(results)
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
