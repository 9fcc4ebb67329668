"""ONNX operators that TensorRT's parser takes.

From `docs/operators.md` of onnx-tensorrt (the rows marked Y for floating-point data), with its
restrictions that concern image networks. Loops and recurrent cells are left out on purpose.
"""

from typing import TYPE_CHECKING

from edgecar.errors import ExportError

if TYPE_CHECKING:
    from onnx import ModelProto

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
