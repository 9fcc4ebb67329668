"""The engine without a network, and what the common class checks for engines of one shape."""

import numpy as np
import pytest

from edgecar.engines.fake import FakeEngine
from edgecar.errors import EngineError


def test_function_is_applied() -> None:
    with FakeEngine(lambda batch: 1 - batch) as engine:
        restored = engine.run(np.full((2, 1, 3, 5), 0.25, np.float32))
    assert np.array_equal(restored, np.full((2, 1, 3, 5), 0.75, np.float32))


def test_engine_of_one_shape_takes_no_other() -> None:
    engine = FakeEngine(lambda batch: batch, channels=3, shape=(2, 8, 16), align_px=8)
    assert engine.info.shape == (2, 8, 16)
    assert engine.run(np.zeros((2, 3, 8, 16), np.float32)).shape == (2, 3, 8, 16)
    for batch, said in (
        ((1, 3, 8, 16), "got a batch of 1 windows 8x16 px, this engine was built for 2 of 8x16"),
        ((2, 3, 16, 16), "windows 16x16 px"),
        ((2, 3, 8, 8), "windows 8x8 px"),
        ((2, 1, 8, 16), r"need float32 \(N, 3, H, W\)"),
        ((2, 3, 4, 16), "multiples of 8 px"),
    ):
        with pytest.raises(EngineError, match=said):
            engine.run(np.zeros(batch, np.float32))


def test_function_sees_contiguous_memory() -> None:
    seen = []
    engine = FakeEngine(lambda batch: seen.append(batch.flags.c_contiguous) or batch)
    frame = np.zeros((1, 1, 8, 8), np.float32)
    engine.run(frame[:, :, 2:6, 1:5])
    engine.run(frame.transpose(0, 1, 3, 2))
    assert seen == [True, True]


def test_error_of_the_function_is_the_callers() -> None:
    def fail(_batch):
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"), FakeEngine(fail) as engine:
        engine.run(np.zeros((1, 1, 2, 2), np.float32))
