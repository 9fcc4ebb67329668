"""Weights rounded so that what convolutions make of real pictures changes least.

Frantar et al., "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers",
ICLR 2023, section 3. Weights of a channel are rounded one after the other, and those still to come
make up for the error of each, as far as they read the same things. On our networks seven bits so
rounded lose about what eight bits do whose weights are rounded to the nearest.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgecar.engines.base import CODE
from edgecar.engines.libraries import imported_onnxruntime
from edgecar.engines.saturation import LARGEST_WEIGHT

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

    from edgecar.exporter.frames import Picture

WeightCodes = dict[str, NDArray[np.int8]]
"""Rounded weights by the name of the tensor, in steps of `step_of` it."""

PATCHES = 2000  # of each picture: what a convolution reads for one pixel
DAMPING = 0.01  # of the mean energy, added to every input: few patches prove no exact relation


def step_of(weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """Step of the codes of each output channel, from weights ``(O, I, H, W)``."""
    reach = np.abs(weights).reshape(len(weights), -1).max(axis=1)
    return np.asarray(np.maximum(reach, np.finfo(np.float32).tiny) / LARGEST_WEIGHT, np.float32)


def rounded_weights(model: "ModelProto", pictures: "Sequence[Picture]") -> WeightCodes:
    """Codes for the weights of every convolution without groups.

    Args:
        model: The graph in float32, with inferred shapes.
        pictures: Coded pictures.
    """
    import onnx

    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    energies = _energies(model, pictures)
    return {
        name: _compensated(onnx.numpy_helper.to_array(constants[name]), energy)
        for name, energy in energies.items()
    }


def _compensated(weights: NDArray[np.float32], energy: NDArray[np.float64]) -> NDArray[np.int8]:
    """Codes of one tensor.

    Args:
        weights: ``(O, I, H, W)``.
        energy: Sums of products of every two of the ``I · H · W`` values that a pixel is made of.
    """
    order = np.argsort(-np.diag(energy), kind="stable")  # those that matter most have most to come
    damping = DAMPING * float(np.trace(energy)) / len(energy) + np.finfo(np.float32).tiny
    ordered = energy[np.ix_(order, order)] + damping * np.eye(len(energy))
    pull = np.linalg.cholesky(np.linalg.inv(ordered)).T
    left = weights.reshape(len(weights), -1)[:, order].astype(np.float64)
    step = step_of(weights).astype(np.float64)
    codes = np.empty_like(left)
    for place in range(left.shape[1]):
        nearest = np.rint(left[:, place] / step)
        codes[:, place] = np.clip(nearest, -LARGEST_WEIGHT, LARGEST_WEIGHT)
        missing = (left[:, place] - codes[:, place] * step) / pull[place, place]
        left[:, place:] -= np.outer(missing, pull[place, place:])
    restored = np.empty_like(codes)
    restored[:, order] = codes
    return restored.reshape(weights.shape).astype(np.int8)


def _energies(model: "ModelProto", pictures: "Sequence[Picture]") -> dict[str, NDArray[np.float64]]:
    """Sums of products of what convolutions read, by the name of their weights."""
    import onnx

    onnxruntime = imported_onnxruntime()
    seen = onnx.ModelProto()
    seen.CopyFrom(model)
    values = {value.name: value for value in seen.graph.value_info}
    weights = {tensor.name: tuple(tensor.dims) for tensor in seen.graph.initializer}
    convs = [
        node
        for node in seen.graph.node
        if node.op_type == "Conv" and node.input[0] in values and node.input[1] in weights
        if _attributes(node).get("group", 1) == 1
    ]
    names = list(dict.fromkeys(node.input[0] for node in convs))
    if not names:
        return {}
    seen.graph.output.extend(values[name] for name in names)
    session = onnxruntime.InferenceSession(
        seen.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    feed = session.get_inputs()[0].name
    dice = np.random.default_rng(0)
    sums: dict[str, Any] = {}
    for picture in pictures:
        outputs = dict(zip(names, session.run(names, {feed: picture[None] * CODE}), strict=True))
        for node in convs:
            patches = _patches(outputs[node.input[0]][0], node, weights[node.input[1]], dice)
            sums[node.input[1]] = sums.get(node.input[1], 0.0) + np.float64(patches @ patches.T)
    return sums


def _patches(
    tensor: NDArray[np.float32], node: "NodeProto", shape: tuple[int, ...], dice: Any
) -> NDArray[np.float32]:
    """Return the inputs of a convolution for some of its pixels, ``(I · H · W, pixels)``."""
    attributes = _attributes(node)
    (top, left, bottom, right) = attributes.get("pads", (0, 0, 0, 0))
    (down, across), spread = attributes.get("strides", (1, 1)), attributes.get("dilations", (1, 1))
    tensor = np.pad(tensor, ((0, 0), (top, bottom), (left, right)))
    high, wide = ((k - 1) * d for k, d in zip(shape[2:], spread, strict=True))
    rows, columns = (
        (tensor.shape[1] - high - 1) // down + 1,
        (tensor.shape[2] - wide - 1) // across + 1,
    )
    chosen = dice.permutation(rows * columns)[:PATCHES]
    y, x = chosen // columns * down, chosen % columns * across
    taps = [
        tensor[:, y + row * spread[0], x + column * spread[1]]
        for row in range(shape[2])
        for column in range(shape[3])
    ]
    return np.stack(taps, axis=1).reshape(-1, len(chosen))


def _attributes(node: "NodeProto") -> dict[str, Any]:
    import onnx

    return {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
