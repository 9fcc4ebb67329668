"""A live reader whose source hangs up, fails or falls silent: no network, no waiting."""

import logging
import random
import threading
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest

from edgecar.errors import MediaError, SettingsError, StallError
from edgecar.media.facts import StreamFacts
from edgecar.media.frame import Frame, chroma_size
from edgecar.media.live import LiveReader
from edgecar.media.packets import CORRUPT_FRAMES, NO_KEYFRAME, SKIPPED_PACKETS
from edgecar.media.reader import Reader
from edgecar.media.sources import Backoff, LiveSettings, source_from

SIZE = (4, 6)
TICK = Fraction(1, 1000)
URL = "rtsp://admin:Secret1@10.0.0.5/main"
SHOWN = "rtsp://***@10.0.0.5/main"
LONGEST_TEST_SECONDS = 20


def frames(count, start=0, time_base=TICK):
    planes = [np.zeros(shape, np.uint8) for shape in (SIZE, chroma_size(SIZE), chroma_size(SIZE))]
    return [Frame(*planes, start + 40 * index, time_base) for index in range(count)]


def lost(words="broke off"):
    return MediaError(f"{SHOWN} {words}")


class FakeReader:
    """Follows a script: gives frames, raises errors, calls functions."""

    codec = "h264"

    def __init__(self, script, *, live=True, time_base=TICK):
        self.facts = StreamFacts(SIZE, Fraction(25), time_base, live=live)
        self.closed = threading.Event()
        self._script = iter(script)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.closed.set()

    def __next__(self):
        item = next(self._script)
        while callable(item):
            item()
            item = next(self._script)
        if isinstance(item, Exception):
            raise item
        return item


class World:
    """A source whose connections are scripted, and a clock that only sleeping moves."""

    def __init__(self, *connections):
        self.connections = list(connections)
        self.now, self.calls, self.sleeps = 1000.0, [], []

    def open(self, source, **_):
        self.calls.append(source)
        outcome = self.connections.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome if isinstance(outcome, FakeReader) else FakeReader(outcome)

    def sleep(self, seconds):
        self.sleeps.append(seconds)
        self.now += seconds

    def reader(self, settings=LiveSettings(), source=URL, **options):  # noqa: B008  # frozen
        world = {"opener": self.open, "sleep": self.sleep, "clock": lambda: self.now}
        return LiveReader(source_from(source), settings, rng=random.Random(0), **world | options)


def take(reader, count):
    return [next(reader) for _ in range(count)]


def test_frames_of_the_first_connection_pass_untouched():
    sent = frames(5, start=90)
    reader = FakeReader([*sent, *frames(9)])
    with World(reader).reader() as live:
        assert [frame.pts for frame in take(live, 5)] == [frame.pts for frame in sent]
        assert (live.live, live.codec, live.facts.size) == (True, "h264", SIZE)
        stats = live.stats
        assert not reader.closed.is_set()
    assert reader.closed.is_set()
    assert (stats.state, stats.frames, stats.connects, stats.reconnects) == ("streaming", 5, 1, 0)
    assert stats.last_frame_unix_seconds is not None
    assert stats.last_error is None


@pytest.mark.parametrize(
    ("end", "error", "stalls"),
    [
        ([], f"{SHOWN} hung up; connect again", 0),
        ([lost()], f"{SHOWN} broke off", 0),
        ([StallError("silent")], "silent", 1),
    ],
)
def test_frames_go_on_after_a_connection_is_lost(end, error, stalls):
    with World([*frames(3), *end], frames(2)).reader() as live:
        assert len(take(live, 5)) == 5
        stats = live.stats
    assert (stats.frames, stats.connects, stats.reconnects) == (5, 2, 1)
    assert (stats.stalls, stats.failed_connects, stats.last_error) == (stalls, 0, error)


def test_a_first_connection_that_fails_is_not_repeated_and_later_ones_are_whatever_the_reason():
    world = World(lost("does not open"))
    with pytest.raises(MediaError, match="does not open"):
        world.reader()
    assert (len(world.calls), world.sleeps) == (1, [])
    refused = [lost("does not open (401 Unauthorized)"), lost("does not open (404 Not Found)")]
    world = World(frames(1), *refused * 20, frames(1))
    with world.reader() as live:
        take(live, 2)
        assert (live.stats.connects, live.stats.failed_connects) == (2, 40)
        assert live.stats.last_error == str(refused[1])
    assert len(world.sleeps) == 41


def test_waits_double_up_to_the_longest_and_begin_anew_after_a_steady_connection():
    settings = LiveSettings(first_backoff_seconds=1, longest_backoff_seconds=5, backoff_jitter=0)
    world = World(frames(1), *[lost()] * 4)
    (first, second) = frames(2)
    steady = [first, lambda: world.sleep(5.5), second]
    world.connections += [frames(1), steady, frames(1)]
    with world.reader(settings) as live:
        take(live, 5)
    assert world.sleeps == [1, 2, 4, 5, 5, 5, 5.5, 1]
    backoff = Backoff(1, 1, 0.25, random.Random(0))
    waits = [backoff.next_seconds() for _ in range(500)]
    assert 0.75 <= min(waits) < 0.76
    assert 1.24 < max(waits) <= 1.25


def test_silence_that_ffmpeg_does_not_notice_is_a_stall():
    """As in the driver of a camera. Nothing else calls the camera while that goes on."""
    stuck = threading.Event()
    world = World([*frames(1), lambda: stuck.wait(LONGEST_TEST_SECONDS), *frames(9)], frames(1))

    def sleep(seconds):
        world.sleep(seconds)
        if len(world.sleeps) == 2:
            stuck.set()

    settings = LiveSettings(read_seconds=0.02, give_up_after_seconds=9)
    with world.reader(settings, source=0, sleep=sleep) as live:
        take(live, 2)
        stats = live.stats
    assert (stats.stalls, stats.failed_connects, stats.reconnects) == (1, 1, 1)
    assert stats.last_error == "camera 0 still holds the last connection; check it"
    assert all(source.kind == "camera" for source in world.calls)


