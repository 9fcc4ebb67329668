"""A report in a real browser: headless Chromium, driven by playwright."""

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgecar.report.content import report_of
from edgecar.report.write import write_report
from tests.report.conftest import detection_row, results_of, sample, video_row

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.slow,  # drives a browser
    pytest.mark.skipif(CHROMIUM is None, reason="needs Debian's chromium"),
]
PHONE, DESK = {"width": 360, "height": 800}, {"width": 1280, "height": 900}


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM)
        yield opened
        opened.close()


class Opened:
    """A page, and what it complained of and asked for."""

    def __init__(self, browser, path: Path, viewport, scheme="light"):
        self.complaints, self.requests = [], []
        self.page = browser.new_page(viewport=viewport, color_scheme=scheme)
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(path.as_uri())

    def picture(self, selector=".stage"):
        shot = self.page.locator(selector).first.screenshot()
        return cv2.imdecode(np.frombuffer(shot, np.uint8), cv2.IMREAD_COLOR).astype(int)


@pytest.fixture
def path(tmp_path, sample_frames):
    rows = [
        video_row(clip=clip, quantiser=q, gain=g)
        for clip in ("a" * 90, "gate <b>&\"'") for q, g in ((29, 0.2), (41, -0.1))
    ]  # fmt: skip
    kept = sample_frames(sample(0.5, size=(540, 960)), sample(-0.5, clip="b", index=9))
    written = tmp_path / "report #1.html"
    write_report(written, report_of(results_of("video", rows), kept))
    return written


@pytest.fixture
def opened(browser, path):
    made = Opened(browser, path, DESK)
    yield made
    made.page.close()


def split(opened) -> float:
    """Where the line is, in percent of the width, as it is seen."""
    return opened.page.evaluate(
        """() => {
          const stage = document.querySelector(".stage").getBoundingClientRect();
          const line = document.querySelector(".divider").getBoundingClientRect();
          return 100 * (line.left + line.width / 2 - stage.left) / stage.width;
        }"""
    )


def test_a_page_loads_without_a_complaint_and_asks_for_nothing(opened, path):
    sizes = opened.page.evaluate("[...document.images].map(i => [i.complete, i.naturalWidth])")
    frames = 2 * (3 + 3)  # slider and crops of a block; none got worse, or better
    assert len(sizes) == frames + 2  # and the curves of two clips
    assert all(complete and width > 0 for complete, width in sizes)
    radius = opened.page.evaluate("getComputedStyle(document.querySelector('.word')).borderRadius")
    assert radius == "16px"  # the style applies under the policy
    assert opened.complaints == []
    assert [url for url in opened.requests if not url.startswith("data:")] == [path.as_uri()]
    opened.page.evaluate(
        """() => {
          const script = document.createElement("script");
          script.textContent = "window.ran = true";
          document.body.append(script);
        }"""
    )
    assert opened.page.evaluate("window.ran") is None  # which the policy forbids
    assert any("Content Security Policy" in complaint for complaint in opened.complaints)


def test_the_line_follows_the_mouse(opened):
    assert split(opened) == pytest.approx(50, abs=0.5)
    before = opened.picture()
    box = opened.page.locator(".stage").first.bounding_box()
    middle = box["y"] + box["height"] / 2
    opened.page.mouse.move(box["x"] + box["width"] / 2, middle)
    opened.page.mouse.down()
    opened.page.mouse.move(box["x"] + box["width"] * 0.2, middle, steps=5)
    opened.page.mouse.up()
    assert split(opened) == pytest.approx(20, abs=1.5)  # a step of the range, and its thumb
    after = opened.picture()
    width = before.shape[1]
    # Between the two lines, coded has become restored; right of the first nothing has changed.
    between = slice(int(width * 0.25), int(width * 0.45))
    assert np.abs(after - before)[100:, between].mean() > 1
    inside = slice(int(width * 0.6), -20)  # what has the focus has an outline
    assert np.abs(after - before)[100:-20, inside].max() == 0
    assert opened.complaints == []


def test_the_line_follows_the_keys_and_every_slider_moves_alone(opened):
    opened.page.locator(".stage input").nth(1).focus()
    opened.page.keyboard.press("Home")
    assert split(opened) == pytest.approx(50, abs=0.5)
    opened.page.locator(".stage input").first.focus()
    for _ in range(10):
        opened.page.keyboard.press("ArrowRight")
    assert split(opened) == pytest.approx(60, abs=0.5)
    opened.page.keyboard.press("Home")
    assert split(opened) == pytest.approx(0, abs=0.5)
    said = opened.page.locator(".stage input").first.get_attribute("aria-valuetext")
    assert said == "0 % coded, the rest restored"


def test_both_sides_are_what_they_say(opened):
    """The whole stage of one side has the pixels of its picture."""
    shown = {}
    for pair in ("coded restored", "source restored", "source coded"):
        opened.page.locator(".compare select").first.select_option(pair)
        left, right = pair.split()
        opened.page.locator(".stage input").first.focus()
        for key, side in (("End", left), ("Home", right)):
            opened.page.keyboard.press(key)
            picture = opened.picture()[60:, 60:-60]
            if side in shown:
                assert np.abs(picture - shown[side]).max() == 0
            shown[side] = picture
        tags = opened.page.locator(".stage").first.locator(".tag")
        assert tags.all_text_contents() == [left, right]
    assert np.abs(shown["restored"] - shown["source"]).mean() < (
        np.abs(shown["coded"] - shown["source"]).mean()
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_does_not_scroll_sideways(browser, path, scheme):
    opened = Opened(browser, path, PHONE, scheme)
    opened.page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    width = opened.page.evaluate("document.documentElement.scrollWidth")
    assert width == PHONE["width"]
    opened.page.evaluate("scrollTo(500, 0)")
    assert opened.page.evaluate("scrollX") == 0
    ink, paper = opened.page.evaluate(
        "[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]"
    )
    brightness = [sum(map(int, colour[4:-1].split(","))) for colour in (ink, paper)]
    assert (brightness[0] > brightness[1]) == (scheme == "dark")
    assert opened.complaints == []
    opened.page.close()


def test_detections_in_a_browser(browser, tmp_path, sample_frames, boxes):
    rows = [
        detection_row(network, quantiser) | {"kbps": 3000 / quantiser}
        for quantiser in (41, 47) for network in ("coded", "net")
    ]  # fmt: skip
    path = tmp_path / "boxes.html"
    write_report(
        path, report_of(results_of("detection", rows), sample_frames(sample(2.0, boxes=boxes)))
    )
    opened = Opened(browser, path, PHONE)
    widths = opened.page.evaluate("[...document.images].map(i => i.naturalWidth)")
    assert widths[-3:] == [160] * 3
    # Boxes lie over the pixels that they mark: x 8 to 40 of 160, on the coded side.
    place = opened.page.evaluate(
        """() => {
          const stage = document.querySelector(".stage").getBoundingClientRect();
          const box = document.querySelector(".coded .found rect").getBoundingClientRect();
          return [box.left - stage.left, box.width].map(px => 160 * px / stage.width);
        }"""
    )
    assert place == pytest.approx([8, 32], abs=0.1)
    assert "net: 2 mistakes fewer" in opened.page.locator("article h3").inner_text()
    assert opened.page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    assert opened.complaints == []
    opened.page.close()
