"""``edgecar eval … --report``: every study and form, and refusals in time."""

import json
import re
from functools import partial

import numpy as np
import pytest

from edgecar.evaluate import quality
from tests.evaluate.conftest import PHOTO, write_pictures
from tests.evaluate.detectors import write_detector


@pytest.fixture
def clips(tmp_path):
    for name, row in (("left <i>", 0), ("right", 100)):
        windows = [PHOTO[row : row + 64, 4 * i : 4 * i + 96] for i in range(3)]
        write_pictures(tmp_path / "clips" / name, windows)
    return tmp_path / "clips"


@pytest.mark.parametrize(
    ("study", "options"), [("h264", ("--crf", 30, 40)), ("hevc", ("--qp", 30, 40))]
)
def test_of_clips(edgecar, clips, artifact, tmp_path, study, options):
    report = tmp_path / "new" / "out.html"
    arguments = ("eval", study, "--data", clips, *options, "--network", artifact)
    plain = edgecar(*arguments)
    done = edgecar(*arguments, "--report", report)
    assert done.code == 0, done.err
    assert done.out == plain.out
    assert f"report    {report}" in done.err
    page = report.read_text()
    assert "left &lt;i&gt;" in page
    assert "<i>" not in page
    assert page.count("<article>") == 4  # two clips, where it gains most and least
    assert page.count("data:image/") >= 4 * 3
    assert "--report" in page  # the command that made it


def test_of_pictures(edgecar, tmp_path):
    folder = write_pictures(tmp_path / "classic5", [PHOTO[64 * i :][:64, :96] for i in range(2)])
    report = tmp_path / "out.html"
    done = edgecar("eval", "jpeg", "--data", folder, "--quality", 10, 40, "--report", report)
    assert done.code == 0, done.err
    page = report.read_text()
    assert "JPEG: what cleaning gains on classic5" in page
    assert "msfan" in page  # the published row
    assert "<svg" in page
    assert page.count("<article>") == 4


def test_of_detections(edgecar, tmp_path, artifact, monkeypatch):
    from edgecar.evaluate import detection

    monkeypatch.setattr(detection, "drawn", partial(detection.drawn, resamples=60))
    random = np.random.default_rng(2)
    pictures = random.integers(0, 90, (4, 96, 128, 3), np.uint8)
    for picture in np.repeat(np.arange(4), 8):
        x, y = 8 * random.integers(1, 14), 8 * random.integers(1, 10)
        pictures[picture, y : y + 6, x : x + 6] = 255
    folder = write_pictures(tmp_path / "squares", pictures)
    detector = write_detector(tmp_path / "squares.onnx", "yolov8", (96, 128))
    report = tmp_path / "out.json"
    arguments = (
        "eval", "detect", folder, "--detector", detector, "--crf", 44, "--network", artifact,
        "--confidence", 0.5, "--least-boxes", 1,
    )  # fmt: skip
    done = edgecar(*arguments, "--report", report)
    assert done.code == 0, done.err
    found = json.loads(report.read_text())
    assert found["kind"] == "detection"
    assert {row["network"] for row in found["rows"]} >= {"coded", "edgecar-xs"}
    words = [v["words"] for v in found["verdicts"] if v["network"] == "edgecar-xs"]
    assert re.search(r"points of AP50 over the coded frames \(squares, CRF 44; 95 %", words[0])
    page = tmp_path / "out.html"
    assert edgecar(*arguments, "--report", page).code == 0
    assert "squares" in page.read_text()


def test_of_variants_that_go_on_from_a_file_of_both_coders(edgecar, clips, artifact, tmp_path):
    saved, report = tmp_path / "rows.json", tmp_path / "out.json"
    arguments = ("--variants", "--data", clips / "right", "--network", artifact, "--save", saved)
    for study, option in (("h264", "--crf"), ("hevc", "--qp")):
        done = edgecar("eval", study, *arguments, option, 37, "--report", report)
        assert done.code == 0, done.err
        found = json.loads(report.read_text())
        assert {row["codec"] for row in found["rows"]} == {study}
        assert found["frames"]
    rows = json.loads(saved.read_text())["rows"]
    assert len(rows) == 3 + 6
    page = tmp_path / "out.html"
    assert edgecar("eval", "h264", *arguments, "--crf", 37, "--report", page).code == 0
    assert json.loads(saved.read_text())["rows"] == rows  # none was measured, none came twice
    assert 1 <= page.read_text().count("<article>") <= 2  # of rows without pictures
    assert re.search(r"CRF 37, limit (2|1\.5|1) Mb/s, frame \d", page.read_text())


def test_markdown_beside_json_on_stdout(edgecar, clips, artifact, tmp_path):
    report = tmp_path / "out.md"
    done = edgecar(
        "eval", "h264", "--data", clips, "--crf", 40, "--network", artifact, "--json", "--report",
        report,
    )  # fmt: skip
    assert len(json.loads(done.out)["rows"]) == 2
    assert report.read_text().startswith("# H.264: what cleaning gains on 2 clips\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ("jpeg", "--data", "absent"),
        ("h264", "--data", "absent"),
        ("hevc", "--data", "absent", "--variants"),
        ("detect", "absent.mp4", "--detector", "absent.onnx"),
    ],
)
def test_other_suffixes_are_refused_before_anything_is_opened(edgecar, arguments):
    done = edgecar("eval", *arguments, "--report", "out.pdf")
    assert done.code == 1
    assert done.err.strip() == (
        "edgecar: report out.pdf has the suffix '.pdf'; need .html, .md or .json: name it so"
    )


def test_without_a_report_no_frame_is_kept(edgecar, clips, artifact, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a frame was looked at")

    monkeypatch.setattr(quality, "sample_of", refuse)
    done = edgecar("eval", "h264", "--data", clips, "--crf", 40, "--network", artifact)
    assert done.code == 0, done.err
