"""Reuse skips work and never changes a byte."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecar.engines.fake import FakeEngine
from edgecar.runtime.restorer import Restorer
from tests.runtime.test_restorer import fake_artifact


def blurred(batch: np.ndarray) -> np.ndarray:
    """Depends on neighbours up to two pixels away, as the fake artifact's halo says."""
    padded = np.pad(batch, ((0, 0), (0, 0), (2, 2), (2, 2)))
    rows = sum(padded[:, :, i : i + batch.shape[2], 2:-2] for i in range(5))
    columns = sum(padded[:, :, 2:-2, i : i + batch.shape[3]] for i in range(5))
    return ((rows + columns) / 10).astype(np.float32)


@settings(deadline=None, max_examples=60)
@given(
    changes=st.lists(
        st.lists(
            st.tuples(st.integers(0, 29), st.integers(0, 39), st.integers(0, 255)), max_size=3
        ),
        max_size=6,
    ),
    resize_at=st.integers(0, 6),
)
def test_output_is_that_of_running_everything(changes, resize_at):
    frame = np.random.default_rng(1).integers(0, 256, (30, 40), np.uint8)
    with_reuse, without = (
        Restorer(fake_artifact(), FakeEngine(blurred), tile=(12, 12), reuse=reuse)
        for reuse in (True, False)
    )
    for number, change in enumerate(changes):
        if number == resize_at:
            frame = np.ascontiguousarray(np.pad(frame, 1, mode="edge"))  # the camera was reset
        for row, column, value in change:
            frame[row, column] = value
        np.testing.assert_array_equal(with_reuse.luma(frame), without.luma(frame))


def test_unchanged_frames_run_nothing():
    frame = np.random.default_rng(2).integers(0, 256, (30, 40), np.uint8)
    restorer = Restorer(fake_artifact(), FakeEngine(blurred), tile=(12, 12))
    first = restorer.luma(frame)
    run = restorer.stats.windows_run
    second = restorer.luma(frame.copy())
    assert restorer.stats.windows_run == run
    assert restorer.stats.windows_reused == run
    np.testing.assert_array_equal(first, second)


def test_a_change_runs_the_windows_that_read_it():
    frame = np.zeros((30, 40), np.uint8)
    restorer = Restorer(fake_artifact(), FakeEngine(blurred), tile=(12, 12))
    restorer.luma(frame)
    plan, before = restorer.plan((30, 40)), restorer.stats.windows_run
    frame[0, 0] = 9
    restorer.luma(frame)
    readers = sum(w.read[0] <= 0 < w.read[2] and w.read[1] <= 0 < w.read[3] for w in plan)
    assert restorer.stats.windows_run - before == readers == 1


@pytest.mark.parametrize("array", ["input", "output"])
def test_callers_may_write_into_their_arrays(array):
    frame = np.random.default_rng(3).integers(0, 256, (30, 40), np.uint8)
    restorer = Restorer(fake_artifact(), FakeEngine(blurred), tile=(12, 12))
    restored = restorer.luma(frame)
    expected = restored.copy()
    if array == "output":
        restored[:] = 0
        np.testing.assert_array_equal(restorer.luma(frame), expected)
    else:
        earlier = frame.copy()
        frame[:] = 0
        restorer.luma(frame)
        np.testing.assert_array_equal(restorer.luma(earlier), expected)
