"""The HTML page: escaped, whole, closed to the world, and small."""

import base64
import hashlib
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from edgecar.bench.gains import video_cells
from edgecar.evaluate.sample_frames import SampleFrame
from edgecar.report.content import report_of
from edgecar.report.frames import BUDGET_LETTERS, described, frames_section
from edgecar.report.markup import element, written
from edgecar.report.page import html_page
from edgecar.report.text import markdown_page
from tests.report.conftest import (
    AWKWARD,
    detection_row,
    exhibit,
    jpeg_row,
    results_of,
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
def page(sample_frames):
    rows = [video_row(quantiser=q, gain=g) for q, g in ((29, 0.2), (41, -0.1))]
    kept = sample_frames(exhibit(0.5), exhibit(-0.5, index=9))
    return html_page(report_of(results_of("video", rows), kept))


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
    page = html_page(report_of(results_of("video", rows), sample_frames(exhibit(0.5, clip=name))))
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
    assert page.count("<svg") >= 2 + 2 + 6  # panels, legend, outlines of blocks


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
    shown = exhibit(2.0, boxes=boxes)
    page = html_page(report_of(results_of("detection", rows), sample_frames(shown)))
    text = " ".join(Tags(page).text)
    assert "net: 2 mistakes fewer" in text
    assert "2 objects; coded: 1 found, 1 missed, 1 false; restored: 2 found, 0 missed, 0 false" in (
        text
    )
    assert described(exhibit(-1.0, boxes=boxes), "worst", "h264").title == "net: 1 mistake more"


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
    shown = described(exhibit(gain), kind, "h264")
    assert shown.title == title
    assert shown.place == f"{AWKWARD}, CRF 41, frame 3"
    before, after = map(float, re.findall(r"(\d+\.\d+)(?: dB$| to)", shown.figures))
    assert (after > before) == (gain > 0)
    assert "frame" not in described(exhibit(), "best", "jpeg").place


@pytest.mark.slow  # codes many large frames
def test_a_page_of_many_large_noisy_frames_stays_small():
    random = np.random.default_rng(0)
    one = exhibit(size=(720, 1280))
    noisy = [  # what compresses worst
        frame.with_luma(random.integers(0, 256, frame.y.shape, np.uint8))
        for frame in (one.source, one.coded, one.restored)
    ]
    worst = SampleFrame(one.subject, 0, 0.1, *noisy)
    articles = frames_section([worst] * 10, [worst] * 10, "h264")
    assert sum(article.tag == "article" for article in articles) == 12
    assert "8 more frames are left out" in written(articles[-1])
    pictures = [p.get("src") for article in articles for p in article.iter("img")]
    assert sum(map(len, pictures)) <= BUDGET_LETTERS
    assert sum(len(written(article)) for article in articles) < MOST_BYTES


def test_small_frames_are_shown_without_loss(sample_frames):
    page = html_page(report_of(results_of("video", [video_row()]), sample_frames(exhibit())))
    assert "Whole frame at its size, without loss" in page


def test_an_element_takes_text_and_elements_in_order():
    made = element("p", "a", element("i", "b"), "c", None, "d", class_="x", data_left='"')
    assert written(made) == '<p class="x" data-left="&quot;">a<i>b</i>cd</p>'
