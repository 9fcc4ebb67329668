"""The three forms of a report. The HTML page is escaped, self-contained and small."""

import base64
import hashlib
import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from edgecar.errors import DataError
from edgecar.evaluate.sample_frames import SampleFrame
from edgecar.evaluate.tables import video_cells
from edgecar.report.content import report_of
from edgecar.report.frames import BUDGET_LETTERS, described
from edgecar.report.write import escaped, html_page, json_page, markdown_page
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


class Tags(HTMLParser):
    """Reads a page as a browser would, and complains of tags that do not match."""

    def __init__(self, page):
        super().__init__()
        self.open, self.found, self.text = [], [], []
        self.feed(page)
        self.close()

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


@pytest.fixture
def report(sample_frames):
    rows = [video_row(quantiser=q, gain=g) for q, g in ((29, 0.2), (41, -0.1))]
    kept = sample_frames(sample(0.5), sample(-0.5, index=9))
    return report_of(results_of("video", rows), kept)


@pytest.fixture
def page(report):
    return html_page(report)


def test_tags_match_and_nothing_is_left_open(page):
    tags = Tags(page)
    assert tags.open == []
    assert page.startswith("<!DOCTYPE html>\n<html lang=")
    identities = tags.attributes("id")
    assert len(identities) == len(set(identities))
    assert all(attrs.get("alt") for tag, attrs in tags.found if tag == "img")


def test_all_text_is_escaped(page):
    assert "<b>" not in page
    tags = Tags(page)
    assert AWKWARD in "".join(tags.text)
    assert "Atom <1>" in "".join(tags.text)
    assert "edgecar eval --data '<clips>' & co" in tags.text
    assert not any(tag in ("b", "x", "clips") for tag, _ in tags.found)
    # In attributes, too: a quotation mark in a clip's name ends none.
    assert any(AWKWARD in label for label in tags.attributes("aria-label"))


@pytest.mark.parametrize("name", ["</script><script>alert(1)</script>", "a\x00\x1b[31m", "\udcff"])
def test_names_that_would_break_out(name, sample_frames):
    rows = [video_row(clip=name, quantiser=q) for q in (29, 41)]
    page = html_page(report_of(results_of("video", rows), sample_frames(sample(0.5, clip=name))))
    tags = Tags(page)
    assert tags.open == []
    assert [tag for tag, _ in tags.found].count("script") == 1
    assert not re.search(r"[\x00\x1b\ud800-\udfff]", page)
    page.encode("utf-8")


def test_nothing_is_loaded_from_elsewhere(page):
    tags = Tags(page)
    assert all(source.startswith("data:image/") for source in tags.attributes("src"))
    assert not tags.attributes("href")
    assert not tags.attributes("style")  # which the policy forbids
    assert not any(name.startswith("on") for _, attrs in tags.found for name in attrs)
    (style,) = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    assert "url(" not in style
    assert "@import" not in style


def test_the_policy_allows_what_is_in_the_page_and_nothing_else(page):
    (policy,) = [
        attrs["content"] for _, attrs in Tags(page).found
        if attrs.get("http-equiv") == "Content-Security-Policy"
    ]  # fmt: skip
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for tag in ("script", "style"):
        (text,) = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy


def test_tables_have_the_cells_of_the_terminal(page):
    rows = [video_row(quantiser=q, gain=g) for q, g in ((29, 0.2), (41, -0.1))]
    header, lines = video_cells(rows, "h264")
    text = Tags(page).text
    for cell in [*header, *(cell for line in lines for cell in line)]:
        assert cell in text


def test_words_curves_and_origin_are_on_the_page(page):
    text = "\n".join(Tags(page).text)
    assert "net: +0.05 dB over the coded clips on average, loses on 1 of 2 inputs" in text
    assert "PSNR dB over kbit/s" in text
    assert "Gain over the coded input" in text
    for words in ("numpy 2.0", "f" * 40, "2026-01-31T23:59:59Z", "4 cores", "Python 3.10.1"):
        assert words in text
    drawings = [uri for uri in Tags(page).attributes("src") if uri.startswith("data:image/svg")]
    assert len(drawings) == 2 + 2  # legend and panels
    svg = base64.b64decode(drawings[-1].partition(",")[2]).decode()
    for words in ("kbit/s", "gain dB", "prefers-color-scheme:dark", "var(--c1)"):
        assert words in svg
    assert "http" not in re.sub(r'xmlns[:\w]*="[^"]*"|<!DOCTYPE[^>]*>', "", svg)  # loads nothing
    assert page.count("<svg") == 6  # outlines of blocks, in three crops of two frames


def test_a_page_without_frames_or_curves():
    page = html_page(report_of(results_of("video", [video_row()])))
    text = " ".join(Tags(page).text)
    assert "A curve needs two" in text
    assert "net: none of its frames was kept." in text
    assert "<img" not in page


@pytest.mark.parametrize(
    ("kind", "rows", "words"),
    [
        ("jpeg", [jpeg_row(quality=q) for q in (10, 40)], "JPEG: what cleaning gains on"),
        ("detection", [detection_row("coded"), detection_row()], "what yolo finds on"),
    ],
)
def test_other_studies(kind, rows, words):
    tags = Tags(html_page(report_of(results_of(kind, rows))))
    assert tags.open == []
    assert words in " ".join(tags.text)


def test_variants_with_printed_values_in_italics():
    def row(limit):
        return video_row(
            limit_mbps=limit,
            max_kbps=9,
            structure="default",
            in_loop_filters=True,
            psnrb_in=30.0,
            psnrb_out=31.0,
            flicker_in=1.0,
            flicker_out=0.5,
        )

    rows = [row(limit) for limit in (2.0, 1.5)]
    report = report_of(results_of("variants", rows))
    page = html_page(report)
    assert Tags(page).open == []
    assert "<td><em>" in page
    assert "limit 1.5 Mb/s" in page
    assert re.search(r"^\| \*[^*|]+\* \|", markdown_page(report), re.MULTILINE)


def test_boxes_are_told_in_words(boxes, sample_frames):
    rows = [detection_row("coded"), detection_row()]
    shown = sample(2.0, boxes=boxes)
    page = html_page(report_of(results_of("detection", rows), sample_frames(shown)))
    text = " ".join(Tags(page).text)
    assert "net: 2 mistakes fewer" in text
    assert "2 objects; coded: 1 found, 1 missed, 1 false; restored: 2 found, 0 missed, 0 false" in (
        text
    )
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
    noisy = [  # what compresses worst
        frame.with_luma(random.integers(0, 256, frame.y.shape, np.uint8))
        for frame in (one.source, one.coded, one.restored)
    ]
    worst = SampleFrame(one.subject, 0, 0.1, *noisy)
    page = html_page(replace(report, best=[worst] * 10, worst=[worst] * 10))
    assert page.count("<article>") == 12
    assert "8 more frames are left out" in page
    pictures = [uri for uri in Tags(page).attributes("src") if "svg" not in uri[:20]]
    assert sum(map(len, pictures)) <= BUDGET_LETTERS + 12 * 1000  # and the colours of the maps
    assert len(page) < MOST_BYTES


def test_small_frames_are_shown_without_loss(sample_frames):
    page = html_page(report_of(results_of("video", [video_row()]), sample_frames(sample())))
    assert "Whole frame at its size, without loss" in page


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
