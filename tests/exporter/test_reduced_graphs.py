"""Every network of the zoo in every precision: what its graph is, and who reads it."""

import numpy as np
import onnx
import pytest

from edgecar.engines.select import open_engine
from edgecar.engines.trt_lint import refuse_misread, refuse_unsupported
from edgecar.errors import ExportError
from edgecar.exporter.calibrate import ranges_of
from edgecar.exporter.inspection import layer_types
from edgecar.exporter.quantize import SIGNED as SIGNED_FORM
from edgecar.exporter.quantize import always_kept, convolutions, quantised
from edgecar.exporter.receptive import reception_of
from tests.conftest import LOWER, TENSORRT
from tests.exporter.graphs import INPUT, Drawing, runner
from tests.networks import every_network

every_kind = pytest.mark.parametrize("kind", LOWER)


def graph(artifact) -> onnx.ModelProto:
    return onnx.load_model_from_string(artifact.onnx)


@every_network
@every_kind
def test_graph_is_valid_and_of_the_versions_that_tensorrt_10_3_reads(name, kind, reduced) -> None:
    model = graph(reduced(name, kind))
    onnx.checker.check_model(model, full_check=True)
    assert {(entry.domain, entry.version) for entry in model.opset_import} == {("", 19)}
    assert model.ir_version <= 10
    refuse_unsupported(model)


@every_network
@every_kind
def test_halo_is_that_of_fp32(name, kind, reduced, exported) -> None:
    fp32, lower = (reception_of(graph(a)) for a in (exported(name), reduced(name, kind)))
    geometry = ("halo_px", "align_px", "context")
    assert [getattr(lower, g) for g in geometry] == [getattr(fp32, g) for g in geometry]


@every_network
@every_kind
def test_picture_goes_in_and_out_in_float32_at_any_size(name, kind, reduced) -> None:
    artifact = reduced(name, kind)
    run, align = runner(graph(artifact)), artifact.metadata.align_px
    for batch, rows, columns in ((1, 1, 1), (2, 3, 2)):
        shape = (batch, 1, rows * 16 // align * align, columns * 32)
        output = run(np.random.default_rng(0).random(shape, np.float32))
        assert output.shape == shape
        assert output.dtype == np.float32
        assert np.isfinite(output).all()


@every_network
@pytest.mark.parametrize("kind", LOWER[1:])
def test_convolutions_are_in_eight_bits_but_for_the_first_and_last(
    name, kind, reduced, exported
) -> None:
    layers = layer_types(graph(reduced(name, kind)))
    kept = always_kept(graph(exported(name)))
    rest = "fp16" if kind == "int8 tensorrt" else "fp32"
    assert layers == {layer: rest if layer in kept else "int8" for layer in layers}
    assert list(layers) == convolutions(graph(exported(name)))
    assert next(iter(layers)) in kept
    assert list(layers)[-1] in kept


@every_network
@pytest.mark.parametrize("kind", TENSORRT)
def test_lint_takes_what_is_made_for_tensorrt(name, kind, reduced) -> None:
    refuse_misread(onnx.shape_inference.infer_shapes(graph(reduced(name, kind))))


@every_network
def test_unsigned_form_never_reaches_tensorrt(name, reduced) -> None:
    model = onnx.shape_inference.infer_shapes(graph(reduced(name, "int8 onnxruntime")))
    with pytest.raises(ExportError, match="unsigned codes, which TensorRT takes for signed ones"):
        refuse_misread(model)


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
    picture = np.arange(1024, dtype=np.uint8).reshape(1, 32, 32)
    ranges = ranges_of(model, [picture], symmetric=True)["min-max"]
    made = quantised(model, ranges, always_kept(model), SIGNED_FORM)
    made_by = {name: node.op_type for node in made.graph.node for name in node.output}
    (add,) = (node for node in made.graph.node if node.op_type == "Add")
    assert [made_by[name] for name in add.input] == ["Conv", "DequantizeLinear"]
    (last,) = (node for node in made.graph.node if node.name == convolutions(model)[-1])
    assert made_by[last.input[0]] == "Add"  # which computes in floating point, and reads it
    # The control: where the branch is kept in floating point, so is the skip.
    kept = quantised(model, ranges, convolutions(model), SIGNED_FORM)
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
