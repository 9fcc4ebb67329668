"""Verdicts: words that numbers decide."""

import pytest

from edgecar.report.content import headline, verdicts
from tests.report.conftest import detection_row, jpeg_row, video_row


@pytest.mark.parametrize(
    ("gains", "outcome", "words", "answer"),
    [
        (
            {"a": 0.2, "b": 0.42},
            "gains",
            "net: +0.31 dB over the coded clips on average, loses on none of 2 inputs; the lowest "
            "is +0.20 dB (a, CRF 41).",
            "In luma PSNR, cleaning pays here: the best is net.",
        ),
        (
            {"a": -0.2, "b": 0.42},
            "mixed",
            "loses on 1 of 2 inputs; the lowest is -0.20 dB (a, CRF 41)",
            "on some inputs and not on all",
        ),
        (
            {"a": -0.3},
            "loses",
            "net: -0.30 dB over the coded clips",
            "In luma PSNR, cleaning does not pay here",
        ),
        ({"a": 0.004}, "shows nothing", "+0.00 dB", "In luma PSNR, nothing is shown"),
    ],
)
def test_verdicts_on_gains(gains, outcome, words, answer):
    (verdict,) = verdicts("video", [video_row(clip=clip, gain=g) for clip, g in gains.items()])
    assert verdict.outcome == outcome
    assert words in verdict.words
    assert answer in headline([verdict], "video")


def test_the_headline_names_the_highest_mean_and_each_study_its_words():
    rows = [video_row(network, gain=gain) for network, gain in (("x", 0.1), ("y", 0.4), ("z", -1))]
    found = verdicts("video", rows)
    assert [verdict.network for verdict in found] == ["x", "y", "z"]
    assert headline(found, "video").endswith("the best is y.")
    (verdict,) = verdicts("video", [video_row(codec="hevc")])
    assert "QP 41" in verdict.words
    (verdict,) = verdicts("jpeg", [jpeg_row(quality=q, gain=g) for q, g in ((10, 0.5), (40, 0.1))])
    assert "+0.30 dB over the coded pictures on average, loses on none of 2" in verdict.words
    assert "quality 40" in verdict.words
    assert verdicts("detection", [detection_row("coded")]) == []
    assert headline([], "detection") == "Nothing was measured."


@pytest.mark.parametrize(
    ("interval", "outcome", "words"),
    [
        ((0.005, 0.035), "gains", "+2.0 points of AP50 over the coded frames (a, CRF 41; 95 %"),
        ((-0.001, 0.04), "shows nothing", "shows nothing (the interval contains 0), +2.0 points"),
        ((0.0, 0.04), "shows nothing", "the interval contains 0"),
        ((-0.05, -0.01), "loses", "95 % interval -5.0 to -1.0"),
    ],
)
def test_a_detector_on_one_input(interval, outcome, words):
    rows = [detection_row("coded"), detection_row(interval=interval, name="a")]
    (verdict,) = verdicts("detection", rows)
    assert verdict.outcome == outcome
    assert words in verdict.words
    low, high = (f"{100 * end:+.1f}" for end in interval)
    assert f"95 % interval {low} to {high}" in verdict.words
    if outcome == "loses":
        assert headline([verdict], "detection").startswith("In detections, cleaning does not pay")


def test_a_detector_on_several_inputs():
    rows = [
        detection_row(quantiser=35, gain=0.001, interval=(-0.01, 0.01), name="a"),
        detection_row(quantiser=41, gain=0.03, interval=(0.01, 0.05), name="a"),
        detection_row(quantiser=47, gain=-0.01, interval=(-0.02, -0.001), name="b"),
        detection_row(quantiser=47, gain=0.5, interval=(0.4, 0.6), name="mean of 2"),
        detection_row(quantiser=47, gain=0.5, interval=(0.4, 0.6), name="a")
        | {"objects": "person"},
    ]
    (verdict,) = verdicts("detection", rows)
    assert verdict.outcome == "mixed"
    assert verdict.value == pytest.approx(0.7)
    assert "of 3 comparisons it is shown better on 1, worse on 1, nothing on 1" in verdict.words
    assert (
        "from -1.0 points (b, CRF 47; 95 % interval -2.0 to -0.1) to +3.0 points" in verdict.words
    )
    (verdict,) = verdicts("detection", rows[:2])
    assert verdict.outcome == "mixed"  # better where it is shown at all, which is not everywhere
    (verdict,) = verdicts("detection", rows[1:2] * 2)
    assert verdict.outcome == "gains"
