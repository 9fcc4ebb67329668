"""The GPU runtime on a GPU made of the CPU: the same bytes as the NumPy runtime, in any order."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecar.errors import EngineError, MediaError, WindowError
from edgecar.runtime.cuda.arrays import DeviceArray
from edgecar.runtime.cuda.device import WORD
from edgecar.runtime.cuda.device_stream import words_of_tile
from edgecar.runtime.runner import CpuRunner
from edgecar.runtime.stream_cache import Reuse
from edgecar.runtime.tuning import Tuning, Tunings
from tests.runtime.cuda.host_device import HostDevice, from_device, on_device
from tests.runtime.cuda.small_network import (
    SHAPE,
    a_clip,
    fake_engine,
    metadata,
    runner_of,
    wanted,
)


def as_they_come(runner, clip) -> list:
    """Outputs of frames of which two are on their way at a time."""
    before, got = runner.submit(clip[0]), []
    for frame in clip[1:]:
        ticket = runner.submit(frame)
        got.append(runner.result(before))
        before = ticket
    return [*got, runner.result(before)]


@settings(max_examples=40)
@given(
    seed=st.integers(0, 2**16),
    size=st.tuples(st.integers(16, 60), st.integers(20, 70)),
    channels=st.sampled_from([1, 3]),
    align_px=st.sampled_from([1, 2]),
    shared=st.booleans(),
    reuse=st.booleans(),
    together=st.booleans(),
)
def test_bytes_are_those_of_the_numpy_runtime_in_any_order(
    seed, size, channels, align_px, shared, reuse, together
) -> None:
    restorer = runner_of(
        HostDevice(seed, shared), channels=channels, align_px=align_px, reuse=reuse
    )
    clip = a_clip(seed, size, channels)
    got = as_they_come(restorer.runner, clip) if together else map(restorer, clip)
    for planes, frame in zip(got, clip, strict=True):
        assert planes.tobytes() == wanted(frame, align_px).tobytes()
    restorer.runner.close()


class DeafDevice(HostDevice):
    """Its streams wait for nothing."""

    def wait(self, stream, event) -> None:
        pass


@pytest.mark.parametrize(("device", "differs"), [(HostDevice, False), (DeafDevice, True)])
def test_waiting_is_what_keeps_the_bytes(device, differs) -> None:
    """The control of the test above: without it, other bytes come out for some lot."""
    wrong = []
    for seed in range(10):
        clip = a_clip(seed, (32, 40))
        got = as_they_come(runner_of(device(seed), reuse=False).runner, clip)
        pairs = zip(got, clip, strict=True)
        wrong.append(any((planes != wanted(frame)).any() for planes, frame in pairs))
    assert any(wrong) is differs


def test_reuse_computes_less_and_a_still_frame_not_at_all() -> None:
    restorer = runner_of(HostDevice())
    (frame,) = a_clip(1, (48, 60), frames=1)
    restorer(frame)
    every = restorer.tiles
    restorer(frame)
    assert restorer.tiles == every
    touched = frame.copy()
    touched[0, 20, 30] ^= 1
    assert (restorer(touched) == wanted(touched)).all()
    assert 0 < restorer.tiles - every < every


@pytest.mark.parametrize("reuse", [True, False])
@pytest.mark.parametrize("seed", range(5))
def test_cameras_run_at_a_time_and_do_not_mix(seed, reuse) -> None:
    """Two frames of each on their way, of two sizes."""
    runner = runner_of(HostDevice(seed), reuse=reuse).runner
    sizes = {"gate": (32, 40), "yard": (32, 40), "door": (20, 50)}
    clips = {name: a_clip(n, size) for n, (name, size) in enumerate(sizes.items())}
    begun = []
    for number in range(5):
        begun.append([runner.submit(clip[number], name) for name, clip in clips.items()])
        if number:
            for ticket in begun[-2]:
                frame = clips[ticket.stream][number - 1]
                assert (runner.result(ticket) == wanted(frame)).all()


def test_tiles_of_all_cameras_fill_a_batch() -> None:
    """Two cameras of two tiles and one of one tile take two batches of three, not three."""
    device = HostDevice(1)
    runner = runner_of(device, reuse=False).runner
    frames = {"gate": (16, 30), "yard": (16, 30), "door": (16, 20)}
    frames = {name: a_clip(1, size, frames=1)[0] for name, size in frames.items()}
    tickets = [runner.submit(frame, name) for name, frame in frames.items()]
    assert [ticket.tiles for ticket in tickets] == [2, 2, 1]
    for ticket in tickets:
        assert (runner.result(ticket) == wanted(frames[ticket.stream])).all()
    assert device.done.count("network") == 2


@settings(max_examples=25)
@given(
    seed=st.integers(0, 2**16),
    shared=st.booleans(),
    reuse=st.booleans(),
    on_gpu=st.booleans(),
    told=st.lists(st.tuples(*[st.sampled_from([0.0, 0.3, 1.0])] * 3), min_size=2, max_size=5),
)
def test_cameras_with_quantisers_that_move_get_the_bytes_of_the_numpy_runtime(
    seed, shared, reuse, on_gpu, told
) -> None:
    """Two frames of each of three cameras on their way; their tiles share batches."""
    device, sizes = HostDevice(seed, shared), ((16, 30), (32, 40), (16, 20))
    clips = [a_clip(seed, size) for size in sizes]
    runner = runner_of(device, told=True, reuse=reuse).runner
    engine, same = fake_engine(SHAPE, told=True), Reuse() if reuse else None
    tunings = Tunings(lambda _size: None, Tuning())
    reference, before = CpuRunner(engine, metadata(told=True), tunings, lambda _size: same), []
    for number, quantisers in enumerate([*told, None]):
        begun = []
        for camera, quantiser in enumerate(quantisers or ()):
            frame = clips[camera][number]
            given = on_device(device, frame, 48) if on_gpu else frame
            ours = runner.submit(given, camera, quantiser)
            # A frame on the device must stay until its result was taken.
            begun.append((ours, reference.submit(frame, camera, quantiser), given))
        for ours, theirs, _ in before:
            got, expected = runner.result(ours), reference.result(theirs)
            assert ours.quantiser == theirs.quantiser
            assert (from_device(got) if on_gpu else got).tobytes() == expected.tobytes()
        before = begun
    reference.close()


def test_frame_is_computed_in_full_where_its_quantiser_moves_and_only_there() -> None:
    (frame,) = a_clip(1, (48, 60), frames=1)
    for told, computed in ((True, [1, 0, 1, 1, 0]), (False, [1, 0, 0, 0, 0])):
        restorer, run = runner_of(HostDevice(), told=told), []
        for quantiser in (0.2, 0.2, 0.3, 0.2, 0.2):
            before = restorer.tiles
            restorer(frame, quantiser=quantiser)
            run.append(int(restorer.tiles > before))
        assert run == computed


@pytest.mark.parametrize("quantiser", [-0.1, 1.01, float("nan")])
def test_quantiser_outside_its_range_is_refused(quantiser) -> None:
    restorer, (frame,) = runner_of(HostDevice(), told=True), a_clip(1, (32, 40), frames=1)
    with pytest.raises(EngineError, match=r"need one each, from 0 to 1"):
        restorer(frame, quantiser=quantiser)
    restorer(frame, quantiser=1)


def test_camera_that_changes_its_size_begins_anew() -> None:
    restorer = runner_of(HostDevice(4))
    for size in ((32, 40), (20, 60), (32, 40)):
        (frame,) = a_clip(5, size, frames=1)
        assert (restorer(frame) == wanted(frame)).all()


UPLOADS = 1  # second stream of a restorer, after that of its engine


def test_next_frame_goes_up_while_one_is_computed() -> None:
    """With the stream of uploads before all others, the third frame is up before the second's
    network ran: nothing makes an upload wait for the frame before."""
    device = HostDevice(prefer=UPLOADS)
    runner = runner_of(device, reuse=False).runner
    clip = a_clip(8, (32, 40), frames=3)
    first = runner.submit(clip[0])
    runner.submit(clip[1])
    device.done.clear()
    runner.result(first)
    before = device.done[: device.done.index("network")]
    assert "upload" in before
    assert before.count("gather_fp32") <= 1


def test_every_batch_is_gathered_run_and_scattered_in_turn() -> None:
    device = HostDevice(9)
    runner_of(device, reuse=False)(a_clip(9, (48, 60), frames=1)[0])
    kernels = [step for step in device.done if step in ("gather_fp32", "network", "scatter_fp32")]
    batches = len(kernels) // 3
    assert batches > 1
    assert kernels == ["gather_fp32", "network", "scatter_fp32"] * batches
    assert device.done[-1] == "download"


def test_third_frame_on_its_way_is_refused() -> None:
    runner = runner_of(HostDevice()).runner
    (frame,) = a_clip(1, (32, 40), frames=1)
    expected = wanted(frame)
    given = frame.copy()
    first, second = runner.submit(frame), runner.submit(given)
    given[:] = 0  # which may be changed as soon as it was submitted
    with pytest.raises(EngineError, match="2 frames are on their way; take a result first"):
        runner.submit(frame)
    with pytest.raises(EngineError, match="taken once, in the order of its frames"):
        runner.result(second)
    for ticket in (first, second):
        assert (runner.result(ticket) == expected).all()
    with pytest.raises(EngineError, match="taken once"):
        runner.result(first)


@pytest.mark.parametrize("seed", range(5))
def test_frame_after_a_failure_is_computed_in_full(seed) -> None:
    restorer = runner_of(HostDevice(seed))
    clip = a_clip(3, (32, 40), frames=4)
    restorer(clip[0])
    every = restorer.tiles
    restorer.runner.engine.broken = EngineError("the GPU is gone")
    with pytest.raises(EngineError, match="the GPU is gone"):
        restorer(clip[0] ^ np.uint8(1))
    restorer.runner.engine.broken = None
    assert (restorer(clip[0]) == wanted(clip[0])).all()
    assert restorer.tiles == 2 * every
    for frame in clip[1:]:
        assert (restorer(frame) == wanted(frame)).all()


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("pitch", [40, 43, 256])
def test_frame_in_device_memory_stays_there(pitch, shared) -> None:
    device = HostDevice(pitch, shared)
    restorer = runner_of(device)
    for frame in a_clip(4, (32, 40)):
        restored = restorer(on_device(device, frame, pitch))
        assert isinstance(restored, DeviceArray)
        assert restored.shape == frame.shape
        assert (from_device(restored) == wanted(frame)).all()
    again = restorer(restored)  # what it gives it also takes
    assert (from_device(again) == wanted(from_device(restored).copy())).all()


@pytest.mark.parametrize(
    ("frame", "error", "said"),
    [
        (np.zeros((8, 8), np.float32), MediaError, "got float32 (8, 8), need uint8"),
        (np.zeros((1, 1, 8, 8), np.uint8), MediaError, "uint8 (1, 1, 8, 8)"),
        ([[1]], MediaError, "list"),
        (np.zeros((3, 32, 40), np.uint8), MediaError, "got 3 channel(s), the network takes 1"),
        (np.zeros((8, 40), np.uint8), WindowError, "build the engine for a tile of at most"),
    ],
)
def test_what_is_no_frame_is_refused(frame, error, said) -> None:
    with pytest.raises(error) as refused:
        runner_of(HostDevice())(frame)
    assert said in str(refused.value)


@given(st.integers(0, 40), st.integers(1, 70), st.integers(1, 3), st.integers(1, 9))
def test_threads_suffice_for_every_word_that_a_tile_reads(left, width, channels, rows) -> None:
    words = -(-(left + width) // WORD) - left // WORD
    assert channels * rows * words <= words_of_tile(channels, (rows, width))
