"""Networks given up under load, and got back, and those that cannot be run as asked."""

from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecar.engines.fake import FakeEngine
from edgecar.runtime.camera import StreamFrame
from edgecar.runtime.restorer import Restorer
from edgecar.runtime.stats import RunStats
from edgecar.serve.camera import CameraRun
from edgecar.serve.networks import FULL, Demand, Networks, Shedder
from edgecar.serve.settings import CameraSettings, EngineChoice
from tests.runtime.test_pipeline import frame_number
from tests.runtime.test_restorer import fake_artifact

COSTS = (0.06, 0.02, 0.0)


def demand(name="a", fps=25.0, priority=0, costs=COSTS) -> Demand:
    return Demand(name, fps, priority, costs)


def settled(shedder: Shedder, demands, ticks=3) -> dict[str, int]:
    for _ in range(ticks):
        levels = shedder.levels(demands)
    return dict(levels)


@pytest.mark.parametrize(
    ("demands", "levels"),
    [
        ([demand(fps=10), demand("b", fps=5)], {"a": 0, "b": 0}),  # there is room
        ([demand("vip", fps=10, priority=5), demand("b", fps=10)], {"vip": 0, "b": 1}),
        ([demand(fps=200)], {"a": 2}),  # the smallest network is too much
        ([demand(fps=100, costs=(0.06,))], {"a": 0}),  # nothing to fall back on
    ],
)
def test_the_least_important_camera_gives_up_what_is_needed(demands, levels):
    assert settled(Shedder(), demands) == levels


def test_one_burst_is_not_enough_and_a_camera_that_is_gone_is_forgotten():
    shedder = Shedder()
    for fps in (100, 1, 100):
        assert shedder.levels([demand(fps=fps)]) == {"a": 0}
    assert settled(shedder, [demand(fps=200)]) == {"a": 2}
    shedder.levels([])
    assert shedder.levels([demand(fps=1)]) == {"a": 0}


def test_it_comes_back_one_at_a_time_and_only_where_there_is_room():
    shedder = Shedder()
    heavy = [demand("a", fps=30), demand("b", fps=30)]
    assert sum(settled(shedder, heavy).values()) > 0
    light = [demand("a", fps=5), demand("b", fps=5)]
    steps = [sum(shedder.levels(light).values()) for _ in range(40)]
    assert all(before - after in (0, 1) for before, after in pairwise(steps))
    assert steps[-1] == 0


def test_a_step_up_that_does_not_last_is_tried_less_and_less_often():
    shedder = Shedder()
    # What was measured says there is room; what it costs in truth does not.
    gentle, harsh = demand(fps=20, costs=(0.03, 0.01, 0.0)), demand(fps=20, costs=(0.09, 0.01, 0.0))
    ups = []
    level = 0
    for tick in range(400):
        before, level = level, shedder.levels([gentle if level else harsh])["a"]
        if level < before:
            ups.append(tick)
    gaps = [after - before for before, after in pairwise(ups)]
    assert len(gaps) > 2
    assert gaps == sorted(gaps)
    assert gaps[-1] > 2 * gaps[0]


def test_a_cost_measured_on_a_busy_machine_does_not_keep_it_down_for_ever():
    shedder = Shedder()
    busy = demand(fps=10, costs=(1.0, 0.0))
    assert settled(shedder, [busy]) == {"a": 1}
    assert 0 in {shedder.levels([busy])["a"] for _ in range(50)}  # tried again
    free = demand(fps=10, costs=(0.02, 0.0))  # as it is measured then
    settled(shedder, [busy], 50)
    assert settled(shedder, [free], 50) == {"a": 0}


def test_costs_that_were_not_measured_are_guessed_from_the_nearest():
    assert demand(costs=(None, 0.02, 0.0)).cost(0) == pytest.approx(0.05)
    assert demand(costs=(0.05, None, 0.0)).cost(1) == pytest.approx(0.02)
    assert demand(costs=(None, None)).cost(0) == 0.0


costs = st.lists(st.floats(0.001, 0.2), min_size=1, max_size=3).map(
    lambda c: (*sorted(c, reverse=True), 0.0)
)
demands = st.lists(
    st.builds(
        Demand,
        name=st.sampled_from("abcdef"),
        fps=st.floats(0, 60),
        priority=st.integers(-2, 2),
        costs=costs,
    ),
    max_size=6,
    unique_by=lambda each: each.name,
)


@given(demands)
def test_it_always_gets_below_full_where_frames_may_pass(them):
    shedder = Shedder()
    levels = settled(shedder, them)
    assert shedder.load(them) <= FULL
    assert all(0 <= levels[each.name] < len(each.costs) for each in them)


@pytest.mark.parametrize(
    ("takes", "quantiser", "said"),
    [(True, 30, None), (True, 60, "need a QP, 0 to 51"), (False, 30, "which takes none")],
)
def test_a_camera_whose_quantiser_does_not_fit_its_network_passes_and_says_why(
    takes, quantiser, said
):
    artifact = fake_artifact()
    metadata = replace(artifact.metadata, trained_on="h264 crf 10-51", takes_quantiser=takes)
    restorer = Restorer(replace(artifact, metadata=metadata), FakeEngine(lambda batch: batch))
    settings = CameraSettings(name="gate", source="a.mp4", coder="h264", quantiser=quantiser)
    networks = Networks(EngineChoice(), lambda *_: restorer)
    camera = CameraRun(settings, pipeline=None, networks=networks, publisher=None)
    camera._source = SimpleNamespace(codec="h264", facts=None, restarts=0)
    way = camera.choose(StreamFrame(frame_number(0), "gate", RunStats(), 0.0))
    if said is None:
        assert way is restorer
        assert camera.status.error is None
    else:
        assert way == "engine_failed"
        assert said in camera.status.error
