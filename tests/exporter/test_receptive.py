"""The halo derived from a graph is the halo seen by changing pixels, and nothing is guessed."""

from math import ceil

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgecar.engines.trt_lint import refuse_unsupported
from edgecar.errors import ExportError
from edgecar.exporter.receptive import Reception, reception_of
from tests.exporter.graphs import INPUT, Drawing, seen_halo

NO_PADS = [0] * 4


def derived(draw, channels: int = 1) -> Reception:
    d = Drawing(channels)
    return reception_of(d.model(draw(d)))


def checked(draw, channels: int = 1, base: float = 0.0) -> Reception:
    """What is derived, once what is seen agrees: not less (safe), not more (tight)."""
    d = Drawing(channels)
    model = d.model(draw(d))
    found = reception_of(model)
    align = found.align_px
    seen = seen_halo(model, align, found.halo_px + 4 * align, base)
    assert found.halo_px == ceil(seen / align) * align
    assert found.context == "local"
    return found


def strided(d: Drawing, **attributes) -> str:
    return d.conv(INPUT, (2, 2), stride=2, pads=NO_PADS, **attributes)


def coarse(drawing: Drawing, factor: int = 2) -> str:
    """The picture at a fraction of its size, through a kernel that overlaps."""
    return drawing.conv(INPUT, (factor + 1,) * 2, stride=factor, pads=[1, 1, 0, 0])


def enlarged(kernel: int, stride: int, pads: list[int], extra: int = 0):
    return lambda d: d.transposed(
        coarse(d, stride), (kernel,) * 2, stride=stride, pads=pads, extra=(extra,) * 2
    )


def resized(factor: int, mode: str, **attributes):
    return lambda d: d.conv(d.resize(d.conv(coarse(d, factor)), factor, mode, **attributes))


def rearranged(d: Drawing) -> str:
    blocks = d.node("SpaceToDepth", d.conv(INPUT), blocksize=2, channels=4)
    deep = d.conv(blocks, out=4, pads=[0, 0, 2, 2])
    return d.node("DepthToSpace", deep, blocksize=2, mode="CRD", channels=1)


def reading_ahead(d: Drawing) -> str:
    """The last pixel of three comes from the next coarse one, which looks two further on."""
    ahead = d.conv(d.conv(INPUT, stride=3, pads=NO_PADS), pads=[0, 0, 2, 2])
    return d.resize(ahead, 3, coordinate_transformation_mode="asymmetric", nearest_mode="ceil")


def two_scales(d: Drawing) -> str:
    """Halving twice and back, with skips at every size, as U-Nets do."""
    half = d.pool("MaxPool", d.conv(INPUT), (2, 2), stride=2, pads=NO_PADS)
    quarter = d.conv(d.pool("MaxPool", d.conv(half), (2, 2), stride=2, pads=NO_PADS))
    half = d.node("Add", half, d.resize(quarter, 2))
    return d.node("Add", INPUT, d.resize(half, 2))


def with_unused_branch(d: Drawing) -> str:
    d.conv(INPUT, (9, 9))
    return d.conv(INPUT)


