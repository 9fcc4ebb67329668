"""Candidates: each is the network that its shape says."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from benchmarks.run.design_space import BranchedConv, Candidate, Shape
from benchmarks.run.design_study import SUITE, entries_of
from edgecar.bench.complexity import complexity
from edgecar.errors import SettingsError
from edgecar.zoo import edgecar_net
from edgecar.zoo.registry import card_named

pytestmark = pytest.mark.slow  # a study for our own pages

ENTRIES = entries_of(SUITE)
BRANCHED = Shape(width=8, depth=4, branches=True)


def built(shape: Shape, seed: int = 0) -> Candidate:
    torch.manual_seed(seed)
    return Candidate(shape).eval()


def lively(network: Candidate) -> Candidate:
    """With parts that start at zero, or near it, put to use."""
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if name.endswith(("bias", "point")):
                weight.normal_(0, 0.1)
        for weight in network.convs[-1].parameters():
            weight.mul_(10)
    return network


def reach_px(shape: Shape) -> int:
    """How many pixels away a change can still be seen, by trying."""
    network = lively(built(replace(shape, activation="leaky")))  # nothing is cut off at zero
    picture = torch.rand(1, 1, 65 * shape.scale, 65 * shape.scale, requires_grad=True)
    middle = 32 * shape.scale
    network(picture)[0, 0, middle, middle].backward()
    rows = picture.grad[0, 0].abs().amax(dim=1).nonzero()
    return int((rows - middle).abs().max())


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_candidate_of_the_suite(entry) -> None:
    network = built(entry.shape)
    picture = torch.rand(2, 1, 32, 48)
    with torch.inference_mode():
        restored = network(picture)
    assert restored.shape == picture.shape
    residual = (restored - picture).std()
    # begins near the picture, whose samples deviate by 0.29; "m skips" does not: many layers add up
    assert 0 < residual < (2 if entry.name == "m skips" else 0.15)
    cost = complexity(network.folded(), 1, 64, 64)
    assert 0 < cost.kmacs_per_px < 100
    assert cost.params == sum(weight.numel() for weight in network.parameters())
    convs = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    assert len(convs) == entry.shape.depth
    assert {layer.out_channels for layer in convs[:-1]} == {entry.shape.width}


def test_names_of_the_suite_are_its_candidates() -> None:
    assert len({entry.name for entry in ENTRIES}) == len(ENTRIES) > 5
    assert len({(entry.shape, str(entry.recipe)) for entry in ENTRIES}) == len(ENTRIES)


def test_candidates_are_around_the_network_that_ships() -> None:
    card = card_named("edgecar-xs")
    config = card.config()
    torch.manual_seed(1)
    ours = card.build(config).eval()
    same = built(Shape(config.width, config.layers, edgecar_net.SCALE, "leaky"))
    same.load_state_dict(ours.state_dict())
    picture = torch.rand(1, 1, 16, 24)
    with torch.inference_mode():
        assert torch.equal(same(picture), ours(picture))


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_cost_of_a_scale(scale) -> None:
    """Counted by hand: weights of the layers, each used once for scale² pixels."""
    width, depth = 6, 5
    kernels = (3 * scale) ** 2 * width + (depth - 2) * 9 * width**2 + 9 * width * scale**2
    cost = complexity(built(Shape(width, depth, scale)), 1, 64, 64)
    assert cost.params == kernels + (depth - 1) * width + scale**2
    assert cost.kmacs_per_px * 1000 == pytest.approx(kernels / scale**2)


def test_dilation_widens_every_second_hidden_layer() -> None:
    network = Candidate(Shape(8, 6, dilation=2))
    assert [conv.dilation[0] for conv in network.convs] == [1, 1, 2, 1, 2, 1]
    # Two layers reach one feature further each; a feature is two pixels.
    assert reach_px(Shape(8, 6, dilation=2)) == reach_px(Shape(8, 6)) + 2 * 2
    assert reach_px(Shape(8, 6, dilation=3)) == reach_px(Shape(8, 6)) + 2 * 4
    assert reach_px(Shape(8, 6, scale=1)) == 6


def test_skips_carry_the_features_past_hidden_layers() -> None:
    with_skips, without = (built(Shape(8, 5, skips=skips)) for skips in (True, False))
    picture = torch.rand(1, 1, 16, 16)
    for network in (with_skips, without):
        lively(network)
        with torch.no_grad():
            for conv in network.convs[1:-1]:
                conv.weight.zero_()
                conv.bias.zero_()
    with torch.inference_mode():
        first = torch.relu(with_skips.convs[0](picture))
        passed = nn.functional.pixel_shuffle(with_skips.convs[-1](first), 2)
        torch.testing.assert_close(with_skips(picture) - picture, passed, rtol=0, atol=1e-6)
        silent = without(picture) - picture  # nothing but the last layer's biases is left
        assert silent.unfold(2, 2, 2).unfold(3, 2, 2).std(dim=(2, 3)).max() < 1e-6


@pytest.mark.parametrize("activation", ["relu", "leaky", "prelu"])
def test_activations(activation) -> None:
    network = built(Shape(8, 4, activation=activation))
    below = torch.full((1, 8, 2, 2), -1.0)
    expected = {"relu": 0.0, "leaky": -0.1, "prelu": -0.1}[activation]
    assert len(network.activations) == 3
    for layer in network.activations:
        assert torch.allclose(layer(below), torch.tensor(expected))
        assert torch.equal(layer(-below), -below)
    slopes = [weight for name, weight in network.named_parameters() if "activations" in name]
    assert [slope.shape for slope in slopes] == [(8,)] * (3 if activation == "prelu" else 0)


@pytest.mark.parametrize("shape", [BRANCHED, replace(BRANCHED, scale=4, skips=True)])
def test_folded_branches_compute_the_same(shape) -> None:
    network = lively(built(shape))
    picture = torch.rand(2, 1, 24, 36)
    with torch.inference_mode():
        expected = network(picture)
        folded = network.folded()
        got = folded(picture)
    assert (expected - picture).abs().max() > 0.1  # the network does something
    # The same kernels, summed in the same order: only convolutions may choose another algorithm,
    # over sums of up to 9 · 32 products of float32.
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-5)
    assert {type(layer) for layer in folded.convs} == {nn.Conv2d}
    assert folded.folded() is folded


@pytest.mark.parametrize(("channels", "width", "kernel", "stride"), [(1, 8, 6, 2), (8, 8, 3, 1)])
def test_a_kernel_is_the_sum_of_its_branches(channels, width, kernel, stride) -> None:
    """Each branch run on its own, as the papers draw them."""
    torch.manual_seed(0)
    conv = BranchedConv(channels, width, kernel, stride)
    nn.init.normal_(conv.point)
    nn.init.normal_(conv.bias)
    features = torch.rand(1, channels, 12, 12)
    side = (kernel - stride) // 2
    wide = nn.functional.conv2d(features, conv.expand, None, stride, side)
    expected = nn.functional.conv2d(wide, conv.project[:, :, None, None])
    expected = expected + nn.functional.conv2d(features, conv.kernel, None, stride, side)
    expected = expected + nn.functional.conv2d(features, conv.point, conv.bias, stride)
    if channels == width:
        expected = expected + features
    # Values of a few units; sums through 4 · 8 expanded maps in another order.
    torch.testing.assert_close(conv(features), expected, rtol=0, atol=1e-4)
    torch.testing.assert_close(conv.folded()(features), expected, rtol=0, atol=1e-4)


def test_every_branch_learns() -> None:
    network = lively(built(BRANCHED)).train()
    clean = torch.rand(2, 1, 16, 16)
    (network(clean + 0.1 * torch.rand_like(clean)) - clean).square().mean().backward()
    for name, weight in network.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.abs().max() > 0, name


@pytest.mark.parametrize(
    "changes",
    [
        {"depth": 2},
        {"width": 0},
        {"activation": "gelu"},
        {"scale": 3},
        {"dilation": 0},
        {"dilation": 2, "branches": True},
    ],
    ids=str,
)
def test_shapes_that_are_no_network(changes) -> None:
    with pytest.raises(SettingsError, match="is no network"):
        replace(Shape(8, 4), **changes)
