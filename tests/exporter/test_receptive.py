"""The halo derived from a graph is the halo seen by changing pixels."""

from math import ceil

import numpy as np
import pytest

from edgecar.exporter.receptive import Reception, reception_of
from tests.exporter.graphs import INPUT, Drawing, seen_halo


def checked(model, base: float = 0.0) -> Reception:
    """What is derived, once what is seen agrees: not less (safe), not more (tight)."""
    derived = reception_of(model)
    align = derived.align_px
    seen = seen_halo(model, align, derived.halo_px + 4 * align, base)
    assert derived.halo_px == ceil(seen / align) * align
    assert derived.context == "local"
    return derived


def coarse(drawing: Drawing, factor: int = 2) -> str:
    """The picture at a fraction of its size, through a kernel that overlaps."""
    return drawing.conv(INPUT, (factor + 1,) * 2, stride=factor, pads=[1, 1, 0, 0])


def enlarged(kernel: int, stride: int, pads: list[int], extra: int = 0):
    def draw(d: Drawing) -> str:
        small = coarse(d, stride)
        return d.transposed(small, (kernel,) * 2, stride=stride, pads=pads, extra=(extra,) * 2)

    return draw


def resized(factor: int, mode: str, **attributes):
    def draw(d: Drawing) -> str:
        small = d.conv(coarse(d, factor))
        return d.conv(d.resize(small, factor, mode, **attributes))

    return draw


def rearranged(d: Drawing, given: str, **options) -> str:
    blocks = d.node("SpaceToDepth", given, blocksize=2, channels=4)
    deep = d.conv(blocks, out=4, **options)
    return d.node("DepthToSpace", deep, blocksize=2, mode="CRD", channels=1)


def reading_ahead(d: Drawing) -> str:
    """The last pixel of three comes from the next coarse one, which looks two further on."""
    small = d.conv(INPUT, stride=3, pads=[0] * 4)
    ahead = d.conv(small, pads=[0, 0, 2, 2])
    return d.resize(ahead, 3, coordinate_transformation_mode="asymmetric", nearest_mode="ceil")


def two_scales(d: Drawing) -> str:
    """Halving twice and back, with skips at every size, as U-Nets do."""
    half = d.pool("MaxPool", d.conv(INPUT), (2, 2), stride=2, pads=[0] * 4)
    quarter = d.conv(d.pool("MaxPool", d.conv(half), (2, 2), stride=2, pads=[0] * 4))
    half = d.node("Add", half, d.resize(quarter, 2))
    return d.node("Add", INPUT, d.resize(half, 2))


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
    "nearest": (resized(2, "nearest", coordinate_transformation_mode="asymmetric"), 6, 2),
    "nearest by 3, rounding up, reading ahead": (reading_ahead, 9, 3),
    "linear": (resized(2, "linear"), 6, 2),
    "linear by 4": (
        resized(4, "linear", coordinate_transformation_mode="asymmetric"),
        12,
        4,
    ),
    "cubic": (resized(2, "cubic"), 8, 2),
    "space to depth, reading ahead": (
        lambda d: rearranged(d, d.conv(INPUT), pads=[0, 0, 2, 2]),
        6,
        2,
    ),
    "two scales": (two_scales, 8, 4),
    "padded by reflection": (
        lambda d: d.conv(d.pad(INPUT, [0, 2, 4, 2], "reflect"), (5, 5), pads=[0] * 4),
        4,
        1,
    ),
    "cropped": (lambda d: d.pad(d.conv(INPUT, pads=[3] * 4), [-2] * 4), 1, 1),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_derived_is_seen_and_worked_out(name) -> None:
    draw, halo, align = GRAPHS[name]
    drawing = Drawing()
    derived = checked(drawing.model(draw(drawing)))
    assert (derived.halo_px, derived.align_px) == (halo, align)


def test_products_of_features_count_both_factors() -> None:
    d = Drawing()
    product = d.node("Mul", d.conv(INPUT), d.conv(INPUT, (7, 7)))
    assert checked(d.model(product), base=1.0).halo_px == 3


def test_unused_branches_do_not_count() -> None:
    d = Drawing()
    d.conv(INPUT, (9, 9))
    assert checked(d.model(d.conv(INPUT))).halo_px == 1


def test_rgb() -> None:
    d = Drawing(channels=3)
    assert checked(d.model(d.conv(INPUT, (5, 5), out=3))).halo_px == 2


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
    derived = reception_of(d.model(d.conv(weighted)))
    assert (derived.halo_px, derived.align_px, derived.context) == (2, 1, "windowed")


# Memory.


def test_memory_is_that_of_tensors_alive_together() -> None:
    d = Drawing()
    eight = d.conv(INPUT, out=8)
    output = d.node("Add", d.conv(d.conv(eight, out=4)), INPUT)
    # The input (until the sum) and 8 + 4 channels are alive at the second convolution.
    assert reception_of(d.model(output)).bytes_per_px == 4 * (1 + 8 + 4)


def test_memory_of_smaller_tensors_is_less() -> None:
    d = Drawing()
    half = d.conv(INPUT, (2, 2), out=8, stride=2, pads=[0] * 4)
    quarter = d.conv(half, (2, 2), out=64, stride=2, pads=[0] * 4)
    blocks = d.conv(quarter, out=16)
    output = d.node("DepthToSpace", blocks, blocksize=4, mode="CRD", channels=1)
    # 64 and 16 channels at a sixteenth of the pixels; the 8 at a quarter are gone by then, and
    # the step before holds 8/4 + 64/16.
    assert reception_of(d.model(output)).bytes_per_px == 4 * (8 / 4 + 64 / 16)


def test_memory_of_skips_is_held() -> None:
    d = Drawing()
    first = d.conv(INPUT, out=4)
    second = d.conv(first, out=4)
    third = d.conv(second, out=4)
    joined = d.node("Concat", first, second, third, axis=1, channels=12)
    # The join holds its three inputs and its output.
    assert reception_of(d.model(d.conv(joined))).bytes_per_px == 4 * (12 + 12)


def test_a_transposed_kernel_may_reach_farther_down_than_up() -> None:
    """The last row of a block needs the row of inputs below it, and no row above."""
    d = Drawing()
    small = d.node("Conv", INPUT, d.constant(np.ones((4, 1, 2, 2), np.float32)), strides=[2, 2])
    weights = d.constant(np.ones((4, 1, 2, 2), np.float32))
    options = {"strides": [2, 2], "pads": [1, 1, 0, 0], "output_padding": [1, 1]}
    assert reception_of(d.model(d.node("ConvTranspose", small, weights, **options))).halo_px == 2
