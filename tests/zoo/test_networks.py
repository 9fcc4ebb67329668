"""The networks are those of their papers."""

from itertools import combinations

import pytest
import torch
from torch import nn

from edgecar.errors import SettingsError
from edgecar.zoo.edgecar_net import EdgecarConfig, EdgecarNet, shares_of_knots
from edgecar.zoo.glfusion import ChannelSpatialAttention, MixedScaleModule
from edgecar.zoo.msfan import Msfan, MsfanConfig
from edgecar.zoo.registry import CARDS, card_named, recognised_in
from tests.networks import lively, narrow
from tests.zoo.files import assert_computes, stored

NAMES = [card.name for card in CARDS]


def drawn(name: str, channels: int = 1) -> nn.Module:
    """At full size, without content."""
    card = card_named(name)
    with torch.device("meta"):
        return card.build(card.config(channels)).eval()


def count(network: nn.Module, kind: type[nn.Module]) -> int:
    return sum(isinstance(layer, kind) for layer in network.modules())


def params(network: nn.Module) -> int:
    return sum(weight.numel() for weight in network.parameters())


@pytest.mark.parametrize(
    ("name", "channels", "published"),
    [
        ("arcnn", 1, 106_561),
        ("arcnn", 3, 117_734),
        ("fastarcnn", 3, 85_575),
        ("dncnn", 1, 667_072),
        ("msfan", 1, 765_587),
        ("edgecar-n", 1, 3_003),
        ("edgecar-xs", 1, 10_603),
        ("edgecar-s", 1, 39_627),
        ("edgecar-m", 1, 226_827),
    ],
)
def test_parameters_are_as_many_as_published(name, channels, published) -> None:
    assert params(drawn(name, channels)) == published


def test_layers_are_as_many_as_published() -> None:
    carcnn, glfusion, dncnn = drawn("carcnn"), drawn("glfusion"), drawn("dncnn")
    convs = [layer for layer in carcnn.modules() if isinstance(layer, nn.Conv2d)]
    assert (len(convs), len(carcnn.blocks)) == (34, 15)
    assert {layer.kernel_size for layer in convs} == {(3, 3)}
    assert count(glfusion, MixedScaleModule) == 5
    assert count(glfusion, ChannelSpatialAttention) == 3
    assert len(glfusion.high_global.down) == len(glfusion.high_global.up) == 4
    assert count(drawn("msfan"), nn.PReLU) == 18
    assert (count(dncnn, nn.Conv2d), count(dncnn, nn.BatchNorm2d)) == (20, 18)


# Table 7 (parts off), 8 (channels) and 9 (layers of attention) of Kim and Jun, CMC 2022. The paper
# prints the parameters of the whole network only; the others follow from its layers: a block has
# 5 × 9 × 64² weights, 4 slopes and an attention of 2 × 64 × 4, the attention of all blocks
# 2 × 256 × 16, a further layer in an attention of n narrow channels n².
MSFAN_ABLATIONS = [
    ({}, 765_587),
    *(({"block_off": number}, 765_587 - (5 * 9 * 64**2 + 4 + 512)) for number in (1, 2, 3, 4)),
    ({"attention": False}, 765_587 - (4 * 512 + 8192 + 512)),
    ({"skip": False}, 765_587),
    ({"width": 32}, 191_699),
    ({"width": 48}, 430_867),
    ({"width": 80}, 1_195_859),
    ({"attention_layers": 3}, 765_587 + 5 * 4**2 + 16**2),
    ({"attention_layers": 4}, 765_587 + 2 * (5 * 4**2 + 16**2)),
]


@pytest.mark.parametrize(("sizes", "left"), MSFAN_ABLATIONS, ids=str)
def test_msfan_ablations_have_the_parameters_left_and_are_recognised(sizes, left, tmp_path) -> None:
    with torch.device("meta"):
        assert params(Msfan(MsfanConfig(**sizes))) == left
    network = lively(Msfan(MsfanConfig(**{"width": 32, **sizes})))
    loaded = assert_computes(stored(network.state_dict(), tmp_path), network)
    assert loaded.network.config == network.config


