"""The study of MSFAN's ablations, and its page."""

import json

import cv2
import jsonschema
import pytest
from skimage import data

from benchmarks.run import ablations
from benchmarks.run.pages import main as make_pages
from edgecar.bench.results import ROW_KEYS, SCHEMA_PATH, new_results, write_results

pytestmark = pytest.mark.slow  # a harness for our own pages


def test_rows_are_trained_once_and_measured_on_held_out_pictures(tmp_path) -> None:
    for split in ("train", "test", "val"):
        (tmp_path / "set" / split).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / "set" / split / "1.png"), data.astronaut()[:72, :72, ::-1])
    save = tmp_path / "ablation.json"

    def run(*rows: str) -> list[dict]:
        ablations.main(save, tmp_path / "set", 1, 1, 1e-3, list(rows), 1)
        document = json.loads(save.read_text())
        jsonschema.validate(document, json.loads(SCHEMA_PATH.read_text()))
        return document["rows"]

    (narrow,) = run("width-32")
    assert set(narrow) == ROW_KEYS["ablation"]
    kept, off = run("width-32", "attention-off")
    assert kept == narrow
    assert off["params"] > narrow["params"]


def test_the_page_compares_changes_against_the_whole_network(tmp_path) -> None:
    row = {"row": "full", "steps": 9, "batch": 4, "patch_px": 32, "rate": 1e-3, "seconds": 1}
    row |= {"params": 5, "kmacs_per_px": 1.0, "gain_q10": 1.0, "gain_q20": 0.9}
    row |= {"gain_q30": 0.8, "gain_q40": 0.7}
    without = row | {"row": "skip-off", "gain_q10": 0.6}
    folder = tmp_path / "benchmarks"
    (folder / "results").mkdir(parents=True)
    write_results(
        folder / "results" / "ablation.json", new_results("ablation", [without, row], "made up")
    )
    assert make_pages(["--folder", str(folder)]) == 0
    lines = (folder / "pages" / "ablations.md").read_text().splitlines()
    first, second = [line for line in lines if line.startswith(("| full", "| skip"))]
    assert first.endswith("| +0.85 | +0.00 | 35.81 | +0.00 |")
    assert second.endswith("| +0.75 | -0.10 | 35.10 | -0.71 |")
