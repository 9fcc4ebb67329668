"""Any number of threads may use a restorer, an engine or a cleaner; nothing of them mixes."""

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack

import numpy as np
import pytest

from edgecar.artifact import Artifact, find_artifact, read_artifact
from edgecar.engines.base import CODE
from edgecar.engines.fake import FakeEngine
from edgecar.engines.select import open_engine
from edgecar.errors import EngineError
from edgecar.media.frame import Frame
from edgecar.runtime.cleaner import Cleaner
from edgecar.runtime.restorer import Restorer
from tests.runtime.cuda.host_device import HostDevice, ReferenceTiles
from tests.runtime.cuda.small_network import blurred, metadata

THREADS, ROUNDS = 4, 6
SIZE = (48, 64)
KINDS = ("slow", "gpu", "openvino", "onnxruntime", "torch")


class SlowEngine(FakeEngine):
    """Has one buffer, as libraries have, and lets other threads run while it computes."""

    def __init__(self, shape=None) -> None:
        self._buffer: dict = {}
        super().__init__(self._restored, 1, shape)

    def _restored(self, batch):
        buffer = self._buffer.setdefault(batch.shape, np.empty_like(batch))
        restored = blurred(batch)
        for row in range(batch.shape[2]):
            buffer[:, :, row] = restored[:, :, row]
            if row % 16 == 0:
                time.sleep(0.0005)
        return buffer


def opened(kind: str, stack: ExitStack):
    """An artifact and an open engine."""
    if kind in ("slow", "gpu"):
        artifact = Artifact(metadata(), b"")
        if kind == "slow":
            return artifact, stack.enter_context(SlowEngine())
        device = HostDevice()
        tiles = ReferenceTiles(device, SlowEngine(), (2, 24, 32))
        return artifact, stack.enter_context(tiles.on(device))
    artifact = read_artifact(find_artifact("edgecar-xs", "jpeg"))
    return artifact, stack.enter_context(open_engine(artifact, kind, threads=1))


def pictures(count: int):
    """Pictures that differ here and there, as frames of one camera do."""
    random = np.random.default_rng(1)
    first = random.integers(0, 256, SIZE, np.uint8)
    made = [first]
    for number in range(1, count):
        picture = first.copy()
        picture[5 * number : 5 * number + 9, 7 * number : 7 * number + 11] ^= 0x55
        made.append(picture)
    return made


def at_once(work: Callable[[int], object], count: int = THREADS) -> list[BaseException]:
    """Return the exceptions of threads that began at the same moment."""
    barrier, wrong = threading.Barrier(count), []

    def run(number: int) -> None:
        barrier.wait()
        try:
            work(number)
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    return wrong


@pytest.fixture(params=KINDS)
def made(request):
    """An artifact and an open engine of it, for all kinds of engines."""
    with ExitStack() as stack:
        yield opened(request.param, stack)


def all_get_their_own(restored, wanted, change: Callable[[int], object] | None = None) -> None:
    """Several threads ask for several pictures, in other orders, and each gets its own.

    Args:
        restored: Function of a thread's and a picture's number.
        wanted: Pictures.
        change: Function that the first thread calls instead.
    """

    def work(number: int) -> None:
        for turn in range(ROUNDS):
            if change and number == 0:
                change(turn)
                continue
            which = (number + turn) % THREADS
            first = restored(number, which)
            time.sleep(0)  # others may overwrite what is not this thread's own
            assert (first == wanted[which]).all()

    assert at_once(work) == []


@pytest.mark.parametrize("way", ["one stream", "own streams", "restorers of one engine"])
def test_every_thread_gets_its_own_pictures(made, way) -> None:
    given = pictures(THREADS)
    wanted = [Restorer(*made).luma(each) for each in given]
    restorers = [Restorer(*made)] * THREADS
    if way == "restorers of one engine":
        restorers = [Restorer(*made) for _ in range(THREADS)]
    all_get_their_own(
        lambda thread, which: restorers[thread].luma(
            given[which], thread if way == "own streams" else None
        ),
        wanted,
    )
    assert sum(each.stats.frames for each in set(restorers)) == THREADS * ROUNDS


def test_a_cleaner_in_several_threads(made) -> None:
    """As a callback gets frames: in BGR, with their numbers."""
    given = [np.repeat(each[..., None], 3, 2) for each in pictures(THREADS)]
    clean = Cleaner(network=made[0], engine=made[1])
    wanted = [clean(each) for each in given]
    all_get_their_own(lambda thread, which: clean(given[which], thread), wanted)


@pytest.mark.parametrize("codes", [True, False])
def test_an_engine_by_itself(made, codes) -> None:
    """The result of `run` is not overwritten by what other threads run."""
    engine = made[1]
    batch, height, width = engine.info.shape or (1, *SIZE)
    given = np.random.default_rng(2).integers(0, 256, (THREADS, batch, 1, height, width), np.uint8)

    def restored(_thread: int, which: int):
        if not codes:
            return engine.run(given[which] * CODE)
        output = np.zeros_like(given[which])

        def take(place, tile) -> None:
            output[place] = tile

        engine.run_codes(list(given[which]), take)
        return output

    all_get_their_own(restored, [np.array(restored(0, number)) for number in range(THREADS)])


def test_streams_are_forgotten_while_others_are_restored(made) -> None:
    given, restorer = pictures(THREADS), Restorer(*made)
    wanted = [restorer.luma(each, "before") for each in given]
    all_get_their_own(
        lambda thread, which: restorer.luma(given[which], thread),
        wanted,
        lambda turn: restorer.forget(turn % THREADS),
    )


def test_closing_waits_for_a_frame_and_refuses_the_next(made) -> None:
    given, restorer = pictures(THREADS), Restorer(*made)
    wanted = [restorer.luma(each) for each in given]
    closing = threading.Event()

    def work(number: int) -> None:
        if number == 0:
            closing.wait(10)
            made[1].close()
            return
        with pytest.raises(EngineError, match="closed"):
            for turn in range(10_000):
                closing.set()
                which = (number + turn) % THREADS
                assert (restorer.luma(given[which], number) == wanted[which]).all()

    assert at_once(work) == []


def test_two_frames_of_a_stream_are_not_restored_together() -> None:
    """Each needs what the one before it left."""
    chroma = np.zeros((SIZE[0] // 2, SIZE[1] // 2), np.uint8)
    frames = [Frame(luma, chroma, chroma) for luma in pictures(2)]
    with SlowEngine() as engine:
        restorer = Restorer(Artifact(metadata(), b""), engine)
        said = r"2 frame\(s\) of 1 stream\(s\).*one after the other"
        with pytest.raises(EngineError, match=said):
            restorer.restore_all(frames, ["gate", "gate"])
