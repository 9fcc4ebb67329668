"""Checkpoints in every form that training scripts write."""

from collections import OrderedDict

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from edgecar.errors import CheckpointError
from edgecar.zoo.carcnn import CarcnnConfig
from edgecar.zoo.checkpoints import load_network
from edgecar.zoo.dncnn import DncnnConfig
from edgecar.zoo.edgecar_net import PlainConfig
from edgecar.zoo.fastarcnn import FastArcnnConfig
from edgecar.zoo.glfusion import GlFusionConfig
from edgecar.zoo.msfan import MsfanConfig
from edgecar.zoo.registry import CARDS, card_named
from tests.networks import NARROW, lively

SMALL = {
    **{card.name: card.config(1) for card in CARDS},
    **NARROW,
    "glfusion": GlFusionConfig(width=8, scales=2, modules=2, reduction=4),
}
OTHER_SIZES = [
    ("dncnn", DncnnConfig(depth=5, width=8)),
    ("dncnn", DncnnConfig(depth=3, width=4, batch_norm=False)),
    ("dncnn", DncnnConfig(channels=3, depth=6, width=8)),
    ("msfan", MsfanConfig(width=8, blocks=2, reduction=4)),
    ("msfan", MsfanConfig(width=16, blocks=1, attention_layers=3, reduction=2)),
    ("msfan", MsfanConfig(channels=3, width=16, blocks=3, reduction=8)),
    ("carcnn", CarcnnConfig(width=8, blocks=4)),
    ("carcnn", CarcnnConfig(channels=3, width=4, blocks=1)),
    ("fastarcnn", FastArcnnConfig(channels=3, activation="relu")),
    ("glfusion", GlFusionConfig(width=8, scales=3, modules=1, reduction=8)),
    ("glfusion", GlFusionConfig(channels=3, width=4, scales=1, modules=3, reduction=2)),
    ("edgecar-xs", PlainConfig(3, 16, 6)),
    ("edgecar-m", PlainConfig(3, 64, 8)),
]


def built(name: str, config=None) -> nn.Module:
    config = config or SMALL[name]
    return lively(card_named(name).build(config), config.channels)


def assert_loads_as(path, name: str, network: nn.Module) -> None:
    """The checkpoint is recognised, and computes what was saved, to the bit."""
    loaded = load_network(path)
    assert loaded.card.name == name
    assert loaded.network.config == network.config
    assert loaded.channels == network.config.channels
    assert not loaded.network.training
    picture = torch.rand(1, loaded.channels, 16, 32)
    with torch.inference_mode():
        assert torch.equal(loaded.network(picture), network(picture))


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_every_network_comes_back(name, suffix, tmp_path) -> None:
    network, path = built(name), tmp_path / f"weights{suffix}"
    if suffix == ".safetensors":
        save_file(network.state_dict(), path)
    else:
        torch.save(network.state_dict(), path)
    assert_loads_as(path, name, network)


@pytest.mark.parametrize(("name", "config"), OTHER_SIZES)
def test_sizes_are_read_off_the_tensors(name, config, tmp_path) -> None:
    network, path = built(name, config), tmp_path / "weights.pth"
    torch.save(network.state_dict(), path)
    assert_loads_as(path, name, network)


WRAPPINGS = {
    "state_dict": lambda state: {"state_dict": state, "epoch": 3, "loss": 0.5},
    "model_state_dict": lambda state: {"epoch": 3, "model_state_dict": state, "lr": [1e-4]},
    "params": lambda state: {"params": state},
    "params_ema": lambda state: {"params": zeros(state), "params_ema": state},
    "ema": lambda state: {"model": zeros(state), "ema": state},
    "ema beside state_dict": lambda state: {"state_dict": zeros(state), "ema": state},
    "average": lambda state: {"network": zeros(state), "average": state, "step": 7},
    "model": lambda state: {"model": state},
    "net": lambda state: {"net": state, "acc": 0},
    "nested": lambda state: {"state_dict": {"params": {"model": state}}},
    "absent average": lambda state: {"ema": None, "state_dict": state},
    "module prefix": lambda state: {f"module.{key}": value for key, value in state.items()},
    "two prefixes": lambda state: {f"module.module.{key}": value for key, value in state.items()},
    "both": lambda state: {"state_dict": {f"module.{key}": value for key, value in state.items()}},
    "ordered": lambda state: OrderedDict(state),
    "other entries": lambda state: {**state, "epoch": 3, "notes": "good"},
}


def zeros(state):
    return {key: torch.zeros_like(value) for key, value in state.items()}


@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_wrapped_weights_are_found(wrapping, tmp_path) -> None:
    network, path = built("edgecar-xs"), tmp_path / "weights.pth"
    torch.save(WRAPPINGS[wrapping](dict(network.state_dict())), path)
    assert_loads_as(path, "edgecar-xs", network)


def test_prefixed_safetensors_are_found(tmp_path) -> None:
    network, path = built("edgecar-xs"), tmp_path / "weights.safetensors"
    save_file({f"module.{key}": value for key, value in network.state_dict().items()}, path)
    assert_loads_as(path, "edgecar-xs", network)


def test_counters_of_batches_are_not_weights(tmp_path) -> None:
    """PyTorch before 0.4.1 did not write them."""
    network, path = built("dncnn"), tmp_path / "weights.pt"
    state = {k: v for k, v in network.state_dict().items() if not k.endswith("batches_tracked")}
    assert len(state) < len(network.state_dict())
    torch.save(state, path)
    assert_loads_as(path, "dncnn", network)


def test_file_that_contains_itself_ends(tmp_path) -> None:
    content: dict = {"epoch": 1}
    content["model"] = content
    path = tmp_path / "weights.pt"
    torch.save(content, path)
    with pytest.raises(CheckpointError, match="holds no tensors"):
        load_network(path)


@pytest.mark.parametrize(
    ("name", "config", "changed"),
    [
        ("glfusion", GlFusionConfig(width=16), {"width": 16}),
        ("glfusion", SMALL["glfusion"], {"width": 8, "scales": 2, "modules": 2, "reduction": 4}),
        ("dncnn", DncnnConfig(channels=3, width=8), {"width": 8}),
        ("edgecar-xs", PlainConfig(1, 16, 6), {}),
    ],
)
def test_what_differs_from_the_published_network_is_told(tmp_path, name, config, changed):
    path = tmp_path / "network.safetensors"
    save_file(card_named(name).build(config).state_dict(), path)
    assert load_network(path).config == changed
