"""INT8: the same graph with explicit Q/DQ pairs, in the form that an engine runs fastest."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgecar.engines.libraries import imported_onnxruntime
from edgecar.engines.trt_lint import CHANNEL_AXES, refuse_misread
from edgecar.exporter.layers import convolutions, residual_adds
from edgecar.exporter.precision import fp16
from edgecar.exporter.ranges import Ranges
from edgecar.exporter.rounding import step_of

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

MARKED = ("onnx.infer", "onnxruntime.quant")
"""How the library marks a graph whose shapes are known."""


@dataclass(frozen=True)
class Form:
    """How eight bits are written down.

    No form serves all: TensorRT and OpenVINO want convolutions that read eight bits and write
    floating point; ONNX Runtime's CPU kernels want eight bits on both sides, unsigned, and run the
    other form slower than FP32. TensorRT takes unsigned codes for signed ones without a word.

    Attributes:
        engines: That run it at full speed.
        signed: Whether activations are signed, their zero point 0.
        rest: What all else is computed in. TensorRT converts nothing on its own, so that float32
            around eight bits would stay float32 there.
    """

    engines: tuple[str, ...]
    signed: bool
    rest: Literal["fp32", "fp16"] = "fp32"


ForEngine = Literal["openvino", "tensorrt", "onnxruntime"]
SIGNED = Form(("openvino", "tensorrt"), signed=True)
SIGNED_HALF = Form(("tensorrt",), signed=True, rest="fp16")
UNSIGNED = Form(("onnxruntime",), signed=False)
FORMS: dict[ForEngine, Form] = {
    "openvino": SIGNED,
    "tensorrt": SIGNED_HALF,
    "onnxruntime": UNSIGNED,
}
"""The fastest form for each engine."""


def quantised(
    model: "ModelProto",
    ranges: Ranges,
    keep: Collection[str],
    form: Form,
    codes: Mapping[str, NDArray[np.int8]] | None = None,
) -> "ModelProto":
    """A graph whose convolutions compute in eight bits, weights with a scale for each channel.

    Weights use seven of the eight bits, so that sums are the same on every CPU: see
    `edgecar.engines.saturation`.

    Args:
        model: In float32, with inferred shapes.
        ranges: Of every tensor that a convolution reads or makes.
        keep: Names of the convolutions that stay in floating point.
        form: What it is made for.
        codes: Rounded weights by name; those not in it are rounded to the nearest.

    Returns:
        A new model with inferred shapes.

    Raises:
        ExportError: TensorRT would misread a graph that is made for it.
    """
    import onnx

    library = imported_onnxruntime("quantization")
    calibrate = imported_onnxruntime("quantization.calibrate")
    plain = onnx.ModelProto()
    plain.CopyFrom(model)
    mark = plain.metadata_props.add()
    mark.key, mark.value = MARKED
    chosen = [name for name in convolutions(model) if name not in keep]
    operators = sorted({node.op_type for node in model.graph.node})
    quantizer = library.QDQQuantizer(
        plain,
        per_channel=True,
        reduce_range=True,  # weights of at most 64; activations keep all eight bits
        weight_qType=library.QuantType.QInt8,
        activation_qType=library.QuantType.QInt8 if form.signed else library.QuantType.QUInt8,
        tensors_range={
            name: calibrate.TensorData(lowest=np.float32(low), highest=np.float32(high))
            for name, (low, high) in ranges.items()
        },
        nodes_to_quantize=chosen,
        nodes_to_exclude=[],
        op_types_to_quantize=["Conv"],
        extra_options=_signed_options(operators) if form.signed else {},
    )
    if chosen:
        quantizer.quantize_model()
    made: ModelProto = quantizer.model.model
    _take_codes(made, model, codes or {})
    if form.signed:
        _narrow_readers(made, model, keep)
    _tidy(made, model)
    onnx.checker.check_model(made, full_check=True)
    made = onnx.shape_inference.infer_shapes(made, strict_mode=True, data_prop=True)
    if form.signed:
        refuse_misread(made)
    return fp16(made, []) if form.rest == "fp16" else made


def _signed_options(operators: list[str]) -> dict[str, Any]:
    """What NVIDIA's own tool asks of the library: no pair behind a convolution, bias as it is."""
    return {
        "QuantizeBias": False,
        "ActivationSymmetric": True,
        "OpTypesToExcludeOutputQuantization": operators,
        "QDQOpTypePerChannelSupportToAxis": CHANNEL_AXES,
        "QDQDisableWeightAdjustForInt32Bias": True,
    }


