"""Artifacts whose weights are stored once, in half precision, in the checkpoint beside them.

A network ships as a checkpoint and as an ONNX graph. The graph of a compact artifact points into
the safetensors file (ONNX's external data) and widens what it finds there with Cast nodes, so that
both together take a third of their room and any runtime still loads the ONNX file. Weights that the
exporter changed (a normalisation folded in) are in no checkpoint; the graph holds them itself.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from onnx import ModelProto, TensorProto

SMALLEST = 256
"""Values; smaller tensors are not worth a Cast node."""
HALF = "/half"


def compact(model: "ModelProto", checkpoint: Path) -> None:
    """Point the weights of ``model`` into ``checkpoint``, in place, and halve those not there.

    Args:
        model: Model with weights in float32, to be written into the folder of ``checkpoint``.
        checkpoint: Safetensors; its tensors in float16 are found by their values.
    """
    from onnx import TensorProto, helper, numpy_helper

    places = _half_tensors(checkpoint)
    casts = []
    for tensor in model.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or np.prod(tensor.dims) < SMALLEST:
            continue
        halves = numpy_helper.to_array(tensor).astype(np.float16)
        if not np.isfinite(halves).all():
            continue
        name = tensor.name
        place = places.get(halves.tobytes())
        tensor.CopyFrom(numpy_helper.from_array(halves, name + HALF))
        if place is not None:
            _point(tensor, checkpoint.name, *place)
        casts.append(helper.make_node("Cast", [name + HALF], [name], to=TensorProto.FLOAT))
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*casts, *nodes])


def widen(model: "ModelProto") -> None:
    """Undo `compact`, in place: weights in float32, as they were exported.

    The model's external data must have been read. A model that is not compact stays as it is.
    """
    from onnx import numpy_helper

    halves = {t.name: t for t in model.graph.initializer if t.name.endswith(HALF)}
    nodes = list(model.graph.node)
    del model.graph.node[:]
    for node in nodes:
        if node.op_type != "Cast" or node.input[0] not in halves:
            model.graph.node.append(node)
            continue
        tensor = halves[node.input[0]]
        values = numpy_helper.to_array(tensor).astype(np.float32)
        tensor.CopyFrom(numpy_helper.from_array(values, node.output[0]))


def _half_tensors(checkpoint: Path) -> dict[bytes, tuple[int, int]]:
    """Offset and length in the file of each float16 tensor, by its bytes.

    The format: https://huggingface.co/docs/safetensors/index#format.
    """
    stored = checkpoint.read_bytes()
    header_end = 8 + int.from_bytes(stored[:8], "little")
    entries = json.loads(stored[8:header_end])
    places = {}
    for entry in entries.values():
        if entry.get("dtype") == "F16":
            start, end = (header_end + offset for offset in entry["data_offsets"])
            places[stored[start:end]] = (start, end - start)
    return places


def _point(tensor: "TensorProto", location: str, offset: int, length: int) -> None:
    from onnx import TensorProto

    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", offset), ("length", length)):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, str(value)
