"""Weights in eight bits whose sums are the same on every CPU.

CPUs of x86 without VNNI multiply codes by ``vpmaddubsw``: two products of an unsigned code (up to
255; signed ones are moved up by 128) and a weight are added in 16 bits, which end at 32767, and a
larger sum becomes that. With weights of at most 64 no pair gets there: 2 · 255 · 64 = 32640.
"""

import platform

from edgecar.artifact import Artifact
from edgecar.errors import AnswerError

LARGEST_WEIGHT = 64


def refuse_saturating(artifact: Artifact) -> None:
    """Refuse a graph in eight bits whose sums may overflow on a CPU of x86.

    Raises:
        AnswerError: It has larger weights, as files of earlier versions do.
    """
    if artifact.metadata.precision != "int8" or platform.machine().lower() not in (
        "x86_64",
        "amd64",
    ):
        return
    largest = largest_weight(artifact.onnx)
    if largest > LARGEST_WEIGHT:
        raise AnswerError(
            f"{artifact.path or artifact.metadata.model}: its INT8 weights go up to {largest}, "
            "whose "
            f"sums overflow on CPUs without VNNI; export it again, which limits them to "
            f"{LARGEST_WEIGHT}"
        )


def largest_weight(onnx_bytes: bytes) -> int:
    """Largest magnitude of weights in eight bits that a graph holds; 0 if it holds none."""
    import numpy as np
    import onnx

    graph = onnx.load_model_from_string(onnx_bytes).graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    codes = [
        onnx.numpy_helper.to_array(constants[node.input[0]]).astype(np.int32)
        for node in graph.node
        if node.op_type == "DequantizeLinear" and node.input[0] in constants
        if constants[node.input[0]].data_type in (onnx.TensorProto.INT8, onnx.TensorProto.UINT8)
    ]
    return max((int(np.abs(values).max(initial=0)) for values in codes), default=0)
