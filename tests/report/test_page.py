"""The three forms of a report and their files. The page is escaped, self-contained and small."""

import base64
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from edgecar.errors import DataError, SettingsError
from edgecar.evaluate.tables import video_cells
from edgecar.report.content import report_of
from edgecar.report.frames import BUDGET_LETTERS, described
from edgecar.report.write import check_path, escaped, html_page, markdown_page, write_report
from tests.report.conftest import (
    AWKWARD,
    detection_row,
    jpeg_row,
    results_of,
    sample,
    video_row,
)

VOID = {"meta", "img", "input", "br", "link"}
MOST_BYTES = 8_000_000
ROWS = [video_row(quantiser=q, gain=g) for q, g in ((29, 0.2), (41, -0.1))]


class Tags(HTMLParser):
    """Reads a page as a browser would, and complains of tags that do not match."""

    def __init__(self, page):
        super().__init__()
        self.open, self.found, self.text = [], [], []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        assert len(dict(attrs)) == len(attrs), f"{tag} has an attribute twice"
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("script", "style"):
            self.text.append(data)

    def attributes(self, name):
        return [attrs[name] for _, attrs in self.found if name in attrs]


def page_of(kind, rows, sample_frames=None) -> tuple[str, Tags, str]:
    """Return the page, its tags, and its text in one line."""
    page = html_page(report_of(results_of(kind, rows), sample_frames))
    tags = Tags(page)
    return page, tags, " ".join(" ".join(tags.text).split())


@pytest.fixture
def report(sample_frames):
    return report_of(results_of("video", ROWS), sample_frames(sample(0.5), sample(-0.5, index=9)))


@pytest.fixture
def page(report):
    return html_page(report)


def test_all_text_is_escaped_and_every_picture_is_described(page):
    tags = Tags(page)
    assert page.startswith("<!DOCTYPE html>\n<html lang=")
    assert all(attrs.get("alt") for tag, attrs in tags.found if tag == "img")
    assert "<b>" not in page
    for words in (AWKWARD, "Atom <1>", "edgecar eval --data '<clips>' & co"):
        assert words in "".join(tags.text)
    assert not any(tag in ("b", "x", "clips") for tag, _ in tags.found)
    # In attributes, too: a quotation mark in a clip's name ends none.
    assert any(AWKWARD in label for label in tags.attributes("aria-label"))


@pytest.mark.parametrize("name", ["</script><script>alert(1)</script>", "a\x00\x1b[31m", "\udcff"])
def test_names_that_would_break_out(name, sample_frames):
    rows = [video_row(clip=name, quantiser=q) for q in (29, 41)]
    page, tags, _ = page_of("video", rows, sample_frames(sample(0.5, clip=name)))
    assert [tag for tag, _ in tags.found].count("script") == 1
    assert not re.search(r"[\x00\x1b\ud800-\udfff]", page)
    page.encode("utf-8")


def test_nothing_is_loaded_and_nothing_runs_but_what_is_in_the_page(page):
    tags = Tags(page)
    assert all(source.startswith("data:image/") for source in tags.attributes("src"))
    assert not tags.attributes("href")
    assert not tags.attributes("style")  # which the policy forbids
    assert not any(name.startswith("on") for _, attrs in tags.found for name in attrs)
    (policy,) = [attrs["content"] for _, attrs in tags.found if "http-equiv" in attrs]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for tag in ("script", "style"):
        (text,) = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
        assert "url(" not in text
        assert "@import" not in text


def test_words_tables_curves_and_origin_are_on_the_page(page):
    tags = Tags(page)
    header, lines = video_cells(ROWS, "h264")
    for cell in [*header, *(cell for line in lines for cell in line)]:
        assert cell in tags.text  # as in the terminal
    text = "\n".join(tags.text)
    assert "net: +0.05 dB over the coded clips on average, loses on 1 of 2 inputs" in text
    for words in ("numpy 2.0", "f" * 40, "2026-01-31T23:59:59Z", "4 cores", "Python 3.10.1"):
        assert words in text
    assert "Whole frame at its size, without loss" in text
    assert any("PSNR dB over kbit/s" in words for words in tags.attributes("alt"))
    assert sum(uri.startswith("data:image/svg") for uri in tags.attributes("src")) == 1
    assert page.count("<svg") == 6  # outlines of blocks, in three crops of two frames