def test_msfan_ablations_switch_off_what_they_say() -> None:
    picture = torch.rand(1, 1, 24, 24)
    whole = lively(Msfan(MsfanConfig(width=32)))

    def ablated(**sizes) -> torch.Tensor:
        network = Msfan(MsfanConfig(width=32, **sizes)).eval()
        network.load_state_dict(whole.state_dict() | {"no_skip": torch.zeros(())}, strict=False)
        return network(picture)

    with torch.inference_mode():
        output = whole(picture)
        assert torch.allclose(output - ablated(skip=False), picture, atol=1e-5)  # one addition
        blocks_off = [ablated(block_off=number) for number in (1, 2, 3, 4)]
        outputs = [output, *blocks_off, ablated(attention=False)]
    for first, second in combinations(outputs, 2):
        assert (first - second).abs().max() > 1e-3


@pytest.mark.parametrize("name", NAMES)
def test_size_is_kept_and_nothing_but_the_weights_decides(name) -> None:
    card = card_named(name)
    for channels in (1, 3):  # the least tile
        shape = (2, channels, card.align_px, 3 * card.align_px)
        assert drawn(name, channels)(torch.empty(shape, device="meta")).shape == shape
    # Two networks of one state dict agree to the bit: no hidden or random state.
    network = narrow(name)
    twin = card.build(network.config).eval()
    twin.load_state_dict(network.state_dict())
    picture = torch.rand(1, 1, 32, 48)
    with torch.inference_mode():
        assert torch.equal(network(picture), twin(picture))
        assert network(picture).std() > 0.05  # the comparison of two flat greys would prove nothing


def test_unknown_names_and_channels_are_refused() -> None:
    with pytest.raises(SettingsError, match="not 2"):
        card_named("msfan").config(2)
    with pytest.raises(SettingsError, match="did you mean dncnn"):
        card_named("dnccn")
    assert len(set(NAMES)) == len(NAMES) == 10


# edgecar-xs, -s and -m.


@pytest.mark.parametrize("channels", [1, 3])
def test_training_starts_near_the_picture(channels) -> None:
    torch.manual_seed(0)
    network = EdgecarNet(EdgecarConfig(channels)).eval()
    picture = torch.rand(1, channels, 32, 32)
    with torch.inference_mode():
        difference = network(picture) - picture
    # Well under the 0.29 that noise of this range deviates by itself, yet not nothing.
    assert 1e-3 < difference.std() < 0.1


def test_every_weight_learns_and_no_feature_is_dead() -> None:
    torch.manual_seed(0)
    network = lively(EdgecarNet(EdgecarConfig(width=16)), 1)
    clean = torch.rand(9, 1, 16, 16)
    made = network(clean + 0.1 * torch.rand_like(clean), torch.linspace(0, 1, 9))
    (made - clean).square().mean().backward()
    for name, weight in network.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.abs().max() > 0, name
    with torch.no_grad():  # a map that is negative everywhere still reaches the output
        network.convs[0].bias.fill_(-10)
        one, other = network(torch.zeros(1, 1, 16, 16)), network(torch.ones(1, 1, 16, 16) / 2)
    assert (other - 0.5 - one).abs().max() > 0


def test_a_quantiser_changes_the_output_between_lossless_and_the_coarsest() -> None:
    torch.manual_seed(0)
    network = lively(EdgecarNet(EdgecarConfig(width=16)), 1).eval()
    with torch.no_grad():
        network.shift.weight.normal_()
        picture = torch.rand(1, 1, 16, 16).expand(6, -1, -1, -1)
        made = network(picture, torch.tensor([0, 1 / 8, 0.15, 0.45, 0.5, 1]))
        assert torch.equal(made[:2], picture[:2])  # lossless or nearly so: nothing to restore
        assert (made[2] - picture[2]).abs().max() > 1e-3
        assert (made[5] - made[4]).abs().max() > 1e-3
        assert torch.equal(made[4], network(picture)[0])  # unknown: the middle
    # Between knots the network is told of the quantiser's place, in equal shares.
    shares = shares_of_knots(torch.tensor([0, 0.4, 0.45, 0.5, 1]), 9)
    assert torch.allclose(shares.sum(dim=1), torch.ones(5))
    assert torch.allclose(shares @ torch.linspace(0, 1, 9), torch.tensor([0, 0.4, 0.45, 0.5, 1]))


def test_weights_of_before_quantisers_stay_what_they_were() -> None:
    network = EdgecarNet(EdgecarConfig(width=16, knots=0)).eval()
    found = recognised_in(network.state_dict())
    assert found is not None
    assert found[1].config == EdgecarConfig(width=16, knots=0)
    picture = torch.rand(2, 1, 16, 16)
    with torch.inference_mode():
        assert torch.equal(network(picture), network(picture, torch.rand(2)))
