import copy
import json
import math
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest

from edgecar.bench.results import (
    ROW_KEYS,
    SCHEMA_PATH,
    SCHEMA_VERSION,
    TOP_KEYS,
    new_results,
    read_results,
    resumed,
    write_results,
)
from edgecar.errors import DataError
from tests.bench.test_tables import CODED as DETECTION

SCHEMA = json.loads(SCHEMA_PATH.read_text())
COMMITTED = sorted(Path(__file__).parents[2].glob("benchmarks/results/*.json"))


@pytest.fixture
def table(make_results, timed, counted, tmp_path: Path) -> dict:
    path = tmp_path / "table.json"
    write_results(path, make_results(timed(), counted(network="msfan")))
    return json.loads(path.read_text())


def refused(table: dict) -> bool:
    return not jsonschema.Draft202012Validator(SCHEMA).is_valid(table)


def test_schema_is_a_schema_and_knows_the_keys_of_the_code() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["properties"]["schema"] == {"const": SCHEMA_VERSION}
    assert set(SCHEMA["properties"]) == set(SCHEMA["required"]) == TOP_KEYS
    for kind, keys in ROW_KEYS.items():
        row = SCHEMA["$defs"][f"{kind}_row"]
        assert set(row["properties"]) == set(row["required"]) == keys
    assert len(ROW_KEYS["jpeg"]) == 10


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.stem)
def test_committed_files_fit_the_schema(path: Path) -> None:
    jsonschema.validate(json.loads(path.read_text()), SCHEMA)
    read_results(path)


def test_a_share_of_detections_above_one_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "detections.json"
    write_results(path, new_results("detection", [DETECTION], "edgecar eval detect"))
    table = json.loads(path.read_text())
    assert not refused(table)
    table["rows"][0]["ap"] = 40.0
    assert refused(table)


def test_what_is_measured_here_fits_the_schema(tmp_path: Path, timed, counted, jpeg, video) -> None:
    path = tmp_path / "new" / "here.json"
    for kind, rows in (
        ("bench", [timed(), counted()]),
        ("jpeg", [jpeg()]),
        ("video", [video(), video(codec="hevc", psnr_out=31.0, worst_frame_gain_db=-2.5)]),
        ("trial", [{"x": 1}]),
    ):
        write_results(path, new_results(kind, rows, "edgecar bench"))
        jsonschema.validate(json.loads(path.read_text()), SCHEMA)


def test_results_survive_the_file(tmp_path: Path, make_results, timed) -> None:
    path = tmp_path / "one.json"
    results = make_results(timed(), cpu="Prozessor Ä", gpus=["GPU (16 GiB, driver 1)"])
    write_results(path, results)
    assert read_results(path) == replace(results, rows=[timed()])


def test_a_run_goes_on_from_its_file(tmp_path: Path, timed) -> None:
    path = tmp_path / "one.json"
    assert resumed(path, "bench a") == ([], "bench a")
    for command in ("bench a", "bench b", "bench a"):
        rows, commands = resumed(path, command)
        write_results(path, new_results("bench", [*rows, timed()], commands))
    found = read_results(path)
    assert len(found.rows) == 3
    assert found.command == "bench a; bench b"


def test_a_file_of_other_code_is_not_gone_on_from(tmp_path: Path, make_results, timed) -> None:
    path = tmp_path / "one.json"
    write_results(path, replace(make_results(timed()), commit="0" * 40))
    before = path.read_bytes()
    with pytest.raises(DataError, match=r"measured by commit 0{40}, this is .*another file"):
        resumed(path, "bench a")
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("schema",), 2),
        (("kind",), "Bench"),
        (("commit",), "0123456"),
        (("date",), "2026-01-31"),
        (("command",), ""),
        (("rows",), []),
        (("machine", "cores"), 0),
        (("machine", "hostname"), "camera-7"),
        (("versions", "numpy"), None),
        (("rows", 0, "fps"), 0),
        (("rows", 0, "fps"), None),
        (("rows", 0, "engine"), None),
        (("rows", 0, "peak_mb"), -1),
        (("rows", 0, "precision"), "int4"),
        (("rows", 0, "height"), 10.5),
        (("rows", 0, "extra"), 1),
        (("rows", 1, "p50_ms"), 3.0),
        (("rows", 1, "engine"), "openvino"),
        (("rows", 1, "params"), None),
    ],
)
def test_schema_refuses(table: dict, place: tuple, value: object) -> None:
    assert not refused(table)
    changed = copy.deepcopy(table)
    at = changed
    for key in place[:-1]:
        at = at[key]
    at[place[-1]] = value
    assert refused(changed)


@pytest.mark.parametrize("key", sorted(TOP_KEYS))
def test_schema_and_code_refuse_a_missing_key(table: dict, key: str, tmp_path: Path) -> None:
    del table[key]
    assert refused(table)
    path = tmp_path / "missing.json"
    path.write_text(json.dumps(table))
    with pytest.raises(DataError, match=r"missing\.json: (no|schema)"):
        read_results(path)


@pytest.mark.parametrize(
    ("changes", "nulls_allowed"),
    [({"peak_mb": None}, True), ({"params": None, "gmacs": None}, True), ({"p95_ms": None}, False)],
)
def test_a_timed_row_may_lack_its_cost_but_not_its_times(
    table: dict, changes: dict, nulls_allowed: bool
) -> None:
    table["rows"][0].update(changes)
    assert refused(table) != nulls_allowed


def test_writing_refuses_rows_of_another_kind(tmp_path: Path, make_results, timed, jpeg) -> None:
    path = tmp_path / "bad.json"
    with pytest.raises(DataError, match=r"row 1: no 'channels'"):
        write_results(path, make_results(timed(), jpeg()))
    with pytest.raises(DataError, match=r"row 0: unknown 'speed'"):
        write_results(path, make_results(timed(speed=1)))
    with pytest.raises(DataError, match="leave that row out"):
        write_results(path, make_results(jpeg(psnr_out=math.inf), kind="jpeg"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot read results"),
        ("[]", "schema 'list', need 1"),
        ('{"schema": 7}', "schema 7, need 1"),
    ],
)
def test_unreadable_files_are_explained(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "odd.json"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        read_results(path)
    with pytest.raises(DataError, match="cannot read results"):
        read_results(tmp_path / "absent.json")
