"""Every network of the zoo in every precision: what its graph is, and who reads it."""

import re
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from edgecar.engines.select import open_engine
from edgecar.engines.trt_lint import refuse_misread, refuse_unsupported
from edgecar.errors import ExportError
from edgecar.exporter.calibrate import ranges_of
from edgecar.exporter.frames import CodedPicture
from edgecar.exporter.inspection import layer_types
from edgecar.exporter.quantize import SIGNED, always_kept, convolutions, quantised
from edgecar.exporter.receptive import reception_of
from edgecar.zoo.card import takes_quantiser
from edgecar.zoo.registry import CARDS, card_named
from tests.conftest import LOWER, TENSORRT
from tests.exporter.graphs import INPUT, Drawing, runner
from tests.networks import every_network, narrow

every_kind = pytest.mark.parametrize("kind", LOWER)
# Halo and alignment of every published network, in pixels.
GEOMETRY = {
    "arcnn": (9, 1, "local"),  # 4 + 3 + 0 + 2
    "fastarcnn": (14, 2, "local"),
    "dncnn": (20, 1, "local"),  # one a layer
    "msfan": (38, 1, "windowed"),  # 1 + 4·(1 + 2 + 3 + 2 + 1) + 1
    "carcnn": (34, 1, "local"),
    "edgecar-n": (12, 2, "local"),  # 2 + 2·5
    "edgecar-xs": (12, 2, "local"),  # 2 + 2·5
    "edgecar-s": (12, 2, "local"),
    "edgecar-m": (16, 2, "local"),  # 2 + 2·7
}
# What a deployed graph of convolutions alone may hold, and what else its quantiser takes.
PLAIN = {"Conv", "LeakyRelu", "DepthToSpace", "Add"}
KNOTS = {"Unsqueeze", "Mul", "Sub", "Abs", "Relu", "ReduceSum", "Slice"}
FUSION = pytest.param("glfusion", marks=pytest.mark.slow)  # its export takes 15 seconds
NAMES = [card.name for card in CARDS if card.name != "glfusion"] + [FUSION]


def graph(artifact) -> onnx.ModelProto:
    return onnx.load_model_from_string(artifact.onnx)


