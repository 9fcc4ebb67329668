"""The table of what a detector finds."""

import io
import json

import jsonschema
import pytest

from benchmarks.run.pages import texts
from edgecar.bench.results import SCHEMA_PATH, write_results
from edgecar.cli.output import WIDTH, Lines
from edgecar.evaluate.table import printed
from edgecar.evaluate.tables import narrow_tables

CODED = {
    "network": "coded", "detector": "yolox", "head": "YOLOX", "confidence": 0.25,
    "least_boxes": 10, "codec": "h264", "clip": "plaza", "quantiser": 41, "kbps": 96.4,
    "frames": 50, "boxes": 135, "rare_boxes": 3, "map50": 0.61, "map50_interval": [0.5, 0.7],
    "map": 0.4, "map_interval": [0.3, 0.5], "over_coded50": None, "over_coded50_interval": None,
    "over_coded": None, "over_coded_interval": None, "over_spp50": None,
    "over_spp50_interval": None, "over_spp": None, "over_spp_interval": None,
    "classes": [{"name": "person", "boxes": 135, "map50": 0.61, "map": 0.4}],
}  # fmt: skip
RESTORED = CODED | {
    "network": "edgecar-m", "map50": 0.66, "over_coded50": 0.05,
    "over_coded50_interval": [0.012, 0.081], "over_coded": -0.004,
    "over_coded_interval": [-0.01, 0.002],
}  # fmt: skip


def test_the_page_has_a_line_for_each_row(make_results):
    results = make_results(CODED, RESTORED, kind="detection")
    section = texts([("plaza", results)])["pages/detection.md"]
    assert "h264; detector yolox (YOLOX), objects from a score of 0.25, classes from 10" in section
    line = "| plaza | 50 | 135 | CRF 41 | 96 | edgecar-m | 66.0 | +5.0 [+1.2, +8.1] | – | 40.0 |"
    assert line in section
    assert "| 40.0 | -0.4 [-1.0, +0.2] | – | person 61.0 |" in section
    assert "| coded | 61.0 | – | – | 40.0 | – | – | person 61.0 |" in section


def test_rows_fit_the_schema_and_a_share_above_one_does_not(tmp_path, make_results):
    path = tmp_path / "plaza.json"
    schema = json.loads(SCHEMA_PATH.read_text())
    write_results(path, make_results(CODED, RESTORED, kind="detection"))
    jsonschema.validate(json.loads(path.read_text()), schema)
    write_results(path, make_results(CODED | {"map": 40.0}, kind="detection"))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(json.loads(path.read_text()), schema)


def test_the_terminal_has_tables_for_each_clip():
    tables = list(narrow_tables([CODED, RESTORED, CODED | {"clip": "gate", "rare_boxes": 0}]))
    assert tables[0].title == "plaza: 50 frames, 135 person; 3 of rarer classes left out"
    assert tables[3].title == "gate: 50 frames, 135 person"
    assert [len(table.cells[1]) for table in tables] == [2, 2, 2, 1, 1, 1]


LARGE = RESTORED | {
    "over_coded50_interval": [-0.105, 0.123], "over_spp50": 0.1, "over_spp50_interval": [-0.1, 0.2],
    "over_spp": 0.1, "over_spp_interval": [-0.1, 0.2],
    "classes": [{"name": f"class {n}", "boxes": 20, "map50": 0.5, "map": 0.4} for n in range(12)],
}  # fmt: skip


@pytest.mark.parametrize("columns", [80, None])
def test_nothing_is_cut_off_in_80_columns_or_in_a_pipe(columns):
    console = Lines(width=columns or WIDTH, file=io.StringIO())
    for table in narrow_tables([CODED, LARGE]):
        console.print(printed(table))
    text = console.file.getvalue()
    assert "…" not in text
    for value in ("+5.0 [-10.5, +12.3]", "+10.0 [-10.0, +20.0]", "96", "66.0", "class 11 50.0"):
        assert value in (text if columns is None else " ".join(text.split()))
    if columns:
        assert max(map(len, text.splitlines())) <= columns
