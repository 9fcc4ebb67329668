"""Checks that TensorRT takes a graph and reads it as ONNX means it, made without TensorRT.

Sources: its parser's code, and graphs that TensorRT-RTX was seen to refuse or misread.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from edgecar.errors import EngineError, ExportError

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

CHANNEL_AXES = {"Conv": 0, "ConvTranspose": 1}
"""Axis of a convolution's weights along which scales may differ."""

NEWEST_OPSET, NEWEST_IR = 19, 10  # that TensorRT 10.3 (JetPack 6) reads with FP16 scales
QUANTISERS = ("QuantizeLinear", "DequantizeLinear")
UNREADABLE = frozenset("QLinearConv QLinearMatMul ConvInteger DynamicQuantizeLinear".split())

SUPPORTED = frozenset(
    "Abs Acos Acosh Add And ArgMax ArgMin Asin Asinh Atan Atanh AveragePool "
    "BatchNormalization Cast Ceil Celu Clip Concat Constant ConstantOfShape Conv "
    "ConvTranspose Cos Cosh CumSum DepthToSpace DequantizeLinear Div Dropout Einsum Elu Equal "
    "Erf Exp Expand EyeLike Flatten Floor Gather GatherElements GatherND Gemm "
    "GlobalAveragePool GlobalLpPool GlobalMaxPool Greater GreaterOrEqual HardSigmoid "
    "HardSwish Identity InstanceNormalization IsNaN LRN LeakyRelu Less LessOrEqual Log "
    "LogSoftmax LpNormalization LpPool MatMul Max MaxPool Mean Min Mul Neg Not Or PRelu Pad "
    "Pow QuantizeLinear ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean "
    "ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu Reshape Resize Round Selu Shape "
    "Sigmoid Sign Sin Sinh Size Slice Softmax Softplus Softsign SpaceToDepth Split Sqrt "
    "Squeeze Sub Sum Tan Tanh ThresholdedRelu Tile TopK Transpose Unsqueeze Upsample Where "
    "Xor".split()
)
"""Operators that TensorRT's parser takes.

Source: `docs/operators.md` of onnx-tensorrt (the rows marked Y for floating-point data). Loops and
recurrent cells are left out on purpose.
"""


def refuse_unsupported(model: "ModelProto") -> None:
    """Check every node of a graph against what TensorRT takes.

    Raises:
        ExportError: Names the first operator that no TensorRT engine could be built with.
    """
    from onnx import helper

    for node in model.graph.node:
        if node.domain not in ("", "ai.onnx") or node.op_type not in SUPPORTED:
            where = f" (node {node.name})" if node.name else ""
            raise ExportError(
                f"operator {node.op_type}{where} is not in TensorRT's list; replace it"
            )
        attributes = {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}
        if node.op_type == "MaxPool" and (
            len(node.output) > 1 or set(attributes.get("dilations", [1])) != {1}
        ):
            raise ExportError("operator MaxPool with indices or dilation is not in TensorRT's list")
        if node.op_type == "Resize" and attributes.get("antialias"):
            raise ExportError("operator Resize with antialias is not in TensorRT's list")


