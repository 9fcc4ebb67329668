"""Frames go through threads in order, are all accounted for, and a failure ends everything."""

import gc
import threading
import time
import weakref
from collections.abc import Iterator
from fractions import Fraction
from itertools import count

import numpy as np
import pytest

from edgecar.engines.fake import FakeEngine
from edgecar.errors import EngineError, SettingsError
from edgecar.media.frame import Coding, Frame
from edgecar.media.live import LiveSource, LiveStats
from edgecar.runtime.pipeline import Pipeline, PipelineSettings
from edgecar.runtime.restorer import Restorer
from tests.runtime.test_restorer import fake_artifact

SECONDS_TO_STOP = 5  # the design's promise


def frame_number(number: int, qp: float | None = None) -> Frame:
    y = np.full((16, 16), number % 200, np.uint8)
    chroma = np.full((8, 8), 128, np.uint8)
    return Frame(y, chroma, chroma, number, Fraction(1, 25), coding=Coding(qp))


class Source:
    """Frames numbered from 0, as fast or slow as asked for."""

    def __init__(
        self, count=None, *, live=False, pause=0.0, fails_after=None, qps=(), sticks=False
    ):
        self.count, self.live, self.pause, self.sticks = count, live, pause, sticks
        self.fails_after, self.qps = fails_after, qps
        self.given, self.closed = 0, False

    def __iter__(self) -> Iterator[Frame]:
        while self.count is None or self.given < self.count:
            if self.given == self.fails_after:
                raise OSError("camera gone")
            if self.pause:
                time.sleep(self.pause)
            qp = self.qps[self.given] if self.qps else None
            self.given += 1
            yield frame_number(self.given - 1, qp)

    def close(self) -> None:
        self.closed = True
        if self.sticks:
            raise OSError("the camera will not let go")


class Live(LiveSource):
    """A source of frames without end that anyone may close."""

    live = True
    stats = LiveStats()

    def __init__(self):
        self.closed = threading.Event()

    def __iter__(self) -> Iterator[Frame]:
        number = 0
        while not self.closed.wait(0.002):
            number += 1
            yield frame_number(number)

    def close(self) -> None:
        self.closed.set()


def restorer_with(function=lambda batch: batch + np.float32(1 / 255)) -> Restorer:
    return Restorer(fake_artifact(), FakeEngine(function))


def lost(_batch):
    raise EngineError("the device was lost")


@pytest.fixture(autouse=True)
def _no_threads_are_left():
    yield
    assert not [t for t in threading.enumerate() if t.name.startswith("edgecar-")]


@pytest.mark.parametrize("names", ["a", "abc"])
def test_every_frame_comes_out_restored_and_in_order(names):
    sources = {name: Source(40) for name in names}
    with Pipeline(sources, restorer_with()) as pipeline:
        frames = list(pipeline)
    for name in names:
        own = [frame for frame in frames if frame.camera == name]
        assert [frame.pts for frame in own] == list(range(40))
        assert all(frame.restored and (frame.frame.y == frame.before.y + 1).all() for frame in own)
        assert own[25].pts_seconds == 1.0
        assert own[0].bgr.shape == (16, 16, 3)
        counted = own[-1].stats
        numbers = counted.frames_read, counted.frames_restored, counted.frames_in_flight
        assert numbers == (40, 40, 0)
        assert set(counted.latencies) == {"read", "restore", "age"}
        assert sources[name].closed


@pytest.mark.parametrize(
    ("source", "said"),
    [(Source(fails_after=7), "camera gone"), (Source(7, sticks=True), "will not let go")],
)
def test_a_failure_of_a_source_comes_after_what_was_read(source, said):
    got = []
    with (
        pytest.raises(OSError, match=said),
        Pipeline({"": source}, restorer_with()) as pipeline,
    ):
        got.extend(frame.pts for frame in pipeline)
    assert got == list(range(7))


