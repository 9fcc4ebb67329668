"""The next frame of a stream is submitted before the last is taken; a CPU computes in a thread."""

import threading
import time

import numpy as np
import pytest

from edgecar.engines.fake import FakeEngine
from edgecar.errors import EngineError
from edgecar.runtime.pipeline import Pipeline
from edgecar.runtime.runner import CpuRunner, Ticket
from edgecar.runtime.stream_cache import Reuse
from edgecar.runtime.tuning import Tuning, Tunings
from tests.runtime.test_pipeline import Source, restorer_with
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


class Recorder:
    """Runner that adds 1 to each code and notes in which order it was asked for what."""

    def __init__(self, depth: int, breaks_at: tuple[str, int] | None = None) -> None:
        self.depth, self.breaks_at = depth, breaks_at
        self.asked: list[tuple[str, int]] = []
        self._restored: dict[Ticket, np.ndarray] = {}

    def _note(self, what: str, number: int) -> None:
        self.asked.append((what, number))
        if self.asked[-1] == self.breaks_at:
            raise EngineError("the device was lost")

    def submit(self, frame, stream, _quantiser) -> Ticket:
        self._note("submit", int(frame[0, 0, 0]))
        ticket = Ticket(stream, 1, frame.size)
        self._restored[ticket] = frame + np.uint8(1)
        return ticket

    def start(self) -> None:
        pass

    def result(self, ticket):
        restored = self._restored.pop(ticket)
        self._note("result", int(restored[0, 0, 0]) - 1)
        return restored

    def forget(self, stream) -> None:
        pass

    def close(self) -> None:
        pass


def recorded(recorder, live=False, **options):
    """Five frames of a source that is never slower than the restorer."""
    restorer = restorer_with()
    restorer._runner = recorder
    ready = threading.Event()

    def choose(_frame):
        ready.wait(10)  # until frames wait behind the first
        return restorer

    with Pipeline({"front": Source(5, live=live)}, choose, **options) as pipeline:
        camera = pipeline.cameras["front"]
        while len(camera.read) < camera.depth and not camera.read_to_end:
            time.sleep(0.001)
        ready.set()
        return list(pipeline)


def test_the_next_frame_is_submitted_before_the_last_is_taken():
    recorder = Recorder(depth=2)
    frames = recorded(recorder)
    assert [frame.pts for frame in frames] == list(range(5))
    assert all((f.frame.y == f.before.y + 1).all() for f in frames)
    order = recorder.asked
    for number in range(2):  # later ones may have to wait for the source
        assert order.index(("submit", number + 1)) < order.index(("result", number))
        assert order.index(("result", number)) < order.index(("submit", number + 3))


@pytest.mark.parametrize(("depth", "live"), [(1, False), (2, True)])
def test_a_frame_is_taken_before_the_next_where_that_is_newer(depth, live):
    recorder = Recorder(depth)
    frames = recorded(recorder, live)
    restored = [frame.pts for frame in frames]
    assert recorder.asked == [(what, n) for n in restored for what in ("submit", "result")]


@pytest.mark.parametrize("breaks_at", [("result", 1), ("submit", 1)])
@pytest.mark.parametrize("passes", [True, False])
def test_frames_on_their_way_when_a_restorer_fails(breaks_at, passes):
    failures, frames = [], []

    def failed(_restorer, error):
        failures.append(str(error))
        return "engine_failed"

    if passes:
        frames = recorded(Recorder(2, breaks_at), failed=failed)
        assert failures == ["the device was lost"]
        assert [frame.pts for frame in frames] == list(range(5))
        assert [frame.restored for frame in frames][:2] == [True, False]
        assert frames[4].restored
        assert frames[-1].stats.frames_in_flight == 0
    else:
        with pytest.raises(EngineError, match="the device was lost"):
            recorded(Recorder(2, breaks_at))
