"""What only the OpenVINO engine does: compile shapes that keep coming back."""

import numpy as np
import pytest

from edgecar.engines import openvino
from edgecar.engines.openvino import OpenvinoEngine


def batch(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height * width).random((1, 1, height, width), np.float32)


@pytest.mark.parametrize("precision", ["fp32", None])
def test_a_compiled_shape_gives_the_bits_of_any_shape(exported, precision):
    with OpenvinoEngine(exported("edgecar-xs"), precision, threads=1) as engine:
        first = engine.run(batch(48, 64)).copy()  # by the graph for any shape
        later = [engine.run(batch(48, 64)).copy() for _ in range(3)]  # by one of its own
        assert set(engine._requests._fixed) == {(1, 1, 48, 64)}
        for again in later:
            np.testing.assert_array_equal(again, first)


def test_only_a_few_shapes_are_held_and_those_that_stay_away_let_go(exported):
    with OpenvinoEngine(exported("edgecar-xs"), "fp32", threads=1) as engine:
        sizes = [(16, 16 + 2 * number) for number in range(openvino.SHAPES_COMPILED + 2)]
        for size in sizes * 2:
            engine.run(batch(*size))
        assert len(engine._requests._fixed) == openvino.SHAPES_COMPILED
        for _ in range(openvino.RECENT_RUNS + 1):
            engine.run(batch(64, 64))
        assert set(engine._requests._fixed) == {(1, 1, 64, 64)}


def test_shapes_that_never_return_are_never_compiled(exported):
    with OpenvinoEngine(exported("edgecar-xs"), "fp32", threads=1) as engine:
        for number in range(10):
            engine.run(batch(16, 16 + 2 * number))
        assert not engine._requests._fixed


def test_large_windows_are_never_compiled(exported, monkeypatch):
    artifact = exported("edgecar-xs")
    side = 32
    monkeypatch.setattr(openvino, "COMPILED_MEMORY", artifact.facts.bytes_per_px * side * side)
    with OpenvinoEngine(artifact) as engine:
        for _ in range(3):
            engine.run(np.zeros((1, 1, side, side), np.float32))
            engine.run(np.zeros((1, 1, side, side + 2), np.float32))
        assert list(engine._requests._fixed) == [(1, 1, side, side)]
