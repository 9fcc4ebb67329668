"""INT8: the same graph with explicit Q/DQ pairs, in the form that an engine runs fastest."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgecar.engines.select import LARGEST_WEIGHT
from edgecar.engines.trt_lint import refuse_misread
from edgecar.exporter.layers import convolutions, copied, residual_adds
from edgecar.exporter.precision import fp16

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, TensorProto

Ranges = dict[str, tuple[float, float]]
"""Lowest and highest value of each tensor."""


@dataclass(frozen=True)
class Form:
    """How eight bits are written down.

    No form serves all: TensorRT and OpenVINO want convolutions that read eight bits and write
    floating point; ONNX Runtime's CPU kernels want eight bits on both sides, unsigned, and run the
    other form slower than FP32. TensorRT takes unsigned codes for signed ones without a word.

    Attributes:
        engines: Engines that run it at full speed.
        signed: Activations are signed, with zero point 0, and only convolutions read codes.
        rest: Arithmetic of everything else. TensorRT converts nothing on its own, so that float32
            around eight bits would stay float32 there.
    """

    engines: tuple[str, ...]
    signed: bool
    rest: Literal["fp32", "fp16"] = "fp32"


ForEngine = Literal["openvino", "tensorrt", "onnxruntime"]
SIGNED = Form(("openvino", "tensorrt"), signed=True)
FORMS: dict[ForEngine, Form] = {
    "openvino": SIGNED,
    "tensorrt": Form(("tensorrt",), signed=True, rest="fp16"),
    "onnxruntime": Form(("onnxruntime",), signed=False),
}
"""The fastest form for each engine."""


def step_of(weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the step of the codes of each output channel, from weights ``(O, I, H, W)``.

    Codes end at 64 of 127, so that sums are the same on every CPU: see
    `edgecar.engines.select.LARGEST_WEIGHT`.
    """
    reach = np.abs(weights).reshape(len(weights), -1).max(axis=1)
    return np.asarray(np.maximum(reach, np.finfo(np.float32).tiny) / LARGEST_WEIGHT, np.float32)


def grid(ends: tuple[float, float], *, signed: bool) -> tuple[np.float32, Any]:
    """Return scale and zero point (``int8`` or ``uint8``) of activations in a range."""
    low, high = min(ends[0], 0.0), max(ends[1], 0.0)
    tiny = float(np.finfo(np.float32).tiny)
    if signed:
        return np.float32(max(-low, high, tiny) / 127), np.int8(0)
    scale = np.float32(max(high - low, tiny) / 255)
    return scale, np.uint8(np.rint(-low / scale))


def through_eight_bits(x: Any, ends: tuple[float, float], *, signed: bool) -> Any:
    """Return the values that remain of a tensor after it was coded in a range."""
    scale, zero = grid(ends, signed=signed)
    limits = np.iinfo(zero.dtype)
    codes = np.clip(np.rint(x / scale) + np.float32(zero), limits.min, limits.max)
    return (codes - np.float32(zero)) * scale


def quantised(
    model: "ModelProto",
    ranges: Ranges,
    keep: Collection[str],
    form: Form,
    codes: Mapping[str, NDArray[np.int8]] | None = None,
) -> "ModelProto":
    """Return a graph whose convolutions compute in eight bits, with a scale for each channel.

    Args:
        model: FP32 graph with inferred shapes.
        ranges: Ranges of every tensor that a convolution reads or makes.
        keep: Names of the convolutions that stay in floating point.
        form: Form to write.
        codes: Rounded weights by name; those not in it are rounded to the nearest.

    Returns:
        A new model with inferred shapes.

    Raises:
        ExportError: TensorRT would misread a graph that is made for it.
    """
    import onnx

    made = copied(model)
    chosen = {name for name in convolutions(model) if name not in keep}
    writer = _Writer(made, ranges, form, codes or {})
    read = {node.input[0] for node in made.graph.node if node.name in chosen}
    adds = {name: skip for name, (skip, branch) in residual_adds(model).items() if branch in chosen}
    for node in list(made.graph.node):
        if node.name in chosen and node.op_type == "Conv":
            writer.convolution(node)
        elif form.signed and adds.get(node.name) in read:
            # TensorRT computes a convolution and the addition behind it in one go if the skipped
            # tensor comes in eight bits.
            place = list(node.input).index(adds[node.name])
            node.input[place] = writer.pair(node.input[place])
        elif not form.signed:
            node.input[:] = [writer.pairs.get(name, name) for name in node.input]
        writer.nodes.append(node)
        if not form.signed and node.name in chosen:
            writer.pair(node.output[0])
    del made.graph.node[:]
    made.graph.node.extend(writer.nodes)
    used = {name for node in made.graph.node for name in node.input}
    constants = [t for t in (*made.graph.initializer, *writer.constants) if t.name in used]
    del made.graph.initializer[:]
    made.graph.initializer.extend(constants)
    del made.graph.value_info[:]
    onnx.checker.check_model(made, full_check=True)
    made = onnx.shape_inference.infer_shapes(made, strict_mode=True, data_prop=True)
    if form.signed:
        refuse_misread(made)
    return fp16(made, []) if form.rest == "fp16" else made