def test_other_studies():
    page, _, text = page_of("video", [video_row()])
    assert "A curve needs two" in text
    assert "net: none of its frames was kept." in text
    assert "<img" not in page
    rows = [jpeg_row(quality=q) for q in (10, 40)]
    assert "JPEG: what cleaning gains on" in page_of("jpeg", rows)[2]
    rows = [detection_row("coded"), detection_row()]
    assert "what yolo finds on" in page_of("detection", rows)[2]
    text = markdown_page(report_of(results_of("detection", rows)))
    assert "net: as many mistakes on every frame as before cleaning" in text
    assert "| coded |" in text
    others = {"max_kbps": 9, "structure": "default", "in_loop_filters": True, "psnrb_in": 30.0,
              "psnrb_out": 31.0, "flicker_in": 1.0, "flicker_out": 0.5}  # fmt: skip
    rows = [video_row(limit_mbps=limit, **others) for limit in (2.0, 1.5)]
    page, *_ = page_of("variants", rows)
    assert "<td><em>" in page  # printed values are in italics
    assert "limit 1.5 Mb/s" in page
    text = markdown_page(report_of(results_of("variants", rows)))
    assert re.search(r"^\| \*[^*|]+\* \|", text, re.MULTILINE)


def test_boxes_are_told_in_words(boxes, sample_frames):
    rows = [detection_row("coded"), detection_row()]
    page, _, text = page_of("detection", rows, sample_frames(sample(2.0, boxes=boxes)))
    assert "net: 2 mistakes fewer" in text
    marks = "coded: 1 found, 1 missed, 1 false; restored: 2 found, 0 missed, 0 false"
    assert f"2 objects; {marks}" in text
    assert described(sample(-1.0, boxes=boxes), "worst", "h264").title == "net: 1 mistake more"
    # Object, coded and restored: boxes in pixels of the frame, labels in words.
    drawn = re.findall(r'<g class="(\w+)"><rect x="([\d.]+)".*?<text.*?>(.*?)</text>', page)
    assert [(word, float(x), label) for word, x, label in drawn] == [
        ("object", 8, "object person"), ("object", 60, "object person"),
        ("found", 8, "found person 0.90"), ("missed", 60, "missed person"),
        ("false", 110, "false person 0.40"),
        ("found", 8, "found person 0.90"), ("found", 60, "found person 0.90"),
    ]  # fmt: skip
    assert page.count('viewBox="0 0 160 96"') == 3


@pytest.mark.parametrize(
    ("gain", "kind", "title"),
    [
        (0.5, "best", "net gains most"),
        (0.5, "worst", "net gains least"),
        (-0.5, "worst", "net loses most"),
        (-0.5, "best", "net loses least"),
    ],
)
def test_titles_of_frames(gain, kind, title):
    shown = described(sample(gain), kind, "h264")
    assert shown.title == title
    assert shown.place == f"{AWKWARD}, CRF 41, frame 3"
    before, after = map(float, re.findall(r"(\d+\.\d+)(?: dB$| to)", shown.figures))
    assert (after > before) == (gain > 0)
    assert "frame" not in described(sample(), "best", "jpeg").place


