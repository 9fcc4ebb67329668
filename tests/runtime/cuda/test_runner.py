"""The GPU runtime on a GPU made of the CPU: the same bytes as the NumPy runtime, in any order."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecar.artifact import Artifact
from edgecar.engines.fake import FakeEngine
from edgecar.errors import EngineError, MediaError, WindowError
from edgecar.runtime.cuda.arrays import DeviceArray
from edgecar.runtime.cuda.device import WORD
from edgecar.runtime.cuda.device_stream import words_of_tile
from edgecar.runtime.cuda.runner import CudaRunner, ReferenceTiles
from edgecar.runtime.restorer import Restorer
from tests.runtime.cuda.device_arrays import from_device, on_device
from tests.runtime.cuda.host_device import HostDevice
from tests.runtime.cuda.small_network import HALO, InTurn, a_clip, blurred, metadata, planes


class CapturableTiles(ReferenceTiles):
    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.capturable = True


def restorers(device, shape=(3, 16, 20), channels=1, function=blurred, align_px=1, **options):
    """The GPU runtime, and the NumPy runtime as the reference, of one network."""
    engine = FakeEngine(function, channels, None, align_px)
    tiles = CapturableTiles(device, engine, shape)
    halo_px = -(-HALO // align_px) * align_px
    reference = Restorer(
        Artifact(metadata(channels, halo_px, align_px), b""),
        FakeEngine(function, channels, shape, align_px),
        reuse=False,
    )
    return InTurn(CudaRunner(device, tiles, halo_px, **options)), reference


@settings(max_examples=40)
@given(
    seed=st.integers(0, 2**16),
    size=st.tuples(st.integers(16, 60), st.integers(20, 70)),
    channels=st.sampled_from([1, 3]),
    align_px=st.sampled_from([1, 2]),
    shared=st.booleans(),
    reuse=st.booleans(),
    graphs=st.booleans(),
    together=st.booleans(),
)
def test_bytes_are_those_of_the_numpy_runtime_in_any_order(
    seed, size, channels, align_px, shared, reuse, graphs, together
) -> None:
    device = HostDevice(seed, shared)
    restorer, reference = restorers(
        device, channels=channels, align_px=align_px, reuse=reuse, graphs=graphs
    )
    clip = a_clip(seed, size, channels)
    wanted = [planes(reference, frame) for frame in clip]
    if together:
        got = as_they_come(restorer, clip)
    else:
        got = [restorer(frame).tobytes() for frame in clip]
    assert got == [plane.tobytes() for plane in wanted]
    restorer.runner.close()


def as_they_come(restorer, clip) -> list[bytes]:
    """Outputs of frames of which two are on their way at a time."""
    runner = restorer.runner
    before, got = runner.submit(clip[0]), []
    for frame in clip[1:]:
        ticket = runner.submit(frame)
        got.append(runner.result(before).tobytes())
        before = ticket
    return [*got, runner.result(before).tobytes()]


class DeafDevice(HostDevice):
    """Its streams wait for nothing."""

    def wait(self, stream, event) -> None:
        pass


@pytest.mark.parametrize(("device", "differs"), [(HostDevice, False), (DeafDevice, True)])
def test_waiting_is_what_keeps_the_bytes(device, differs) -> None:
    """The control of the test above: without it, other bytes come out for some lot."""
    wrong = []
    for seed in range(10):
        restorer, reference = restorers(device(seed), reuse=False)
        clip = a_clip(seed, (32, 40))
        wanted = [planes(reference, frame).tobytes() for frame in clip]
        wrong.append(as_they_come(restorer, clip) != wanted)
    assert any(wrong) is differs


def test_reuse_computes_less_and_a_still_frame_not_at_all() -> None:
    restorer, reference = restorers(HostDevice())
    clip = a_clip(1, (48, 60), frames=2)
    restorer(clip[0])
    every = restorer.tiles
    restorer(clip[0])
    assert restorer.tiles == every
    touched = clip[0].copy()
    touched[0, 20, 30] ^= 1
    restored = restorer(touched)
    assert 0 < restorer.tiles - every < every
    assert (restored == planes(reference, touched)).all()


def test_cameras_do_not_mix() -> None:
    restorer, reference = restorers(HostDevice(3))
    clips = {name: a_clip(seed, (32, 40)) for name, seed in (("gate", 1), ("yard", 2))}
    for number in range(3):
        for name, clip in clips.items():
            restored = restorer(clip[number], stream=name)
            assert (restored == planes(reference, clip[number])).all()


@pytest.mark.parametrize("reuse", [True, False])
@pytest.mark.parametrize("seed", range(5))
def test_cameras_run_at_a_time(seed, reuse) -> None:
    """Two frames of each on their way, of two sizes."""
    restorer, reference = restorers(HostDevice(seed), reuse=reuse)
    runner, sizes = restorer.runner, {"gate": (32, 40), "yard": (32, 40), "door": (20, 50)}
    clips = {name: a_clip(n, size) for n, (name, size) in enumerate(sizes.items())}
    begun = []
    for number in range(5):
        begun.append([runner.submit(clip[number], name) for name, clip in clips.items()])
        if number:
            for ticket in begun[-2]:
                wanted = planes(reference, clips[ticket.stream][number - 1])
                assert (runner.result(ticket) == wanted).all()


def test_tiles_of_all_cameras_fill_a_batch() -> None:
    """Two cameras of two tiles and one of one tile take two batches of three, not three."""
    device = HostDevice(1)
    restorer, reference = restorers(device, reuse=False)
    frames = {"gate": (16, 30), "yard": (16, 30), "door": (16, 20)}
    frames = {name: a_clip(1, size, frames=1)[0] for name, size in frames.items()}
    tickets = [restorer.runner.submit(frame, name) for name, frame in frames.items()]
    assert [ticket.tiles for ticket in tickets] == [2, 2, 1]
    for ticket in tickets:
        wanted = planes(reference, frames[ticket.stream])
        assert (restorer.runner.result(ticket) == wanted).all()
    assert device.done.count("network") == 2


def test_camera_that_changes_its_size_begins_anew() -> None:
    restorer, reference = restorers(HostDevice(4))
    for size in ((32, 40), (20, 60), (32, 40)):
        (frame,) = a_clip(5, size, frames=1)
        assert (restorer(frame) == planes(reference, frame)).all()


def test_a_graph_takes_the_place_of_the_engine_s_launches() -> None:
    device = HostDevice()
    restorer, _ = restorers(device, reuse=False)
    (frame,) = a_clip(6, (16, 50), frames=1)
    calls = []
    enqueue = restorer.runner.engine.enqueue
    restorer.runner.engine.enqueue = lambda *where: (calls.append(1), enqueue(*where))
    for _ in range(4):
        restorer(frame)
    assert len(calls) == 2  # plainly, then captured
    assert device.replayed == 3


def test_engine_that_refuses_to_be_captured_runs_all_the_same() -> None:
    device = HostDevice(capture=False)
    restorer, reference = restorers(device, reuse=False)
    (frame,) = a_clip(7, (32, 40), frames=1)
    for _ in range(6):
        assert (restorer(frame) == planes(reference, frame)).all()
    assert device.replayed == 0


UPLOADS = 1  # second stream of a restorer, after that of its engine


def test_next_frame_goes_up_while_one_is_computed() -> None:
    """With the stream of uploads before all others, the third frame is up before the second's
    network ran: nothing makes an upload wait for the frame before."""
    device = HostDevice(prefer=UPLOADS)
    restorer, _ = restorers(device, reuse=False, graphs=False)
    clip = a_clip(8, (32, 40), frames=3)
    first = restorer.runner.submit(clip[0])
    restorer.runner.submit(clip[1])
    device.done.clear()
    restorer.runner.result(first)
    assert "upload" in device.done[: device.done.index("network")]
    first, *_ = (n for n, step in enumerate(device.done) if step == "network")
    assert device.done[:first].count("gather_fp32") <= 1


def test_every_batch_is_gathered_run_and_scattered_in_turn() -> None:
    device = HostDevice(9)
    restorer, _ = restorers(device, reuse=False, graphs=False)
    (frame,) = a_clip(9, (48, 60), frames=1)
    restorer(frame)
    kernels = [step for step in device.done if step in ("gather_fp32", "network", "scatter_fp32")]
    batches = len(kernels) // 3
    assert batches > 1
    assert kernels == ["gather_fp32", "network", "scatter_fp32"] * batches
    assert device.done[-1] == "download"


def test_third_frame_on_its_way_is_refused() -> None:
    restorer, reference = restorers(HostDevice())
    runner = restorer.runner
    (frame,) = a_clip(1, (32, 40), frames=1)
    first, second = runner.submit(frame), runner.submit(frame)
    with pytest.raises(EngineError, match="2 frames are on their way; take a result first"):
        runner.submit(frame)
    with pytest.raises(EngineError, match="taken once, in the order of its frames"):
        runner.result(second)
    for ticket in (first, second):
        assert (runner.result(ticket) == planes(reference, frame)).all()
    with pytest.raises(EngineError, match="taken once"):
        runner.result(first)


def test_frame_may_be_changed_as_soon_as_it_was_submitted() -> None:
    restorer, reference = restorers(HostDevice(11))
    (frame,) = a_clip(2, (32, 40), frames=1)
    wanted = planes(reference, frame)
    ticket = restorer.runner.submit(frame)
    frame[:] = 0
    assert (restorer.runner.result(ticket) == wanted).all()


class FailingTiles(CapturableTiles):
    broken = False

    def enqueue(self, tiles: int, restored: int, stream: Any) -> None:
        if self.broken:
            raise EngineError("the GPU is gone")
        super().enqueue(tiles, restored, stream)


@pytest.mark.parametrize("seed", range(5))
def test_frame_after_a_failure_is_computed_in_full(seed) -> None:
    device = HostDevice(seed)
    _, reference = restorers(device)
    tiles = FailingTiles(device, FakeEngine(blurred), (3, 16, 20))
    restorer = InTurn(CudaRunner(device, tiles, HALO, graphs=False))
    clip = a_clip(3, (32, 40), frames=4)
    restorer(clip[0])
    every = restorer.tiles
    tiles.broken = True
    with pytest.raises(EngineError, match="the GPU is gone"):
        restorer(clip[0] ^ np.uint8(1))
    tiles.broken = False
    assert (restorer(clip[0]) == planes(reference, clip[0])).all()
    assert restorer.tiles == 2 * every
    for frame in clip[1:]:
        assert (restorer(frame) == planes(reference, frame)).all()


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("pitch", [40, 43, 256])
def test_frame_in_device_memory_stays_there(pitch, shared) -> None:
    device = HostDevice(pitch, shared)
    restorer, reference = restorers(device)
    for frame in a_clip(4, (32, 40)):
        restored = restorer(on_device(device, frame, pitch))
        assert isinstance(restored, DeviceArray)
        assert restored.shape == frame.shape
        assert (from_device(restored) == planes(reference, frame)).all()
    again = restorer(restored)  # what it gives it also takes
    assert (from_device(again) == planes(reference, from_device(restored).copy())).all()


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        (np.zeros((8, 8), np.float32), "got float32 (8, 8), need uint8"),
        (np.zeros((1, 1, 8, 8), np.uint8), "uint8 (1, 1, 8, 8)"),
        ([[1]], "list"),
        (np.zeros((3, 32, 40), np.uint8), "got 3 channel(s), the network takes 1"),
    ],
)
def test_what_is_no_frame_is_refused(frame, said) -> None:
    restorer, _ = restorers(HostDevice())
    with pytest.raises(MediaError) as refused:
        restorer(frame)
    assert said in str(refused.value)


def test_frame_smaller_than_a_tile_is_refused() -> None:
    restorer, _ = restorers(HostDevice())
    with pytest.raises(WindowError, match="build the engine for a tile of at most"):
        restorer(np.zeros((8, 40), np.uint8))


@given(st.integers(0, 40), st.integers(1, 70), st.integers(1, 3), st.integers(1, 9))
def test_threads_suffice_for_every_word_that_a_window_reads(left, width, channels, rows) -> None:
    words = -(-(left + width) // WORD) - left // WORD
    assert channels * rows * words <= words_of_tile(channels, (rows, width))
