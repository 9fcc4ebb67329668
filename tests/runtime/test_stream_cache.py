"""Reuse skips work and never changes a byte."""

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import peak_signal_noise_ratio

from edgecar.engines.fake import FakeEngine
from edgecar.engines.select import open_engine
from edgecar.errors import EngineError
from edgecar.media.frame import Frame
from edgecar.runtime import stream_cache
from edgecar.runtime.restorer import Restorer
from edgecar.runtime.stream_cache import LOSS_EVERY, MOST_BLIND, MOST_FREE, FramePool, Reuse
from tests.runtime.test_restorer import fake_artifact

SIZE = (150, 230)


def blurred(batch: np.ndarray) -> np.ndarray:
    """Depends on neighbours up to two pixels away, as the fake artifact's halo says."""
    padded = np.pad(batch, ((0, 0), (0, 0), (2, 2), (2, 2)))
    rows = sum(padded[:, :, i : i + batch.shape[2], 2:-2] for i in range(5))
    columns = sum(padded[:, :, 2:-2, i : i + batch.shape[3]] for i in range(5))
    return ((rows + columns) / 10).astype(np.float32)


def restorer_with(reuse: bool | Reuse = True, tile=None, shape=None, engine=None) -> Restorer:
    engine = engine or FakeEngine(blurred, shape=shape)
    return Restorer(fake_artifact(), engine, tile=tile, reuse=reuse)


def noise(size=SIZE, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, size, np.uint8)


