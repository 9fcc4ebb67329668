"""Curves: which points, on which scale, and drawn where."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecar.report.curves import gain_panels_of, panels_of
from edgecar.report.markup import written
from edgecar.report.plot import HEIGHT, WIDTH, Axis, figure, legend, round_values
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
    assert [series.name for series in first.series] == ["coded", "x", "y"]
    coded, x, _ = (dict(series.points) for series in first.series)
    assert coded == {4000 / 41: 29.5, 4000 / 29: 35.5}
    assert x == {4000 / 41: 30.0, 4000 / 29: 36.0}
    assert list(coded) == sorted(coded)


def test_gains_are_over_the_coded_clip_at_the_same_rate():
    rows = [video_row(quantiser=q, gain=g) for q, g in ((29, 0.5), (41, 0.25))]
    (panel,) = gain_panels_of("video", rows)
    coded, own = panel.series
    assert [y for _, y in coded.points] == [0, 0]
    assert [y for _, y in own.points] == pytest.approx([0.25, 0.5])


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
    assert [series.name for series in panel.series] == names
    (panel,) = gain_panels_of("variants", rows)
    assert all(y == 0 for _, y in panel.series[2].points)


def test_jpeg_is_over_quality_and_detections_over_rate():
    (panel,) = panels_of("jpeg", [jpeg_row(quality=q) for q in (40, 10)])
    assert panel.x == "JPEG quality"
    assert [x for x, _ in panel.series[0].points] == [10, 40]
    rows = [
        detection_row(network, quantiser) | {"kbps": 9000 / quantiser}
        for quantiser in (41, 47) for network in ("coded", "net")
    ]  # fmt: skip
    (panel,) = panels_of("detection", rows)
    assert panel.y == "mAP50"
    assert [y for _, y in panel.series[0].points] == [60, 60]
    assert gain_panels_of("detection", rows) == []


@given(st.floats(-1e4, 1e4), st.floats(1e-3, 1e4))
def test_round_values_lie_inside_and_are_neither_too_few_nor_too_many(low, span):
    values = round_values(low, low + span)
    assert 2 <= len(values) <= 7
    assert all(low - span / 1e6 <= value <= low + span * (1 + 1e-6) for value in values)


def test_equal_ratios_are_equally_far_apart_on_a_scale_of_rates():
    axis = Axis([100, 1600], 0, 400, True)
    assert axis.at(400) - axis.at(200) == pytest.approx(axis.at(1600) - axis.at(800))
    assert axis.ticks() == [100, 200, 500, 1000]
    near = Axis([210, 240], 0, 400, True)  # no 1, 2 or 5 in between
    assert len(near.ticks()) >= 2


def test_a_curve_without_height_has_its_place():
    axis = Axis([30.0, 30.0], 0, 100, False)
    assert axis.at(30.0) == 50
    assert axis.ticks()


def test_points_are_inside_the_drawing_and_say_what_they_are():
    rows = [video_row(quantiser=q, gain=q / 100) for q in (29, 35, 47)]
    (panel,) = panels_of("video", rows)
    text = written(figure(panel, ["coded", "net"]))
    places = re.findall(r"translate\(([-\d.]+) ([-\d.]+)\)", text)
    assert len(places) == 6
    assert all(0 < float(x) < WIDTH and 0 < float(y) < HEIGHT for x, y in places)
    assert "<title>net: 137.9 kbit/s, 35.79 PSNR dB</title>" in text
    assert "gate &lt;b&gt;" in text
    assert "<b>" not in text


def test_the_legend_tells_more_curves_apart_than_there_are_colours():
    names = [f"network {place}" for place in range(20)]
    entries = re.findall(r"<li>.*?</li>", written(legend(names)))
    samples = [re.sub(r"network \d+", "", entry) for entry in entries]
    assert len(set(samples)) == 20
