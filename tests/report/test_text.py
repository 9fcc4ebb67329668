"""Markdown and JSON."""

import json
import math

import pytest

from edgecar.errors import DataError
from edgecar.report.content import report_of
from edgecar.report.text import escaped, json_page, markdown_page
from tests.report.conftest import detection_row, exhibit, results_of, video_row


@pytest.fixture
def report(sample_frames):
    rows = [video_row(quantiser=q, gain=g) for q, g in ((29, 0.2), (41, -0.1))]
    kept = sample_frames(exhibit(0.5), exhibit(-0.5, index=9))
    return report_of(results_of("video", rows), kept)


def test_markdown_is_escaped_and_its_tables_are_even(report):
    text = markdown_page(report)
    assert text.startswith("# H.264: what cleaning gains on gate \\<b\\>\\&\"'\\|\\*x\\*\\_\\`\n")
    assert "<b>" not in text.replace("\\<b", "")
    tables = [line for line in text.splitlines() if line.startswith("|")]
    bars = [len(line.replace("\\|", "").split("|")) for line in tables]
    for before, after, line in zip(bars, bars[1:], tables[1:], strict=False):
        assert before == after or "---" not in line  # only a new header may have other columns
    assert "- *mixed*: net: +0.05 dB" in text


def test_markdown_names_the_frames_and_where_the_numbers_come_from(report):
    text = markdown_page(report)
    assert "| net gains most | " in text
    assert "| net loses most | " in text
    assert "CRF 41, frame 9" in text
    assert "- Commit: " + "f" * 40 in text
    assert "data:image" not in text


def test_a_line_break_in_a_name_does_not_break_a_table():
    assert escaped("a\nb|c") == "a b\\|c"


def test_markdown_without_frames():
    rows = [detection_row("coded"), detection_row()]
    text = markdown_page(report_of(results_of("detection", rows)))
    assert "net: as many mistakes on every frame as before cleaning" in text
    assert "| coded |" in text


def test_json_has_verdicts_frames_rows_and_origin(report):
    found = json.loads(json_page(report))
    assert found["kind"] == "video"
    (verdict,) = found["verdicts"]
    assert (verdict["network"], verdict["outcome"]) == ("net", "mixed")
    assert verdict["value"] == pytest.approx(0.05)
    assert [(frame["kind"], frame["frame"]) for frame in found["frames"]] == [
        ("best", 3), ("worst", 9),
    ]  # fmt: skip
    assert found["frames"][0]["clip"] == "gate <b>&\"'|*x*_`"
    assert found["frames"][0]["unit"] == "dB of luma PSNR"
    assert found["rows"] == [dict(row) for row in report.results.rows]
    assert found["machine"]["cores"] == 4
    assert found["command"] == report.results.command


def test_json_has_no_number_that_json_lacks():
    rows = [video_row(gain=math.inf)]
    with pytest.raises(DataError, match=r"leave that row out, or write \.html"):
        json_page(report_of(results_of("video", rows)))