def refuse_misread(model: "ModelProto") -> None:
    """Check that TensorRT reads a graph as ONNX means it.

    The worst case is silent: unsigned activations are taken for signed ones, and everything above
    half of their range is clipped.

    Args:
        model: Graph with inferred shapes.

    Raises:
        ExportError: TensorRT would refuse the graph, or make something else of it.
    """
    opset = max(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    if opset > NEWEST_OPSET or model.ir_version > NEWEST_IR:
        raise ExportError(
            f"opset {opset}, IR version {model.ir_version}: TensorRT 10.3 reads up to opset "
            f"{NEWEST_OPSET}, IR {NEWEST_IR}; set them in the recipe"
        )
    types = _Types(model)
    _refuse_unsigned(model, types)
    for node in model.graph.node:
        if node.op_type in UNREADABLE:
            raise _refusal(node, "is not read by TensorRT; quantise with Q/DQ pairs")
        if node.op_type in QUANTISERS:
            _check_quantiser(node, types)
        elif node.op_type in CHANNEL_AXES:
            _check_convolution(node, types)
        elif node.op_type != "Cast":
            _check_alike(node, types)


def refuse_misread_bytes(onnx_bytes: bytes) -> None:
    """`refuse_misread` of a file's bytes, for whoever is about to run them.

    Raises:
        EngineError: TensorRT would refuse the graph, or make something else of it.
    """
    import onnx

    try:
        model = onnx.load_model_from_string(onnx_bytes)
    except Exception as error:  # protobuf's own classes are private to its implementation
        raise EngineError(f"not for TensorRT: no ONNX graph ({type(error).__name__})") from error
    try:
        refuse_misread(onnx.shape_inference.infer_shapes(model))
    except ExportError as error:
        raise EngineError(f"not for TensorRT: {error}") from error


class _Types:
    """Constants, makers and element types of a graph's tensors."""

    def __init__(self, model: "ModelProto") -> None:
        from onnx import numpy_helper

        graph = model.graph
        self._constants = {tensor.name: tensor for tensor in graph.initializer}
        self._made_by = {name: node for node in graph.node for name in node.output}
        values = [*graph.value_info, *graph.input, *graph.output]
        self._types = {value.name: value.type.tensor_type.elem_type for value in values}
        self._types |= {name: tensor.data_type for name, tensor in self._constants.items()}
        self._array = numpy_helper.to_array

    def constant(self, name: str) -> Any:
        """Return its values, or None if it is computed."""
        return self._array(self._constants[name]) if name in self._constants else None

    def zero_point(self, node: "NodeProto") -> Any:
        """Return a quantiser's zero point; None if it has none, or is no quantiser."""
        if node.op_type not in QUANTISERS or len(node.input) < 3:
            return None
        return self.constant(node.input[2])

    def is_weight(self, name: str) -> bool:
        """Return True if a tensor is constant, or a constant in eight bits."""
        maker = self._made_by.get(name)
        return name in self._constants if maker is None else maker.input[0] in self._constants

    def maker(self, name: str) -> "NodeProto | None":
        return self._made_by.get(name)

    def of(self, name: str) -> int:
        """Return the element type as ONNX numbers it; 0 if unknown."""
        kind: int = self._types.get(name, 0)
        return kind


def _refuse_unsigned(model: "ModelProto", types: _Types) -> None:
    """Before all else: of what is wrong with such a graph, this is what a person must know."""
    for node in model.graph.node:
        zero = types.zero_point(node)
        if zero is not None and zero.dtype == np.uint8:
            raise _refusal(
                node,
                "has unsigned codes, which TensorRT takes for signed ones without a word; export "
                "with --for-engine tensorrt",
            )


def _check_quantiser(node: "NodeProto", types: _Types) -> None:
    from onnx import TensorProto

    scale = types.constant(node.input[1])
    zero = types.zero_point(node)
    if scale is None or zero is None:
        raise _refusal(node, "needs a constant scale and zero point")
    if zero.dtype != np.int8 or np.any(zero):
        raise _refusal(node, f"has zero point {zero.dtype}, need int8 zeros")
    if not (np.isfinite(scale).all() and (scale > 0).all()):
        raise _refusal(node, "has a scale that is not a positive number")
    if scale.ndim and scale.size > 1 and not types.is_weight(node.input[0]):
        raise _refusal(node, "has a scale for each channel, which only weights may have")
    if node.op_type == "DequantizeLinear" and types.of(node.input[0]) not in (0, TensorProto.INT8):
        raise _refusal(node, "widens another type than int8; keep the bias in floating point")


def _check_convolution(node: "NodeProto", types: _Types) -> None:
    from onnx import helper

    makers = [types.maker(name) for name in node.input[:2]]
    narrow = [maker is not None and maker.op_type == "DequantizeLinear" for maker in makers]
    if narrow[1] and not narrow[0]:
        raise _refusal(node, "has weights in eight bits but another input; quantise both or none")
    weight = makers[1]
    if weight is not None and narrow[1]:
        axis = next(
            (helper.get_attribute_value(a) for a in weight.attribute if a.name == "axis"), 1
        )
        scale = types.constant(weight.input[1])
        if scale is not None and scale.ndim and axis != CHANNEL_AXES[node.op_type]:
            raise _refusal(node, f"has scales of weights along axis {axis}")
    _check_alike(node, types)


def _check_alike(node: "NodeProto", types: _Types) -> None:
    """TensorRT converts nothing on its own: floating-point inputs must be of one type."""
    from onnx import TensorProto

    floats = {TensorProto.FLOAT, TensorProto.FLOAT16}
    fixed = [2] if node.op_type == "Resize" else []  # its scales are float32 always
    used = {types.of(name) for i, name in enumerate(node.input) if name and i not in fixed}
    if len(used & floats) > 1:
        raise _refusal(node, "mixes float32 and float16 inputs; cast them to one")


def _refusal(node: "NodeProto", what: str) -> ExportError:
    return ExportError(f"{node.op_type} {node.name or node.output[0]} {what}")
