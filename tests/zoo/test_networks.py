"""The networks are those of their papers."""

from itertools import combinations

import pytest
import torch
from torch import nn

from edgecar.errors import SettingsError
from edgecar.zoo.checkpoints import load_network
from edgecar.zoo.glfusion import ChannelSpatialAttention, MixedScaleModule
from edgecar.zoo.msfan import Msfan, MsfanConfig
from edgecar.zoo.registry import CARDS, card_named
from tests.networks import lively, narrow

PUBLISHED_PARAMS = [
    ("arcnn", 1, 106_561),
    ("arcnn", 3, 117_734),
    ("fastarcnn", 3, 85_575),
    ("dncnn", 1, 667_072),
    ("msfan", 1, 765_587),
]
NAMES = [card.name for card in CARDS]


def drawn(name: str, channels: int = 1) -> nn.Module:
    """At full size, without content."""
    card = card_named(name)
    with torch.device("meta"):
        return card.build(card.config(channels))


def count(network: nn.Module, kind: type[nn.Module]) -> int:
    return sum(isinstance(layer, kind) for layer in network.modules())


@pytest.mark.parametrize(("name", "channels", "params"), PUBLISHED_PARAMS)
def test_parameters_are_as_many_as_published(name, channels, params) -> None:
    assert sum(weight.numel() for weight in drawn(name, channels).parameters()) == params


def test_carcnn_has_34_convolutions_in_15_blocks() -> None:
    network = drawn("carcnn")
    assert count(network, nn.Conv2d) == 34
    assert len(network.blocks) == 15
    assert {layer.kernel_size for layer in network.modules() if isinstance(layer, nn.Conv2d)} == {
        (3, 3)
    }


def test_glfusion_has_its_streams() -> None:
    network = drawn("glfusion")
    assert count(network, MixedScaleModule) == 5
    assert count(network, ChannelSpatialAttention) == 3
    assert len(network.high_global.down) == len(network.high_global.up) == 4


def test_msfan_has_18_activations() -> None:
    assert count(drawn("msfan"), nn.PReLU) == 18


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


@pytest.mark.parametrize(("sizes", "params"), MSFAN_ABLATIONS, ids=str)
def test_msfan_ablations_have_the_parameters_that_are_left(sizes, params) -> None:
    with torch.device("meta"):
        network = Msfan(MsfanConfig(**sizes))
    assert sum(weight.numel() for weight in network.parameters()) == params


@pytest.mark.parametrize("sizes", [sizes for sizes, _ in MSFAN_ABLATIONS], ids=str)
def test_msfan_ablations_are_recognised_by_their_checkpoints(sizes, tmp_path) -> None:
    config = MsfanConfig(**{"width": 32, **sizes})
    network = lively(Msfan(config))
    path = tmp_path / "ablation.pt"
    torch.save(network.state_dict(), path)
    loaded = load_network(path)
    assert loaded.network.config == config
    picture = torch.rand(1, 1, 24, 24)
    with torch.inference_mode():
        assert torch.equal(loaded.network(picture), network(picture))


def test_msfan_ablations_switch_off_what_they_say() -> None:
    picture = torch.rand(1, 1, 24, 24)
    whole = lively(Msfan(MsfanConfig(width=32)))
    state = whole.state_dict()

    def ablated(**sizes) -> torch.Tensor:
        network = Msfan(MsfanConfig(width=32, **sizes)).eval()
        network.load_state_dict(
            {**{key: state[key] for key in network.state_dict() if key in state}}, strict=False
        )
        return network(picture)

    with torch.inference_mode():
        output = whole(picture)
        assert torch.allclose(output - ablated(skip=False), picture, atol=1e-5)  # one addition
        blocks_off = [ablated(block_off=number) for number in (1, 2, 3, 4)]
        outputs = [output, *blocks_off, ablated(attention=False)]
    for first, second in combinations(outputs, 2):
        assert (first - second).abs().max() > 1e-3


def test_dncnn_has_20_convolutions_and_normalises_all_but_the_outer_two() -> None:
    network = drawn("dncnn")
    assert (count(network, nn.Conv2d), count(network, nn.BatchNorm2d)) == (20, 18)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("channels", [1, 3])
def test_size_and_channels_are_kept_at_the_least_window(name, channels) -> None:
    card = card_named(name)
    side = card.align_px
    with torch.device("meta"):
        network = card.build(card.config(channels)).eval()
        assert network(torch.empty(2, channels, side, 3 * side)).shape == (
            2,
            channels,
            side,
            3 * side,
        )


@pytest.mark.parametrize("name", NAMES)
def test_nothing_but_the_weights_decides(name) -> None:
    """Two networks of one state dict agree to the bit: no hidden or random state."""
    network, card = narrow(name), card_named(name)
    twin = card.build(network.config).eval()
    twin.load_state_dict(network.state_dict())
    picture = torch.rand(1, 1, 32, 48)
    with torch.inference_mode():
        assert torch.equal(network(picture), twin(picture))
        assert network(picture).std() > 0.05  # the comparison of two flat greys would prove nothing


def test_unknown_channels_are_refused() -> None:
    with pytest.raises(SettingsError, match="not 2"):
        card_named("msfan").config(2)


def test_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(SettingsError, match="did you mean dncnn"):
        card_named("dnccn")


def test_names_are_unique() -> None:
    assert len(set(NAMES)) == len(NAMES) == 9
