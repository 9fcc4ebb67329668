"""Threads hand over in order, and a failure anywhere ends everything with its own cause."""

import threading
import time

import pytest

from edgecar.runtime.pipeline import ReadAhead, WriteBehind

SECONDS_TO_STOP = 5  # the design's promise


def alive() -> set[str]:
    return {t.name for t in threading.enumerate() if t.name.startswith("edgecar-")}


def failing_after(count: int):
    yield from range(count)
    raise OSError("camera gone")


def test_order_is_kept_through_both():
    written = []
    with WriteBehind(written.append) as behind, ReadAhead(range(200)) as ahead:
        for item in ahead:
            behind.put(item)
    assert written == list(range(200))
    assert not alive()


def test_reader_failure_comes_after_what_was_read():
    got = []
    with pytest.raises(OSError, match="camera gone"), ReadAhead(failing_after(7)) as ahead:
        got.extend(ahead)
    assert got == list(range(7))
    assert not alive()


def test_leaving_early_stops_an_endless_reader():
    def endless():
        while True:
            yield 0

    began = time.monotonic()
    with ReadAhead(endless()) as ahead:
        next(iter(ahead))
    assert time.monotonic() - began < SECONDS_TO_STOP
    assert not alive()


def test_reader_stays_only_a_few_items_ahead():
    read = []

    def counted():
        for number in range(1000):
            read.append(number)
            yield number

    with ReadAhead(counted(), depth=3) as ahead:
        next(iter(ahead))
        time.sleep(0.3)
        assert len(read) <= 6  # one taken, three queued, one in hand, one to spare


def test_writer_failure_reaches_the_caller():
    def full_disk(item: int) -> None:
        if item == 3:
            raise OSError("no space left")

    began = time.monotonic()

    def feed() -> None:
        with WriteBehind(full_disk) as behind:
            for item in range(10_000):
                behind.put(item)

    with pytest.raises(OSError, match="no space left"):
        feed()
    assert time.monotonic() - began < SECONDS_TO_STOP
    assert not alive()


def test_writer_failure_on_the_last_item_is_not_lost():
    def fail(_: int) -> None:
        time.sleep(0.1)
        raise OSError("no space left")

    def feed() -> None:
        with WriteBehind(fail) as behind:
            behind.put(1)

    with pytest.raises(OSError, match="no space left"):
        feed()


def test_consumer_failure_stops_both_and_is_the_one_seen():
    written = []

    def work() -> None:
        with WriteBehind(written.append) as behind, ReadAhead(range(10_000)) as ahead:
            for item in ahead:
                if item == 5:
                    raise ValueError("engine failed")
                behind.put(item)

    began = time.monotonic()
    with pytest.raises(ValueError, match="engine failed"):
        work()
    assert time.monotonic() - began < SECONDS_TO_STOP
    assert len(written) <= 5
    assert not alive()


def test_slow_writer_holds_the_producer_back():
    started = threading.Semaphore(0)
    done = []

    def slow(item: int) -> None:
        started.release()
        time.sleep(0.02)
        done.append(item)

    with WriteBehind(slow, depth=2) as behind:
        for item in range(10):
            behind.put(item)
            assert item - len(done) <= 4  # two queued, one in hand, one offered
    assert done == list(range(10))
