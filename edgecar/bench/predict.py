"""Highest speed that a box could reach, from published ceilings: predicted, never measured.

A network on a GPU is bound by arithmetic or by memory. Of each convolution the input is read and
the output written once, and all between convolutions is taken as fused with them. No engine reaches
both ceilings, so what does not fit here fits nowhere; what fits may still be too slow.
"""

import math
from dataclasses import dataclass

from edgecar.artifact import Artifact, find_artifact, read_artifact, shipped_names
from edgecar.engines.plan import BuildSettings
from edgecar.engines.targets import Target
from edgecar.engines.trt_build import with_tile
from edgecar.errors import SettingsError
from edgecar.runtime.tiles import plan_grid
from edgecar.spec import Precision, Size

BYTES: dict[Precision, int] = {"fp16": 2, "int8": 1}
CONVOLUTIONS = ("Conv", "ConvTranspose")


@dataclass(frozen=True)
class Work:
    """Work of one tile: multiply-accumulates, and values that convolutions read and write."""

    macs: int
    values: int


@dataclass(frozen=True)
class Prediction:
    """Highest speed that a network could reach.

    Attributes:
        fps: Frames a second that no engine exceeds, every pixel computed.
        bound_by: ``arithmetic`` or ``memory``.
        computed_share: Pixels read by tiles over pixels of the frame.
    """

    network: str
    precision: Precision
    fps: float
    bound_by: str
    computed_share: float


def work_of_tile(artifact: Artifact, tile: Size) -> Work:
    """Counted from the graph, with shapes worked out for one tile."""
    graph = with_tile(artifact.onnx, BuildSettings(tile, 1, 1)).graph
    sizes = {
        value.name: math.prod(dim.dim_value for dim in value.type.tensor_type.shape.dim)
        for value in (*graph.value_info, *graph.input, *graph.output)
    }
    weights = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    made_by = {name: node for node in graph.node for name in node.output}
    macs = values = 0
    for node in graph.node:
        if node.op_type in CONVOLUTIONS:
            source = node.input[1]
            while source not in weights:  # behind the quantisers of eight bits
                source = made_by[source].input[0]
            shape = weights[source]
            taps = math.prod(shape[1:])  # of a convolution: for each output value
            places = sizes[node.output[0] if node.op_type == "Conv" else node.input[0]]
            macs += places * taps
            values += sizes[node.input[0]] + sizes[node.output[0]]
    return Work(macs, values)


def predictions(target: Target, size: Size) -> list[Prediction]:
    """Predict every network that ships for JPEG, in every precision with a published ceiling.

    Raises:
        SettingsError: Nothing is published for the box.
        WindowError: Frames are smaller than its tile.
    """
    ceilings = {"fp16": target.fp16_tflops, "int8": target.int8_tops}
    known: list[Precision] = [
        precision for precision in target.precisions if ceilings.get(precision)
    ]
    if not known or not target.memory_gb_s:
        raise SettingsError(f"no ceilings are published for {target.name}; name another target")
    found = []
    for name in shipped_names():
        artifact = read_artifact(find_artifact(name))
        metadata = artifact.metadata
        tiles = len(
            plan_grid(size, target.tile, halo_px=metadata.halo_px, align_px=metadata.align_px)
        )
        work = work_of_tile(artifact, target.tile)
        share = tiles * target.tile[0] * target.tile[1] / (size[0] * size[1])
        for precision in known:
            arithmetic = tiles * 2 * work.macs / (ceilings[precision] * 1e12)
            memory = tiles * work.values * BYTES[precision] / (target.memory_gb_s * 1e9)
            bound = "arithmetic" if arithmetic > memory else "memory"
            found.append(Prediction(name, precision, 1 / max(arithmetic, memory), bound, share))
    return found
