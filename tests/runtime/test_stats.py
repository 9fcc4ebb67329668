"""Every frame ends in one count, whatever threads count it; times and rates by a clock at hand."""

import json
import threading
import time
from itertools import count

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecar.media.frame import Coding
from edgecar.media.live import LiveStats
from edgecar.runtime.stats import RunStats, StageTimes

OUTCOMES = ["restored", "dropped", "below_qp", "above_quality", "over_latency_budget"]


class Clock:
    seconds = 100.0

    def __call__(self):
        return self.seconds


def interleaved(*functions):
    """Run each in a thread, which may stop after every single operation of what is tested."""

    def switch(frame, _event, _argument):
        if not frame.f_globals["__name__"].startswith("edgecar."):
            return None
        frame.f_trace_opcodes = True
        time.sleep(0)
        return switch

    threads = [threading.Thread(target=function) for function in functions]
    threading.settrace(switch)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        threading.settrace(None)


def counted(stats, outcome):
    match outcome:
        case "restored":
            stats.count_restored()
        case "dropped":
            stats.count_dropped()
        case reason:
            stats.count_passed(reason)


@given(st.lists(st.sampled_from(OUTCOMES)), st.integers(0, 5))
def test_frames_are_counted_once(outcomes, in_flight):
    stats = RunStats()
    for outcome in outcomes:
        stats.count_read()
        counted(stats, outcome)
    for _ in range(in_flight):
        stats.count_read()
    passed = {reason: outcomes.count(reason) for reason in OUTCOMES[2:] if reason in outcomes}
    assert stats.snapshot().table()["frames"] == {
        "read": len(outcomes) + in_flight,
        "restored": outcomes.count("restored"),
        "passed": sum(passed.values()),
        "dropped": outcomes.count("dropped"),
        "in_flight": in_flight,
        "corrupt": 0,
    }
    assert stats.snapshot().passed_because == passed


def test_no_snapshot_shows_a_frame_leave_before_it_came():
    stats, rounds, shots = RunStats(), 20, []

    def work():
        for number in range(rounds):
            stats.count_read()
            counted(stats, OUTCOMES[number % len(OUTCOMES)])

    interleaved(work, work, work, lambda: shots.extend(stats.snapshot() for _ in range(rounds)))
    assert all(0 <= shot.frames_in_flight <= 3 for shot in shots)
    assert all(shot.frames_dropped >= 0 for shot in shots)
    assert len({shot.frames_read for shot in shots}) > 1
    last = stats.snapshot()
    assert (last.frames_read, last.frames_in_flight) == (60, 0)
    assert last.outcomes == {"restored": 12, "passed": 36, "dropped": 12}


def test_rates_look_back_on_the_last_seconds_only():
    clock = Clock()
    stats = RunStats(recent_seconds=10, clock=clock)
    stats.count_read()
    assert stats.snapshot().camera_fps == 0  # no time has passed
    for number in range(300):
        clock.seconds = 100 + number / 20
        if number:
            stats.count_read()
        counted(stats, "restored" if number % 4 else "dropped")
        if number == 40:  # after 2 s: 41 frames, 30 of them restored
            early = stats.snapshot()
    clock.seconds = 115
    now = stats.snapshot()
    assert (early.camera_fps, early.process_fps, early.skipped_fps) == (20.5, 15, 5.5)
    assert (now.camera_fps, now.process_fps, now.skipped_fps) == (19.9, 15, 4.9)
    assert now.seconds == 15
    clock.seconds = 125
    assert (stats.snapshot().camera_fps, stats.snapshot().frames_read) == (0, 300)


def test_mean_qp_and_quality_of_all_and_of_the_last_seconds():
    clock = Clock()
    stats = RunStats(recent_seconds=10, clock=clock)
    stats.count_read()
    assert stats.snapshot().qp is stats.snapshot().qp_recent is None
    for seconds, qp in ((101, 40), (111, 20), (112, 30)):
        clock.seconds = seconds
        stats.count_read(Coding(qp=qp))
        stats.count_read(Coding(jpeg_quality=2 * qp))
    shot = stats.snapshot()
    assert (shot.qp, shot.qp_recent) == (30, 25)
    assert (shot.jpeg_quality, shot.jpeg_quality_recent) == (60, 50)
    clock.seconds = 130
    assert (stats.snapshot().qp, stats.snapshot().qp_recent) == (30, None)


def test_what_others_count_is_taken_at_every_snapshot():
    stats, source = RunStats(), LiveStats()
    stats.source, stats.queues = lambda: source, {"read": count(3).__next__}
    assert stats.snapshot().queue_depths == {"read": 3}
    source.connects, source.corrupt_frames = 3, 5
    stats.work.count((1, 4), tiles=7, pixels=1, seconds=0.1)
    shot = stats.snapshot()
    assert (shot.reconnects, shot.corrupt_frames) == (2, 5)
    assert (shot.windows_run, shot.computed_share) == (7, 0.25)
    assert shot.queue_depths == {"read": 4}


def test_what_is_watched_may_count_itself():
    """As a queue does whose lock is held by a thread that counts."""
    stats = RunStats()

    def depth():
        other = threading.Thread(target=stats.count_dropped)
        other.start()
        other.join(timeout=10)
        assert not other.is_alive()
        return 1

    stats.count_read()
    stats.queues["read"] = depth
    assert stats.snapshot().frames_dropped == 1


def test_the_table_is_json():
    stats = RunStats()
    stats.count_read(Coding(qp=30.123456))
    stats.count_passed("below_qp")
    stats.times.add("restore", 0.0421)
    stats.queues["read"] = lambda: 2
    table = json.loads(json.dumps(stats.snapshot().table()))
    assert (table["qp"], table["jpeg_quality"]) == (30.12, None)
    assert table["passed_because"] == {"below_qp": 1}
    assert table["queue_depths"] == {"read": 2}
    milliseconds = dict.fromkeys(("mean_ms", "p50_ms", "p95_ms", "p99_ms"), 42.1)
    assert table["latency"] == {"restore": {"frames": 1, **milliseconds}}


def test_percentiles_are_times_that_occurred():
    times = StageTimes()
    for milliseconds in np.random.default_rng(0).permutation(np.arange(1, 101)):
        times.add("restore", milliseconds / 1000)
    latency = times.latencies()["restore"]
    assert (latency.p50_seconds, latency.p95_seconds, latency.p99_seconds) == (0.05, 0.095, 0.099)


def test_percentiles_forget_old_frames_and_totals_do_not():
    times = StageTimes(kept=4)
    for seconds in (9, 9, 9, 1, 2, 3, 4):
        times.add("write", seconds)
    latency = times.latencies()["write"]
    assert (latency.p50_seconds, latency.p99_seconds) == (2, 4)
    assert (latency.frames, latency.total_seconds) == (7, 37)


def test_stages_are_apart_and_a_failed_one_is_not_timed():
    times = StageTimes(clock=count().__next__)
    with times.timed("read"):
        pass
    with pytest.raises(OSError, match="gone"), times.timed("restore"):
        raise OSError("gone")
    times.add("write", 5)
    assert [(s, t.total_seconds) for s, t in times.latencies().items()] == [
        ("read", 1),
        ("write", 5),
    ]


def test_times_from_many_threads_are_all_there():
    times, rounds = StageTimes(kept=8), 50

    def work():
        for number in range(rounds):
            times.add(str(number % 2), 1)

    interleaved(work, work, work)
    assert [(t.frames, t.total_seconds) for t in times.latencies().values()] == [(75, 75)] * 2