def assert_runs(model: onnx.ModelProto, align: int, network=None, channels: int = 1) -> None:
    """Any batch and aligned size runs in float32, and equals torch."""
    run = runner(model)
    for batch, rows, columns in ((1, 1, 1), (3, 2, 5), (2, 4, 1)):
        shape = (batch, channels, max(4, rows * 8) // align * align or align, columns * 16)
        dice = np.random.default_rng(0)
        pictures, quantisers = dice.random(shape, np.float32), dice.random(batch, np.float32)
        got = run(pictures, quantisers)
        assert got.shape == shape
        assert got.dtype == np.float32
        assert np.isfinite(got).all()
        if network is not None:
            with torch.inference_mode():
                told = [torch.from_numpy(quantisers)] if takes_quantiser(network) else []
                expected = network(torch.from_numpy(pictures), *told).numpy()
            # Sums of up to 5000 products of numbers around 1 in float32, in another order.
            # Measured: 4e-6 at most, but 3e-5 through dncnn's 20 layers without a skip.
            np.testing.assert_allclose(got, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_graph_equals_torch_and_has_the_geometry_of_its_card(name, exported) -> None:
    artifact, card = exported(name), card_named(name)
    metadata, model = artifact.metadata, graph(artifact)
    found = (metadata.halo_px, metadata.align_px, metadata.context)
    assert found == GEOMETRY.get(name, (metadata.halo_px, 16, "windowed"))
    assert metadata.halo_px % metadata.align_px == 0
    assert found[1:] == (card.align_px, card.context)
    axes = model.graph.input[0].type.tensor_type.shape.dim
    assert [axis.dim_param != "" for axis in axes] == [True, False, True, True]
    assert_runs(model, metadata.align_px, narrow(name))
    kinds = {node.op_type for node in model.graph.node}
    assert "BatchNormalization" not in kinds  # folded into the convolutions
    if name.startswith("edgecar"):
        assert kinds == PLAIN | (KNOTS if metadata.takes_quantiser else set())


@pytest.mark.parametrize("name", NAMES)
def test_nothing_of_this_machine_is_in_the_file(name, exported) -> None:
    model = graph(exported(name))
    for node in model.graph.node:
        assert not node.metadata_props
        assert not node.doc_string
    model.graph.ClearField("initializer")  # weights are random bytes, which may spell anything
    text = str(model)
    assert not re.search(r"\.py\b", text)
    assert not re.search(r"/(home|root|usr|tmp|work|Users|opt)\b", text)
    assert str(Path.cwd()) not in text
    assert str(Path.home()) not in text


def test_rgb_network_takes_three_channels(exported) -> None:
    artifact = exported("edgecar-xs", 3)
    assert artifact.metadata.channels == 3
    assert_runs(graph(artifact), 2, channels=3)


# Lower precisions.


@every_network
@pytest.mark.parametrize("kind", ["fp32", *LOWER])
def test_graph_is_valid_and_of_the_versions_that_tensorrt_10_3_reads(
    name, kind, reduced, exported
) -> None:
    artifact = exported(name) if kind == "fp32" else reduced(name, kind)
    model = graph(artifact)
    onnx.checker.check_model(model, full_check=True)
    assert {(entry.domain, entry.version) for entry in model.opset_import} == {("", 19)}
    assert model.ir_version <= 10
    assert not model.functions
    refuse_unsupported(model)
    fp32, lower = reception_of(graph(exported(name))), reception_of(model)
    geometry = ("halo_px", "align_px", "context")
    assert [getattr(lower, g) for g in geometry] == [getattr(fp32, g) for g in geometry]
    assert_runs(model, artifact.metadata.align_px)
    if kind in TENSORRT:
        refuse_misread(onnx.shape_inference.infer_shapes(model))
    if kind == "int8 onnxruntime":
        with pytest.raises(ExportError, match="unsigned codes, which TensorRT takes for signed"):
            refuse_misread(onnx.shape_inference.infer_shapes(model))


@every_network
@pytest.mark.parametrize("kind", LOWER[1:])
def test_convolutions_are_in_eight_bits_but_for_the_first_and_last(
    name, kind, reduced, exported
) -> None:
    layers, model = layer_types(graph(reduced(name, kind))), graph(exported(name))
    kept, rest = always_kept(model), "fp16" if kind == "int8 tensorrt" else "fp32"
    assert layers == {layer: rest if layer in kept else "int8" for layer in layers}
    assert list(layers) == convolutions(model)
    assert {next(iter(layers)), list(layers)[-1]} <= set(kept)


@every_network
@pytest.mark.parametrize("kind", ["fp16", "int8 openvino"])
def test_openvino_loses_what_the_torch_reference_does(name, kind, reduced, exported) -> None:
    """A sum in another order may fall on the other side of a rounding, which later layers carry on.

    So outputs are not compared, but how far they are from FP32.
    """
    artifact, precision = reduced(name, kind), "fp32" if kind == "fp16" else "int8"
    batch = np.random.default_rng(0).random((1, 1, 32, 48), np.float32)
    outputs = []
    for made, engine, asked in (
        (exported(name), "torch", None),
        (artifact, "torch", None),
        (artifact, "openvino", precision),
    ):
        with open_engine(made, engine, asked, 1) as opened:
            assert opened.info.precision == (asked or "fp32")
            outputs.append(opened.run(batch).copy())
    fp32, expected, got = outputs
    lost = np.abs(expected - fp32).mean()
    assert lost > 0
    # glfusion with random weights is the liveliest: 0.223 against 0.213. On a CPU without halves
    # OpenVINO widens them, and loses less.
    assert np.abs(got - fp32).mean() < 1.1 * lost


def test_skip_is_read_in_eight_bits_and_the_branch_as_it_was_made() -> None:
    """So that TensorRT computes a convolution and the addition behind it in one go."""
    d = Drawing()
    trunk = d.node("Relu", d.conv(INPUT, out=8))
    branch = d.conv(trunk, out=8)
    total = d.node("Add", branch, trunk)
    model = d.model(d.conv(total))
    picture = CodedPicture(np.arange(1024, dtype=np.uint8).reshape(1, 32, 32))
    ranges = ranges_of(model, [picture], symmetric=True)["min-max"]
    made = quantised(model, ranges, always_kept(model), SIGNED)
    made_by = {name: node.op_type for node in made.graph.node for name in node.output}
    (add,) = (node for node in made.graph.node if node.op_type == "Add")
    assert [made_by[name] for name in add.input] == ["Conv", "DequantizeLinear"]
    (last,) = (node for node in made.graph.node if node.name == convolutions(model)[-1])
    assert made_by[last.input[0]] == "Add"  # which computes in floating point, and reads it
    # The control: where the branch is kept in floating point, so is the skip.
    kept = quantised(model, ranges, convolutions(model), SIGNED)
    assert not {"QuantizeLinear", "DequantizeLinear"} & {n.op_type for n in kept.graph.node}


def test_weights_are_stored_in_eight_bits_with_a_scale_for_each_channel(reduced) -> None:
    model = graph(reduced("edgecar-s", "int8 openvino"))
    constants = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    widened = [node for node in model.graph.node if node.op_type == "DequantizeLinear"]
    weights = [node for node in widened if node.input[0] in constants]
    assert len(weights) == 4
    for node in weights:
        values, scale, zero = (constants[name] for name in node.input)
        assert values.dtype == zero.dtype == np.int8
        assert scale.shape == (values.shape[0],)
        # Seven bits, all of them used: two products of 255 and 64 fit into 16 bits.
        assert np.abs(values.astype(int)).max(axis=(1, 2, 3)).tolist() == [64] * len(values)


def test_what_shows_in_half_precision_stays_in_float32(reduced) -> None:
    """Near white, half precision has two values for every code.

    And what is made of the quantiser alone moves every pixel the same way.
    """
    model = onnx.shape_inference.infer_shapes(graph(reduced("edgecar-s", "fp16")))
    values = (*model.graph.value_info, *model.graph.input)
    types = {value.name: value.type.tensor_type.elem_type for value in values}
    constants = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    read = {
        node.output[0]: {(types | constants)[name] for name in node.input}
        for node in model.graph.node
        if node.op_type in ("Add", "ReduceSum", "Abs", "Sub", "Relu")
    }
    of_features = read.pop(
        next(node.output[0] for node in model.graph.node if node.op_type == "Add")
    )
    assert of_features == {onnx.TensorProto.FLOAT16}
    assert len(read) == 7
    axes = {onnx.TensorProto.INT64}
    assert set().union(*read.values()) - axes == {onnx.TensorProto.FLOAT}
