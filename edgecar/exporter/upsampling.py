"""Transposed convolutions as plain ones: the same output, in the same bits whatever the window.

Engines compute a transposed convolution in ways that depend on the picture's size and the number of
threads: on OpenVINO with two threads, FastARCNN's windows differed from its whole frames in the
last bits of most pixels. A convolution that makes every phase of the output, and a depth-to-space,
have one way to be computed; TensorRT runs them faster in INT8 besides.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgecar.exporter.receptive import attributes_of

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

Weights = NDArray[np.float32]


def convolve_upsampling(model: "ModelProto") -> None:
    """Replace, in place, transposed convolutions that enlarge exactly by their stride.

    Others (grouped, dilated, with weights that are no constant) stay as they are.
    """
    from onnx import numpy_helper

    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    nodes = list(graph.node)
    del graph.node[:]
    for node in nodes:
        geometry = _geometry(node) if node.op_type == "ConvTranspose" else None
        if geometry is None or not all(name in constants for name in node.input[1:]):
            graph.node.append(node)
            continue
        weight, *bias = (numpy_helper.to_array(constants[name]) for name in node.input[1:])
        graph.node.extend(_as_convolution(graph, node, weight, bias, *geometry))
    used = {name for node in graph.node for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def _geometry(node: "NodeProto") -> tuple[int, int] | None:
    """Stride and padding; None if the output is not exactly the input times the stride."""
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


def _as_convolution(
    graph: Any, node: "NodeProto", weight: Weights, bias: list[Weights], stride: int, padding: int
) -> list["NodeProto"]:
    from onnx import helper, numpy_helper

    kernel, before, after = phase_kernel(weight, stride, padding)
    names = [f"{node.output[0]}.phases.weight", f"{node.output[0]}.phases.bias"]
    tensors = [kernel, *(np.repeat(values, stride**2) for values in bias)]
    graph.initializer.extend(
        numpy_helper.from_array(np.ascontiguousarray(tensor), name)
        for tensor, name in zip(tensors, names, strict=False)
    )
    phases = f"{node.output[0]}.phases"
    inputs = [node.input[0], *names[: len(tensors)]]
    pads = [before, before, after, after]
    conv = helper.make_node("Conv", inputs, [phases], name=phases, pads=pads)
    conv.attribute.append(helper.make_attribute("kernel_shape", kernel.shape[2:]))
    shuffle = helper.make_node(
        "DepthToSpace", [phases], node.output, name=node.name, blocksize=stride, mode="CRD"
    )
    return [conv, shuffle]


def phase_kernel(weight: Weights, stride: int, padding: int) -> tuple[Weights, int, int]:
    """Return the kernel that makes every phase of a transposed convolution, and its padding.

    Output ``stride·q + r`` sums inputs ``q + d`` with tap ``r + padding - stride·d``.

    Args:
        weight: ``(in, out, k, k)``.
        stride: Stride of the transposed convolution.
        padding: Padding of the transposed convolution, at the upper left.

    Returns:
        ``(out·stride², in, n, n)``, and the rows to pad before and after.
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
