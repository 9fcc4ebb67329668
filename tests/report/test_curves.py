"""Curves: their points, scales and drawings."""

import base64
import re

import pytest

from edgecar.report.curves import COLOURS, drawn, gain_panels_of, legend, panels_of
from tests.report.conftest import AWKWARD, detection_row, jpeg_row, video_row


def test_a_panel_for_each_clip_with_the_coded_clip_first():
    rows = [
        video_row(network, clip, quantiser, gain)
        for clip in ("a", "b") for quantiser in (29, 41)
        for network, gain in (("x", 0.5), ("y", -0.5))
    ]  # fmt: skip
    panels = panels_of("video", rows)
    assert [panel.title for panel in panels] == ["a", "b"]
    first = panels[0]
    assert list(first.series) == ["coded", "x", "y"]
    coded, x, _ = map(dict, first.series.values())
    assert coded == {4000 / 41: 29.5, 4000 / 29: 35.5}
    assert x == {4000 / 41: 30.0, 4000 / 29: 36.0}
    assert list(coded) == sorted(coded)


def test_gains_are_over_the_coded_clip_at_the_same_rate():
    rows = [video_row(quantiser=q, gain=g) for q, g in ((29, 0.5), (41, 0.25))]
    (panel,) = gain_panels_of("video", rows)
    coded, own = panel.series.values()
    assert [y for _, y in coded] == [0, 0]
    assert [y for _, y in own] == pytest.approx([0.25, 0.5])


def test_one_quantiser_makes_no_curve():
    assert panels_of("video", [video_row()]) == []
    assert gain_panels_of("video", [video_row()]) == []


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
    names = ["coded", "net", "coded, no filters", "net, no filters"]
    assert list(panel.series) == names
    (panel,) = gain_panels_of("variants", rows)
    assert all(y == 0 for _, y in panel.series["coded, no filters"])


def test_jpeg_is_over_quality_and_detections_over_rate():
    (panel,) = panels_of("jpeg", [jpeg_row(quality=q) for q in (40, 10)])
    assert panel.x == "JPEG quality"
    assert [x for x, _ in panel.series["coded"]] == [10, 40]
    rows = [
        detection_row(network, quantiser) | {"kbps": 9000 / quantiser}
        for quantiser in (41, 47) for network in ("coded", "net")
    ]  # fmt: skip
    (panel,) = panels_of("detection", rows)
    assert panel.y == "mAP50"
    assert [y for _, y in panel.series["coded"]] == [60, 60]
    assert gain_panels_of("detection", rows) == []


def svg(uri: str) -> str:
    return base64.b64decode(uri.removeprefix("data:image/svg+xml;base64,")).decode()


@pytest.mark.parametrize(
    ("rates", "marks"),
    [((90, 900), ["100", "200", "500"]), ((210, 240), ["220", "230"]), ((300, 300.1), None)],
)
def test_a_drawing_has_round_marks_and_its_points(rates, marks):
    rows = [video_row(quantiser=q, kbps=rate) for q, rate in zip((29, 41), rates, strict=True)]
    (panel,) = panels_of("video", rows)
    text = svg(drawn(panel, ["coded", "net"]))
    words = re.findall(r"<text[^>]*>([^<]*)</text>", text)
    assert set(marks or ()) <= set(words)
    assert {"kbit/s", "PSNR dB"} <= set(words)
    assert len(words) >= 2 + 2 + 2  # names of the axes, and two marks on each
    assert text.count("<use") >= 4  # markers of two points of two curves
    assert not set(re.findall(r"#[0-9a-f]{6}", text)) - {*COLOURS, *COLOURS.values()}


def test_the_legend_tells_more_curves_apart_than_there_are_colours():
    assert len({drawing for _, drawing in legend(map(str, range(20)))}) == 20
    assert legend(["coded"]) == legend(["coded"])
