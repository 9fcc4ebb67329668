"""The CPU runner computes in a thread of its own, at most two frames of a stream at a time."""

import threading

import numpy as np
import pytest

from edgecar.engines.fake import FakeEngine
from edgecar.errors import EngineError
from edgecar.runtime.runner import CpuRunner
from edgecar.runtime.stream_cache import Reuse
from edgecar.runtime.tuning import Tuning, Tunings
from tests.runtime.test_restorer import fake_artifact

FRAMES = np.random.default_rng(0).integers(0, 256, (4, 1, 24, 32), np.uint8)


class HeldNetwork:
    """Makes negatives once it may; tells when it was called, and fails if it is told to."""

    def __init__(self) -> None:
        self.called, self.may_go = threading.Event(), threading.Event()
        self.fails = False

    def __call__(self, batch: np.ndarray) -> np.ndarray:
        self.called.set()
        assert self.may_go.wait(10)
        if self.fails:
            raise EngineError("the device was lost")
        return 1 - batch


@pytest.fixture
def held():
    """A network, and a runner of it."""
    network, before = HeldNetwork(), set(threading.enumerate())
    tunings = Tunings(lambda _size: pytest.fail("no file is looked for"), Tuning())
    metadata = fake_artifact().metadata
    runner = CpuRunner(FakeEngine(network), metadata, tunings, lambda _size: Reuse())
    yield network, runner
    network.may_go.set()
    runner.close()
    assert set(threading.enumerate()) <= before


def test_the_caller_goes_on_while_a_frame_is_computed(held):
    network, runner = held
    first = runner.submit(FRAMES[0], "gate")
    assert not network.called.wait(0.05)  # tiles of other streams may still come
    runner.start()
    assert network.called.wait(10)
    second = runner.submit(FRAMES[1], "gate")
    other = runner.submit(FRAMES[2], "yard")
    with pytest.raises(EngineError, match="2 frames are on their way; take a result first"):
        runner.submit(FRAMES[3], "gate")
    network.may_go.set()
    for ticket, frame in zip((first, second, other), FRAMES, strict=False):
        np.testing.assert_array_equal(runner.result(ticket), 255 - frame)
        assert (ticket.tiles, ticket.pixels) == (1, 24 * 32)
    with pytest.raises(EngineError, match="taken before"):
        runner.result(first)


def test_a_failure_comes_out_of_the_result_and_the_next_frame_is_computed_in_full(held):
    network, runner = held
    network.may_go.set()
    network.fails = True
    for stream in ("gate", "yard"):
        ticket = runner.submit(FRAMES[0], stream)
        with pytest.raises(EngineError, match="the device was lost"):
            runner.result(ticket)
    network.fails = False
    ticket = runner.submit(FRAMES[0], "gate")
    np.testing.assert_array_equal(runner.result(ticket), 255 - FRAMES[0])


@pytest.mark.parametrize("act", ["forget", "close"])
@pytest.mark.parametrize("state", ["submitted", "computing", "done"])
def test_a_stream_may_be_given_up_at_any_time(held, state, act):
    network, runner = held
    if state == "done":
        network.may_go.set()
    ticket = runner.submit(FRAMES[0], "gate")
    if state != "submitted":
        runner.start()
        assert network.called.wait(10)
    later = threading.Timer(0.05, network.may_go.set)
    later.start()
    runner.forget("gate") if act == "forget" else runner.close()
    with pytest.raises(EngineError, match="given up; submit it again"):
        runner.result(ticket)
    later.join()
    for frame in FRAMES:  # it begins anew
        np.testing.assert_array_equal(runner.result(runner.submit(frame, "gate")), 255 - frame)
