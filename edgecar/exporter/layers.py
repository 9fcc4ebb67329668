"""The convolutions of a graph: which of them matter most, and what each of them costs."""

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from edgecar.exporter.receptive import GraphWalk

if TYPE_CHECKING:
    from onnx import ModelProto

CONVOLUTIONS = ("Conv", "ConvTranspose")


def copied(model: "ModelProto") -> "ModelProto":
    """Return a copy of a model."""
    import onnx

    made = onnx.ModelProto()
    made.CopyFrom(model)
    return made


def convolutions(model: "ModelProto") -> list[str]:
    """Return the names of all convolutions, in order."""
    return [node.name for node in model.graph.node if node.op_type in CONVOLUTIONS]


def always_kept(model: "ModelProto") -> list[str]:
    """Return the convolutions for which eight bits would cost much and save little, in order.

    They are the first, because the picture has 256 codes and a signed range of eight bits only 127
    of them; the last, whose output is seen as it is; and those of pooled tensors, which do next to
    nothing.
    """
    spatial = GraphWalk(model, model.graph.input[0].name).strides()
    edges = _first_and_last(model)
    return [
        node.name
        for node in model.graph.node
        if node.op_type in CONVOLUTIONS and (node.name in edges or node.output[0] not in spatial)
    ]


def _first_and_last(model: "ModelProto") -> set[str]:
    constants = {tensor.name for tensor in model.graph.initializer}
    picture = {value.name for value in model.graph.input if value.name not in constants}
    nodes = list(model.graph.node)
    found = {n.name for n in nodes if n.op_type in CONVOLUTIONS and n.input[0] in picture}
    wanted = {model.graph.output[0].name}
    for node in reversed(nodes):
        if not wanted.intersection(node.output):
            continue
        if node.op_type in CONVOLUTIONS:
            found.add(node.name)
        else:
            wanted.update(node.input)
    return found


def residual_adds(model: "ModelProto") -> dict[str, tuple[str, str]]:
    """Return the skipped tensor of every addition to a convolution's output, and its name."""
    made_by = {name: node for node in model.graph.node for name in node.output}
    adds = {}
    for node in model.graph.node:
        if node.op_type != "Add":
            continue
        makers = [made_by.get(name) for name in node.input]
        branches = [maker for maker in makers if maker and maker.op_type in CONVOLUTIONS]
        if len(branches) == 1:
            adds[node.name] = (node.input[1 - makers.index(branches[0])], branches[0].name)
    return adds


def share_of_work(model: "ModelProto", names: Collection[str]) -> float:
    """Return the share of all multiply-accumulates that some convolutions do, 0 to 1."""
    walk = GraphWalk(model, model.graph.input[0].name)
    strides = walk.strides()
    work: dict[str, float] = {}
    for node in model.graph.node:
        if node.op_type in CONVOLUTIONS:
            dims: Any = walk.constants[node.input[1]].dims
            at = node.output[0] if node.op_type == "Conv" else node.input[0]
            pixels = 1 / float(strides[at]) ** 2 if at in strides else 0.0  # pooled: next to none
            work[node.name] = pixels * dims[0] * dims[1] * dims[2] * dims[3]
    total = sum(work.values())
    return sum(work[name] for name in names) / total if total else 0.0
