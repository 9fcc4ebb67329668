"""What cannot be exported, and what is said about it."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgecar.engines.trt_lint import refuse_unsupported
from edgecar.errors import ExportError
from edgecar.exporter.receptive import reception_of
from tests.exporter.graphs import INPUT, Drawing


def strided(d: Drawing, **attributes) -> str:
    return d.conv(INPUT, (2, 2), stride=2, pads=[0] * 4, **attributes)


def through(kind: str, **attributes):
    return lambda d: d.node(kind, d.conv(INPUT), **attributes)


def reshaped(d: Drawing) -> str:
    return d.node("Reshape", INPUT, d.constant(np.array([0, 0, -1, 8], np.int64)))


def pads_computed(d: Drawing) -> str:
    pads = d.node("Cast", d.node("Shape", d.constant(np.zeros(8))), to=TensorProto.INT64)
    return d.node("Pad", INPUT, d.node("Expand", pads, d.constant(np.array([8], np.int64))))


def pads_of_some_axes(d: Drawing) -> str:
    widths, axes = d.constant(np.array([1, 1], np.int64)), d.constant(np.array([2], np.int64))
    return d.conv(d.node("Pad", INPUT, widths, "", axes), pads=[0, 1, 0, 1])


def automatic(kind: str):
    def draw(d: Drawing) -> str:
        if kind == "Conv":
            return d.node("Conv", INPUT, d.weights(1, 1, 3, 3), auto_pad="SAME_UPPER")
        return d.node(kind, INPUT, kernel_shape=[3, 3], auto_pad="SAME_LOWER")

    return draw


def output_shape_given(d: Drawing) -> str:
    return d.node("ConvTranspose", strided(d), d.weights(1, 1, 4, 4), channels=1,
                  strides=[2, 2], output_shape=[32, 32])  # fmt: skip


def resized(scale: float = 2, mode: str = "nearest", **attributes):
    return lambda d: d.resize(strided(d), scale, mode, **attributes)


def resized_to_a_size(d: Drawing) -> str:
    sizes = d.constant(np.array([1, 1, 32, 32], np.int64))
    return d.node("Resize", strided(d), "", "", sizes)


def resized_in_rows_more(d: Drawing) -> str:
    scales = d.constant(np.array([1, 1, 2, 4], np.float32))
    return d.node("Resize", strided(d), "", scales)


def two_thirds_and_back(d: Drawing) -> str:
    small = d.resize(INPUT, 2 / 3)
    return d.resize(small, 1.5)


def strides_differ(d: Drawing) -> str:
    return d.node("Conv", INPUT, d.weights(1, 1, 3, 3), strides=[1, 2], pads=[1] * 4)


def kernel_computed(d: Drawing) -> str:
    weights = d.node("Relu", d.weights(1, 1, 3, 3))
    return d.node("Conv", INPUT, weights, pads=[1] * 4)


GEOMETRY = {
    "reshaped": (reshaped, "through operator Reshape"),
    "transposed axes": (through("Transpose", perm=[0, 1, 3, 2]), "through operator Transpose"),
    "sorted": (through("Softmax", axis=3), "through operator Softmax"),
    "normalised over pixels": (
        lambda d: d.node("InstanceNormalization", INPUT, d.constant(np.ones(1, np.float32)),
                         d.constant(np.ones(1, np.float32))),
        "through operator InstanceNormalization",
    ),
    "auto_pad, convolution": (automatic("Conv"), "Conv with auto_pad; give explicit pads"),
    "auto_pad, pool": (automatic("MaxPool"), "MaxPool with auto_pad; give explicit pads"),
    "output shape given": (output_shape_given, "ConvTranspose with auto_pad"),
    "align_corners": (
        resized(mode="linear", coordinate_transformation_mode="align_corners"),
        "Resize with align_corners",
    ),
    "crop and resize": (
        resized(coordinate_transformation_mode="tf_half_pixel_for_nn"),
        "Resize with tf_half_pixel_for_nn",
    ),
    "antialias": (
        lambda d: d.resize(d.resize(INPUT, 0.5, "linear", antialias=1), 2),
        "antialias",
    ),
    "linear by 3": (
        lambda d: d.resize(d.conv(INPUT, stride=3, pads=[0] * 4), 3, "linear"),
        "Resize by 3 in mode linear rounds its positions",
    ),
    "nearest by 2/3": (two_thirds_and_back, "Resize by 2/3 in mode nearest rounds its positions"),
    "resized to a size": (resized_to_a_size, "Resize without constant, equal scales"),
    "resized unequally": (resized_in_rows_more, "Resize without constant, equal scales"),
    "pads computed": (pads_computed, "Pad without constant pads"),
    "pads of some axes": (pads_of_some_axes, "Pad without constant pads"),
    "pads of the far side": (
        lambda d: d.conv(d.pad(INPUT, [1] * 4, "wrap"), pads=[0] * 4),
        "Pad with mode wrap",
    ),
    "unequal strides": (strides_differ, "Conv with strides 1x2; need equal strides"),
    "kernel computed": (kernel_computed, "Conv with computed weights"),
    "joined along rows": (
        lambda d: d.pool("MaxPool", d.node("Concat", INPUT, INPUT, axis=2), (2, 2), stride=2,
                         pads=[0] * 4),
        "Concat along another axis",
    ),
    "resolutions joined": (
        lambda d: d.node("Add", INPUT, strided(d)),
        "joins tensors of different resolution",
    ),
    "sizes joined": (
        lambda d: d.node("Add", d.conv(INPUT), d.conv(INPUT, pads=[0] * 4)),
        "joins tensors of unequal size",
    ),
    "half the size": (strided, "another size than the input"),
    "twice the size": (lambda d: d.resize(INPUT, 2), "another size than the input"),
    "unpadded": (lambda d: d.conv(INPUT, pads=[0] * 4), "2 px smaller than the input"),
    "padded too much": (lambda d: d.conv(INPUT, (1, 1), pads=[1, 0, 1, 0]), "2 px larger"),
    "cut off": (
        # (n - 1)·2 + 3 - 2 is odd: a row short of the input.
        lambda d: d.transposed(strided(d), (3, 3), stride=2, pads=[1] * 4),
        "1 px smaller than the input",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", GEOMETRY)
def test_unknown_geometry_is_refused_not_guessed(name) -> None:
    draw, said = GEOMETRY[name]
    d = Drawing()
    with pytest.raises(ExportError) as refused:
        reception_of(d.model(draw(d)))
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("ceil_mode", [0, 1])
def test_ceiling_of_pools_counts(ceil_mode) -> None:
    """Windows of 3 every 2: rounded up, one more than half of the size; rounded down, one less."""
    d = Drawing()
    small = d.pool("MaxPool", INPUT, (3, 3), stride=2, pads=[0] * 4, ceil_mode=ceil_mode)
    model = d.model(d.resize(small, 2))
    if ceil_mode:
        assert reception_of(model).align_px == 2
    else:
        with pytest.raises(ExportError, match="2 px smaller"):
            reception_of(model)


def test_one_picture_in_and_one_out() -> None:
    d = Drawing()
    model = d.model(d.conv(INPUT))
    extra = helper.make_tensor_value_info("noise", TensorProto.FLOAT, [1])
    more_in, more_out = onnx.ModelProto(), onnx.ModelProto()
    more_in.CopyFrom(model)
    more_in.graph.input.append(extra)
    more_out.CopyFrom(model)
    more_out.graph.output.append(extra)
    with pytest.raises(ExportError, match="2 inputs and 1 outputs, need one each"):
        reception_of(more_in)
    with pytest.raises(ExportError, match="1 inputs and 2 outputs, need one each"):
        reception_of(more_out)


def test_weights_listed_as_inputs_are_not_inputs() -> None:
    """Older exporters list every weight among the inputs."""
    d = Drawing()
    model = d.model(d.conv(INPUT))
    weights = d.constants[0]
    model.graph.input.append(
        helper.make_tensor_value_info(weights.name, weights.data_type, weights.dims)
    )
    assert reception_of(model).halo_px == 1


# Operators that TensorRT does not take.


def with_node(kind: str, outputs: int = 1, domain: str = "", **attributes) -> onnx.ModelProto:
    made = [f"made{index}" for index in range(outputs)]
    node = helper.make_node(kind, [INPUT], made, "the_node", domain=domain, **attributes)
    return helper.make_model(helper.make_graph([node], "drawing", [], []))


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (with_node("NonZero"), "operator NonZero (node the_node) is not in TensorRT's list"),
        (with_node("Det"), "operator Det"),
        (with_node("Relu", domain="com.microsoft"), "operator Relu"),
        (with_node("MaxPool", outputs=2, kernel_shape=[2, 2]), "MaxPool with indices"),
        (with_node("MaxPool", kernel_shape=[2, 2], dilations=[1, 2]), "MaxPool with indices or"),
        (with_node("Resize", antialias=1), "Resize with antialias"),
    ],
)
def test_operator_that_tensorrt_lacks_is_named(model, said) -> None:
    with pytest.raises(ExportError) as refused:
        refuse_unsupported(model)
    assert said in str(refused.value)


@pytest.mark.parametrize(
    "model",
    [
        with_node("Relu"),
        with_node("Relu", domain="ai.onnx"),
        with_node("MaxPool", kernel_shape=[2, 2], dilations=[1, 1]),
        with_node("Resize", antialias=0),
    ],
)
def test_operator_that_tensorrt_has_passes(model) -> None:
    refuse_unsupported(model)
