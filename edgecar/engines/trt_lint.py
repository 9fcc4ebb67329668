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
FLOAT, FLOAT16, INT8 = 1, 10, 3  # of onnx.TensorProto, which is slow to import
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
    for node in model.graph.node:
        name, attributes = f"operator {node.op_type}", _attributes(node)
        if node.domain not in ("", "ai.onnx") or node.op_type not in SUPPORTED:
            where = f" (node {node.name})" if node.name else ""
            raise ExportError(f"{name}{where} is not in TensorRT's list; replace it")
        dilated = set(attributes.get("dilations", [1])) != {1}
        if node.op_type == "MaxPool" and (len(node.output) > 1 or dilated):
            raise ExportError(f"{name} with indices or dilation is not in TensorRT's list")
        if node.op_type == "Resize" and attributes.get("antialias"):
            raise ExportError(f"{name} with antialias is not in TensorRT's list")


def refuse_misread(model: "ModelProto") -> None:
    """Check that TensorRT reads a graph as ONNX means it.

    The worst case is silent: unsigned activations are taken for signed ones, and everything above
    half of their range is clipped.

    Args:
        model: Graph with inferred shapes.

    Raises:
        ExportError: Names the first node that TensorRT would refuse or misread.
    """
    opset = max(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    if opset > NEWEST_OPSET or model.ir_version > NEWEST_IR:
        raise ExportError(
            f"opset {opset}, IR version {model.ir_version}: TensorRT 10.3 reads up to opset "
            f"{NEWEST_OPSET}, IR {NEWEST_IR}; set them in the recipe"
        )
    checks = _Checks(model)
    quantisers = [node for node in model.graph.node if node.op_type in QUANTISERS]
    for node in quantisers:  # first: of what is wrong with a graph, this a person must know
        zero = checks.constants.get(node.input[2]) if len(node.input) > 2 else None
        if zero is not None and zero.dtype == np.uint8:
            raise _refusal(
                node,
                "has unsigned codes, which TensorRT takes for signed ones without a word; export "
                "with --for-engine tensorrt",
            )
    for node in model.graph.node:
        if node.op_type in UNREADABLE:
            raise _refusal(node, "is not read by TensorRT; quantise with Q/DQ pairs")
        if node.op_type in QUANTISERS:
            checks.quantiser(node)
        elif node.op_type != "Cast":
            checks.inputs(node)


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


class _Checks:
    """Checks of single nodes, which need the constants, makers and types of their inputs."""

    def __init__(self, model: "ModelProto") -> None:
        from onnx import numpy_helper

        graph = model.graph
        self.constants = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
        self.makers = {name: node for node in graph.node for name in node.output}
        values = [*graph.value_info, *graph.input, *graph.output]
        types = {value.name: value.type.tensor_type.elem_type for value in values}
        self.types = types | {tensor.name: tensor.data_type for tensor in graph.initializer}

    def quantiser(self, node: "NodeProto") -> None:
        """Check a node that writes or reads eight bits."""
        source, *rest = node.input
        scale, zero = ([*map(self.constants.get, rest), None, None])[:2]
        if scale is None or zero is None:
            raise _refusal(node, "needs a constant scale and zero point")
        if zero.dtype != np.int8 or np.any(zero):
            raise _refusal(node, f"has zero point {zero.dtype}, need int8 zeros")
        if not (np.isfinite(scale).all() and (scale > 0).all()):
            raise _refusal(node, "has a scale that is not a positive number")
        if scale.size > 1 and not self._is_weight(source):
            raise _refusal(node, "has a scale for each channel, which only weights may have")
        if node.op_type == "DequantizeLinear" and self.types.get(source, INT8) != INT8:
            raise _refusal(node, "widens another type than int8; keep the bias in floating point")

    def inputs(self, node: "NodeProto") -> None:
        """Check that inputs agree: TensorRT converts nothing on its own."""
        fixed = [2] if node.op_type == "Resize" else []  # its scales are float32 always
        used = {self.types.get(name) for i, name in enumerate(node.input) if i not in fixed}
        if {FLOAT, FLOAT16} <= used:
            raise _refusal(node, "mixes float32 and float16 inputs; cast them to one")
        if node.op_type not in CHANNEL_AXES:
            return
        narrow = [
            maker if maker and maker.op_type == "DequantizeLinear" else None
            for maker in map(self.makers.get, node.input[:2])
        ]
        weight = narrow[1]
        if weight and not narrow[0]:
            raise _refusal(node, "has weights in eight bits but another input; quantise both")
        if weight:
            axis = _attributes(weight).get("axis", 1)
            scale = self.constants.get(weight.input[1])
            if scale is not None and scale.ndim and axis != CHANNEL_AXES[node.op_type]:
                raise _refusal(node, f"has scales of weights along axis {axis}")

    def _is_weight(self, name: str) -> bool:
        """Return True if a tensor is constant, or a constant in eight bits."""
        maker = self.makers.get(name)
        return (name if maker is None else maker.input[0]) in self.constants


def _attributes(node: "NodeProto") -> dict[str, Any]:
    from onnx import helper

    return {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}


def _refusal(node: "NodeProto", what: str) -> ExportError:
    return ExportError(f"{node.op_type} {node.name or node.output[0]} {what}")
