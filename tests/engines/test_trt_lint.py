"""What TensorRT would refuse, or misread without a word."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgecar.engines.trt_lint import refuse_misread
from edgecar.errors import ExportError

EIGHT = {"scale": np.float32(0.1), "zero": np.int8(0)}
node = helper.make_node


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


def there_and_back(to: str = "output") -> list[onnx.NodeProto]:
    """A picture there and back through eight bits."""
    return [
        node("QuantizeLinear", ["input", "scale", "zero"], ["codes"], "q"),
        node("DequantizeLinear", ["codes", "scale", "zero"], [to], "dq"),
    ]


def pair(**changes) -> onnx.ModelProto:
    return model(there_and_back(), **(EIGHT | changes))


def convolution(axis: int = 0, given: str = "wide") -> onnx.ModelProto:
    nodes = [
        *there_and_back("wide"),
        node("DequantizeLinear", ["w", "scales", "zeros"], ["weight"], "dw", axis=axis),
        node("Conv", [given, "weight"], ["output"], "c"),
    ]
    weights = {"w": np.ones((2, 2, 1, 1), np.int8), "scales": np.float32([0.1, 0.2])}
    return model(nodes, **EIGHT, **weights, zeros=np.zeros(2, np.int8))


def bias(zero) -> onnx.ModelProto:
    nodes = [
        node("DequantizeLinear", ["b", "scale", "zero"], ["bias"], "db"),
        node("Add", ["input", "bias"], ["output"]),
    ]
    return model(nodes, b=np.ones((1, 2, 1, 1), np.int32), scale=np.float32(1), zero=zero)


def without(*names: str) -> onnx.ModelProto:
    made = pair()
    kept = [tensor for tensor in made.graph.initializer if tensor.name not in names]
    del made.graph.initializer[:]
    made.graph.initializer.extend(kept)
    return made


HALVED = [
    node("Cast", ["input"], ["half"], to=TensorProto.FLOAT16),
    node("Add", ["input", "half"], ["output"], "sum"),
]
DYNAMIC = [node("DynamicQuantizeLinear", ["input"], ["output", "s", "z"], "dynamic")]


def test_symmetric_eight_bits_are_taken() -> None:
    refuse_misread(pair())
    refuse_misread(convolution())


@pytest.mark.parametrize(
    ("graph", "said"),
    [
        (pair(zero=np.uint8(0)), "export with --for-engine tensorrt"),
        (pair(zero=np.uint8(128)), "unsigned codes"),
        (pair(zero=np.int8(3)), "has zero point int8, need int8 zeros"),
        (pair(zero=np.int16(0)), "has zero point int16"),
        *(
            (pair(scale=np.float32(scale)), "scale that is not a positive number")
            for scale in (0, -1, np.inf, np.nan)
        ),
        (
            pair(scale=np.full(2, 0.1, np.float32), zero=np.zeros(2, np.int8)),
            "scale for each channel, which only weights may have",
        ),
        (pair(opset=20), "TensorRT 10.3 reads up to opset 19"),
        (pair(ir=11), "IR version 11"),
        (convolution(axis=1), "scales of weights along axis 1"),
        (convolution(given="input"), "weights in eight bits but another input"),
        (bias(np.int32(0)), "has zero point int32, need int8 zeros"),
        (bias(np.int8(0)), "widens another type than int8"),
        (model(HALVED), "Add sum mixes float32 and float16"),
        (without("scale"), "needs a constant scale and zero point"),
        (without("zero"), "needs a constant scale and zero point"),
        (model(DYNAMIC), "DynamicQuantizeLinear dynamic is not read by TensorRT"),
    ],
)
def test_what_is_refused_or_misread_is_named(graph, said) -> None:
    with pytest.raises(ExportError, match=said):
        refuse_misread(graph)
