"""FP16: the same graph in half precision, with FP32 where half would show."""

from collections.abc import Collection

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from edgecar.engines.trt_lint import refuse_misread
from edgecar.exporter.graphs import copied, rebuilt
from edgecar.exporter.receptive import GLOBAL, REDUCE
from edgecar.spec import QUANTISER

ACTIVATIONS = frozenset("Clip LeakyRelu PRelu Relu Sigmoid Tanh".split())
WHOLE = GLOBAL | REDUCE
"""Sums over a picture: halves end at 65504."""


def fp16(model: ModelProto, keep: Collection[str]) -> ModelProto:
    """Return a graph whose tensors are float16 inside; its input and output stay float32.

    Additions to the input picture stay in float32: near white, half precision has two values for
    every code. So do sums over whole pictures, and what is made of the quantiser alone: a few
    numbers, in which an error would move every pixel the same way.
    """
    halving = _Halving(model)
    in_float32 = _in_float32(model, keep)
    source = copied(model).graph
    readers = {name: node for node in source.node for name in node.input}
    constants = {tensor.name for tensor in source.initializer}
    outputs = {value.name for value in source.output}
    for node in source.node:
        # Widened weights have the type of the convolution that reads them.
        decisive = node
        if node.op_type == "DequantizeLinear" and node.input[0] in constants:
            decisive = readers[node.output[0]]
        kind = TensorProto.FLOAT if decisive.name in in_float32 else TensorProto.FLOAT16
        for place, name in enumerate(node.input):
            if not (node.op_type == "Resize" and place == 2):  # its scales are float32 always
                node.input[place] = halving.of_type(name, kind)
        halving.nodes.append(node)
        for place, name in enumerate(node.output):
            if halving.types.get(name) != TensorProto.FLOAT or kind == TensorProto.FLOAT:
                continue
            halving.types[name] = kind
            if name in outputs:  # the graph's output keeps its name and type
                node.output[place] = f"{name}_half"
                halving.cast(node.output[place], name, TensorProto.FLOAT)
    made = rebuilt(model, halving.nodes, halving.constants)
    refuse_misread(made)
    return made


def _in_float32(model: ModelProto, keep: Collection[str]) -> set[str]:
    """Return the nodes to keep: those named, those always kept, and activations behind them."""
    ends = {value.name for value in (*model.graph.input, *model.graph.output)}
    kept = set(keep)
    constants = {tensor.name for tensor in model.graph.initializer}
    told = {QUANTISER}  # made of the quantiser alone
    made_by = {name: node.name for node in model.graph.node for name in node.output}
    for node in model.graph.node:
        if node.op_type in WHOLE or (node.op_type == "Add" and ends.intersection(node.input)):
            kept.add(node.name)
        if told.intersection(node.input) and told | constants >= set(node.input):
            told.update(node.output)
            kept.add(node.name)
        # What a kept node made may overflow in the activation behind it.
        if node.op_type in ACTIVATIONS and made_by.get(node.input[0]) in kept:
            kept.add(node.name)
    return kept


class _Halving:
    """Nodes of a new graph, with tensors in both types where both are read."""

    def __init__(self, model: ModelProto) -> None:
        graph = model.graph
        values = (*graph.value_info, *graph.input, *graph.output)
        self.types = {value.name: value.type.tensor_type.elem_type for value in values}
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []
        self._weights = {t.name: t for t in graph.initializer if t.data_type == TensorProto.FLOAT}
        self._others: dict[tuple[str, int], str] = {}

    def of_type(self, name: str, kind: int) -> str:
        """Return the name of a tensor in the type wanted, made where it is not at hand."""
        weights = self._weights.get(name)
        now = self.types.get(name) if weights is None else TensorProto.FLOAT
        if now not in (TensorProto.FLOAT, TensorProto.FLOAT16) or now == kind:
            return name
        if (name, kind) not in self._others:
            other = f"{name}_half" if kind == TensorProto.FLOAT16 else f"{name}_float"
            self._others[name, kind] = other
            if weights is None:
                self.cast(name, other, kind)
            else:
                with np.errstate(over="ignore"):  # infinite weights are for the gate to see
                    halves = numpy_helper.to_array(weights).astype(np.float16)
                self.constants.append(numpy_helper.from_array(halves, other))
        return self._others[name, kind]

    def cast(self, name: str, made: str, kind: int) -> None:
        self.nodes.append(helper.make_node("Cast", [name], [made], f"{made}_cast", to=kind))
