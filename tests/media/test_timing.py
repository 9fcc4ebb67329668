from collections import Counter, deque
from fractions import Fraction
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecar.errors import MediaError
from edgecar.media.frame import Frame
from edgecar.media.timing import DecodingTimes, JoinedTimes, Timeline, Timestamps

TICK = Fraction(1, 90000)
NTSC = Fraction(30000, 1001)


def picture(pts, dts=None):
    return SimpleNamespace(pts=pts, dts=dts)


def frame(pts, time_base=TICK):
    return Frame(*[np.zeros((1, 1), np.uint8)] * 3, pts, time_base)


@settings(deadline=None)
@given(st.lists(st.integers(0, 2**40)))
def test_stated_times_pass_untouched(times):
    clock = Timestamps(TICK, NTSC, warnings=Counter())
    assert [clock.pts_of(picture(pts)) for pts in times] == times


def test_missing_times_follow_the_rate_and_do_not_drift():
    clock = Timestamps(TICK, Fraction(25), warnings=Counter())
    times = [clock.pts_of(picture(pts)) for pts in (5000, None, None, 20000)]
    assert times == [5000, 8600, 12200, 20000]
    clock = Timestamps(Fraction(1, 1000), NTSC, warnings=(warnings := Counter()))
    times = [clock.pts_of(picture(None)) for _ in range(30001)]
    # One frame is 33.37 ms: rounding each to 33 would end 11 s early.
    assert (times[0], times[-1]) == (0, 1001 * 1000)
    assert warnings == {"timestamps missing, taken from 29.97 frames a second": 30001}


@pytest.mark.parametrize(("pts", "expected"), [(8_403_008, 3600), (903_600, 903_600)])
def test_times_far_from_their_place_in_the_file_are_replaced(pts, expected):
    """A flipped bit, as found in a transport stream: 93 s too late. Ten seconds may be meant."""
    clock = Timestamps(TICK, Fraction(25), warnings=(warnings := Counter()))
    clock.pts_of(picture(0, 0))
    assert clock.pts_of(picture(pts, 3600)) == expected
    assert warnings["impossible timestamps replaced"] == (pts != expected)


def test_decoding_times_are_dealt_out_in_the_order_of_showing():
    """The decoder runs two packets ahead; the third packet is damaged and gives no picture."""
    queue, times = deque(), []
    clock = DecodingTimes(queue, depth_frames=2)
    for dts in (0, 10, 21, 30, 40, 50):
        queue.append(dts)
        if dts >= 30:
            times.append(clock.pts_of(picture(None, dts)))
    times += [clock.pts_of(picture(None)) for _ in range(3)]
    assert times == [10, 21, 30, 40, 50, 51]


@settings(deadline=None)
@given(st.lists(st.one_of(st.none(), st.integers(-(2**33), 2**33)), min_size=1), st.booleans())
def test_an_output_never_goes_back(times, from_zero):
    line = Timeline(Fraction(1, 1000), Fraction(25), from_zero=from_zero, warnings=Counter())
    placed = [line.place(frame(pts)) for pts in times]
    assert all(early < late for early, late in pairwise(placed))
    assert not from_zero or placed[0] == 0


@settings(deadline=None)
@given(st.lists(st.integers(0, 2**40), min_size=1, unique=True).map(sorted))
def test_times_in_order_are_placed_exactly(times):
    line = Timeline(TICK, NTSC, from_zero=False, warnings=(warnings := Counter()))
    assert [line.place(frame(pts)) for pts in times] == times
    assert not warnings


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ([0, 3600, 3600, 7200], [0, 3600, 3601, 7200]),
        ([900_000, 903_600, 0, 3600, 7200], [900_000, 903_600, 907_200, 910_800, 914_400]),
    ],
    ids=["a repeated time moves by a tick", "after a restart frames keep their distance"],
)
def test_times_out_of_order_are_moved(times, expected):
    line = Timeline(TICK, Fraction(25), from_zero=False, warnings=(warnings := Counter()))
    assert [line.place(frame(pts)) for pts in times] == expected
    assert warnings == {"timestamps moved to keep frames in order": 1}


def joined(connections, **options):
    """Times of frames, given for each connection as ticks and arrival in seconds."""
    clock, placed = JoinedTimes(TICK, **options), []
    for number, frames in enumerate(connections):
        if number:
            clock.restart()
        placed += [clock.place(frame(pts), seconds).pts for pts, seconds in frames]
    return placed


FRAMES = st.lists(st.tuples(st.integers(-(2**33), 2**33), st.floats(0, 100)), min_size=1)


@settings(deadline=None)
@given(st.lists(FRAMES, min_size=1))
def test_joined_times_never_go_back(connections):
    """Each frame has its own time in ticks and the seconds before it arrives."""
    now, arrived = 0.0, []
    for frames in connections:
        arrived.append([(pts, now := now + pause) for pts, pause in frames])
    placed = joined(arrived)
    assert all(before <= after for before, after in pairwise(placed))
    assert placed[0] == connections[0][0][0]


def test_joined_times_follow_the_wall_clock_over_many_connections():
    """However late each one's first frame comes: by a second here, which must not add up."""
    # Those of the first second come at once, behind FFmpeg's look.
    connections = [
        [(90000 * second, 20.0 * index + max(second, 1)) for second in range(10)]
        for index in range(100)
    ]
    assert joined(connections) == [90000 * (20 * (n // 10) + n % 10) for n in range(1000)]


def test_joined_times_pass_a_small_step_back_as_none_and_a_large_one_as_a_new_start():
    times = [(0, 0.0), (3600, 0.04), (3599, 0.05), (7200, 0.08), (7200 - 90001, 5.0), (0, 6.0)]
    assert joined([times]) == [0, 3600, 3600, 7200, 5 * 90000, 5 * 90000 + 90001 - 7200]


@pytest.mark.parametrize("live", [True, False])
def test_joined_times_pass_over_a_clock_that_was_set(live):
    """It was put on by an hour while frames came; then the camera was away for one."""
    seconds = [(0, 0.0), (1, 1.0), (3602, 2.0), (3603, 3.0), (7203, 3603.0), (7208, 3604.0)]
    placed = joined([[(90000 * second, came) for second, came in seconds]], live=live)
    shown = [0, 1, 2, 3, 3603, 3608] if live else [second for second, _ in seconds]
    assert placed == [90000 * second for second in shown]


def test_joined_times_need_times():
    with pytest.raises(MediaError, match="without a time"):
        joined([[(None, 0.0)]])
