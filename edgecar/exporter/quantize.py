"""INT8: the same graph with explicit Q/DQ pairs, in the form that an engine runs fastest."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from edgecar.engines.select import LARGEST_WEIGHT
from edgecar.engines.trt_lint import refuse_misread
from edgecar.exporter.graphs import CONVOLUTIONS, copied, rebuilt
from edgecar.exporter.precision import fp16
from edgecar.exporter.receptive import GraphWalk
from edgecar.exporter.recipe import ForEngine

Ranges = dict[str, tuple[float, float]]
"""Lowest and highest value of each tensor."""
TINY = np.finfo(np.float32).tiny


@dataclass(frozen=True)
class Form:
    """Way to write eight bits down.

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


SIGNED = Form(("openvino", "tensorrt"), signed=True)
FORMS: dict[ForEngine, Form] = {
    "openvino": SIGNED,
    "tensorrt": Form(("tensorrt",), signed=True, rest="fp16"),
    "onnxruntime": Form(("onnxruntime",), signed=False),
}
"""The fastest form for each engine."""


def convolutions(model: ModelProto) -> list[str]:
    """Return the names of all convolutions, in order."""
    return [node.name for node in model.graph.node if node.op_type in CONVOLUTIONS]


def always_kept(model: ModelProto) -> list[str]:
    """Return the convolutions for which eight bits would cost much and save little, in order.

    They are the first, because the picture has 256 codes and a signed range of eight bits only 127
    of them; the last, whose output is seen as it is; and those of pooled tensors, which do next to
    nothing.
    """
    walk = GraphWalk(model)
    last, wanted = set(), {walk.output}
    for node in reversed(model.graph.node):
        if wanted.intersection(node.output):
            if node.op_type in CONVOLUTIONS:
                last.add(node.name)
            else:
                wanted.update(node.input)
    return [
        node.name
        for node in model.graph.node
        if node.op_type in CONVOLUTIONS
        if node.name in last or node.input[0] == walk.input or node.output[0] not in walk.strides
    ]


def share_of_work(model: ModelProto, names: Collection[str]) -> float:
    """Return the share of all multiply-accumulates that some convolutions do, 0 to 1."""
    walk = GraphWalk(model)
    work: dict[str, float] = {}
    for node in model.graph.node:
        at = node.output[0] if node.op_type == "Conv" else node.input[0]
        if node.op_type in CONVOLUTIONS and at in walk.strides:  # pooled ones do next to nothing
            work[node.name] = walk.constants[node.input[1]].size / float(walk.strides[at]) ** 2
    total = sum(work.values())
    return sum(work.get(name, 0.0) for name in names) / total if total else 0.0


