"""Steps on ONNX graphs that several modules take."""

from collections.abc import Iterable
from typing import Any

import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper

CONVOLUTIONS = ("Conv", "ConvTranspose")


def attributes_of(node: NodeProto) -> dict[str, Any]:
    """Return the attributes of a node by name."""
    return {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}


def copied(model: ModelProto) -> ModelProto:
    """Return a copy of a model."""
    made = ModelProto()
    made.CopyFrom(model)
    return made


def rebuilt(
    model: ModelProto, nodes: Iterable[NodeProto], constants: Iterable[TensorProto] = ()
) -> ModelProto:
    """Return a model with other nodes and more constants, checked and with inferred shapes.

    Constants that no node reads are left out.
    """
    made = copied(model)
    del made.graph.node[:], made.graph.initializer[:], made.graph.value_info[:]
    made.graph.node.extend(nodes)
    used = {name for node in made.graph.node for name in node.input}
    every = (*model.graph.initializer, *constants)
    made.graph.initializer.extend(tensor for tensor in every if tensor.name in used)
    onnx.checker.check_model(made, full_check=True)
    return onnx.shape_inference.infer_shapes(made, strict_mode=True, data_prop=True)
