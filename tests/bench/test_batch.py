import json

import jsonschema
import pytest

from benchmarks.run.batch import KILLED, WAYS, Done, rows_of
from edgecar.bench.results import ROW_KEYS, SCHEMA_PATH, write_results
from edgecar.errors import DataError

TWO = "two worker processes"


def run(seconds, lost=0, digest="a"):
    report = {"seconds": seconds, "frames": 1000, "parts_lost": lost}
    return Done(report, seconds + 5, {"clip.mp4": digest})


FOUND = {
    **{name: [run(100.0)] for name in WAYS},
    TWO: [run(50.0), run(40.0), run(80.0)],
    KILLED: [run(90.0, lost=1)],
}


def test_rows_compare_with_one_process(tmp_path, make_results):
    rows = rows_of(FOUND, "edgecar-s")
    assert set(rows[0]) == ROW_KEYS["batch"]
    two = rows[2]
    assert (two["seconds"], two["fps"], two["to_one_process"], two["rounds"]) == (50, 20, 2, 3)
    write_results(tmp_path / "batch.json", make_results(*rows, kind="batch"))
    table = json.loads((tmp_path / "batch.json").read_text())
    jsonschema.validate(table, json.loads(SCHEMA_PATH.read_text()))


def test_other_bytes_and_a_node_killed_too_late_are_no_result():
    with pytest.raises(DataError, match="two worker processes gave other bytes"):
        rows_of(FOUND | {TWO: [run(50.0, digest="b")]}, "edgecar-s")
    with pytest.raises(DataError, match="all was done when the node was killed"):
        rows_of(FOUND | {KILLED: [run(50.0)]}, "edgecar-s")
