"""Candidates: each is the network that its shape says."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from benchmarks.run.design_space import Candidate, Shape
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
