"""Artifacts with random weights of sensible size, exported once per run."""

from pathlib import Path

import pytest
import torch
from torch import nn

from edgecar.artifact import Artifact
from edgecar.exporter.recipe import recipe_for
from edgecar.exporter.to_onnx import artifact_from_network
from edgecar.zoo.carcnn import CarcnnConfig
from edgecar.zoo.checkpoints import Loaded
from edgecar.zoo.dncnn import DncnnConfig
from edgecar.zoo.msfan import MsfanConfig
from edgecar.zoo.registry import card_named

# Halo and alignment are those of the real networks; width, which only costs time, is not.
CONFIGS = {
    "edgecar-s": None,
    "edgecar-xs": None,
    "edgecar-m": None,
    "arcnn": None,
    "fastarcnn": None,
    "dncnn": DncnnConfig(width=8),
    "carcnn": CarcnnConfig(width=8),
    "msfan": MsfanConfig(width=16, blocks=2),
}


def artifact_with_random_weights(name: str, channels: int = 1) -> Artifact:
    torch.manual_seed(3)
    card = card_named(name)
    network = card.build(CONFIGS[name] or card.config(channels)).eval()
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            # Variance-keeping weights: published ones start so small that every output is the same.
            nn.init.kaiming_normal_(layer.weight, nonlinearity="linear")
            if layer.bias is not None:
                nn.init.uniform_(layer.bias, -0.1, 0.1)
    model, facts = artifact_from_network(
        Loaded(card, channels, network), recipe_for(name), weights_sha256="", trained_on=""
    )
    return Artifact(facts, model.SerializeToString())


_MADE: dict[tuple[str, int], Artifact] = {}


@pytest.fixture(scope="session")
def artifact():
    """A function from a network's name to its artifact."""

    def make(name: str, channels: int = 1) -> Artifact:
        if (name, channels) not in _MADE:
            _MADE[name, channels] = artifact_with_random_weights(name, channels)
        return _MADE[name, channels]

    return make


@pytest.fixture
def small_onnx(artifact, tmp_path) -> Path:
    path = tmp_path / "edgecar-xs.onnx"
    path.write_bytes(artifact("edgecar-xs").onnx)
    return path
