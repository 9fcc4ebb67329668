"""The halo of a network, derived from its graph.

The demand for one block of output pixels is carried back through the graph, node by node, as an
interval of rows or columns of each tensor. What is demanded of the input, less the block itself, is
the halo. The arithmetic is exact for strided, dilated and transposed convolutions, pooling,
resizing and depth-to-space; a node with unknown geometry is refused, never guessed at.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor, lcm
from typing import Any

from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, numpy_helper

from edgecar.errors import ExportError
from edgecar.exporter.graphs import attributes_of
from edgecar.spec import QUANTISER, Context

Interval = tuple[int, int]
"""First and last row (or column) of a tensor, inclusive."""
Arrays = Mapping[str, NDArray[Any]]
"""Constants by name."""

# One pixel of output needs the same pixel of every input.
POINTWISE = frozenset(
    "Abs Add BatchNormalization Cast Clip Concat DequantizeLinear Div Elu Exp HardSigmoid "
    "HardSwish Identity LeakyRelu Log Max Min Mul Neg PRelu Pow QuantizeLinear Reciprocal "
    "Relu Selu Sigmoid Softplus Sqrt Sub Sum Tanh".split()
)
GLOBAL = frozenset("GlobalAveragePool GlobalMaxPool".split())
REDUCE = frozenset("ReduceMax ReduceMean ReduceMin ReduceSum ReduceSumSquare ReduceL2".split())
SLIDING = frozenset("Conv AveragePool MaxPool ConvTranspose".split())
SPATIAL_AXES = (2, 3)
# Where Resize reads relative to a pixel's corner, and how it rounds to the nearest pixel.
CONVENTIONS = {
    b"half_pixel": Fraction(1, 2),
    b"pytorch_half_pixel": Fraction(1, 2),
    b"asymmetric": Fraction(0),
}
ROUNDINGS: dict[bytes, Callable[[Fraction], int]] = {
    b"round_prefer_floor": lambda position: ceil(position - Fraction(1, 2)),
    b"round_prefer_ceil": lambda position: floor(position + Fraction(1, 2)),
    b"floor": floor,
    b"ceil": ceil,
}
FAR = 1 << 20  # index of the block looked at: far from any border, a multiple of every stride


@dataclass(frozen=True)
class Reception:
    """Receptive field of one pixel of a network's output, by the names of `Metadata`.

    The halo of ``windowed`` networks, which pool over the whole picture, is that of the
    convolutions alone.
    """

    halo_px: int
    align_px: int
    context: Context
    bytes_per_px: int


@dataclass(frozen=True)
class Geometry:
    """Relation of a node's output to its input along one axis."""

    step: Fraction  # pixels of input per pixel of output
    made: Callable[[int], int]  # size of the output, by that of the input
    needed: Callable[[int, int], Interval]  # pixels of input that an interval of output needs


def reception_of(model: ModelProto) -> Reception:
    """Derive halo, alignment and context of an image network with one output.

    Its input is a picture and, perhaps, the picture's quantiser, which is the same at every pixel.

    Args:
        model: Graph with inferred shapes.

    Raises:
        ExportError: The graph has several inputs or outputs, another size of output than of input,
            or a node whose geometry is unknown.
    """
    walk = GraphWalk(model)
    align = lcm(*(stride.numerator for stride in walk.strides.values()))
    size = FAR // align * align
    block = (size, size + align - 1)
    halo = 0
    for side in (0, 1):
        grown = walk.output_size(side, size) - size
        if grown:
            raise ExportError(
                f"the output is {abs(grown)} px {'larger' if grown > 0 else 'smaller'} than the "
                "input; edgecar restores at the same size: pad the convolutions"
            )
        low, high = walk.demanded(side, block)
        halo = max(halo, block[0] - low, high - block[1])
    context: Context = "windowed" if walk.pools else "local"
    return Reception(ceil(halo / align) * align, align, context, walk.bytes_per_px())


