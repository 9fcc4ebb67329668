"""Curves: their points, scales and drawings."""

import base64
import re

import pytest

from edgecar.report.curves import COLOURS, drawn, panels_of
from tests.report.conftest import AWKWARD, detection_row, jpeg_row, video_row


def test_a_panel_for_each_clip_with_the_coded_clip_first_and_gains_over_it():
    rows = [
        video_row(network, clip, quantiser, gain)
        for clip in ("a", "b") for quantiser in (29, 41)
        for network, gain in (("x", 0.5), ("y", -0.5))
    ]  # fmt: skip
    panels = panels_of("video", rows)
    assert [panel.title for panel in panels] == ["a", "b"]
    first = panels[0]
    assert list(first.series) == list(first.gains) == ["coded", "x", "y"]
    coded, x, _ = map(dict, first.series.values())
    assert coded == {4000 / 41: 29.5, 4000 / 29: 35.5}
    assert x == {4000 / 41: 30.0, 4000 / 29: 36.0}
    assert list(coded) == sorted(coded)
    assert [[y for _, y in points] for points in first.gains.values()] == [
        [0, 0], [0.5, 0.5], [-0.5, -0.5],
    ]  # fmt: skip
    assert panels_of("video", rows[:2]) == []  # one quantiser makes no curve


def test_variants_have_a_panel_for_each_limit_or_structure():
    def row(quantiser, limit, structure="default", filters=True):
        return video_row(
            quantiser=quantiser, limit_mbps=limit, structure=structure, in_loop_filters=filters
        )

    rows = [row(q, limit) for limit in (2.0, 1.5) for q in (29, 41)]
    assert [panel.title for panel in panels_of("variants", rows)] == [
        f"{AWKWARD}, limit 2 Mb/s", f"{AWKWARD}, limit 1.5 Mb/s",
    ]  # fmt: skip
    rows = [row(q, None, "all-intra", f) for f in (True, False) for q in (22, 37)]
    (panel,) = panels_of("variants", rows)
    assert panel.title == f"{AWKWARD}, all-intra"
    assert list(panel.series) == ["coded", "net", "coded, no filters", "net, no filters"]
    assert all(y == 0 for _, y in panel.gains["coded, no filters"])


def test_jpeg_is_over_quality_and_detections_over_rate():
    (panel,) = panels_of("jpeg", [jpeg_row(quality=q) for q in (40, 10)])
    assert panel.x == "JPEG quality"
    assert [x for x, _ in panel.series["coded"]] == [10, 40]
    rows = [
        detection_row(network, quantiser) | {"kbps": 9000 / quantiser}
        for quantiser in (41, 47) for network in ("coded", "net")
    ]  # fmt: skip
    (panel,) = panels_of("detection", rows)
    assert (panel.y, panel.gains) == ("AP50", {})
    assert [y for _, y in panel.series["coded"]] == [60, 60]


@pytest.mark.parametrize(
    ("rates", "marks"),
    [((90, 900), ["100", "200", "500"]), ((210, 240), ["220", "230"]), ((300, 300.1), None)],
)
def test_a_drawing_has_round_marks_and_its_points(rates, marks):
    rows = [
        video_row(network, quantiser=q, kbps=rate)
        for q, rate in zip((29, 41), rates, strict=True) for network in "abcdefghi"
    ]  # fmt: skip
    (panel,) = panels_of("video", rows)
    uri = drawn(panel)
    assert uri == drawn(panel)  # the same bytes
    text = base64.b64decode(uri.removeprefix("data:image/svg+xml;base64,")).decode()
    words = re.findall(r"<text[^>]*>([^<]*)</text>", text)
    assert set(marks or ()) <= set(words)
    assert {"kbit/s", "PSNR dB", "gain dB", "coded", *"abcdefghi"} <= set(words)
    assert text.count("<use") >= 2 * 10 * 2  # markers of two points of ten curves, twice
    assert set(COLOURS) <= set(re.findall(r"#[0-9a-f]{6}", text))
    assert "http" not in re.sub(r'xmlns[:\w]*="[^"]*"|<!DOCTYPE[^>]*>', "", text)  # loads nothing
