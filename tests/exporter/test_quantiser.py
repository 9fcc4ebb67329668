"""Exports of networks that are told the quantiser: every precision changes what FP32 changes."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from edgecar.artifact import Artifact
from edgecar.engines.answer import check_answer
from edgecar.engines.base import CODE
from edgecar.engines.select import open_engine
from edgecar.exporter import frames
from edgecar.exporter.checks import known_answer
from edgecar.exporter.exact import ExactEngine
from edgecar.exporter.frames import generated_frames
from edgecar.exporter.lower import Lowering, lowered_artifact
from edgecar.exporter.precision import fp16
from edgecar.exporter.quality import Judge
from edgecar.exporter.recipe import recipe_for
from edgecar.exporter.restoring import restoration
from edgecar.exporter.to_onnx import artifact_from_network
from edgecar.metadata import Metadata
from edgecar.spec import Coder
from edgecar.zoo.checkpoints import Loaded
from edgecar.zoo.edgecar_net import XS, EdgecarConfig, EdgecarNet
from edgecar.zoo.shipped import shipped_checkpoint
from tests.conftest import LOWER
from tests.exporter.test_quality import BUDGET, on_x86

CODER = "jpeg 5-100"
Graph = tuple[onnx.ModelProto, Metadata]


def told(codec: Coder = "jpeg") -> EdgecarNet:
    """Shipped weights, told the quantiser: coarse pictures are changed more than they were."""
    torch.manual_seed(0)
    network = EdgecarNet(EdgecarConfig(width=16)).eval()
    with torch.no_grad():
        network.shift.weight.normal_(0, 0.02)
        network.gain.weight.copy_(torch.linspace(0.2, 1.3, network.config.knots - 2)[None])
    network.load_state_dict(load_file(shipped_checkpoint("edgecar-xs", codec).path), strict=False)
    return network


def exported_from(network: EdgecarNet, trained_on: str = CODER) -> Graph:
    loaded = Loaded(XS, 1, network)
    return artifact_from_network(loaded, recipe_for("edgecar-xs"), "f" * 64, trained_on)


@pytest.fixture(scope="module")
def network() -> Graph:
    return exported_from(told())


def outputs(artifact: Artifact, codes: np.ndarray, quantisers: list[float], engine="exact"):
    """Restored pictures in codes, not rounded."""
    batch = codes * CODE
    opened = ExactEngine(artifact) if engine == "exact" else open_engine(artifact, engine)
    with opened:
        return 255 * opened.run(batch, quantisers)


# The known answer.


class Deaf(ExactEngine):
    """Takes every quantiser for the middle."""

    def _run(self, batch, quantisers):
        return super()._run(batch, np.full_like(quantisers, 0.5))


class OffByOne(ExactEngine):
    """Takes the knot before for each knot."""

    def _run(self, batch, quantisers):
        return super()._run(batch, quantisers - np.float32(1 / 8))


def swapped() -> EdgecarNet:
    network = told()
    network.convs[2], network.convs[3] = network.convs[3], network.convs[2]
    return network


def constant_gain() -> EdgecarNet:
    network = told()
    nn.init.ones_(network.gain.weight)
    return network


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("wrong", [Deaf, OffByOne, swapped, constant_gain])
def test_wrong_engine_does_not_reproduce_the_known_answer(wrong, precision, network) -> None:
    """In the middle of the range, where the network changes much: at quality 100 all would pass."""
    model, metadata = network
    graph = model if isinstance(wrong, type) else exported_from(wrong())[0]
    facts = replace(metadata, precision=precision)  # with nothing allowed but the gate's budget
    artifact = Artifact(facts, graph.SerializeToString())
    with (wrong if isinstance(wrong, type) else ExactEngine)(artifact) as engine:
        check = check_answer(engine, facts)
    assert not check.passed
    with ExactEngine(Artifact(facts, model.SerializeToString())) as engine:  # the control
        assert check_answer(engine, facts).passed


@pytest.mark.parametrize("trained_on", ["jpeg 5-100", "h264 crf 10-51", "hevc qp 10-51"])
def test_known_answer_is_one_that_the_network_changes_much(trained_on, network) -> None:
    answer = known_answer(network[0], replace(network[1], trained_on=trained_on))
    assert 0.55 < answer.quantiser < 0.8  # of HEVC by the key frame, which is finer
    change = answer.expected_codes() - answer.codes()
    assert np.abs(change).max() > 5
    assert np.abs(change).mean() > 0.5


# Lower precisions.


@pytest.mark.parametrize("kind", ["fp32", *LOWER])
@pytest.mark.parametrize("engine", ["openvino", "onnxruntime", "exact"])
def test_lossless_pictures_stay_as_they_are(kind, engine, exported, reduced) -> None:
    """The residual is none at a quantiser of zero, to the bit, whatever rounding made of it."""
    artifact = exported("edgecar-n") if kind == "fp32" else reduced("edgecar-n", kind)
    codes = np.random.default_rng(0).integers(0, 256, (2, 1, 32, 48)).astype(np.float32)
    lossless, coarse = outputs(artifact, codes, [0.0, 1.0], engine)
    np.testing.assert_array_equal(np.float32(lossless / 255), np.float32(codes[0] * CODE))
    assert np.abs(coarse - codes[1]).max() > 1


def test_halves_differ_from_fp32_by_less_than_shows_at_every_quantiser(network) -> None:
    model, metadata = network
    told_of = [0.0, 0.1, 0.3, 0.5, 0.7, 0.95]
    codes = np.stack([pair.coded for pair in generated_frames(CODER, 1, 2).held])
    halves = Artifact(replace(metadata, precision="fp16"), fp16(model, ()).SerializeToString())
    singles = Artifact(metadata, model.SerializeToString())
    got, expected = (outputs(each, codes, told_of) for each in (halves, singles))
    apart = np.abs(got - expected).max((1, 2, 3))
    assert apart[0] == 0
    assert apart.max() < 0.5  # of a code: less than rounding to codes moves
    assert np.sqrt(np.square(got - expected).mean((1, 2, 3))).max() < 0.04
    assert np.abs(expected - codes).max() > 10


@pytest.mark.parametrize("kind", LOWER)
def test_what_is_made_of_the_quantiser_stays_in_float32(kind, reduced) -> None:
    """Those few numbers move every pixel the same way."""
    model = onnx.load_model_from_string(reduced("edgecar-n", kind).onnx)
    values = onnx.shape_inference.infer_shapes(model).graph.value_info
    types = {value.name: value.type.tensor_type.elem_type for value in values}
    places = [node.output[0] for node in model.graph.node if node.op_type in ("Abs", "Relu", "Sub")]
    assert len(places) == 4
    assert {types[name] for name in places} == {onnx.TensorProto.FLOAT}
    tables = [tensor.data_type for tensor in model.graph.initializer if len(tensor.dims) == 2]
    assert tables == [onnx.TensorProto.FLOAT] * 2


def test_gate_tells_every_picture_its_quantiser(network) -> None:
    model, metadata = network
    held = generated_frames(CODER, 1, 2).held
    judge = Judge(model, metadata, held, "fp32", ["exact"])
    assert judge.verdict(model).loss_db == 0
    deaf = exported_from(constant_gain())[0]
    assert judge.verdict(deaf).spent(BUDGET) > 1
    # Pictures that coding left flawless lose nothing by it: no residual is added to them.
    flawless = [pair for pair in held if pair.quantiser == 0]
    assert Judge(model, metadata, flawless, "fp32", ["exact"]).verdict(deaf).worst_db == 0
    wrong = [replace(pair, quantiser=0.5) for pair in flawless]  # the control
    assert Judge(model, metadata, wrong, "fp32", ["exact"]).verdict(deaf).worst_db > 0.15


@pytest.mark.parametrize("made_for", ["fp32", "openvino", "onnxruntime"])
def test_exports_pass_their_gate_and_known_answer_on_every_engine(made_for, monkeypatch) -> None:
    monkeypatch.setattr(frames, "MOST_PX", 128)  # a quarter of the work
    model, metadata = exported_from(told("h264"), "h264 crf 29-47")
    if made_for != "fp32":
        # In that form those weights come near the recipe's budget without a quantiser, too.
        budget_db = 0.2 if made_for == "onnxruntime" else None
        lowering = Lowering("int8", for_engine=made_for, budget_db=budget_db)
        model, metadata = lowered_artifact(model, metadata, lowering, recipe_for("edgecar-xs"))
        assert len(metadata.quality.by_engine) == 2
    for engine in ("openvino", "onnxruntime"):
        artifact = Artifact(metadata, model.SerializeToString())
        with open_engine(artifact, engine, None if metadata.quality else "fp32") as opened:
            assert opened.check.passed, opened.check
            assert not opened.info.note
            assert opened.info.precision == metadata.precision


@on_x86
@pytest.mark.slow  # graphs are judged anew
@pytest.mark.parametrize("isa", ["SSE41", "AVX2"])
def test_exports_pass_on_cpus_of_every_kind(isa) -> None:
    name = test_exports_pass_their_gate_and_known_answer_on_every_engine.__name__
    command = [sys.executable, "-m", "pytest", "-q", "-n0", "-p", "no:cacheprovider", __file__]
    environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": isa}
    done = subprocess.run([*command, "-k", name], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_restoration_is_measured_at_the_quantisers_of_the_pictures() -> None:
    heard: list[list[float]] = []

    class Listening(nn.Module):
        takes_quantiser = True

        def forward(self, picture, quantiser):
            heard.append(quantiser.tolist())
            return picture

    loaded = Loaded(XS, 1, Listening())
    restoration(loaded, CODER, Path("theirs.pt"))
    expected = [pair.quantiser for pair in generated_frames(CODER, 1, 2).held]
    np.testing.assert_allclose(heard[0], expected)
    restoration(loaded, "", Path("theirs.pt"))
    assert [0.5, 0.5] in heard  # of noise nobody knows one