def test_it_gives_up_when_told_to():
    settings = LiveSettings(give_up_after_seconds=10, first_backoff_seconds=4, backoff_jitter=0)
    world = World(frames(1), *[lost("does not open")] * 9)
    with world.reader(settings) as live:
        take(live, 1)
        with pytest.raises(MediaError, match=r"no frame for 10 s, given up: rtsp://\*\*\*@.*open"):
            next(live)
        assert world.sleeps == [4, 8]
        assert next(live, None) is None
        assert live.stats.state == "closed"


@pytest.mark.parametrize(
    ("error", "live"),
    [(ZeroDivisionError("mistake"), True), (lost("mistake"), False), (None, False)],
)
def test_neither_a_mistake_in_the_program_nor_a_source_with_an_end_is_repeated(error, live):
    world = World(FakeReader([*frames(3), *[error] * bool(error)], live=live))
    with world.reader() as reader:
        assert len(take(reader, 3)) == 3
        assert reader.live is live
        if error:
            with pytest.raises(type(error), match="mistake"):
                next(reader)
        assert next(reader, None) is None
        assert reader.ended is not bool(error)
    assert world.sleeps == []


@pytest.mark.parametrize("busy_with", ["reading", "waiting", "connecting"])
def test_close_in_another_thread_ends_it_at_once(busy_with):
    stuck, busy = threading.Event(), threading.Event()
    wait = lambda: stuck.wait(LONGEST_TEST_SECONDS)  # noqa: E731
    stops = {"reading": [busy.set, wait], "waiting": [busy.set], "connecting": []}
    reader = FakeReader([*frames(1), *stops[busy_with]])
    readers = [reader]

    def opener(_source, **_arguments):
        if not readers:
            busy.set()
            wait()
        return readers.pop() if readers else FakeReader([])

    backoff = 0.001 if busy_with == "connecting" else 60
    settings = LiveSettings(read_seconds=60, open_seconds=60, first_backoff_seconds=backoff)
    live = LiveReader(source_from(URL), settings, opener=opener)
    take(live, 1)
    rest = []
    consumer = threading.Thread(target=lambda: rest.extend(live))
    consumer.start()
    assert busy.wait(LONGEST_TEST_SECONDS)
    live.close()
    consumer.join(LONGEST_TEST_SECONDS)
    assert not consumer.is_alive()
    assert rest == []
    assert live.stats.state == "closed"
    stuck.set()
    assert reader.closed.wait(LONGEST_TEST_SECONDS)
    live.close()
    assert next(live, None) is None


def test_a_camera_that_counts_from_zero_again_goes_on_where_the_clock_is():
    settings = LiveSettings(first_backoff_seconds=2, backoff_jitter=0)
    again = FakeReader(frames(2, time_base=Fraction(1, 90000)), time_base=Fraction(1, 90000))
    with World(frames(3, start=500), again).reader(settings) as live:
        times = [(frame.pts, frame.time_base) for frame in take(live, 5)]
    # 2 s after the very first frame in ticks of a millisecond; then 40 of 90 000 a second.
    assert times == [(pts, TICK) for pts in (500, 540, 580, 2500, 2500)]


@pytest.mark.parametrize(("keep_size", "second"), [(True, (48, 64)), (False, (72, 96))])
def test_a_camera_that_comes_back_with_another_size(make_clip, keep_size, second):
    paths = [make_clip("1.mp4"), make_clip("2.mp4", size=(72, 96))]

    class Camera(Reader):
        live = True

    def opener(_, **arguments):
        return Camera(source_from(paths.pop(0)), **arguments)

    options = {"opener": opener, "sleep": lambda _: None, "keep_size": keep_size}
    with LiveReader(source_from(URL), **options) as live:
        sizes = [frame.size for frame in take(live, 24)]
    assert sizes == [(48, 64)] * 12 + [second] * 12
    assert live.warnings["frames of another size scaled to 64x48"] == (12 if keep_size else 0)


def test_what_readers_warn_of_adds_up():
    found = Counter({SKIPPED_PACKETS: 5, NO_KEYFRAME: 1, CORRUPT_FRAMES: 2})
    world = World(frames(1), frames(1))

    def opener(source, **arguments):
        arguments["warnings"].update(found)
        return world.open(source, **arguments)

    with world.reader(opener=opener) as live:
        take(live, 2)
        stats = live.stats
    assert (stats.skipped_packets, stats.keyframeless_starts, stats.corrupt_frames) == (10, 2, 4)


def test_one_warning_an_outage_without_the_password(caplog):
    caplog.set_level(logging.DEBUG)
    world = World([*frames(1), lost()], lost("does not open"), lost("does not open"), frames(1))
    with world.reader() as live:
        take(live, 2)
        assert "Secret1" not in repr((live.source, live.settings, live.stats))
    levels = [record.levelname for record in caplog.records if record.name == "edgecar.media.live"]
    assert levels == ["WARNING", "INFO", "INFO"]
    assert "Secret1" not in caplog.text


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"read_seconds": 0}, "read_seconds is 0; give"),
        ({"give_up_after_seconds": -1}, "give_up_after_seconds is -1; give"),
        ({"backoff_jitter": 1}, "backoff_jitter is 1; give"),
        ({"rtsp_transport": "pigeon"}, "rtsp_transport is 'pigeon'; give one of tcp, udp"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changes, words):
    with pytest.raises(SettingsError, match=words):
        LiveSettings(**changes)
