"""What only the OpenVINO engine does: compile shapes that keep coming back."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgecar.engines import openvino
from edgecar.engines.openvino import OpenvinoEngine

RETURNS = 4
"""Of the shapes here until one is compiled, but for the test of when that is."""


def batch(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height * width).random((1, 1, height, width), np.float32)


@pytest.fixture(autouse=True)
def soon_compiled(monkeypatch) -> None:
    monkeypatch.setattr(openvino, "PAYS_PX", 0)
    monkeypatch.setattr(openvino, "LEAST_RETURNS", RETURNS)


def returning(engine: OpenvinoEngine, height: int, width: int, times: int = RETURNS):
    """Outputs of the same tile, again and again."""
    return [engine.run(batch(height, width)) for _ in range(times)]


def compiled(engine: OpenvinoEngine) -> set[tuple[int, ...]]:
    return {shape[2:] for shape in engine._units.fixed}


@pytest.mark.parametrize("precision", ["fp32", None])
def test_a_compiled_shape_gives_the_bits_of_any_shape(exported, precision):
    with OpenvinoEngine(exported("edgecar-xs"), precision, threads=2) as engine:
        first, *later = returning(engine, 48, 64, RETURNS + 2)
        assert compiled(engine) == {(48, 64)}
        for again in later:
            np.testing.assert_array_equal(again, first)


def test_larger_shapes_are_compiled_sooner(exported, monkeypatch):
    monkeypatch.setattr(openvino, "PAYS_PX", 5 * 32 * 64)
    monkeypatch.setattr(openvino, "LEAST_RETURNS", 2)
    with OpenvinoEngine(exported("edgecar-xs"), "fp32", threads=1) as engine:
        returning(engine, 256, 256, 1)  # as large as it may be: what comes once is not compiled
        assert not compiled(engine)
        for height, width, returns in ((32, 64, 5), (64, 64, 3), (128, 128, 2)):
            returning(engine, height, width, returns - 1)
            assert (height, width) not in compiled(engine)
            returning(engine, height, width, 1)
            assert (height, width) in compiled(engine)


def test_compiled_shapes_share_a_limit_of_memory(exported, monkeypatch):
    artifact = exported("edgecar-xs")
    monkeypatch.setattr(openvino, "COMPILED_MEMORY", artifact.metadata.bytes_per_px * 3000)
    with OpenvinoEngine(artifact) as engine:
        for size in ((32, 34), (32, 32), (50, 50), (20, 20)):
            returning(engine, *size)
        assert compiled(engine) == {(32, 34), (32, 32), (20, 20)}


def test_compiled_shapes_that_stay_away_make_room(exported, monkeypatch):
    artifact = exported("edgecar-xs")
    monkeypatch.setattr(openvino, "COMPILED_MEMORY", artifact.metadata.bytes_per_px * 1100)
    monkeypatch.setattr(openvino, "FORGOTTEN_RUNS", 2 * RETURNS)
    with OpenvinoEngine(artifact) as engine:
        returning(engine, 32, 32)
        returning(engine, 32, 34, RETURNS)
        assert compiled(engine) == {(32, 32)}
        returning(engine, 32, 34, 2 * RETURNS)
        assert compiled(engine) == {(32, 34)}


def test_what_is_compiled_does_not_grow_for_ever(exported, monkeypatch):
    monkeypatch.setattr(openvino, "SETTLED_RUNS", RETURNS + 2)
    monkeypatch.setattr(openvino, "FORGOTTEN_RUNS", 2 * RETURNS)
    with OpenvinoEngine(exported("edgecar-xs")) as engine:
        returning(engine, 32, 32)
        returning(engine, 16, 32)
        assert compiled(engine) == {(32, 32)}  # there is memory, but it has settled
        returning(engine, 16, 32, RETURNS + 2)
        assert compiled(engine) == {(16, 32)}  # in place of what stayed away


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="Linux alone tells so there")
def test_shapes_that_come_once_leave_little(exported, tmp_path):
    """Without a limit 40 MiB: a third of one for each."""
    path = tmp_path / "xs.onnx"
    path.write_bytes(exported("edgecar-xs").onnx)
    script = (
        "import sys, numpy as np\n"
        "from pathlib import Path\n"
        "from edgecar.allocator import give_back_memory\n"
        "from edgecar.artifact import read_artifact\n"
        "from edgecar.engines.openvino import OpenvinoEngine\n"
        "def resident_mib():\n"
        "    give_back_memory()\n"
        "    return int(open('/proc/self/statm').read().split()[1]) * 4096 / 2**20\n"
        "engine = OpenvinoEngine(read_artifact(Path(sys.argv[1])))\n"
        "def meet(shapes):\n"
        "    for number in shapes:\n"
        "        engine.run(np.zeros((1, 1, 64 + 2 * number, 320 - 2 * number), np.float32))\n"
        "meet(range(30))\n"
        "before = resident_mib()\n"
        "meet(range(30, 140))\n"
        "print(resident_mib() - before)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, path], check=True, capture_output=True, text=True
    )
    assert float(done.stdout) < 15


REPEATS = """
import numpy as np, onnx
from onnx import helper, TensorProto
from edgecar.artifact import Artifact
from edgecar.metadata import Metadata
from edgecar.engines.openvino import OpenvinoEngine

options = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric",
           "nearest_mode": "floor"}
pictures = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 1, "h", "w"])
            for name in ("before", "after")]
for times in (2, 3):
    nodes = [helper.make_node("Conv", ["before", "weights"], ["features"]),
             helper.make_node("Resize", ["features", "", "scales"], ["large"], **options),
             helper.make_node("ReduceMean", ["large", "channels"], ["after"])]
    constants = [helper.make_tensor("weights", TensorProto.FLOAT, [12, 1, 1, 1], [1.0] * 12),
                 helper.make_tensor("scales", TensorProto.FLOAT, [4], [1, 1, times, times]),
                 helper.make_tensor("channels", TensorProto.INT64, [1], [1])]
    graph = helper.make_graph(nodes, "repeats", pictures[:1], pictures[1:], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    metadata = Metadata("fake", 1, 2, 1, "local", 8, "fp32", "", "", 0.0, 0.0)
    batch = np.random.default_rng(0).random((2, 1, 16, 24), np.float32)
    with OpenvinoEngine(Artifact(metadata, model.SerializeToString()), "fp32") as engine:
        expected = batch.repeat(times, 2).repeat(times, 3)
        np.testing.assert_allclose(engine.run(batch), expected, rtol=1e-5)  # of twelve added up
"""


@pytest.mark.parametrize("isa", ["SSE41", "AVX2"])
def test_pixels_are_repeated_on_every_cpu(isa):
    environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": isa}
    command = [sys.executable, "-c", REPEATS]
    subprocess.run(command, check=True, env=environment, timeout=120)