def step_of(weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the step of the codes of each output channel, from weights ``(O, I, H, W)``.

    Codes end at 64 of 127, so that sums are the same on every CPU: see
    `edgecar.engines.select.LARGEST_WEIGHT`.
    """
    reach = np.abs(weights).reshape(len(weights), -1).max(axis=1)
    return np.asarray(np.maximum(reach, TINY) / LARGEST_WEIGHT, np.float32)


def grid(ends: tuple[float, float], *, signed: bool) -> tuple[np.float32, Any]:
    """Return scale and zero point (``int8`` or ``uint8``) of activations in a range."""
    low, high = min(ends[0], 0.0), max(ends[1], 0.0)
    if signed:
        return np.float32(max(-low, high, float(TINY)) / 127), np.int8(0)
    scale = np.float32(max(high - low, float(TINY)) / 255)
    return scale, np.uint8(np.rint(-low / scale))


def through_eight_bits(x: Any, ends: tuple[float, float], *, signed: bool) -> Any:
    """Return the values that remain of a tensor after it was coded in a range."""
    scale, zero = grid(ends, signed=signed)
    limits = np.iinfo(zero.dtype)
    codes = np.clip(np.rint(x / scale) + np.float32(zero), limits.min, limits.max)
    return (codes - np.float32(zero)) * scale


def quantised(
    model: ModelProto,
    ranges: Ranges,
    keep: Collection[str],
    form: Form,
    codes: Mapping[str, NDArray[np.int8]] | None = None,
    shifts: Mapping[str, NDArray[np.float64]] | None = None,
) -> ModelProto:
    """Return a graph whose convolutions compute in eight bits, with a scale for each channel."""
    writer = _Writer(model, ranges, form)
    source = copied(model).graph.node
    every = convolutions(model)
    chosen = set(every).difference(keep)
    read = {node.input[0] for node in source if node.name in chosen}
    made_by = {name: node.name for node in source for name in node.output}
    for node in source:
        branches = [made_by.get(name) for name in node.input if made_by.get(name) in every]
        if node.name in chosen and node.op_type == "Conv":
            writer.convolution(node, codes or {}, (shifts or {}).get(node.name))
        elif not form.signed:
            node.input[:] = [writer.pairs.get(name, name) for name in node.input]
        elif node.op_type == "Add" and len(branches) == 1 and branches[0] in chosen:
            # TensorRT computes a convolution and the addition behind it in one go if the skipped
            # tensor comes in eight bits.
            skip = int(made_by.get(node.input[0]) == branches[0])
            if node.input[skip] in read:
                node.input[skip] = writer.pair(node.input[skip])
        writer.nodes.append(node)
        if not form.signed and node.name in chosen:
            writer.pair(node.output[0])
    made = rebuilt(model, writer.nodes, writer.constants)
    if form.signed:
        refuse_misread(made)
    return fp16(made, []) if form.rest == "fp16" else made


class _Writer:
    """Adds Q/DQ pairs to the nodes of a graph, each once."""

    def __init__(self, model: ModelProto, ranges: Ranges, form: Form) -> None:
        self._weights = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
        self._ranges, self._form = ranges, form
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []
        self.pairs: dict[str, str] = {}
        """Names of tensors after their eight bits, by name."""

    def pair(self, name: str) -> str:
        """Return a tensor after its eight bits; its pair is made where it is not at hand."""
        if name not in self.pairs:
            scale, zero = grid(self._ranges[name], signed=self._form.signed)
            steps = self._constants(name, scale=scale, zero_point=zero)
            self._node("QuantizeLinear", [name, *steps], f"{name}_codes")
            self.pairs[name] = self._node(
                "DequantizeLinear", [f"{name}_codes", *steps], f"{name}_widened"
            )
        return self.pairs[name]

    def convolution(
        self, node: NodeProto, codes: Mapping[str, NDArray[np.int8]], shift: Any
    ) -> None:
        """Let a convolution read eight bits, and its bias 32 where eight bits are written, too."""
        read, name = node.input[0], node.input[1]
        step = step_of(self._weights[name])
        nearest = np.rint(self._weights[name] / step[:, None, None, None]).astype(np.int8)
        node.input[:2] = [self.pair(read), self._widened(name, codes.get(name, nearest), step)]
        if len(node.input) < 3:
            return
        bias = self._weights[node.input[2]]
        if shift is not None:
            bias = (bias + shift).astype(np.float32)
            (node.input[2],) = self._constants(node.output[0], bias=bias)
        if not self._form.signed:
            fine = step * grid(self._ranges[read], signed=False)[0]
            wide = np.rint(bias / fine.astype(np.float64))
            if np.abs(wide).max() < 2**31:
                node.input[2] = self._widened(node.input[2], wide.astype(np.int32), fine)

    def _widened(self, name: str, codes: NDArray[Any], scale: NDArray[np.float32]) -> str:
        if name not in self.pairs:
            zeros = np.zeros(len(scale), codes.dtype)
            inputs = self._constants(name, codes=codes, scale=scale, zero_point=zeros)
            self.pairs[name] = self._node("DequantizeLinear", inputs, f"{name}_widened", axis=0)
        return self.pairs[name]

    def _constants(self, name: str, **values: Any) -> list[str]:
        made = {f"{name}_{part}": np.asarray(array) for part, array in values.items()}
        self.constants += [numpy_helper.from_array(array, key) for key, array in made.items()]
        return list(made)

    def _node(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [output], output, **attributes))
        return output