def test_engine_failure_ends_all_cameras():
    sources = {"a": Source(), "b": Source()}
    began = time.monotonic()
    with (
        pytest.raises(EngineError, match="the device was lost"),
        Pipeline(sources, restorer_with(lost)) as pipeline,
    ):
        next(pipeline)
    assert time.monotonic() - began < SECONDS_TO_STOP
    assert all(source.closed for source in sources.values())


def test_leaving_early_stops_an_endless_source_that_was_only_a_few_frames_ahead():
    source = Source()
    with Pipeline({"": source}, restorer_with(), PipelineSettings(policy="block")) as pipeline:
        next(pipeline)
        time.sleep(0.3)
        assert source.given <= 10  # three queued on either side of the engine, four in hands
        began = time.monotonic()
    assert time.monotonic() - began < SECONDS_TO_STOP
    assert source.closed
    left = pipeline.cameras[""].stats.snapshot()
    assert left.frames_in_flight == 0  # what was queued counts as dropped


def test_under_newest_a_sleeping_consumer_does_not_stall_the_reader():
    source = Source(live=True, pause=0.002)
    with Pipeline({"": source}, restorer_with()) as pipeline:
        first = next(pipeline)
        given = source.given
        time.sleep(0.4)
        assert source.given > given + 20
        later = [next(pipeline) for _ in range(3)]
        assert later[-1].pts > first.pts + 20
        assert [f.pts for f in later] == sorted(f.pts for f in later)
        assert later[-1].stats.frames_dropped > 20
    counted = pipeline.cameras[""].stats.snapshot()
    assert counted.frames_read == counted.frames_restored + counted.frames_dropped


def test_a_fast_camera_leaves_a_slow_one_its_turn():
    seen = {"fast": 0, "slow": 0}
    sources = {"fast": Source(), "slow": Source(20, pause=0.001)}
    with Pipeline(sources, restorer_with()) as pipeline:
        while seen["slow"] < 20:
            seen[next(pipeline).camera] += 1
    assert seen["fast"] < 2000


def test_frames_over_the_latency_budget_pass():
    def slow(batch):
        time.sleep(0.03)
        return batch

    settings = PipelineSettings(max_latency_ms=40)
    with Pipeline({"": Source(12)}, restorer_with(slow), settings) as pipeline:
        frames = list(pipeline)
    passed = [frame for frame in frames if not frame.restored]
    assert 0 < len(passed) < 12
    assert all(frame.frame is frame.before for frame in passed)
    counted = frames[-1].stats
    assert counted.passed_because == {"over_latency_budget": len(passed)}
    assert counted.frames_restored == 12 - len(passed)
    with pytest.raises(SettingsError, match="max_latency_ms is 0; give a time above 0"):
        PipelineSettings(max_latency_ms=0)


def test_frames_that_waited_too_long_pass():
    seconds = count()  # a clock that goes on by a second each time that it is read
    settings = PipelineSettings(max_latency_ms=500)
    clock = lambda: float(next(seconds))  # noqa: E731
    with Pipeline({"": Source(6)}, restorer_with(), settings, clock) as pipeline:
        assert [frame.passed_because for frame in pipeline] == ["over_latency_budget"] * 6


def test_finely_coded_frames_pass():
    qps = (18.0, 30.0, None, 24.9, 25.0)
    settings = PipelineSettings(skip_below_qp=25)
    assert settings.reads_coding()
    with Pipeline({"": Source(5, qps=qps)}, restorer_with(), settings) as pipeline:
        restored = [frame.restored for frame in pipeline]
    assert restored == [False, True, True, False, True]


def frames_of(pipeline, camera: str, count: int) -> list:
    frames = []
    while len(frames) < count:
        frame = next(pipeline)
        frames += [frame] if frame.camera == camera else []
    return frames


