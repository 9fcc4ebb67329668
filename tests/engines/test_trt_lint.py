"""What TensorRT would refuse, or misread without a word."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgecar.engines.trt_lint import refuse_misread
from edgecar.errors import ExportError

ZERO, SCALE = np.int8(0), np.float32(0.1)


def pair(zero=ZERO, scale=SCALE, *, opset: int = 19, ir: int = 10) -> onnx.ModelProto:
    """A picture there and back through eight bits."""
    return model(
        [
            helper.make_node("QuantizeLinear", ["input", "scale", "zero"], ["codes"], "q"),
            helper.make_node("DequantizeLinear", ["codes", "scale", "zero"], ["output"], "dq"),
        ],
        scale=scale,
        zero=zero,
        opset=opset,
        ir=ir,
    )


def model(nodes, *, opset: int = 19, ir: int = 10, **constants) -> onnx.ModelProto:
    shape = ["n", 2, "h", "w"]
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n in ("input", "output")]
    tensors = [numpy_helper.from_array(np.asarray(v), name) for name, v in constants.items()]
    made = helper.make_model(
        helper.make_graph(nodes, "pair", ends[:1], ends[1:], tensors),
        opset_imports=[helper.make_opsetid("", opset)],
        ir_version=ir,
    )
    return onnx.shape_inference.infer_shapes(made)


def convolution(axis: int = 0, *, narrow_input: bool = True) -> onnx.ModelProto:
    nodes = [
        helper.make_node("QuantizeLinear", ["input", "scale", "zero"], ["codes"], "q"),
        helper.make_node("DequantizeLinear", ["codes", "scale", "zero"], ["wide"], "dq"),
        helper.make_node("DequantizeLinear", ["w", "scales", "zeros"], ["weight"], "dw", axis=axis),
        helper.make_node("Conv", ["wide" if narrow_input else "input", "weight"], ["output"], "c"),
    ]
    return model(
        nodes,
        scale=SCALE,
        zero=ZERO,
        w=np.ones((2, 2, 1, 1), np.int8),
        scales=np.array([0.1, 0.2], np.float32),
        zeros=np.zeros(2, np.int8),
    )


def test_symmetric_pair_is_taken() -> None:
    refuse_misread(pair())
    refuse_misread(convolution())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"zero": np.uint8(0)}, "export with --for-engine tensorrt"),
        ({"zero": np.uint8(128)}, "unsigned codes"),
        ({"zero": np.int8(3)}, "has zero point int8, need int8 zeros"),
        ({"zero": np.int16(0)}, "has zero point int16"),
        ({"scale": np.float32(0)}, "scale that is not a positive number"),
        ({"scale": np.float32(-1)}, "scale that is not a positive number"),
        ({"scale": np.float32(np.inf)}, "scale that is not a positive number"),
        ({"scale": np.float32(np.nan)}, "scale that is not a positive number"),
        (
            {"scale": np.full(2, 0.1, np.float32), "zero": np.zeros(2, np.int8)},
            "scale for each channel, which only weights may have",
        ),
        ({"opset": 20}, "TensorRT 10.3 reads up to opset 19"),
        ({"ir": 11}, "IR version 11"),
    ],
)
def test_pair_that_is_misread_is_refused(changes, said) -> None:
    with pytest.raises(ExportError, match=said):
        refuse_misread(pair(**changes))


def test_scales_of_weights_run_along_their_output_channels() -> None:
    with pytest.raises(ExportError, match="scales of weights along axis 1"):
        refuse_misread(convolution(axis=1))


def test_half_a_quantised_convolution_is_refused() -> None:
    with pytest.raises(ExportError, match="weights in eight bits but another input"):
        refuse_misread(convolution(narrow_input=False))


def test_bias_in_32_bits_is_refused() -> None:
    nodes = [
        helper.make_node("DequantizeLinear", ["b", "scale", "zero"], ["bias"], "db"),
        helper.make_node("Add", ["input", "bias"], ["output"]),
    ]
    constants = {"b": np.ones((1, 2, 1, 1), np.int32), "scale": np.float32(1)}
    with pytest.raises(ExportError, match="has zero point int32, need int8 zeros"):
        refuse_misread(model(nodes, **constants, zero=np.int32(0)))
    with pytest.raises(ExportError, match="widens another type than int8"):
        refuse_misread(model(nodes, **constants, zero=np.int8(0)))


def test_mixed_floating_point_is_refused() -> None:
    nodes = [
        helper.make_node("Cast", ["input"], ["half"], to=TensorProto.FLOAT16),
        helper.make_node("Add", ["input", "half"], ["output"], "sum"),
    ]
    with pytest.raises(ExportError, match="Add sum mixes float32 and float16"):
        refuse_misread(model(nodes))


@pytest.mark.parametrize("scale", [None, "computed"])
def test_scale_must_be_a_constant(scale) -> None:
    made = pair()
    del made.graph.initializer[0 if scale else 1 :]
    with pytest.raises(ExportError, match="needs a constant scale and zero point"):
        refuse_misread(made)


def test_operator_without_a_parser_is_refused() -> None:
    node = helper.make_node("DynamicQuantizeLinear", ["input"], ["output", "s", "z"], "dynamic")
    with pytest.raises(ExportError, match="DynamicQuantizeLinear dynamic is not read by TensorRT"):
        refuse_misread(model([node]))
