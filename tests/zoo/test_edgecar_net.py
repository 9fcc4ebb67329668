"""edgecar-xs, -s and -m."""

import pytest
import torch

from edgecar.zoo.edgecar_net import Plain, PlainConfig
from edgecar.zoo.registry import card_named


@pytest.mark.parametrize(
    ("name", "params"), [("edgecar-xs", 10_452), ("edgecar-s", 39_332), ("edgecar-m", 226_244)]
)
def test_sizes_of_the_family(name, params) -> None:
    network = Plain(card_named(name).config(1))
    assert sum(weight.numel() for weight in network.parameters()) == params


@pytest.mark.parametrize("channels", [1, 3])
def test_training_starts_near_the_picture(channels) -> None:
    torch.manual_seed(0)
    network = Plain(PlainConfig(channels)).eval()
    picture = torch.rand(1, channels, 32, 32)
    with torch.inference_mode():
        difference = network(picture) - picture
    # Well under the 0.29 that noise of this range deviates by itself, yet not nothing.
    assert 1e-3 < difference.std() < 0.1


def test_every_weight_learns() -> None:
    torch.manual_seed(0)
    network = Plain(PlainConfig(width=16))
    clean = torch.rand(2, 1, 16, 16)
    (network(clean + 0.1 * torch.rand_like(clean)) - clean).square().mean().backward()
    for name, weight in network.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.abs().max() > 0, name


def test_features_pass_below_zero() -> None:
    """A map that is negative everywhere still reaches the output: none is ever dead."""
    network = Plain(PlainConfig(width=16)).eval()
    with torch.no_grad():
        network.convs[0].bias.fill_(-10)
        one, other = network(torch.zeros(1, 1, 16, 16)), network(torch.ones(1, 1, 16, 16) / 2)
    assert (other - 0.5 - one).abs().max() > 0
