"""The halo of a network, derived from its graph.

The demand for one block of output pixels is carried back through the graph, node by node, as an
interval of rows or columns of each tensor. What is demanded of the input, less the block itself, is
the halo. The arithmetic is exact for strided, dilated and transposed convolutions, pooling,
resizing and depth-to-space; a node with unknown geometry is refused, never guessed at.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor, lcm
from typing import TYPE_CHECKING, Any

from edgecar.errors import ExportError
from edgecar.spec import Context

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

Interval = tuple[int, int]
"""First and last row (or column) of a tensor, inclusive."""

# One pixel of output needs the same pixel of every input.
POINTWISE = frozenset(
    "Abs Add BatchNormalization Cast Clip Concat DequantizeLinear Div Elu Exp HardSigmoid "
    "HardSwish Identity LeakyRelu Log Max Min Mul Neg PRelu Pow QuantizeLinear Reciprocal "
    "Relu Selu Sigmoid Softplus Sqrt Sub Sum Tanh".split()
)
GLOBAL = frozenset("GlobalAveragePool GlobalMaxPool".split())
REDUCE = frozenset("ReduceMax ReduceMean ReduceMin ReduceSum ReduceSumSquare ReduceL2".split())
SLIDING = frozenset("Conv AveragePool MaxPool".split())
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
    """Receptive field of one pixel of a network's output.

    Attributes:
        halo_px: Pixels around an aligned window that its output depends on, rounded up to
            ``align_px``. For ``windowed`` networks: by the convolutions alone.
        align_px: Windows must start and end at multiples of this for the network to see the same
            phase of its strides.
        context: ``windowed`` if something pools over the whole picture.
        bytes_per_px: Bytes of activations alive at one time, in float32, per pixel of the tile.
    """

    halo_px: int
    align_px: int
    context: Context
    bytes_per_px: int


def reception_of(model: "ModelProto") -> Reception:
    """Derive halo, alignment and context of a one-input, one-output image network.

    Raises:
        ExportError: The graph has several inputs or outputs, or a node whose geometry is unknown.

    `model` must carry inferred shapes (`onnx.shape_inference.infer_shapes`).
    """
    graph = model.graph
    constants = {tensor.name for tensor in graph.initializer}
    inputs = [value.name for value in graph.input if value.name not in constants]
    if len(inputs) != 1 or len(graph.output) != 1:
        raise ExportError(
            f"the graph has {len(inputs)} inputs and {len(graph.output)} outputs, need one each; "
            "export the restoration network alone"
        )
    walk = GraphWalk(model, inputs[0])
    strides = walk.strides()
    align = lcm(*(stride.numerator for stride in strides.values()))
    for axis in SPATIAL_AXES:
        walk.refuse_other_size(axis, align, strides)
    halo = max(walk.halo(axis, align, strides) for axis in SPATIAL_AXES)
    context: Context = "windowed" if walk.pools else "local"
    return Reception(ceil(halo / align) * align, align, context, walk.bytes_per_px(strides))


class GraphWalk:
    """A graph with its constants at hand, walked forwards for strides and backwards for demand."""

    def __init__(self, model: "ModelProto", input_name: str) -> None:
        from onnx import numpy_helper

        self.nodes = list(model.graph.node)
        self.input, self.output = input_name, model.graph.output[0].name
        self.constants: dict[str, Any] = {tensor.name: tensor for tensor in model.graph.initializer}
        for node in self.nodes:
            if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
                self.constants[node.output[0]] = node.attribute[0].t
            if node.op_type == "DequantizeLinear" and node.input[0] in self.constants:
                # Weights in eight bits: of the same shape, which is all that matters of weights.
                self.constants[node.output[0]] = self.constants[node.input[0]]
        values = [*model.graph.value_info, *model.graph.input, *model.graph.output]
        self.channels = {
            value.name: value.type.tensor_type.shape.dim[1].dim_value
            for value in values
            if len(value.type.tensor_type.shape.dim) == 4
        }
        self._array = numpy_helper.to_array
        self.pools = any(_pools_globally(node, self.array) for node in self.nodes)

    def array(self, name: str) -> Any:
        """A constant's values, or None if ``name`` is computed or absent."""
        return self._array(self.constants[name]) if name in self.constants else None

    def strides(self) -> dict[str, Fraction]:
        """Input pixels per pixel of every spatial tensor; pooled-to-one tensors are left out."""
        strides = {self.input: Fraction(1)}
        for node in self.nodes:
            known = [strides[name] for name in node.input if name in strides]
            if not known or _pools_globally(node, self.array):
                continue
            if len(set(known)) > 1:
                raise ExportError(
                    f"node {node.name or node.op_type} joins tensors of different resolution"
                )
            strides[node.output[0]] = known[0] * self._step(node)
        if strides.get(self.output) != 1:
            raise ExportError(
                "the output has another size than the input; edgecar restores at the same size"
            )
        return strides

    def _step(self, node: "NodeProto") -> Fraction:
        """How much coarser a node's output is than its input."""
        kind, attributes = node.op_type, attributes_of(node)
        if kind == "Concat" and attributes["axis"] not in (1, -3):
            raise ExportError("Concat along another axis than channels; join channels only")
        if kind in POINTWISE or kind in REDUCE or kind == "Pad":
            return Fraction(1)
        if kind in SLIDING or kind == "ConvTranspose":
            rows, columns = attributes.get("strides", [1, 1])
            if rows != columns:
                raise ExportError(f"{kind} with strides {rows}x{columns}; need equal strides")
            return Fraction(rows) if kind != "ConvTranspose" else Fraction(1, rows)
        if kind == "DepthToSpace":
            return Fraction(1, attributes["blocksize"])
        if kind == "SpaceToDepth":
            return Fraction(attributes["blocksize"])
        if kind == "Resize":
            return 1 / self._resize_scale(node)
        raise ExportError(f"the halo cannot be derived through operator {kind}; replace it")

    def _resize_scale(self, node: "NodeProto") -> Fraction:
        scales = self.array(node.input[2]) if len(node.input) > 2 else None
        if scales is None or len(scales) != 4 or scales[2] != scales[3]:
            raise ExportError(
                "Resize without constant, equal scales; give nn.Upsample a scale_factor"
            )
        return Fraction(float(scales[2])).limit_denominator(64)

    def refuse_other_size(self, axis: int, align: int, strides: dict[str, Fraction]) -> None:
        """Follow the size of an aligned picture; it must come out as large as it went in."""
        size = FAR // align * align
        sizes = {self.input: size}
        for node in self.nodes:
            if node.output[0] not in strides:
                continue
            known = {sizes[name] for name in node.input if name in sizes}
            if len(known) > 1:
                raise ExportError(f"node {node.name or node.op_type} joins tensors of unequal size")
            sizes[node.output[0]] = self._made(node, known.pop(), axis - 2)
        grown = sizes[self.output] - size
        if grown:
            raise ExportError(
                f"the output is {abs(grown)} px {'larger' if grown > 0 else 'smaller'} than the "
                "input; edgecar restores at the same size: pad the convolutions"
            )

    def _made(self, node: "NodeProto", size: int, side: int) -> int:
        """Rows or columns that a node makes of so many."""
        kind, attributes = node.op_type, attributes_of(node)
        if kind in SLIDING or kind == "ConvTranspose":
            stride = int(attributes.get("strides", [1, 1])[side])
            pads = self._pads(node, attributes)
            beyond = pads[side] + pads[side + 2] - self._reach(node, attributes, side)
            if kind == "ConvTranspose":
                extra = int(attributes.get("output_padding", [0, 0])[side])
                return (size - 1) * stride + 1 - beyond + extra
            steps = Fraction(size + beyond - 1, stride)
            return (ceil(steps) if attributes.get("ceil_mode") else floor(steps)) + 1
        if kind == "DepthToSpace":
            return size * int(attributes["blocksize"])
        if kind == "SpaceToDepth":
            return size // int(attributes["blocksize"])
        if kind == "Pad":
            pads = self._pad_widths(node, attributes)
            return size + int(pads[2 + side]) + int(pads[6 + side])
        return floor(size * self._resize_scale(node)) if kind == "Resize" else size

    def halo(self, axis: int, align: int, strides: dict[str, Fraction]) -> int:
        """Largest reach of an aligned block's demand beyond the block, along one axis."""
        first = FAR // align * align
        block = (first, first + align - 1)
        demand: dict[str, Interval] = {self.output: block}
        for node in reversed(self.nodes):
            wanted = demand.get(node.output[0])
            if wanted is None or node.output[0] not in strides:
                continue
            for name in _data_inputs(node, self.constants):
                low, high = self._needed(node, wanted, axis - 2)
                earlier = demand.get(name, (low, high))
                demand[name] = (min(earlier[0], low), max(earlier[1], high))
        low, high = demand.get(self.input, block)
        return max(block[0] - low, high - block[1], 0)

    def bytes_per_px(self, strides: dict[str, Fraction]) -> int:
        """Most bytes of float32 tensors alive at one time, per input pixel."""
        last_use = {name: i for i, node in enumerate(self.nodes) for name in node.input}
        alive: dict[str, Fraction] = {}
        most = Fraction(0)
        for index, node in enumerate(self.nodes):
            for name in (*node.input, *node.output):
                if name in strides and name in self.channels:
                    alive[name] = 4 * self.channels[name] / strides[name] ** 2
            most = max(most, Fraction(sum(alive.values())))
            alive = {name: size for name, size in alive.items() if last_use.get(name, -1) > index}
        return ceil(most)

    def _needed(self, node: "NodeProto", wanted: Interval, side: int) -> Interval:
        """Interval of a node's input that an interval of its output depends on."""
        low, high = wanted
        kind, attributes = node.op_type, attributes_of(node)
        if kind in POINTWISE or kind in REDUCE:
            return wanted
        if kind in SLIDING or kind == "ConvTranspose":
            reach = self._reach(node, attributes, side)
            stride = attributes.get("strides", [1, 1])[side]
            pad = self._pads(node, attributes)[side]
            if kind == "ConvTranspose":
                return -((reach - pad - low) // stride), (high + pad) // stride
            return low * stride - pad, high * stride - pad + reach
        if kind == "DepthToSpace":
            return low // attributes["blocksize"], high // attributes["blocksize"]
        if kind == "SpaceToDepth":
            block = attributes["blocksize"]
            return low * block, high * block + block - 1
        if kind == "Pad":
            begin = int(self._pad_widths(node, attributes)[2 + side])
            return low - begin, high - begin
        return self._unresized(node, attributes, wanted)  # Resize: `strides` let nothing else pass

    def _kernel(self, node: "NodeProto", attributes: dict[str, Any]) -> list[int]:
        if "kernel_shape" in attributes:
            return list(attributes["kernel_shape"])
        weights = self.constants.get(node.input[1])
        if weights is None:
            raise ExportError(f"{node.op_type} with computed weights; need constant weights")
        return list(weights.dims[2:])

    def _reach(self, node: "NodeProto", attributes: dict[str, Any], side: int) -> int:
        """Pixels from the first to the last that a kernel covers."""
        dilation = attributes.get("dilations", [1, 1])[side]
        return (self._kernel(node, attributes)[side] - 1) * int(dilation)

    def _pads(self, node: "NodeProto", attributes: dict[str, Any]) -> list[int]:
        if attributes.get("auto_pad", b"NOTSET") != b"NOTSET" or "output_shape" in attributes:
            raise ExportError(f"{node.op_type} with auto_pad; give explicit pads")
        return list(attributes.get("pads", [0, 0, 0, 0]))

    def _pad_widths(self, node: "NodeProto", attributes: dict[str, Any]) -> Any:
        pads = self.array(node.input[1])
        if pads is None or len(pads) != 8 or len(node.input) > 3:
            raise ExportError(
                "Pad without constant pads for all axes; give nn.functional.pad numbers"
            )
        if attributes.get("mode") == b"wrap":
            raise ExportError("Pad with mode wrap reads the picture's far side; use zeros")
        return pads

    def _unresized(
        self, node: "NodeProto", attributes: dict[str, Any], wanted: Interval
    ) -> Interval:
        scale = self._resize_scale(node)
        mode = attributes.get("mode", b"nearest")
        convention = attributes.get("coordinate_transformation_mode", b"half_pixel")
        if convention not in CONVENTIONS or attributes.get("antialias"):
            raise ExportError(
                f"Resize with {convention.decode()} or antialias depends on more than pixels near "
                "by; use align_corners=False, antialias=False"
            )
        whole = 1 in (scale.numerator, scale.denominator)
        power_of_two = (scale.numerator * scale.denominator).bit_count() == 1
        if not (whole if mode == b"nearest" else power_of_two):
            # Source positions are float32: rounded, the weights would vary over the picture.
            raise ExportError(
                f"Resize by {scale} in mode {mode.decode()} rounds its positions, so tiles would "
                "not be exact; use a power of two"
            )
        shift = CONVENTIONS[convention]
        low, high = ((index + shift) / scale - shift for index in wanted)
        if mode == b"nearest":
            nearest = ROUNDINGS[attributes.get("nearest_mode", b"round_prefer_floor")]
            return nearest(low), nearest(high)
        beyond = {b"linear": 0, b"cubic": 1}[mode]
        return floor(low) - beyond, floor(high) + 1 + beyond


def attributes_of(node: "NodeProto") -> dict[str, Any]:
    """Return the attributes of a node by name."""
    from onnx import helper

    return {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}


def _data_inputs(node: "NodeProto", constants: dict[str, Any]) -> Iterator[str]:
    """Inputs that carry pixels."""
    return (name for name in node.input if name and name not in constants)


def _pools_globally(node: "NodeProto", array: Any) -> bool:
    """Return True if a node joins all pixels of a picture."""
    if node.op_type in GLOBAL:
        return True
    if node.op_type not in REDUCE:
        return False
    axes = attributes_of(node).get("axes")
    if axes is None and len(node.input) > 1:
        axes = array(node.input[1])
    return axes is None or any(int(axis) % 4 in SPATIAL_AXES for axis in axes)