class _Writer:
    """Adds Q/DQ pairs to the nodes of a graph, each once."""

    def __init__(
        self,
        model: "ModelProto",
        ranges: Ranges,
        form: Form,
        codes: Mapping[str, NDArray[np.int8]],
    ) -> None:
        self._weights = {tensor.name: tensor for tensor in model.graph.initializer}
        self._ranges, self._form, self._codes = ranges, form, codes
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []
        self.pairs: dict[str, str] = {}
        """Names of tensors after their pair, by name."""

    def pair(self, name: str) -> str:
        """Return a tensor after its eight bits; its pair is made where it is not at hand."""
        if name not in self.pairs:
            grid_of = [self._scale(name), self._zero(name)]
            self._node("QuantizeLinear", [name, *grid_of], f"{name}_codes")
            self.pairs[name] = self._node(
                "DequantizeLinear", [f"{name}_codes", *grid_of], f"{name}_widened"
            )
        return self.pairs[name]

    def convolution(self, node: "NodeProto") -> None:
        """Let a convolution read eight bits, and its bias 32 where eight bits are written, too."""
        from onnx import numpy_helper

        read, name = node.input[0], node.input[1]
        weights = numpy_helper.to_array(self._weights[name])
        step = step_of(weights)
        nearest = np.rint(weights / step[:, None, None, None]).astype(np.int8)
        node.input[0] = self.pair(read)
        node.input[1] = self._widened(name, self._codes.get(name, nearest), step)
        if not self._form.signed and len(node.input) > 2:
            bias = numpy_helper.to_array(self._weights[node.input[2]])
            fine = step * grid(self._ranges[read], signed=False)[0]
            wide = np.rint(bias / fine.astype(np.float64))
            if np.abs(wide).max() < 2**31:
                node.input[2] = self._widened(node.input[2], wide.astype(np.int32), fine)

    def _widened(self, name: str, codes: NDArray[Any], steps: NDArray[np.float32]) -> str:
        made, zeros = f"{name}_widened", np.zeros(len(steps), codes.dtype)
        if made not in self.pairs:
            inputs = [
                self._constant(codes, f"{name}_codes"),
                self._constant(steps, f"{name}_scale"),
                self._constant(zeros, f"{name}_zero_point"),
            ]
            self.pairs[made] = self._node("DequantizeLinear", inputs, made, axis=0)
        return self.pairs[made]

    def _scale(self, name: str) -> str:
        scale, _ = grid(self._ranges[name], signed=self._form.signed)
        return self._constant(np.asarray(scale, np.float32), f"{name}_scale")

    def _zero(self, name: str) -> str:
        _, zero = grid(self._ranges[name], signed=self._form.signed)
        return self._constant(np.asarray(zero), f"{name}_zero_point")

    def _constant(self, values: NDArray[Any], name: str) -> str:
        from onnx import numpy_helper

        self.constants.append(numpy_helper.from_array(values, name))
        return name

    def _node(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        from onnx import helper

        self.nodes.append(helper.make_node(kind, inputs, [output], output, **attributes))
        return output
