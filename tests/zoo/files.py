"""Checkpoints to write and to be refused, and the network that they are of."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import edgecar
from edgecar.errors import CheckpointError
from edgecar.zoo.dncnn import DncnnConfig
from edgecar.zoo.registry import card_named
from tests.networks import lively


def little(seed: int = 0) -> nn.Module:
    """A DnCNN of five layers with normalisation, different for each seed."""
    network = lively(card_named("dncnn").build(DncnnConfig(depth=5, width=8)))
    torch.manual_seed(seed)
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(0.01 * torch.randn_like(weight))
    return network


NETWORK, OTHER = little(), little(1)
OURS, THEIRS = NETWORK.state_dict(), OTHER.state_dict()


def stored(content, folder: Path, name: str = "theirs.pth", **options) -> Path:
    path = folder / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif name.endswith(".safetensors"):
        save_file(content, path)
    else:
        torch.save(content, path, **options)
    return path


def refusal(content, folder: Path, name: str = "theirs.pth", **options) -> str:
    """What is said in one line, the path first, about a file with some content."""
    path = stored(content, folder, name, **options)
    with pytest.raises(CheckpointError) as refused:
        edgecar.load(path)
    said = str(refused.value)
    assert said.startswith(f"{path}: ")
    assert "\n" not in said
    return said


def assert_computes(path: Path, network: nn.Module = NETWORK, channels: int = 1):
    """The file is of this network: the same output, to the bit. Returns what was loaded."""
    loaded = edgecar.load(path)
    assert loaded.channels == channels
    assert not loaded.network.training
    torch.manual_seed(2)
    picture = torch.rand(1, channels, 16, 32)
    with torch.inference_mode():
        assert torch.equal(loaded.network(picture), network.eval()(picture))
    return loaded