def test_cameras_come_and_go_while_others_run():
    restorer = restorer_with()
    with Pipeline({}, restorer, endless=True) as pipeline:
        for name in ("front", "yard"):
            pipeline.add(name, Live())
            assert frames_of(pipeline, name, 3)
        front = pipeline.cameras["front"]
        pipeline.remove("front")
        assert front.source.closed.is_set()
        assert not front.thread.is_alive()
        assert len(frames_of(pipeline, "yard", 5)) == 5
        assert front.stats.snapshot().frames_in_flight == 0
        assert restorer.stats_of("front").frames == 0  # nothing is remembered of it
        assert restorer.stats_of("yard").frames > 0
        pipeline.add("front", Live())  # the name is free again
        assert frames_of(pipeline, "front", 2)
        with pytest.raises(SettingsError, match="runs already"):
            pipeline.add("front", Live())


def test_a_function_chooses_what_restores_each_frame():
    brighter, same = restorer_with(), restorer_with(lambda batch: batch)

    def choose(frame):
        return {0: brighter, 1: same}.get(frame.pts % 3, "overload")

    with Pipeline({"": Source(9)}, choose) as pipeline:
        frames = list(pipeline)
    changes = [int(f.frame.y[0, 0]) - int(f.before.y[0, 0]) for f in frames]
    assert changes == [1, 0, 0] * 3
    assert [f.restored for f in frames] == [True, True, False] * 3
    counted = frames[-1].stats
    assert counted.passed_because == {"overload": 3}
    assert counted.frames_restored == 6
    assert counted.computed_share == 1.0  # of what both restorers did


def test_a_restorer_that_fails_may_let_its_frames_pass():
    told = []

    def failed(restorer, error):
        told.append((restorer, str(error)))
        return "engine_failed"

    restorer = restorer_with(lost)
    with Pipeline({"": Source(3)}, restorer, failed=failed) as pipeline:
        frames = list(pipeline)
    assert [f.restored for f in frames] == [False] * 3
    assert frames[-1].stats.passed_because == {"engine_failed": 3}
    assert set(told) == {(restorer, "the device was lost")}


def test_restorers_that_failed_are_let_go_and_what_they_did_still_counts():
    """A service opens another one in place of each."""
    opened, kept = [], []

    def choose(_frame) -> Restorer:
        if not kept:
            kept.append(restorer_that_fails_after(frames=5))
            opened.append(weakref.ref(kept[0]))
        return kept[0]

    def failed(restorer, _error):
        restorer.close()
        kept.remove(restorer)
        return "engine_failed"

    sources = {"gate": Source(24), "yard": Source(24)}
    with Pipeline(sources, choose, failed=failed) as pipeline:
        cameras = dict(pipeline.cameras)
        assert sum(1 for _ in pipeline) == 48
        gc.collect()
        assert len(opened) > 5
        assert [each() for each in opened if each() is not None] == kept
        counted = [camera.stats.snapshot() for camera in cameras.values()]
        assert sum(each.windows_run for each in counted) == sum(
            each.frames_restored for each in counted
        )
        assert all(each.frames_in_flight == 0 for each in counted)


def restorer_that_fails_after(frames: int) -> Restorer:
    left = iter(range(frames))
    run = lambda batch: batch if next(left, None) is not None else lost(batch)  # noqa: E731
    return Restorer(fake_artifact(), FakeEngine(run), reuse=False)


def test_a_pipeline_that_is_closed_leaves_no_memory_in_a_restorer_of_the_callers():
    """One restorer for a thousand clips keeps nothing of those that are done."""
    restorer = restorer_with()
    for name in ("first", "second"):
        with Pipeline({name: Source(3)}, restorer) as pipeline:
            camera = pipeline.cameras[name]
            list(pipeline)
        assert camera.stats.snapshot().windows_run > 0
        assert restorer.stats_of(name).frames == 0
        assert not restorer._runner.caches
    assert restorer.stats.frames == 6


def test_its_own_thread_may_close_it():
    """As the collector of garbage does where it comes upon a pipeline there."""
    made: list[Pipeline] = []
    failures: list[BaseException] = []

    def choose(_frame):
        try:
            made[0].close()
        except BaseException as error:
            failures.append(error)
        return "network_off"

    source = Source(3, pause=0.2)
    made.append(Pipeline({"gate": source}, choose))
    list(made[0])
    made[0].close()
    assert failures == []
    assert source.closed
