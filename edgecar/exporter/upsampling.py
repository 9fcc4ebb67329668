"""Transposed convolutions as plain ones: the same output, in the same bits whatever the tile.

Engines compute a transposed convolution in ways that depend on the picture's size and the number of
threads: on OpenVINO with two threads, FastARCNN's tiles differed from its whole frames in the last
bits of most pixels. A convolution that makes every phase of the output, and a depth-to-space, have
one way to be computed; TensorRT runs them faster in INT8 besides.
"""

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, helper, numpy_helper

from edgecar.exporter.graphs import attributes_of, rebuilt

Weights = NDArray[np.float32]


def convolve_upsampling(model: ModelProto) -> ModelProto:
    """Return a graph without transposed convolutions that enlarge exactly by their stride.

    Others (grouped, dilated, with weights that are no constant) stay as they are. The graph is
    checked, and its shapes are inferred.
    """
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    nodes, constants = [], []
    for node in model.graph.node:
        geometry = _geometry(node) if node.op_type == "ConvTranspose" else None
        if geometry is None or not all(name in weights for name in node.input[1:]):
            nodes.append(node)
            continue
        stride, padding = geometry
        kernel, before, after = phase_kernel(weights[node.input[1]], stride, padding)
        phases = f"{node.output[0]}.phases"
        arrays = {f"{phases}.weight": kernel}
        for name in node.input[2:]:
            arrays[f"{phases}.bias"] = np.repeat(weights[name], stride**2)
        constants += [numpy_helper.from_array(array, name) for name, array in arrays.items()]
        inputs, pads = [node.input[0], *arrays], [before, before, after, after]
        conv = helper.make_node("Conv", inputs, [phases], phases, pads=pads)
        conv.attribute.append(helper.make_attribute("kernel_shape", kernel.shape[2:]))
        shuffle = helper.make_node("DepthToSpace", [phases], node.output, node.name)
        shuffle.attribute.append(helper.make_attribute("blocksize", stride))
        shuffle.attribute.append(helper.make_attribute("mode", "CRD"))
        nodes += [conv, shuffle]
    return rebuilt(model, nodes, constants)


def _geometry(node: NodeProto) -> tuple[int, int] | None:
    """Return stride and padding; None if the output is not exactly the input times the stride."""
    attributes = attributes_of(node)
    strides, pads = attributes.get("strides", [1, 1]), attributes.get("pads", [0] * 4)
    extra, kernel = attributes.get("output_padding", [0, 0]), attributes.get("kernel_shape", [0])
    uniform = all(len(set(values)) == 1 for values in (strides, extra, kernel))
    plain = attributes.get("group", 1) == 1 and set(attributes.get("dilations", [1])) == {1}
    if not plain or not uniform or len(strides) != 2 or pads[:2] != [pads[0]] * 2:
        return None
    if "output_shape" in attributes or attributes.get("auto_pad", b"NOTSET") != b"NOTSET":
        return None
    ends = {kernel[0] + extra[0] - strides[0] - pads[0]}
    return (strides[0], pads[0]) if set(pads[2:]) == ends else None


def phase_kernel(weight: Weights, stride: int, padding: int) -> tuple[Weights, int, int]:
    """Return the kernel ``(out·stride², in, n, n)`` that makes every phase, and its padding.

    Output ``stride·q + r`` sums inputs ``q + d`` with tap ``r + padding - stride·d``.
    """
    side = weight.shape[-1]
    before, after = (side - 1 - padding) // stride, (stride - 1 + padding) // stride
    taps = np.arange(stride)[:, None] + padding - stride * np.arange(-before, after + 1)
    outside = (taps < 0) | (taps >= side)
    padded = np.pad(weight, ((0, 0), (0, 0), (0, 1), (0, 1)))  # zeros for taps outside
    taps[outside] = side
    phases = padded[:, :, taps][..., taps]  # (in, out, r, n, r, n)
    channels, maps, _, count = phases.shape[:4]
    kernel = phases.transpose(1, 2, 4, 0, 3, 5).reshape(maps * stride**2, channels, count, count)
    return kernel, before, after
