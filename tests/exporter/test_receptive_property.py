"""Random networks: the halo is never too small, and never larger than alignment explains."""

from fractions import Fraction
from math import ceil, lcm

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecar.exporter.receptive import Reception, reception_of
from tests.exporter.graphs import INPUT, Drawing, runner, seen_halo

# Blocks of a chain; each keeps the size. Plain values, so that failures shrink.
KERNEL, PAIR = st.integers(1, 5), st.tuples(st.integers(1, 3), st.integers(1, 3))
SHARES = st.tuples(st.floats(0, 1), st.floats(0, 1))  # of the pads that are before
UPS = (
    "DepthToSpace",
    "ConvTranspose",
    "linear half_pixel",
    "nearest asymmetric floor",
    "nearest asymmetric ceil",
    "nearest half_pixel round_prefer_floor",
    "nearest half_pixel round_prefer_ceil",
)
flat = st.one_of(
    st.tuples(st.just("same"), st.tuples(KERNEL, KERNEL), PAIR, SHARES, st.integers(1, 2)),
    st.tuples(st.sampled_from(["MaxPool", "AveragePool"]), KERNEL, st.integers(0, 4)),
    st.tuples(
        st.just("padded"),
        st.sampled_from(["constant", "reflect", "edge"]),
        st.tuples(st.integers(0, 2), st.integers(0, 2)),
    ),
    st.tuples(st.sampled_from(["Relu", "PRelu", "LeakyRelu", "ReduceMean"])),
)


def with_inner(blocks):
    inner = st.lists(blocks, min_size=1, max_size=2)
    return st.one_of(
        st.tuples(st.sampled_from(["Add", "Concat"]), inner),
        st.tuples(
            st.just("coarse"),
            st.sampled_from([2, 3]),
            st.sampled_from(["Conv", "MaxPool", "AveragePool", "SpaceToDepth"]),
            st.sampled_from(UPS),
            st.tuples(st.integers(0, 3), st.integers(0, 3)),  # kernels larger than the stride
            st.tuples(st.integers(0, 2), st.integers(0, 4)),  # pads before
            inner,
        ),
    )


nested = with_inner(st.one_of(flat, with_inner(flat)))
chains = st.lists(st.one_of(flat, nested), min_size=1, max_size=3)


def drawn(d: Drawing, x: str, blocks: list) -> str:
    for block in blocks:
        x = drawn_block(d, x, block)
    return x


def drawn_block(d: Drawing, x: str, block: tuple) -> str:
    match block:
        case "same", kernel, dilation, shares, out:  # uneven kernel, dilation and pads
            reach = [(k - 1) * e for k, e in zip(kernel, dilation, strict=True)]
            before = [int(r * share) for r, share in zip(reach, shares, strict=True)]
            pads = [*before, *(r - b for r, b in zip(reach, before, strict=True))]
            return d.conv(x, kernel, out=out, dilation=dilation, pads=pads)
        case ("MaxPool" | "AveragePool") as kind, side, before:
            before = min(before, side - 1)
            pads = [before] * 2 + [side - 1 - before] * 2
            return d.pool(kind, x, (side,) * 2, stride=1, pads=pads)
        case "padded", mode, (top, left):  # before a convolution without
            padded = d.pad(x, [top, left, 2, 2], mode)
            return d.conv(padded, (top + 3, left + 3), pads=[0] * 4)
        case ("ReduceMean",):
            return d.mean(x, [1], channels=1)
        case ("PRelu",):
            return d.node("PRelu", x, d.weights(d.width[x], 1, 1))
        case (kind,):
            return d.node(kind, x)
        case "Concat", inner:  # a chain beside itself left out
            deep = drawn(d, x, inner)
            return d.node("Concat", x, deep, axis=1, channels=d.width[x] + d.width[deep])
        case "Add", inner:
            return d.node("Add", x, d.conv(drawn(d, x, inner), (1, 1), out=d.width[x]))
        case _, factor, down, up, over, before, inner:  # a chain at a half or a third of the size
            small = reduced(d, x, factor, down, over[0], min(before[0], over[0]))
            return enlarged(d, drawn(d, small, inner), factor, up, over[1], before)


def reduced(d: Drawing, x: str, factor: int, kind: str, over: int, before: int) -> str:
    if kind == "SpaceToDepth":
        return d.node(kind, x, blocksize=factor, channels=d.width[x] * factor**2)
    kernel, pads = (factor + over,) * 2, [before] * 2 + [over - before] * 2
    if kind == "Conv":
        return d.conv(x, kernel, stride=factor, pads=pads)
    return d.pool(kind, x, kernel, stride=factor, pads=pads)


def enlarged(d: Drawing, x: str, factor: int, kind: str, over: int, before: tuple) -> str:
    if kind == "DepthToSpace":
        wide = d.conv(x, (1, 1), out=factor**2)
        return d.node(kind, wide, blocksize=factor, mode="CRD", channels=1)
    if kind == "ConvTranspose":
        extra = min(before[0], factor - 1)
        first = min(before[1], over + extra)
        pads = [first] * 2 + [over + extra - first] * 2
        return d.transposed(x, (factor + over,) * 2, stride=factor, pads=pads, extra=(extra,) * 2)
    mode, convention, *rounding = kind.split()
    if factor != 2:
        mode = "nearest"  # linear of other factors is refused: its positions are rounded
    more = {"nearest_mode": rounding[0]} if rounding else {}
    return d.resize(x, factor, mode, coordinate_transformation_mode=convention, **more)


def alignment(blocks: list) -> int:
    """The least common multiple of what each part divides the picture by."""
    inner = [(b[1] if b[0] == "coarse" else 1, b[-1]) for b in blocks if isinstance(b[-1], list)]
    return lcm(1, *(factor * alignment(chain) for factor, chain in inner))


def assert_tile_equals_whole(model, derived: Reception) -> None:
    """An aligned block, run with its halo only, comes out as in the whole picture."""
    run, align, halo = runner(model), derived.align_px, derived.halo_px
    start = ceil(Fraction(halo + align, align)) * align
    size = 2 * start + align
    whole = np.random.default_rng(1).random((1, 1, size, size), np.float32)
    tile = whole[:, :, start - halo : start + align + halo, start - halo : start + align + halo]
    expected = run(whole)[:, :, start : start + align, start : start + align]
    got = run(np.ascontiguousarray(tile))[:, :, halo : halo + align, halo : halo + align]
    # Values are below about 10 and sums are short; a pixel of another phase differs by far more.
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(chains)
def test_halo_is_as_seen(blocks) -> None:
    d = Drawing()
    model = d.model(drawn(d, INPUT, blocks))
    derived = reception_of(model)
    align = derived.align_px
    assert align == alignment(blocks)
    margin = derived.halo_px + 4 * align
    assert derived.halo_px == ceil(seen_halo(model, align, margin) / align) * align
    assert_tile_equals_whole(model, derived)