ASYMMETRIC = {"coordinate_transformation_mode": "asymmetric"}
# Drawing, halo and alignment worked out by hand; random chains are in test_receptive_property.py.
GRAPHS = {
    "3×3": (lambda d: d.conv(INPUT), 1, 1),
    "dilated by 3": (lambda d: d.conv(INPUT, dilation=(3, 3)), 3, 1),
    "tall dilated kernel": (lambda d: d.conv(INPUT, (5, 1), dilation=(2, 1)), 4, 1),
    "opposite pads": (
        lambda d: d.conv(d.conv(INPUT, (5, 5), pads=[4, 4, 0, 0]), (5, 5), pads=[0, 0, 4, 4]),
        4,
        1,
    ),
    "strided and transposed, 4×4": (enlarged(4, 2, [1] * 4), 4, 2),
    "strided and transposed, 9×9": (enlarged(9, 2, [4] * 4, extra=1), 6, 2),
    "transposed, uneven pads": (enlarged(5, 2, [0, 1, 3, 2]), 6, 2),
    # The last row of a block needs the row of inputs below it, and no row above.
    "transposed, reaching down": (
        lambda d: d.transposed(strided(d), (2, 2), stride=2, pads=[1, 1, 0, 0], extra=(1, 1)),
        2,
        2,
    ),
    "nearest": (resized(2, "nearest", **ASYMMETRIC), 6, 2),
    "nearest by 3, rounding up, reading ahead": (reading_ahead, 9, 3),
    "linear": (resized(2, "linear"), 6, 2),
    "linear by 4": (resized(4, "linear", **ASYMMETRIC), 12, 4),
    "cubic": (resized(2, "cubic"), 8, 2),
    "space to depth, reading ahead": (rearranged, 6, 2),
    "two scales": (two_scales, 8, 4),
    "padded by reflection": (
        lambda d: d.conv(d.pad(INPUT, [0, 2, 4, 2], "reflect"), (5, 5), pads=NO_PADS),
        4,
        1,
    ),
    "cropped": (lambda d: d.pad(d.conv(INPUT, pads=[3] * 4), [-2] * 4), 1, 1),
    "unused branch": (with_unused_branch, 1, 1),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_derived_is_seen_and_worked_out(name) -> None:
    draw, halo, align = GRAPHS[name]
    found = checked(draw)
    assert (found.halo_px, found.align_px) == (halo, align)


def test_colours_and_products_of_features_count() -> None:
    assert checked(lambda d: d.conv(INPUT, (5, 5), out=3), channels=3).halo_px == 2
    product = checked(lambda d: d.node("Mul", d.conv(INPUT), d.conv(INPUT, (7, 7))), base=1.0)
    assert product.halo_px == 3


# Pooling over the picture: the halo is that of the convolutions, the context says the rest.

PIXELS = np.array([2, 3], np.int64)  # axes


def squeezed(d: Drawing, features: str) -> str:
    """Channel weights through fully connected layers, as squeeze-and-excitation has them."""
    pooled = d.node("Flatten", d.node("GlobalAveragePool", features), axis=1)
    weighed = d.node("Sigmoid", d.node("Gemm", pooled, d.weights(2, 2)))
    return d.node("Unsqueeze", weighed, d.constant(PIXELS))


POOLINGS = {
    "global average": lambda d, x: d.node("GlobalAveragePool", x),
    "global maximum": lambda d, x: d.node("GlobalMaxPool", x),
    "mean over pixels": lambda d, x: d.mean(x, [2, 3]),
    "mean, axes from the end": lambda d, x: d.mean(x, [-1, -2]),
    "mean over everything": lambda d, x: d.node("ReduceMean", x, keepdims=1),
    "maximum over rows": lambda d, x: d.node("ReduceMax", x, d.constant(PIXELS[:1]), keepdims=1),
    "convolved after pooling": lambda d, x: d.conv(d.node("GlobalAveragePool", x), (1, 1), out=2),
    "fully connected after pooling": squeezed,
}


@pytest.mark.parametrize("pooling", POOLINGS)
def test_pooling_over_the_picture_is_windowed(pooling) -> None:
    d = Drawing()
    features = d.conv(INPUT, out=2)
    weighted = d.node("Mul", features, POOLINGS[pooling](d, features))
    found = reception_of(d.model(d.conv(weighted)))
    assert (found.halo_px, found.align_px, found.context) == (2, 1, "windowed")


def shrinking(d: Drawing) -> str:
    half = d.conv(INPUT, (2, 2), out=8, stride=2, pads=NO_PADS)
    quarter = d.conv(half, (2, 2), out=64, stride=2, pads=NO_PADS)
    blocks = d.conv(quarter, out=16)
    return d.node("DepthToSpace", blocks, blocksize=4, mode="CRD", channels=1)


def joining(d: Drawing) -> str:
    first = d.conv(INPUT, out=4)
    second = d.conv(first, out=4)
    parts = first, second, d.conv(second, out=4)
    return d.conv(d.node("Concat", *parts, axis=1, channels=12))


@pytest.mark.parametrize(
    ("draw", "channels"),
    [
        # The input (until the sum) and 8 + 4 channels are alive at the second convolution.
        (lambda d: d.node("Add", d.conv(d.conv(d.conv(INPUT, out=8), out=4)), INPUT), 1 + 8 + 4),
        # 64 and 16 channels at a sixteenth of the pixels; the 8 at a quarter are gone by then, and
        # the step before holds 8/4 + 64/16.
        (shrinking, 8 / 4 + 64 / 16),
        (joining, 12 + 12),  # the join holds its three inputs and its output
    ],
)
def test_memory_is_that_of_tensors_alive_together(draw, channels) -> None:
    assert derived(draw).bytes_per_px == 4 * channels


# What is refused.


def through(kind: str, **attributes):
    return lambda d: d.node(kind, d.conv(INPUT), **attributes)


def pads_computed(d: Drawing) -> str:
    pads = d.node("Cast", d.node("Shape", d.constant(np.zeros(8))), to=TensorProto.INT64)
    return d.node("Pad", INPUT, d.node("Expand", pads, d.constant(np.array([8], np.int64))))


def pads_of_some_axes(d: Drawing) -> str:
    widths, axes = d.constant(np.array([1, 1], np.int64)), d.constant(np.array([2], np.int64))
    return d.conv(d.node("Pad", INPUT, widths, "", axes), pads=[0, 1, 0, 1])


def resized_by(*scales: float, sizes=()):
    def draw(d: Drawing) -> str:
        given = [d.constant(np.array(scales, np.float32))] if scales else [""]
        given += [d.constant(np.array(sizes, np.int64))] if sizes else []
        return d.node("Resize", strided(d), "", *given)

    return draw


def twice(mode: str = "nearest", **attributes):
    return lambda d: d.resize(strided(d), 2, mode, **attributes)


GEOMETRY = {
    "through operator Reshape": lambda d: d.node(
        "Reshape", INPUT, d.constant(np.array([0, 0, -1, 8], np.int64))
    ),
    "through operator Transpose": through("Transpose", perm=[0, 1, 3, 2]),
    "through operator Softmax": through("Softmax", axis=3),
    "through operator InstanceNormalization": lambda d: d.node(
        "InstanceNormalization", INPUT, *(d.constant(np.ones(1, np.float32)) for _ in "ab")
    ),
    "Conv with auto_pad; give explicit pads": lambda d: d.node(
        "Conv", INPUT, d.weights(1, 1, 3, 3), auto_pad="SAME_UPPER"
    ),
    "MaxPool with auto_pad; give explicit pads": lambda d: d.node(
        "MaxPool", INPUT, kernel_shape=[3, 3], auto_pad="SAME_LOWER"
    ),
    "ConvTranspose with auto_pad": lambda d: d.node(
        "ConvTranspose", strided(d), d.weights(1, 1, 4, 4), channels=1, strides=[2, 2],
        output_shape=[32, 32],
    ),
    "Resize with align_corners": twice("linear", coordinate_transformation_mode="align_corners"),
    "Resize with tf_half_pixel": twice(coordinate_transformation_mode="tf_half_pixel_for_nn"),
    "antialias": lambda d: d.resize(d.resize(INPUT, 0.5, "linear", antialias=1), 2),
    "Resize by 3 in mode linear rounds its positions": lambda d: d.resize(
        d.conv(INPUT, stride=3, pads=NO_PADS), 3, "linear"
    ),
    "Resize by 2/3 in mode nearest rounds its positions": lambda d: d.resize(
        d.resize(INPUT, 2 / 3), 1.5
    ),
    "Resize without constant, equal scales": resized_by(sizes=[1, 1, 32, 32]),
    "Resize without constant, equal": resized_by(1, 1, 2, 4),
    "Pad without constant pads": pads_computed,
    "Pad without constant pads for all axes": pads_of_some_axes,
    "Pad with mode wrap": lambda d: d.conv(d.pad(INPUT, [1] * 4, "wrap"), pads=NO_PADS),
    "Conv with strides 1x2; need equal strides": lambda d: d.node(
        "Conv", INPUT, d.weights(1, 1, 3, 3), strides=[1, 2], pads=[1] * 4
    ),
    "Conv with computed weights": lambda d: d.node(
        "Conv", INPUT, d.node("Relu", d.weights(1, 1, 3, 3)), pads=[1] * 4
    ),
    "Concat along another axis": lambda d: d.pool(
        "MaxPool", d.node("Concat", INPUT, INPUT, axis=2), (2, 2), stride=2, pads=NO_PADS
    ),
    "joins tensors of different resolution": lambda d: d.node("Add", INPUT, strided(d)),
    "joins tensors of unequal size": lambda d: d.node(
        "Add", d.conv(INPUT), d.conv(INPUT, pads=NO_PADS)
    ),
    "another size than the input": strided,
    "another size than the": lambda d: d.resize(INPUT, 2),
    "2 px smaller than the input": lambda d: d.conv(INPUT, pads=NO_PADS),
    "2 px larger": lambda d: d.conv(INPUT, (1, 1), pads=[1, 0, 1, 0]),
    # (n - 1)·2 + 3 - 2 is odd: a row short of the input.
    "1 px smaller than the input": lambda d: d.transposed(
        strided(d), (3, 3), stride=2, pads=[1] * 4
    ),
    # Windows of 3 every 2, rounded down: one less than half of the size.
    "2 px smaller": lambda d: d.resize(
        d.pool("MaxPool", INPUT, (3, 3), stride=2, pads=NO_PADS, ceil_mode=0), 2
    ),
}  # fmt: skip


@pytest.mark.parametrize("said", GEOMETRY)
def test_unknown_geometry_is_refused_not_guessed(said) -> None:
    with pytest.raises(ExportError) as refused:
        derived(GEOMETRY[said])
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_ceiling_of_pools_counts() -> None:
    def draw(d: Drawing) -> str:
        return d.resize(d.pool("MaxPool", INPUT, (3, 3), stride=2, pads=NO_PADS, ceil_mode=1), 2)

    assert derived(draw).align_px == 2


def test_one_picture_in_and_one_out() -> None:
    d = Drawing()
    model = d.model(d.conv(INPUT))
    weights = d.constants[0]  # older exporters list every weight among the inputs
    listed = helper.make_tensor_value_info(weights.name, weights.data_type, weights.dims)
    model.graph.input.append(listed)
    assert reception_of(model).halo_px == 1
    extra = helper.make_tensor_value_info("noise", TensorProto.FLOAT, [1])
    for ends, said in (
        (model.graph.input, "2 inputs and 1"),
        (model.graph.output, "1 inputs and 2"),
    ):
        ends.append(extra)
        with pytest.raises(ExportError, match=f"{said} outputs, need one each"):
            reception_of(model)
        ends.pop()


# Operators that TensorRT does not take.


def with_node(kind: str, outputs: int = 1, domain: str = "", **attributes) -> onnx.ModelProto:
    made = [f"made{index}" for index in range(outputs)]
    node = helper.make_node(kind, [INPUT], made, "the_node", domain=domain, **attributes)
    return helper.make_model(helper.make_graph([node], "drawing", [], []))


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (with_node("NonZero"), "operator NonZero (node the_node) is not in TensorRT's list"),
        (with_node("Relu", domain="com.microsoft"), "operator Relu"),
        (with_node("MaxPool", outputs=2, kernel_shape=[2, 2]), "MaxPool with indices"),
        (with_node("MaxPool", kernel_shape=[2, 2], dilations=[1, 2]), "MaxPool with indices or"),
        (with_node("Resize", antialias=1), "Resize with antialias"),
        (with_node("Relu"), ""),
        (with_node("Relu", domain="ai.onnx"), ""),
        (with_node("MaxPool", kernel_shape=[2, 2], dilations=[1, 1]), ""),
        (with_node("Resize", antialias=0), ""),
    ],
)
def test_operator_that_tensorrt_lacks_is_named(model, said) -> None:
    if not said:
        refuse_unsupported(model)
        return
    with pytest.raises(ExportError) as refused:
        refuse_unsupported(model)
    assert said in str(refused.value)
