"""A network that is nothing but arithmetic: what a GPU reaches at most through an engine."""

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from edgecar.artifact import Artifact
from edgecar.metadata import Metadata, write_metadata
from edgecar.spec import Precision, Size

if TYPE_CHECKING:
    from onnx import ModelProto

WIDTH = 256  # channels, of which tensor cores take all lanes
DEPTH = 4
WIDE_TILE: Size = (256, 256)
WIDE_BATCH = 4
STEP = 0.05  # of quantised activations; what comes out is nobody's picture
OPSET, IR = 19, 10  # that TensorRT 10.3 reads


def wide_network(precision: Precision) -> Artifact:
    """`DEPTH` convolutions of 3x3 from `WIDTH` channels to as many, with weights drawn by lot."""
    from onnx import TensorProto, helper

    random, graph = np.random.default_rng(0), _Graph()
    inner = np.float16 if precision == "fp16" else np.float32
    value = "input"
    if precision == "fp16":
        value = graph.node("Cast", value, to=TensorProto.FLOAT16)
    channels = (1, *[WIDTH] * (DEPTH + 1), 1)
    for number, (before, after) in enumerate(pairwise(channels)):
        weights = random.normal(0, (2 / (9 * before)) ** 0.5, (after, before, 3, 3))
        eight_bits = precision == "int8" and 0 < number <= DEPTH
        value = graph.convolution(value, weights.astype(inner), eight_bits)
        if number <= DEPTH:
            value = graph.node("Relu", value)
    if precision == "fp16":
        value = graph.node("Cast", value, to=TensorProto.FLOAT)
    graph.node("Identity", value, output="output")
    shape: list[str | int | None] = ["N", 1, "H", "W"]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name in ("input", "output")
    ]
    made = helper.make_graph(graph.nodes, "wide", ends[:1], ends[1:], graph.constants)
    opset = [helper.make_opsetid("", OPSET)]
    model: ModelProto = helper.make_model(made, opset_imports=opset, ir_version=IR)
    metadata = Metadata(
        model=f"wide-{precision}", channels=1, halo_px=DEPTH + 2, align_px=1, context="local",
        bytes_per_px=2 * 4 * WIDTH, precision=precision, trained_on="", weights_sha256="",
        parity_max_error=0.0, parity_budget=0.0,
    )  # fmt: skip
    write_metadata(model, metadata)
    return Artifact(metadata, model.SerializeToString())


class _Graph:
    """Nodes and constants as they come."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def node(self, kind: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        from onnx import helper

        name = output or f"value{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    def constant(self, values: Any) -> str:
        from onnx import numpy_helper

        name = f"constant{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def convolution(self, value: str, weights: Any, eight_bits: bool) -> str:
        """Padded, so that sides stay; in eight bits with scales as the exporter writes them."""
        kernel = ""
        if eight_bits:
            scale, zero = self.constant(np.float32(STEP)), self.constant(np.int8(0))
            value = self.node("QuantizeLinear", value, scale, zero)
            value = self.node("DequantizeLinear", value, scale, zero)
            step = np.float32(np.abs(weights).max() / 127)
            codes = np.clip(np.rint(weights / step), -127, 127).astype(np.int8)
            widened = (self.constant(codes), self.constant(step), self.constant(np.int8(0)))
            kernel = self.node("DequantizeLinear", *widened)
        else:
            kernel = self.constant(weights)
        return self.node("Conv", value, kernel, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
