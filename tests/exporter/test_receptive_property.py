"""Random networks: the halo is never too small, and never larger than alignment explains."""

from dataclasses import dataclass
from fractions import Fraction
from math import ceil, lcm

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecar.exporter.receptive import Reception, reception_of
from tests.exporter.graphs import INPUT, Drawing, runner, seen_halo

# Blocks of a chain; each keeps the size. Drawn as plain values, so that failures shrink.
KERNEL = st.integers(1, 5)


@dataclass(frozen=True)
class Same:
    """A convolution with uneven kernel, dilation and pads."""

    kernel: tuple[int, int]
    dilation: tuple[int, int]
    share: tuple[float, float]  # of the pads that are before
    out: int

    def draw(self, d: Drawing, x: str) -> str:
        reach = [(k - 1) * e for k, e in zip(self.kernel, self.dilation, strict=True)]
        before = [int(r * share) for r, share in zip(reach, self.share, strict=True)]
        pads = [*before, *(r - b for r, b in zip(reach, before, strict=True))]
        return d.conv(x, self.kernel, out=self.out, dilation=self.dilation, pads=pads)


@dataclass(frozen=True)
class Pooled:
    """The largest or mean of a neighbourhood."""

    kind: str
    side: int
    before: int

    def draw(self, d: Drawing, x: str) -> str:
        before = min(self.before, self.side - 1)
        pads = [before] * 2 + [self.side - 1 - before] * 2
        return d.pool(self.kind, x, (self.side,) * 2, stride=1, pads=pads)


@dataclass(frozen=True)
class Padded:
    """A pad of its own before a convolution without."""

    mode: str
    pads: tuple[int, int]

    def draw(self, d: Drawing, x: str) -> str:
        top, left = self.pads
        padded = d.pad(x, [top, left, 2, 2], self.mode)
        return d.conv(padded, (top + 3, left + 3), pads=[0] * 4)


@dataclass(frozen=True)
class Pointwise:
    """An activation, or a mean over channels."""

    kind: str

    def draw(self, d: Drawing, x: str) -> str:
        if self.kind == "ReduceMean":
            return d.mean(x, [1], channels=1)
        if self.kind == "PRelu":
            return d.node("PRelu", x, d.weights(d.width[x], 1, 1))
        return d.node(self.kind, x)


@dataclass(frozen=True)
class Skip:
    """A chain beside itself left out."""

    kind: str
    inner: tuple

    def draw(self, d: Drawing, x: str) -> str:
        deep = drawn(d, x, self.inner)
        if self.kind == "Concat":
            return d.node("Concat", x, deep, axis=1, channels=d.width[x] + d.width[deep])
        return d.node("Add", x, d.conv(deep, (1, 1), out=d.width[x]))


@dataclass(frozen=True)
class Coarse:
    """A chain at a half or a third of the size."""

    factor: int
    down: str
    up: str
    over: tuple[int, int]  # by how much kernels are larger than the stride
    before: tuple[int, int]
    inner: tuple

    def draw(self, d: Drawing, x: str) -> str:
        return self._up(d, drawn(d, self._down(d, x), self.inner))

    def _down(self, d: Drawing, x: str) -> str:
        if self.down == "SpaceToDepth":
            channels = d.width[x] * self.factor**2
            return d.node("SpaceToDepth", x, blocksize=self.factor, channels=channels)
        over = self.over[0]
        before = min(self.before[0], over)
        kernel, pads = (self.factor + over,) * 2, [before] * 2 + [over - before] * 2
        if self.down == "Conv":
            return d.conv(x, kernel, stride=self.factor, pads=pads)
        return d.pool(self.down, x, kernel, stride=self.factor, pads=pads)

    def _up(self, d: Drawing, x: str) -> str:
        factor = self.factor
        if self.up == "DepthToSpace":
            wide = d.conv(x, (1, 1), out=factor**2)
            return d.node(self.up, wide, blocksize=factor, mode="CRD", channels=1)
        if self.up == "ConvTranspose":
            over, extra = self.over[1], min(self.before[0], factor - 1)
            before = min(self.before[1], over + extra)
            pads = [before] * 2 + [over + extra - before] * 2
            return d.transposed(
                x, (factor + over,) * 2, stride=factor, pads=pads, extra=(extra,) * 2
            )
        mode, convention, *rounding = self.up.split()
        if mode == "linear" and factor != 2:
            mode = "nearest"  # other factors are refused: their positions are rounded
        more = {"nearest_mode": rounding[0]} if rounding else {}
        return d.resize(x, factor, mode, coordinate_transformation_mode=convention, **more)


def drawn(d: Drawing, x: str, blocks: tuple) -> str:
    for block in blocks:
        x = block.draw(d, x)
    return x


pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))
flat = st.one_of(
    st.builds(
        Same,
        st.tuples(KERNEL, KERNEL),
        pairs,
        st.tuples(st.floats(0, 1), st.floats(0, 1)),
        st.integers(1, 2),
    ),
    st.builds(Pooled, st.sampled_from(["MaxPool", "AveragePool"]), KERNEL, st.integers(0, 4)),
    st.builds(
        Padded,
        st.sampled_from(["constant", "reflect", "edge"]),
        st.tuples(st.integers(0, 2), st.integers(0, 2)),
    ),
    st.builds(Pointwise, st.sampled_from(["Relu", "PRelu", "LeakyRelu", "ReduceMean"])),
)


def with_inner(blocks):
    inner = st.lists(blocks, min_size=1, max_size=2).map(tuple)
    ups = (
        "DepthToSpace",
        "ConvTranspose",
        "linear half_pixel",
        "nearest asymmetric floor",
        "nearest asymmetric ceil",
        "nearest half_pixel round_prefer_floor",
        "nearest half_pixel round_prefer_ceil",
    )
    return st.one_of(
        st.builds(Skip, st.sampled_from(["Add", "Concat"]), inner),
        st.builds(
            Coarse,
            st.sampled_from([2, 3]),
            st.sampled_from(["Conv", "MaxPool", "AveragePool", "SpaceToDepth"]),
            st.sampled_from(ups),
            st.tuples(st.integers(0, 3), st.integers(0, 3)),
            st.tuples(st.integers(0, 2), st.integers(0, 4)),
            inner,
        ),
    )


chains = st.lists(
    st.one_of(flat, with_inner(st.one_of(flat, with_inner(flat)))), min_size=1, max_size=3
).map(tuple)


def alignment(blocks: tuple) -> int:
    """The least common multiple of what each part divides the picture by."""
    return lcm(1, *(
        block.factor * alignment(block.inner) if isinstance(block, Coarse)
        else alignment(block.inner) if isinstance(block, Skip) else 1
        for block in blocks
    ))  # fmt: skip


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
