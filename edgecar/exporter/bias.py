"""Biases that take back what eight bits move the mean of each channel by.

Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", ICCV 2019,
section 4.2, with means measured on real frames. Rounded weights do not err evenly: without this,
pictures come out darker or brighter.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgecar.engines.base import CODE
from edgecar.engines.libraries import imported_onnxruntime
from edgecar.engines.trt_lint import QUANTISERS

if TYPE_CHECKING:
    from onnx import ModelProto

    from edgecar.exporter.frames import Picture

Errors = dict[str, NDArray[np.float32]]
"""By convolution: what its output misses on average, one value for each channel."""

LOWER, MISSING = "_lower", "_missing"


def mean_errors(model: "ModelProto", lower: "ModelProto", pictures: "Sequence[Picture]") -> Errors:
    """What each convolution in eight bits misses on average, its input being right.

    Errors of different layers are so measured apart, all in one run: the FP32 graph computes what
    every layer reads, and beside each convolution stands the one in eight bits.

    Args:
        model: In float32.
        lower: The same graph with Q/DQ pairs, float biases and tensors of the same names.
        pictures: Coded pictures.
    """
    onnxruntime = imported_onnxruntime()
    both = _side_by_side(model, lower)
    session = onnxruntime.InferenceSession(
        both.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in session.get_outputs()]
    feed = session.get_inputs()[0].name
    sums: dict[str, Any] = {}
    for picture in pictures:
        for name, missing in zip(
            names, session.run(None, {feed: picture[None] * CODE}), strict=True
        ):
            sums[name] = sums.get(name, 0) + missing / np.float32(len(pictures))
    return {name.removesuffix(MISSING): missing for name, missing in sums.items()}


def corrected(
    model: "ModelProto", errors: Mapping[str, Any], keep: Collection[str]
) -> "ModelProto":
    """A copy whose biases make up for ``errors``, but for the convolutions to ``keep``."""
    import onnx

    made = onnx.ModelProto()
    made.CopyFrom(model)
    constants = {tensor.name: tensor for tensor in made.graph.initializer}
    for node in made.graph.node:
        if node.name in keep or node.name not in errors or len(node.input) < 3:
            continue
        bias = constants[node.input[2]]
        values = onnx.numpy_helper.to_array(bias) + errors[node.name]
        bias.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float32), bias.name))
    return made


def _side_by_side(model: "ModelProto", lower: "ModelProto") -> "ModelProto":
    """The FP32 graph, with what every convolution misses in eight bits as its outputs."""
    import onnx
    from onnx import TensorProto, helper

    both = onnx.ModelProto()
    both.CopyFrom(model)
    graph = both.graph
    known = {tensor.name for tensor in graph.initializer}
    graph.initializer.extend(t for t in lower.graph.initializer if t.name not in known)
    axes = onnx.numpy_helper.from_array(np.array([0, 2, 3], np.int64), "every_pixel")
    graph.initializer.append(axes)
    del graph.output[:]
    widened: set[str] = set()
    for node in lower.graph.node:
        if node.op_type in QUANTISERS:
            graph.node.append(node)
            widened.update(node.output)
        elif node.op_type == "Conv" and node.input[0] in widened:
            beside = graph.node.add()
            beside.CopyFrom(node)
            right, beside.name = node.output[0], node.name + LOWER
            beside.output[0] = right + LOWER
            difference, missing = beside.output[0] + "_difference", node.name + MISSING
            graph.node.append(helper.make_node("Sub", [right, beside.output[0]], [difference]))
            mean = helper.make_node("ReduceMean", [difference, axes.name], [missing], keepdims=0)
            graph.node.append(mean)
            graph.output.append(helper.make_tensor_value_info(missing, TensorProto.FLOAT, None))
    return both
