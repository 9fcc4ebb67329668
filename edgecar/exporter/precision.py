"""FP16: the same graph in half precision, with FP32 where half would show."""

from collections.abc import Collection
from typing import TYPE_CHECKING

import numpy as np

from edgecar.engines.trt_lint import refuse_misread
from edgecar.exporter.layers import copied
from edgecar.exporter.receptive import GLOBAL, REDUCE

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, TensorProto

HALF = "_half"
ACTIVATIONS = frozenset("Clip LeakyRelu PRelu Relu Sigmoid Tanh".split())
WHOLE = GLOBAL | REDUCE
"""Sums over a picture: halves end at 65504."""


def fp16(model: "ModelProto", keep: Collection[str]) -> "ModelProto":
    """A graph whose tensors are float16 inside; its input and output stay float32.

    Additions to the input picture stay in float32: near white, half precision has two values for
    every code. So do sums over whole pictures.

    Args:
        model: In float32, with inferred shapes; may hold Q/DQ pairs.
        keep: Names of nodes that stay in float32, and the activations behind them.

    Returns:
        A new model with inferred shapes.

    Raises:
        ExportError: TensorRT would misread the graph.
    """
    import onnx

    made = copied(model)
    _Halving(made, with_activations(model, {*keep, *whole_nodes(model)})).run()
    onnx.checker.check_model(made, full_check=True)
    made = onnx.shape_inference.infer_shapes(made, strict_mode=True, data_prop=True)
    refuse_misread(made)
    return made


def whole_nodes(model: "ModelProto") -> list[str]:
    """Nodes that stay in float32 always."""
    ends = {value.name for value in (*model.graph.input, *model.graph.output)}
    return [
        node.name
        for node in model.graph.node
        if node.op_type in WHOLE or (node.op_type == "Add" and ends.intersection(node.input))
    ]


def with_activations(model: "ModelProto", keep: Collection[str]) -> set[str]:
    """Nodes to keep and the activations behind them, in which what they made would overflow."""
    kept = set(keep)
    made_by = {name: node.name for node in model.graph.node for name in node.output}
    for node in model.graph.node:
        if node.op_type in ACTIVATIONS and made_by.get(node.input[0]) in kept:
            kept.add(node.name)
    return kept


class _Halving:
    """Turns nodes one by one, casting what they read where it is of the other type."""

    def __init__(self, model: "ModelProto", keep: Collection[str]) -> None:
        from onnx import TensorProto

        self._graph, self._keep = model.graph, keep
        self._float, self._half = int(TensorProto.FLOAT), int(TensorProto.FLOAT16)
        self._constants = {tensor.name: tensor for tensor in model.graph.initializer}
        values = [*model.graph.value_info, *model.graph.input, *model.graph.output]
        self._types = {value.name: value.type.tensor_type.elem_type for value in values}
        self._outputs = {value.name for value in model.graph.output}
        self._users: dict[str, list[NodeProto]] = {}
        for node in model.graph.node:
            for name in node.input:
                self._users.setdefault(name, []).append(node)
        self._nodes: list[NodeProto] = []
        self._halves: dict[str, TensorProto] = {}
        self._cast: dict[tuple[str, int], str] = {}

    def run(self) -> None:
        for node in list(self._graph.node):
            self._turn(node)
        del self._graph.node[:]
        self._graph.node.extend(self._nodes)
        del self._graph.value_info[:]
        used = {name for node in self._nodes for name in node.input}
        constants = (*self._constants.values(), *self._halves.values())
        del self._graph.initializer[:]
        self._graph.initializer.extend(t for t in constants if t.name in used)

    def _turn(self, node: "NodeProto") -> None:
        wanted = self._wanted(node)
        for place, name in enumerate(node.input):
            fixed = node.op_type == "Resize" and place == 2  # its scales are float32 always
            if name and not fixed and self._is_floating(name):
                node.input[place] = self._as(name, wanted)
        for name in node.output:
            if self._types.get(name) == self._float:
                self._types[name] = wanted
        ends = [name for name in node.output if name in self._outputs and wanted == self._half]
        self._nodes.append(node)
        for name in ends:  # the graph's output keeps its name and type
            inner = name + HALF
            node.output[list(node.output).index(name)] = inner
            self._types[inner], self._types[name] = wanted, self._float
            self._nodes.append(self._cast_node(inner, name, self._float))

    def _wanted(self, node: "NodeProto") -> int:
        """The type a node computes in; widened weights have that of who reads them."""
        if node.op_type == "DequantizeLinear" and node.input[0] in self._constants:
            return self._wanted(self._users[node.output[0]][0])
        return self._float if node.name in self._keep else self._half

    def _is_floating(self, name: str) -> bool:
        constant = self._constants.get(name)
        kind = self._types.get(name, 0) if constant is None else constant.data_type
        return kind in (self._float, self._half)

    def _as(self, name: str, wanted: int) -> str:
        """A tensor in the type wanted, made where it is not at hand."""
        constant = self._constants.get(name)
        if constant is not None:
            return self._halved_constant(constant) if wanted == self._half else name
        if self._types[name] == wanted:
            return name
        if (name, wanted) not in self._cast:
            other = name + (HALF if wanted == self._half else "_float")
            self._nodes.append(self._cast_node(name, other, wanted))
            self._types[other], self._cast[name, wanted] = wanted, other
        return self._cast[name, wanted]

    def _halved_constant(self, constant: "TensorProto") -> str:
        from onnx import numpy_helper

        name = constant.name + HALF
        values = numpy_helper.to_array(constant)
        if values.dtype != np.float32:
            return constant.name
        if name not in self._halves:
            with np.errstate(over="ignore"):  # infinite weights are for the gate to see
                self._halves[name] = numpy_helper.from_array(values.astype(np.float16), name)
        return name

    def _cast_node(self, name: str, made: str, to: int) -> "NodeProto":
        from onnx import helper

        return helper.make_node("Cast", [name], [made], f"{made}_cast", to=to)
