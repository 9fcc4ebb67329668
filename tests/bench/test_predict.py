"""Ceilings are counted from graphs, and a box without published figures gets none."""

import json
from dataclasses import replace

import pytest

from edgecar.artifact import find_artifact, read_artifact
from edgecar.bench.predict import predictions, work_of_tile
from edgecar.engines.targets import target_named
from edgecar.errors import SettingsError, WindowError
from edgecar.zoo.shipped import network_table
from tests.cli.conftest import edgecar  # noqa: F401  # a fixture

SIZE = (1080, 1920)


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("edgecar-s", 0),
        ("arcnn", 0),
        # Its transposed convolution of 9 by 9 is exported as four of 5 by 5, with noughts.
        ("fastarcnn", 64 * (4 * 5 * 5 - 9 * 9) / 4),
    ],
)
def test_work_is_what_the_networks_facts_say(name, more) -> None:
    """Strided and transposed convolutions among them."""
    tile = (64, 96)
    work = work_of_tile(read_artifact(find_artifact(name)), tile)
    (kmacs,) = (row["kmacs_per_px"] for row in network_table() if row["name"] == name)
    assert work.macs == pytest.approx((1000 * kmacs + more) * 64 * 96, rel=1e-3)  # to a MAC
    assert work.values > 2 * 64 * 96


def test_more_arithmetic_or_memory_is_never_slower() -> None:
    nano = target_named("orin-nano")
    slow = predictions(nano, SIZE)
    fast = predictions(replace(nano, memory_gb_s=2 * nano.memory_gb_s), SIZE)
    for one, other in zip(slow, fast, strict=True):
        assert other.fps == pytest.approx(2 * one.fps) or other.bound_by == "arithmetic"
        assert other.fps >= one.fps
        assert one.computed_share > 1


def test_ceiling_by_hand() -> None:
    """Nine tiles of 384 by 656 cover 1080p with a halo of 12."""
    nano = target_named("orin-nano")
    half = next(
        p for p in predictions(nano, SIZE) if (p.network, p.precision) == ("edgecar-s", "fp16")
    )
    pixels = 9 * 384 * 656
    assert half.computed_share == pytest.approx(pixels / (1080 * 1920))
    work = work_of_tile(read_artifact(find_artifact("edgecar-s")), nano.tile)
    seconds = max(9 * 2 * work.macs / 17e12, 9 * 2 * work.values / 102e9)
    assert half.fps == pytest.approx(1 / seconds)


def test_box_without_figures_gets_no_prediction() -> None:
    with pytest.raises(SettingsError, match="no ceilings are published for rtx"):
        predictions(target_named("rtx"), SIZE)


def test_frame_smaller_than_the_tile_is_refused() -> None:
    with pytest.raises(WindowError, match="build the engine for"):
        predictions(target_named("t4"), (240, 320))


def test_command_labels_what_it_prints(edgecar) -> None:  # noqa: F811
    done = edgecar("tune", "--target", "orin-nano", "--fps", "30")
    assert done.code == 0, done.err
    assert done.out.startswith("predicted for Jetson Orin Nano 8GB")
    assert "not measured" in done.out
    assert "may fit 30" in done.out
    assert "does not fit 30" in done.out
    rows = json.loads(edgecar("tune", "--target", "l4", "--res", "4k", "--json").out)
    assert rows["kind"] == "predicted"
    assert {row["fits"] for row in rows["rows"]} <= {True, False}
    for wrong in ((), ("clip.mp4", "--target", "l4")):
        assert "need a CLIP to measure on, or --target" in edgecar("tune", *wrong).err