def _take_codes(
    made: "ModelProto", plain: "ModelProto", codes: Mapping[str, NDArray[np.int8]]
) -> None:
    """Put rounded weights in place of those that the library rounded to the nearest."""
    from onnx import numpy_helper

    suffix = imported_onnxruntime("quantization.quant_utils").TENSOR_NAME_QUANT_SUFFIX
    weights = {tensor.name: tensor for tensor in plain.graph.initializer}
    constants = {tensor.name: tensor for tensor in made.graph.initializer}
    for node in made.graph.node:
        name = node.input[0].removesuffix(suffix)
        if node.op_type != "DequantizeLinear" or name not in codes:
            continue
        own, step = constants[node.input[0]], numpy_helper.to_array(constants[node.input[1]])
        # The library takes larger steps where a bias would not fit into 32 bits of the usual ones.
        if np.allclose(step, step_of(numpy_helper.to_array(weights[name])), rtol=1e-4, atol=0):
            own.CopyFrom(numpy_helper.from_array(codes[name], own.name))


def _narrow_readers(made: "ModelProto", plain: "ModelProto", keep: Collection[str]) -> None:
    """Leave eight bits to the convolutions that compute in them, and to what skips those.

    The library lets all who read a tensor read its eight bits. Of a residual addition the skipped
    side may: TensorRT then computes a convolution and the addition behind it in one go.
    """
    pairs = {n.output[0]: n for n in made.graph.node if n.op_type == "QuantizeLinear"}
    original = {
        node.output[0]: pairs[node.input[0]].input[0]
        for node in made.graph.node
        if node.op_type == "DequantizeLinear" and node.input[0] in pairs
    }
    chosen = set(convolutions(plain)) - set(keep)
    adds = {name: skip for name, (skip, branch) in residual_adds(plain).items() if branch in chosen}
    for node in made.graph.node:
        for place, name in enumerate(node.input):
            tensor = original.get(name)
            if tensor and node.name not in chosen and adds.get(node.name) != tensor:
                node.input[place] = tensor


def _tidy(made: "ModelProto", plain: "ModelProto") -> None:
    """Take out what the library leaves behind, and put nodes in order."""
    used = {name for node in made.graph.node for name in node.input}
    kept = [tensor for tensor in made.graph.initializer if tensor.name in used]
    del made.graph.initializer[:]
    made.graph.initializer.extend(kept)
    del made.metadata_props[:]
    made.metadata_props.extend(plain.metadata_props)
    made.producer_name, made.producer_version = plain.producer_name, plain.producer_version
    made.ir_version = plain.ir_version
    ordered = in_order(made)
    del made.graph.node[:]
    made.graph.node.extend(ordered)
    # The library's shapes are those of before; shapes are inferred anew.
    del made.graph.value_info[:]


def in_order(model: "ModelProto") -> "list[NodeProto]":
    """The nodes of a graph as they stand, but each behind those that make what it reads."""
    made_by = {name: node for node in model.graph.node for name in node.output}
    ordered: list[NodeProto] = []
    placed: set[str] = set()

    def place(node: "NodeProto") -> None:
        if node.output[0] in placed:
            return
        placed.add(node.output[0])
        for name in node.input:
            if name in made_by:
                place(made_by[name])
        ordered.append(node)

    for node in model.graph.node:
        place(node)
    return ordered