@pytest.mark.slow  # codes many large frames
def test_a_page_of_many_large_noisy_frames_stays_small(report):
    random = np.random.default_rng(0)
    one = sample(size=(720, 1280))
    noisy = {  # what compresses worst
        name: frame.with_luma(random.integers(0, 256, frame.y.shape, np.uint8))
        for name, frame in (("source", one.source), ("coded", one.coded), ("restored", one.coded))
    }
    samples = [(replace(one, **noisy), kind) for kind in ("best", "worst") for _ in range(10)]
    page = html_page(replace(report, samples=samples))
    assert page.count("<article>") == 20
    pictures = [uri for uri in Tags(page).attributes("src") if "svg" not in uri[:20]]
    assert sum(map(len, pictures)) <= BUDGET_LETTERS
    assert len(page) < MOST_BYTES


def test_markdown_is_escaped_names_frames_and_origin_and_its_tables_are_even(report):
    text = markdown_page(report)
    assert text.startswith("# H.264: what cleaning gains on gate \\<b\\>\\&\"'\\|\\*x\\*\\_\\`\n")
    assert "<b>" not in text.replace("\\<b", "")
    assert "data:image" not in text
    tables = [line for line in text.splitlines() if line.startswith("|")]
    bars = [len(line.replace("\\|", "").split("|")) for line in tables]
    for before, after, line in zip(bars, bars[1:], tables[1:], strict=False):
        assert before == after or "---" not in line  # only a new header may have other columns
    for words in ("- *mixed*: net: +0.05 dB", "| net gains most | ", "| net loses most | "):
        assert words in text
    assert "CRF 41, frame 9" in text
    assert "- Commit: " + "f" * 40 in text
    assert escaped("a\nb|c") == "a b\\|c"


# Files.


@pytest.mark.parametrize(
    ("name", "start"), [("a.html", "<!DOCTYPE"), ("a.HTML", "<!DOCTYPE"), ("a.md", "# H.264")]
)
def test_the_suffix_chooses_the_form(report, tmp_path, name, start):
    path = tmp_path / "new" / name
    check_path(path)
    write_report(path, report)
    assert path.read_text(encoding="utf-8").startswith(start)
    assert [found.name for found in path.parent.iterdir()] == [name]


def test_json_has_verdicts_frames_rows_and_origin(report, tmp_path):
    path = tmp_path / "a.json"
    write_report(path, report)
    found = json.loads(path.read_text())
    assert found["kind"] == "video"
    (verdict,) = found["verdicts"]
    assert (verdict["network"], verdict["outcome"]) == ("net", "mixed")
    assert verdict["value"] == pytest.approx(0.05)
    assert [(frame["kind"], frame["frame"]) for frame in found["frames"]] == [
        ("best", 3), ("worst", 9),
    ]  # fmt: skip
    frame = found["frames"][0]
    assert (frame["clip"], frame["unit"]) == (AWKWARD, "dB of luma PSNR")
    assert found["rows"] == ROWS
    assert found["machine"]["cores"] == 4
    assert found["command"] == report.results.command
    infinite = report_of(results_of("video", [video_row(gain=float("inf"))]))
    with pytest.raises(DataError, match=r"leave that row out, or write \.html"):
        write_report(path, infinite)
    assert json.loads(path.read_text()) == found  # nothing is half written
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["a.pdf", "a", "a.html.gz"])
def test_other_suffixes_are_refused(tmp_path, name):
    with pytest.raises(SettingsError, match=r"need \.html, \.md or \.json: name it so"):
        check_path(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_to_is_refused(report, tmp_path):
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / "a.html"
    for refused in (check_path, lambda path: write_report(path, report)):
        with pytest.raises(SettingsError, match=r"cannot write report .* give a file in a folder"):
            refused(path)
    (tmp_path / "a.html").mkdir()
    with pytest.raises(SettingsError, match="is a folder; give the name of a file"):
        check_path(tmp_path / "a.html")


def test_checking_and_a_full_disk_leave_the_old_report(report, tmp_path, monkeypatch):
    path = tmp_path / "a.html"
    path.write_text("old")
    check_path(path)

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("pathlib.Path.write_text", full)
        with pytest.raises(SettingsError, match="no space left on device"):
            write_report(path, report)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
