"""INT8 sums are the same on every CPU, and the gate's figures are those of the engine that runs."""

import os
import platform
import subprocess
import sys
from dataclasses import replace

import cv2
import numpy as np
import onnx
import pytest

from edgecar.artifact import Artifact
from edgecar.engines.base import CODE
from edgecar.engines.select import LARGEST_WEIGHT, largest_weight, open_engine
from edgecar.errors import EngineError
from edgecar.exporter import exact
from edgecar.exporter.calibrate import ranges_of
from edgecar.exporter.exact import ExactEngine
from edgecar.exporter.frames import CodedPair
from edgecar.exporter.precision import fp16
from edgecar.exporter.quality import Judge
from edgecar.exporter.quantize import FORMS, always_kept, quantised
from edgecar.runtime.restorer import Restorer
from tests.exporter.graphs import INPUT, Drawing
from tests.test_artifact import FACTS

on_x86 = pytest.mark.skipif(
    platform.machine().lower() not in ("x86_64", "amd64"), reason="needs a CPU of x86"
)
RUN = """
import sys
import numpy as np
from edgecar.artifact import Artifact
from edgecar.engines.openvino import OpenvinoEngine
from tests.test_artifact import FACTS
from dataclasses import replace
graph, batch, output = sys.argv[1:]
artifact = Artifact(replace(FACTS, precision="int8", quality=None), open(graph, "rb").read())
with OpenvinoEngine(artifact, "int8", 1) as engine:
    np.save(output, engine.run(np.load(batch)))
"""


class Weighty(Drawing):
    """A drawing whose weights are all near the largest of their channel, of either sign."""

    def weights(self, *shape: int) -> str:
        values = self.dice.uniform(0.8, 1, shape) * self.dice.choice([-1, 1], shape)
        # Those of every second channel have one sign, as in a layer that averages.
        values[::2] = np.abs(values[::2])
        return self.constant((values / np.sqrt(np.prod(shape[1:]))).astype(np.float32))


def drawn(seed: int = 0) -> onnx.ModelProto:
    d = Weighty(seed=seed)
    value = d.conv(INPUT, out=16)
    for _ in range(2):
        value = d.conv(d.node("Relu", value), out=16)
    return d.model(d.conv(d.node("Relu", value)))


def int8_of(model: onnx.ModelProto, engine: str = "openvino") -> onnx.ModelProto:
    form = FORMS[engine]
    ranges = ranges_of(model, pictures(), symmetric=form.signed)["min-max"]
    return quantised(model, ranges, always_kept(model), form)


def pictures() -> list[np.ndarray]:
    """Bright ones, whose products are large."""
    dice = np.random.default_rng(3)
    return [dice.integers(150, 256, (1, 48, 64)).astype(np.uint8) for _ in range(2)]


def in_eight_bits(made: onnx.ModelProto) -> onnx.ModelProto:
    """The same weights in steps half as large, as they were written before."""
    wide = onnx.ModelProto()
    wide.CopyFrom(made)
    constants = {tensor.name: tensor for tensor in wide.graph.initializer}
    for node in wide.graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in constants:
            for name, factor in zip(node.input[:2], (127 / 64, 64 / 127), strict=True):
                old = onnx.numpy_helper.to_array(constants[name])
                scaled = old * np.float32(factor)
                new = (np.rint(scaled) if old.dtype == np.int8 else scaled).astype(old.dtype)
                constants[name].CopyFrom(onnx.numpy_helper.from_array(new, name))
    return wide


def missed(made: onnx.ModelProto, isa: str, folder) -> float:
    """Difference of OpenVINO on a CPU of some kind from exact sums, in parts of the contrast."""
    batch = np.stack(pictures()).astype(np.float32) * CODE
    (folder / "graph.onnx").write_bytes(made.SerializeToString())
    np.save(folder / "batch.npy", batch)
    paths = [str(folder / name) for name in ("graph.onnx", "batch.npy", "output.npy")]
    environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": isa}
    subprocess.run([sys.executable, "-c", RUN, *paths], env=environment, check=True)
    with ExactEngine(Artifact(int8_facts(), made.SerializeToString())) as engine:
        expected = engine.run(batch)
    return float(np.abs(np.load(paths[2]) - expected).mean() / expected.std())


def int8_facts():
    return replace(FACTS, precision="int8", quality=None, align_px=1)


@on_x86
@pytest.mark.parametrize("isa", ["SSE41", "AVX2"])
def test_sums_are_exact_on_cpus_without_vnni(isa, tmp_path) -> None:
    made = int8_of(drawn())
    assert largest_weight(made.SerializeToString()) == LARGEST_WEIGHT
    # Some codes fall on the other side of a rounding where float32 is summed in another order.
    assert missed(made, isa, tmp_path) < 0.005
    # The control: with eight bits the sums overflow.
    assert missed(in_eight_bits(made), isa, tmp_path) > 0.05


@on_x86
@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_files_of_eight_bits_are_refused_in_one_line(engine) -> None:
    wide = in_eight_bits(int8_of(drawn()))
    with pytest.raises(EngineError, match=r"go up to 127, .* export it again") as refused:
        open_engine(Artifact(int8_facts(), wide.SerializeToString()), engine)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_figure_of_the_gate_is_that_of_the_engine(engine) -> None:
    """Pictures restored through the public class, whatever the CPU, lose what the gate says."""
    pytest.importorskip(engine)
    model = drawn()
    made = int8_of(model, engine)
    clean = [picture // 2 + 60 for picture in pictures()]
    held = [CodedPair(c, p) for c, p in zip(pictures(), clean, strict=True)]
    metadata = int8_facts()
    verdict = Judge(model, metadata, held, "int8", (engine, exact.NAME)).verdict(made)
    before, after = (
        [cv2.PSNR(pair.clean[0], restored(artifact, engine, pair.coded[0])) for pair in held]
        for artifact in (
            Artifact(replace(metadata, precision="fp32"), model.SerializeToString()),
            Artifact(metadata, made.SerializeToString()),
        )
    )
    figures = dict(verdict.by_engine)
    assert figures[engine] == pytest.approx(np.mean(before) - np.mean(after), abs=1e-6)
    assert figures.keys() == {engine, exact.NAME}
    assert verdict.loss_db == max(figures.values())


def restored(artifact: Artifact, engine: str, luma: np.ndarray) -> np.ndarray:
    precision = "fp32" if artifact.metadata.precision == "fp32" else None
    with Restorer(artifact, engine, precision, reuse=False) as restorer:
        return np.array(restorer.luma(luma))


def test_halves_are_rounded_after_every_operator() -> None:
    """ONNX Runtime would leave it out on a CPU."""
    model = drawn()
    batch = np.stack(pictures()).astype(np.float32) * CODE
    outputs = []
    for precision, graph in (("fp32", model), ("fp16", fp16(model, ()))):
        metadata = replace(FACTS, precision=precision, quality=None, align_px=1)
        with ExactEngine(Artifact(metadata, graph.SerializeToString())) as engine:
            outputs.append(engine.run(batch))
    in_singles, in_halves = outputs
    # Three layers of halves, each with an error of up to 2^-11 of its values.
    assert 1e-4 < np.abs(in_halves - in_singles).mean() / in_singles.std() < 1e-2