def frame_with(y: np.ndarray) -> Frame:
    chroma = np.full(((y.shape[0] + 1) // 2, (y.shape[1] + 1) // 2), 128, np.uint8)
    return Frame(y, chroma, chroma)


KINDS = {
    "free": {},
    "tiles": {"tile": (32, 48)},
    "one shape": {"shape": (3, 32, 48)},
}
PATCH = st.tuples(*(st.integers(0, side - 1) for side in SIZE), *[st.integers(1, 230)] * 2)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=40)
@given(changes=st.lists(st.lists(PATCH, max_size=4), max_size=9), resize_at=st.integers(0, 6))
def test_output_is_that_of_running_everything(kind, changes, resize_at):
    frame = noise()
    with_reuse, without = (restorer_with(reuse, **KINDS[kind]) for reuse in (True, False))
    for number, change in enumerate(changes):
        if number == resize_at:
            frame = np.ascontiguousarray(np.pad(frame, 1, mode="edge"))  # the camera was reset
        for row, column, height, width in change:
            frame[row : row + height, column : column + width] += 1
        np.testing.assert_array_equal(with_reuse.luma(frame), without.luma(frame))


@pytest.mark.parametrize(
    "name", ["edgecar-xs", "fastarcnn", pytest.param("msfan", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8 openvino"])
def test_networks_give_the_bytes_of_running_everything(exported, reduced, name, engine, precision):
    made = exported(name) if precision == "fp32" else reduced(name, precision)
    frame = noise((200, 263), seed=3)
    rng = np.random.default_rng(4)
    with open_engine(made, engine, threads=2) as opened:
        with_reuse, without = (Restorer(made, opened, reuse=reuse) for reuse in (True, False))
        for _ in range(6):
            np.testing.assert_array_equal(with_reuse.luma(frame), without.luma(frame))
            top, left = rng.integers(0, 200), rng.integers(0, 263)
            frame[top : top + 20, left : left + 30] ^= 5
        # Tiles of a network with global pooling see the whole frame, if it is this small.
        assert with_reuse.metadata.context != "local" or (
            with_reuse.stats.pixels_read < without.stats.pixels_read
        )


@pytest.mark.parametrize("size", [(24, 40), (40, 24)])
def test_a_frame_of_as_many_pixels_and_another_shape_begins_anew(size):
    with Restorer(fake_artifact(), FakeEngine(lambda batch: 1 - batch)) as restorer:
        for shape in (size, size[::-1], size):
            frame = noise(shape, 3)
            np.testing.assert_array_equal(restorer.luma(frame), 255 - frame)


@pytest.mark.parametrize("place", [None, (0, 0), (149, 229), (0, 229), (70, 100)])
def test_no_change_runs_nothing_and_a_small_one_reads_little(place):
    frame, restorer = noise(), restorer_with()
    first = restorer.luma(frame)
    before = restorer.stats.pixels_read
    if place:
        frame[place] ^= 1
    restored = restorer.luma(frame)
    read = restorer.stats.pixels_read - before
    assert 0 < read <= 0.1 * frame.size if place else read == 0
    assert place or (restored == first).all()


def test_a_change_runs_the_tiles_that_read_it():
    frame, restorer = np.zeros(SIZE, np.uint8), restorer_with(tile=(32, 48))
    restorer.luma(frame)
    plan, before = restorer.plan(SIZE), restorer.stats.windows_run
    frame[0, 0] = 9
    restorer.luma(frame)
    readers = sum(w.read[0] <= 0 < w.read[2] and w.read[1] <= 0 < w.read[3] for w in plan)
    assert restorer.stats.windows_run - before == readers == 1


@pytest.mark.parametrize("kind", KINDS)
def test_where_everything_changes_frames_are_seldom_compared(kind, monkeypatch):
    compared = []
    cells = stream_cache.changed_cells
    monkeypatch.setattr(
        stream_cache, "changed_cells", lambda *given: compared.append(0) or cells(*given)
    )
    restorer = restorer_with(**KINDS[kind])
    counts = []
    for number in range(40):
        restorer.luma(noise(seed=number))
        counts.append(len(compared))
    assert counts[:7] == [0, 1, 2, 2, 3, 3, 3]  # the pauses get longer,
    assert counts[39] <= 4 + 40 / MOST_BLIND  # up to a limit
    still = noise(seed=39)
    run = [restorer.stats.windows_run]
    for _ in range(MOST_BLIND + 2):
        np.testing.assert_array_equal(restorer.luma(still), restorer_with(False).luma(still))
        run.append(restorer.stats.windows_run)
    assert run[-1] == run[-2]  # the change is found that nothing changes any more


@pytest.mark.parametrize("kind", KINDS)
def test_cameras_restored_together_give_what_each_gives_alone(kind):
    sizes = [(150, 230), (96, 64), (150, 230)]
    together = restorer_with(**KINDS[kind])
    alone = [restorer_with(reuse=False, **KINDS[kind]) for _ in sizes]
    lumas = [noise(size, seed) for seed, size in enumerate(sizes)]
    for step in range(3):
        frames = [frame_with(y) for y in lumas]
        restored = together.restore_all(frames, "abc")
        for one, y, frame in zip(alone, lumas, restored, strict=True):
            np.testing.assert_array_equal(frame.y, one.luma(y))
        lumas[step][10:14, 20 * step : 20 * step + 9] ^= 3


def test_windows_of_several_cameras_fill_a_batch():
    batches = []

    def counted(batch: np.ndarray) -> np.ndarray:
        batches.append(len(batch))
        return blurred(batch)

    restorer = restorer_with(engine=FakeEngine(counted, shape=(4, 32, 48)))
    frames = [frame_with(noise((32, 48), seed)) for seed in range(4)]
    restorer.restore_all(frames, range(4))
    assert batches == [4]  # one tile each, one run


@pytest.mark.parametrize("array", ["input", "output"])
@pytest.mark.parametrize("size", [SIZE, (152, 232)])
def test_callers_may_write_into_their_arrays(array, size):
    frame, restorer = noise(size, seed=3), restorer_with()
    restored = restorer.luma(frame)
    expected, earlier = restored.copy(), frame.copy()
    if array == "output":
        restored[:] = 0
    else:
        frame[:] = 0
        restorer.luma(frame)
    np.testing.assert_array_equal(restorer.luma(earlier), expected)


def test_what_the_next_frame_starts_from_cannot_be_written():
    restorer = restorer_with()
    (restored,) = restorer.finish(restorer.begin([frame_with(noise())], ["gate"]))
    with pytest.raises(ValueError, match="read-only"):
        restored.y[:] = 0


@pytest.mark.parametrize("tile", [None, (24, 24)])
def test_a_failure_halfway_through_a_frame_leaves_nothing_to_use_again(tile):
    runs_left = [1 << 20]

    def brighter(batch):
        runs_left[0] -= 1
        if runs_left[0] < 0:
            raise EngineError("out of memory; close other programs")
        return batch + np.float32(1 / 255)

    first, second = noise((48, 48), 1), noise((48, 48), 2)
    with restorer_with(tile=tile, engine=FakeEngine(brighter)) as restorer:
        restored = restorer.luma(first)
        runs_left[0] = 1 if tile else 0
        with pytest.raises(EngineError, match="out of memory"):
            restorer.luma(second)
        runs_left[0] = 1 << 20
        np.testing.assert_array_equal(restorer.luma(first), restored)


@pytest.mark.parametrize("drift", [0.0, 0.01])
def test_verifying_notices_a_network_that_is_no_function_of_its_window(drift):
    runs = [0]

    def drifting(batch: np.ndarray) -> np.ndarray:
        runs[0] += 1
        return batch * np.float32(0.5 + drift * runs[0])

    frame = noise()
    restorer = restorer_with(Reuse(verify_every=2), engine=FakeEngine(drifting))
    restorer.luma(frame)
    frame[10, 10] ^= 1
    if drift:
        with pytest.raises(EngineError, match=r"reuse gave .* other bytes"):
            restorer.luma(frame)
    else:
        restorer.luma(frame)
        assert restorer.stats.frames_compared == 1


def test_price_of_a_tolerance_is_measured_against_the_exact_output():
    frame = np.full(SIZE, 100, np.uint8)
    restorer = restorer_with(Reuse(tolerance=2, verify_every=2))
    lossy = [restorer.luma(frame)]
    assert restorer.stats.psnr_to_exact is None
    frame[50:60, 50:60] += 2
    lossy.append(restorer.luma(frame))
    exact = restorer_with(reuse=False).luma(frame)
    assert restorer.stats.frames_compared == 1
    expected = peak_signal_noise_ratio(exact, lossy[1], data_range=255)
    assert restorer.stats.psnr_to_exact == pytest.approx(expected)
    assert Reuse(tolerance=2).compares(LOSS_EVERY)
    assert not Reuse().compares(LOSS_EVERY)


def test_tolerance_skips_small_changes_but_not_their_sum():
    frame = np.full(SIZE, 100, np.uint8)
    restorer = restorer_with(Reuse(tolerance=2))
    restorer.luma(frame)
    run = restorer.stats.windows_run
    frame[50:60, 50:60] += 2
    frame[80, 80] += 9  # far enough to be kept apart
    restorer.luma(frame)
    assert restorer.stats.windows_run == run + 1
    frame[50:60, 50:60] += 1  # now three codes from what was computed
    restored = restorer.luma(frame)
    assert restorer.stats.windows_run > run + 1
    exact = restorer_with(reuse=False).luma(frame)
    np.testing.assert_array_equal(restored[50:60, 50:60], exact[50:60, 50:60])


def place(array: np.ndarray) -> int:
    return array.ctypes.data


def test_a_pool_hands_out_what_nobody_holds():
    pool = FramePool((1, 40, 50))
    held = [pool.array() for _ in range(3 * MOST_FREE)]
    places = {place(array) for array in held}
    assert len(places) == 3 * MOST_FREE
    view = held.pop()[0][10:20, ::2].T  # a view of a view holds its array
    view[:] = 7
    held.clear()
    assert len(pool._free) == MOST_FREE
    later = [pool.array() for _ in range(2 * MOST_FREE)]
    assert len(places & {place(array) for array in later}) >= MOST_FREE
    for array in later:
        array[:] = 9
    assert (view == 7).all()


def test_arrays_come_back_from_other_threads():
    pool = FramePool((1, 40, 50))
    seen = set()

    def use() -> None:
        for _ in range(200):
            array = pool.array()
            array[:] = 1
            seen.add(place(array))

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) < 50  # of 800
