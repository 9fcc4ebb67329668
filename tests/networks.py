"""Networks of the zoo with weights of sensible size, narrowed where width only costs time."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from edgecar.artifact import Artifact
from edgecar.zoo.carcnn import CarcnnConfig
from edgecar.zoo.dncnn import DncnnConfig
from edgecar.zoo.edgecar_net import EdgecarNet
from edgecar.zoo.glfusion import GlFusionConfig
from edgecar.zoo.msfan import MsfanConfig
from edgecar.zoo.registry import CARDS, card_named

# Depth, and with it halo and alignment, is the published one.
NARROW: dict[str, Any] = {
    "dncnn": DncnnConfig(width=8),
    "carcnn": CarcnnConfig(width=8),
    "msfan": MsfanConfig(width=8, reduction=4),
    "glfusion": GlFusionConfig(width=4, modules=1, reduction=4),
}
MAIN = ("edgecar-s", "fastarcnn", "msfan")
"""Networks of each kind: strided with a skip, transposed, pooled over the whole picture."""

every_network = pytest.mark.parametrize(
    "name",
    [c.name if c.name in MAIN else pytest.param(c.name, marks=pytest.mark.slow) for c in CARDS],
)
"""For a test of all networks: by default of the main ones."""

LIVELY = 0.5  # mean magnitude of every convolution's output
SEED = 5


def lively(network: nn.Module, channels: int = 1, side: int = 32) -> nn.Module:
    """Random weights with which every layer matters.

    Published initial weights are so small that every output would be the picture, or zero: nothing
    that happens in the network could then be seen from outside.
    """
    torch.manual_seed(SEED)
    hooks = []
    for layer in network.modules():
        if isinstance(layer, EdgecarNet) and layer.takes_quantiser:
            nn.init.uniform_(layer.shift.weight, -LIVELY, LIVELY)
            nn.init.uniform_(layer.gain.weight, 0.5, 1.5)
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(layer.weight)
            if layer.bias is not None:
                nn.init.uniform_(layer.bias, -0.1, 0.1)
            hooks.append(layer.register_forward_hook(_scale))
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.uniform_(layer.bias, -0.1, 0.1)
            nn.init.uniform_(layer.running_mean, -0.1, 0.1)
            nn.init.uniform_(layer.running_var, 0.5, 1.5)
    with torch.no_grad():
        network.eval()(torch.rand(1, channels, side, side))
    for hook in hooks:
        hook.remove()
    return network


def _scale(layer: nn.Module, _given: tuple[Tensor, ...], made: Tensor) -> Tensor:
    factor = LIVELY / made.abs().mean().clamp_min(1e-3)
    for weight in layer.parameters():
        weight.mul_(factor)
    return made * factor


def unanswered(artifact: Artifact) -> Artifact:
    """An artifact without its known answer, to be changed, or run by a function."""
    return replace(artifact, metadata=replace(artifact.metadata, known_answer=None))


def narrow(name: str, channels: int = 1) -> nn.Module:
    """A network of the zoo, small and lively."""
    card = card_named(name)
    config = NARROW.get(name) if channels == 1 else None
    return lively(card.build(config or card.config(channels)), channels)


def told_network() -> nn.Module:
    """The smallest network that takes the quantiser, which changes its output everywhere."""
    network = narrow("edgecar-n")
    with torch.no_grad():
        for weight in network.convs[-1].parameters():
            weight.mul_(0.2)  # a residual that leaves most pixels within the range of codes
    return network
