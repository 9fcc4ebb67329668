import json

import jsonschema
import pytest

from benchmarks.run.batch import WAYS, Done, rows_of
from edgecar.bench.results import ROW_KEYS, SCHEMA_PATH, write_results
from edgecar.errors import DataError


def run(seconds, lost=0, digest="a"):
    report = {"seconds": seconds, "frames": 1000, "parts_lost": lost}
    return Done(report, seconds + 5, {"clip.mp4": digest})


def found(**changes):
    runs = {way: [run(100.0)] for way in WAYS} | {WAYS[2]: [run(50.0), run(40.0), run(80.0)]}
    return runs | {WAYS[-1]: [run(90.0, lost=1)]} | changes


def test_rows_compare_with_one_process(tmp_path, make_results):
    rows = rows_of(found(), "edgecar-s")
    assert set(rows[0]) == ROW_KEYS["batch"]
    two = rows[2]
    assert (two["seconds"], two["fps"], two["to_one_process"], two["rounds"]) == (50, 20, 2, 3)
    write_results(tmp_path / "batch.json", make_results(*rows, kind="batch"))
    table = json.loads((tmp_path / "batch.json").read_text())
    jsonschema.validate(table, json.loads(SCHEMA_PATH.read_text()))


def test_other_bytes_and_a_node_killed_too_late_are_no_result():
    with pytest.raises(DataError, match="two workers gave other bytes"):
        rows_of(found() | {WAYS[2]: [run(50.0, digest="b")]}, "edgecar-s")
    with pytest.raises(DataError, match="all was done when the node was killed"):
        rows_of(found() | {WAYS[-1]: [run(50.0)]}, "edgecar-s")
