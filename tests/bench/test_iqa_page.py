"""The tables of deep multi-scale IQA."""

import json

import jsonschema
import pytest

from edgecar.bench.page import readme
from edgecar.bench.published_iqa import DATA_BASES, PUBLISHED_IQA
from edgecar.bench.results import SCHEMA_PATH, write_results

PROPOSED = {
    "method": "proposed", "streams": "both", "multi_scale": True, "fully_connected": [64, 32],
    "optimiser": "adam", "epochs": 1.0, "steps": 516, "seconds": 300, "params": 468_017,
    "target": "proxy", "set": "kodak", "references": 24, "pictures": 240, "srcc": 0.9512,
    "plcc": 0.9634, "pairs": 72, "same_verdict": 0.9722,
}  # fmt: skip
PSNR = PROPOSED | dict.fromkeys(
    ("streams", "multi_scale", "fully_connected", "optimiser", "epochs", "steps", "seconds")
) | {"method": "psnr", "params": None, "srcc": 0.91}  # fmt: skip


def section(results) -> str:
    return readme(results).split("## Scores of quality\n")[1].split("\n## ")[0]


def test_ours_stand_beside_the_printed_rows(make_results):
    rows = [
        PSNR,
        PROPOSED,
        PROPOSED | {"set": "live1", "srcc": 0.94},
        PROPOSED | {"method": "ships"},
    ]
    text = section([("iqa", make_results(*rows, kind="iqa"))])
    assert "| Row | kodak (proxy) | live1 (proxy) | LIVE (paper, opinions) |" in text
    assert (
        "| proposed | 0.951 / 0.963 | 0.940 / 0.963 | 0.984 / 0.984 | 0.960 / 0.952 "
        "| 0.928 / 0.937 | 0.906 / 0.922 |"
    ) in text
    assert "| psnr | 0.910 / 0.963 | – | 0.876 / 0.872 |" in text
    assert "| ships | 0.951 / 0.963 | – | – | – | – | – |" in text
    assert "direct concat |" not in text.split("measured")[0]  # nothing of ours to compare
    detail = (
        "| proposed | both | yes | 64, 32 | 468,017 | adam | 1 | 516 | kodak | 24 | 240 "
        "| 0.951 | 0.963 | 97.2 % |"
    )
    assert detail in text
    assert "| psnr | – | – | – | – | – | – | – | kodak |" in text
    assert "iqa: Some CPU" in text


def test_a_page_without_says_how():
    assert "`python -m benchmarks.run.iqa_study --help`" in section([])


def test_the_printed_rows_are_complete():
    for row in PUBLISHED_IQA.values():
        assert len(row) == len(DATA_BASES)
        assert all(0 < value < 1 for pair in row for value in pair)
    # The text: "using multi-scale features learning can effectively improve".
    assert PUBLISHED_IQA["proposed"][3] == (0.906, 0.922)


@pytest.mark.parametrize(
    "changes", [{"srcc": 1.1}, {"streams": "none"}, {"same_verdict": 97.0}, {"pictures": 4}]
)
def test_rows_fit_the_schema_and_others_do_not(tmp_path, make_results, changes):
    path = tmp_path / "iqa.json"
    schema = json.loads(SCHEMA_PATH.read_text())
    write_results(path, make_results(PROPOSED, PSNR, kind="iqa"))
    jsonschema.validate(json.loads(path.read_text()), schema)
    write_results(path, make_results(PROPOSED | changes, kind="iqa"))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(json.loads(path.read_text()), schema)