class GraphWalk:
    """A graph from its picture to its output, with the geometry of every node between.

    Attributes:
        constants: Constants by name, those that nodes make included.
        strides: Input pixels per pixel of every spatial tensor; those pooled to one are left out.
        pools: True if a node joins all pixels of a picture.
    """

    def __init__(self, model: ModelProto) -> None:
        graph = model.graph
        self.constants = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
        given = {value.name for value in graph.input} - self.constants.keys()
        pictures = sorted(given - {QUANTISER})
        if len(pictures) != 1 or len(graph.output) != 1:
            raise ExportError(
                f"the graph has {len(pictures)} inputs and {len(graph.output)} outputs, need one "
                "each; export the restoration network alone"
            )
        for node in graph.node:
            if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
                self.constants[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
            if node.op_type == "DequantizeLinear" and node.input[0] in self.constants:
                # Weights in eight bits: of the same shape, which is all that matters of weights.
                self.constants[node.output[0]] = self.constants[node.input[0]]
        self.input, self.output = pictures[0], graph.output[0].name
        self.model, self.pools = model, False
        self.strides = {self.input: Fraction(1)}
        self.nodes: list[tuple[NodeProto, list[Geometry]]] = []
        for node in graph.node:
            self._add(node)
        if self.strides.get(self.output) != 1:
            raise ExportError(
                "the output has another size than the input; edgecar restores at the same size"
            )

    def _add(self, node: NodeProto) -> None:
        known = {self.strides[name] for name in node.input if name in self.strides}
        if known and _pools_globally(node, self.constants):
            self.pools = True
        elif len(known) > 1:
            raise ExportError(
                f"node {node.name or node.op_type} joins tensors of different resolution"
            )
        elif known:
            geometry = [geometry_of(node, side, self.constants) for side in (0, 1)]
            self.nodes.append((node, geometry))
            self.strides[node.output[0]] = known.pop() * geometry[0].step

    def output_size(self, side: int, size: int) -> int:
        """Return the rows (or columns) of the output for those of a picture."""
        sizes = {self.input: size}
        for node, geometry in self.nodes:
            known = {sizes[name] for name in node.input if name in sizes}
            if len(known) > 1:
                raise ExportError(f"node {node.name or node.op_type} joins tensors of unequal size")
            sizes[node.output[0]] = geometry[side].made(known.pop())
        return sizes[self.output]

    def demanded(self, side: int, block: Interval) -> Interval:
        """Return the rows (or columns) of the picture that a block of the output depends on."""
        demand = {self.output: block}
        for node, geometry in reversed(self.nodes):
            if node.output[0] not in demand:
                continue
            low, high = geometry[side].needed(*demand[node.output[0]])
            for name in self.strides.keys() & set(node.input):
                earlier = demand.get(name, (low, high))
                demand[name] = (min(earlier[0], low), max(earlier[1], high))
        return demand.get(self.input, block)

    def bytes_per_px(self) -> int:
        """Return the most bytes of float32 tensors alive at one time, per input pixel."""
        nodes, graph = self.model.graph.node, self.model.graph
        shapes = {
            value.name: value.type.tensor_type.shape.dim
            for value in (*graph.value_info, *graph.input, *graph.output)
        }
        last_use = {name: i for i, node in enumerate(nodes) for name in node.input}
        alive: dict[str, Fraction] = {}
        most = Fraction(0)
        for index, node in enumerate(nodes):
            for name in (*node.input, *node.output):
                if name in self.strides and len(shapes.get(name, ())) == 4:
                    alive[name] = 4 * shapes[name][1].dim_value / self.strides[name] ** 2
            most = max(most, Fraction(sum(alive.values())))
            alive = {name: size for name, size in alive.items() if last_use.get(name, -1) > index}
        return ceil(most)


def geometry_of(node: NodeProto, side: int, constants: Arrays) -> Geometry:
    """Return the geometry of a node along rows (side 0) or columns (1)."""
    kind, attributes = node.op_type, attributes_of(node)
    if kind == "Concat" and attributes["axis"] not in (1, -3):
        raise ExportError("Concat along another axis than channels; join channels only")
    if kind in POINTWISE or kind in REDUCE:
        return _sliding()
    if kind == "Pad":
        before, after = _padding(node, attributes, side, constants)
        return _sliding(before=before, after=after)
    if kind == "SpaceToDepth":
        return _sliding(attributes["blocksize"], attributes["blocksize"] - 1)
    if kind == "DepthToSpace":
        return _enlarging(attributes["blocksize"], attributes["blocksize"] - 1)
    if kind == "Resize":
        return _resizing(node, attributes, constants)
    if kind not in SLIDING:
        raise ExportError(f"the halo cannot be derived through operator {kind}; replace it")
    rows, columns = attributes.get("strides", [1, 1])
    if rows != columns:
        raise ExportError(f"{kind} with strides {rows}x{columns}; need equal strides")
    if attributes.get("auto_pad", b"NOTSET") != b"NOTSET" or "output_shape" in attributes:
        raise ExportError(f"{kind} with auto_pad; give explicit pads")
    kernel = attributes.get("kernel_shape")
    if kernel is None and node.input[1] not in constants:
        raise ExportError(f"{kind} with computed weights; need constant weights")
    kernel = kernel or constants[node.input[1]].shape[2:]
    reach = (kernel[side] - 1) * int(attributes.get("dilations", [1, 1])[side])
    pads = attributes.get("pads", [0, 0, 0, 0])
    before, after = pads[side], pads[side + 2]
    if kind == "ConvTranspose":
        extra = int(attributes.get("output_padding", [0, 0])[side])
        return _enlarging(rows, reach, before, after - extra)
    return _sliding(rows, reach, before, after, ceil if attributes.get("ceil_mode") else floor)


def _sliding(
    stride: int = 1,
    reach: int = 0,
    before: int = 0,
    after: int = 0,
    rounded: Callable[[Fraction], int] = floor,
) -> Geometry:
    """Return the geometry of a kernel: its first and last pixel are `reach` apart."""
    return Geometry(
        Fraction(stride),
        lambda size: rounded(Fraction(size + before + after - reach - 1, stride)) + 1,
        lambda low, high: (low * stride - before, high * stride - before + reach),
    )


def _enlarging(stride: int, reach: int, before: int = 0, after: int = 0) -> Geometry:
    """Return the geometry of a transposed kernel, which cuts off `before` and `after`."""
    return Geometry(
        Fraction(1, stride),
        lambda size: (size - 1) * stride + 1 + reach - before - after,
        lambda low, high: (-((reach - before - low) // stride), (high + before) // stride),
    )


def _padding(node: NodeProto, attributes: dict[str, Any], side: int, constants: Arrays) -> Interval:
    pads = constants.get(node.input[1])
    if pads is None or len(pads) != 8 or len(node.input) > 3:
        raise ExportError("Pad without constant pads for all axes; give nn.functional.pad numbers")
    if attributes.get("mode") == b"wrap":
        raise ExportError("Pad with mode wrap reads the picture's far side; use zeros")
    return int(pads[2 + side]), int(pads[6 + side])


def _resizing(node: NodeProto, attributes: dict[str, Any], constants: Arrays) -> Geometry:
    scales = constants.get(node.input[2]) if len(node.input) > 2 else None
    if scales is None or len(scales) != 4 or scales[2] != scales[3]:
        raise ExportError("Resize without constant, equal scales; give nn.Upsample a scale_factor")
    scale = Fraction(float(scales[2])).limit_denominator(64)
    mode = attributes.get("mode", b"nearest")
    convention = attributes.get("coordinate_transformation_mode", b"half_pixel")
    if convention not in CONVENTIONS or attributes.get("antialias"):
        raise ExportError(
            f"Resize with {convention.decode()} or antialias depends on more than pixels near by; "
            "use align_corners=False, antialias=False"
        )
    whole = 1 in (scale.numerator, scale.denominator)
    power_of_two = (scale.numerator * scale.denominator).bit_count() == 1
    if not (whole if mode == b"nearest" else power_of_two):
        # Source positions are float32: rounded, the weights would vary over the picture.
        raise ExportError(
            f"Resize by {scale} in mode {mode.decode()} rounds its positions, so tiles would not "
            "be exact; use a power of two"
        )
    shift = CONVENTIONS[convention]
    nearest = ROUNDINGS[attributes.get("nearest_mode", b"round_prefer_floor")]

    def needed(first: int, last: int) -> Interval:
        low, high = ((index + shift) / scale - shift for index in (first, last))
        if mode == b"nearest":
            return nearest(low), nearest(high)
        beyond = {b"linear": 0, b"cubic": 1}[mode]
        return floor(low) - beyond, floor(high) + 1 + beyond

    return Geometry(1 / scale, lambda size: floor(size * scale), needed)


def _pools_globally(node: NodeProto, constants: Arrays) -> bool:
    if node.op_type not in REDUCE:
        return node.op_type in GLOBAL
    axes = attributes_of(node).get("axes")
    if axes is None and len(node.input) > 1:
        axes = constants.get(node.input[1])
    return axes is None or any(int(axis) % 4 in SPATIAL_AXES for axis in axes)
