"""A camera's last frame is used again only if it is whole and of the same shape."""

import numpy as np
import pytest

from edgecar.engines.fake import FakeEngine
from edgecar.errors import EngineError
from edgecar.runtime.restorer import Restorer
from tests.runtime.test_restorer import fake_artifact


def noise(seed: int, size: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 250, size, np.uint8)


def test_a_failure_halfway_through_a_frame_leaves_nothing_to_use_again() -> None:
    runs_left = [1 << 20]

    def brighter(batch):
        runs_left[0] -= 1
        if runs_left[0] < 0:
            raise EngineError("out of memory; close other programs")
        return batch + np.float32(1 / 255)

    first, second = noise(1, (48, 48)), noise(2, (48, 48))
    with Restorer(fake_artifact(), FakeEngine(brighter), tile=(24, 24)) as restorer:
        restored = restorer.luma(first).copy()
        runs_left[0] = 1
        with pytest.raises(EngineError):
            restorer.luma(second)
        runs_left[0] = 1 << 20
        np.testing.assert_array_equal(restorer.luma(first), restored)


def test_a_frame_of_as_many_pixels_and_another_shape_begins_anew() -> None:
    with Restorer(fake_artifact(), FakeEngine(lambda batch: 1 - batch)) as restorer:
        for size in ((24, 40), (40, 24), (24, 40)):
            frame = noise(3, size)
            np.testing.assert_array_equal(restorer.luma(frame), 255 - frame)
