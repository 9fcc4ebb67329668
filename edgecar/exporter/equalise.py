"""Channels of one range: what lets eight bits for a whole tensor serve each of its channels.

Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", ICCV 2019,
section 4.1. Between a convolution and the convolutions that read it, through an activation for
which f(s·x) = s·f(x), a channel may be divided by any s > 0 and the weights that read it multiplied
by s: the output is the same. Here s is the range that a channel had on real frames, which on our
networks lost far less than ranges of weights, and than leaving channels as they are.
"""

import math
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgecar.engines.base import CODE
from edgecar.engines.libraries import imported_onnxruntime

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

    from edgecar.exporter.frames import Picture

HOMOGENEOUS = frozenset("LeakyRelu Relu PRelu Identity".split())
LEAST_RANGE = 1e-3  # of a tensor's widest channel: a channel that hardly speaks stays quiet


def equalised(
    model: "ModelProto", pictures: "Sequence[Picture]", outliers: float = 0.0
) -> "ModelProto":
    """The same network, with channels of equal range wherever that changes nothing.

    Args:
        model: In float32, one picture in and one out.
        pictures: Coded pictures that ranges are taken from.
        outliers: Share of a channel's values, the largest, that do not count for its range.

    Returns:
        A new model; it differs from ``model`` by the rounding of float32.
    """
    import onnx

    made = onnx.ModelProto()
    made.CopyFrom(model)
    graph = _Graph(made)
    pairs = [pair for node in made.graph.node if (pair := graph.readers_of(node))]
    # Ranges of all at once: scaling one tensor leaves those of the others as they are.
    tensors = [tensor for _, tensor, _ in pairs]
    peaks = channel_peaks(made, tensors, pictures, outliers)
    for maker, tensor, readers in pairs:
        peak = peaks[tensor]
        reach = np.maximum(peak, LEAST_RANGE * peak.max())
        if not (np.isfinite(reach).all() and reach.min() > 0):
            continue
        scale = reach / np.exp(np.log(reach).mean())
        graph.multiply(maker.input[1], 1 / scale, axis=0)
        if len(maker.input) > 2:
            graph.multiply(maker.input[2], 1 / scale, axis=0)
        for reader in readers:
            graph.multiply(reader.input[1], scale, axis=1)
    return made


def channel_peaks(
    model: "ModelProto",
    tensors: Sequence[str],
    pictures: "Sequence[Picture]",
    outliers: float = 0.0,
) -> dict[str, NDArray[np.float64]]:
    """Largest magnitude of every channel of some tensors, over all pictures.

    Args:
        model: In float32, with inferred shapes.
        tensors: Names of ``(N, C, H, W)`` ones.
        pictures: Coded pictures.
        outliers: Share of a channel's values, the largest, that are left out.
    """
    import onnx

    onnxruntime = imported_onnxruntime()
    if not tensors:
        return {}
    seen = onnx.ModelProto()
    seen.CopyFrom(model)
    names = list(dict.fromkeys(tensors))
    values = {value.name: value for value in seen.graph.value_info}
    seen.graph.output.extend(values[name] for name in names)
    session = onnxruntime.InferenceSession(
        seen.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    feed = session.get_inputs()[0].name
    largest: dict[str, Any] = {}  # of every channel as many as are left out, and two
    values_seen: Counter[str] = Counter()
    most = 2 + math.ceil(outliers * sum(picture[0].size for picture in pictures))
    for picture in pictures:
        outputs = session.run(names, {feed: picture[None] * CODE})
        for name, output in zip(names, outputs, strict=True):
            channels = np.abs(output[0]).reshape(output.shape[1], -1)
            values_seen[name] += channels.shape[1]
            before = largest.get(name, channels[:, :0])
            largest[name] = np.sort(np.concatenate([before, channels], axis=1))[:, -most:]
    return {
        name: _quantile(values, outliers * (values_seen[name] - 1)).astype(np.float64)
        for name, values in largest.items()
    }


def _quantile(largest: NDArray[np.float32], left_out: float) -> NDArray[np.float32]:
    """Of each row the value that so many are above; between two of them, in proportion."""
    return np.asarray(np.quantile(largest, 1 - left_out / max(1, largest.shape[1] - 1), axis=1))


class _Graph:
    """Who reads what, and the weights to change."""

    def __init__(self, model: "ModelProto") -> None:
        self._weights = {tensor.name: tensor for tensor in model.graph.initializer}
        self._readers: dict[str, list[NodeProto]] = {}
        for node in model.graph.node:
            for name in node.input:
                self._readers.setdefault(name, []).append(node)
        self._outputs = {value.name for value in model.graph.output}

    def readers_of(self, node: "NodeProto") -> "tuple[NodeProto, str, list[NodeProto]] | None":
        """A convolution, the tensor that others read of it, and those; None if it must stay."""
        if node.op_type != "Conv" or not self._own_weights(node.input[1:]):
            return None
        tensor = node.output[0]
        while len(self._readers.get(tensor, [])) == 1 and tensor not in self._outputs:
            follower = self._readers[tensor][0]
            if follower.op_type not in HOMOGENEOUS or follower.input[0] != tensor:
                break
            tensor = follower.output[0]
        readers = self._readers.get(tensor, [])
        if not readers or tensor in self._outputs:
            return None
        return (node, tensor, readers) if all(map(self._reads_plainly, readers)) else None

    def _reads_plainly(self, node: "NodeProto") -> bool:
        """Whether each of a reader's input channels has weights of its own."""
        groups = next((a.i for a in node.attribute if a.name == "group"), 1)
        return node.op_type == "Conv" and groups == 1 and self._own_weights(node.input[1:2])

    def _own_weights(self, names: Sequence[str]) -> bool:
        return all(name in self._weights and len(self._readers[name]) == 1 for name in names)

    def multiply(self, name: str, factors: NDArray[np.float64], axis: int) -> None:
        from onnx import numpy_helper

        tensor = self._weights[name]
        values: Any = numpy_helper.to_array(tensor)
        shape = [-1 if a == axis else 1 for a in range(values.ndim)]
        scaled = (values * factors.reshape(shape)).astype(values.dtype)
        tensor.CopyFrom(numpy_helper.from_array(scaled, name))
