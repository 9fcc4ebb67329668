"""DnCNN: a plain deep network that predicts the error of the picture.

Zhang et al., "Beyond a Gaussian Denoiser: Residual Learning of Deep CNN for Image Denoising", IEEE
TIP 2017. Twenty layers with batch normalisation for JPEG (the MSFAN paper's table 10 counts that
one); seventeen layers with the normalisation folded into biases in the widely used KAIR weights.
"""

import re
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from edgecar.zoo.card import Card, Recognised, State, numbered


@dataclass(frozen=True)
class DncnnConfig:
    """Settings that vary between published DnCNNs."""

    channels: int = 1
    depth: int = 20
    width: int = 64
    batch_norm: bool = True  # without it every convolution has a bias
    biases: bool = False  # with it too: in networks of others, whose normalisation does not suffice


class Dncnn(nn.Module):
    """Subtracts the predicted error from the picture."""

    def __init__(self, config: DncnnConfig) -> None:
        super().__init__()
        self.config = config
        biased = config.biases or not config.batch_norm
        layers: list[nn.Module] = [
            nn.Conv2d(config.channels, config.width, 3, padding=1),
            nn.ReLU(inplace=True),
        ]
        for _ in range(config.depth - 2):
            layers.append(nn.Conv2d(config.width, config.width, 3, padding=1, bias=biased))
            if config.batch_norm:
                layers.append(nn.BatchNorm2d(config.width))
            layers.append(nn.ReLU(inplace=True))
        layers.append(nn.Conv2d(config.width, config.channels, 3, padding=1, bias=biased))
        self.model = nn.Sequential(*layers)

    def forward(self, picture: Tensor) -> Tensor:
        """Restore ``(N, C, H, W)`` in [0, 1]."""
        error: Tensor = self.model(picture)
        return picture - error


LAYER = re.compile(r"(?:(?P<name>\w+)\.)?(?P<number>\d+)\.(?P<part>\w+)")


def recognise(state: State) -> Recognised | None:
    """DnCNN as one sequence of layers, whatever its name: ``model.N``, ``dncnn.N``, ``N``."""
    found = {key: LAYER.fullmatch(key) for key, tensor in state.items() if _is_layer(key, tensor)}
    if not all(found.values()) or len({match["name"] for match in found.values() if match}) != 1:
        return None
    state = {
        f"{match['number']}.{match['part']}": state[key] for key, match in found.items() if match
    }
    convs = [n for n in numbered(state, "") if state[f"{n}.weight"].dim() == 4]
    if len(convs) < 3 or convs[1] != 2:
        return None
    first = state["0.weight"]
    if first.shape[2:] != (3, 3):
        return None
    batch_norm = any(key.endswith("running_mean") for key in state)
    biased = [f"{n}.bias" in state for n in convs]
    if batch_norm and len(set(biased[1:-1])) < 2:  # authors differ in where they leave biases out
        for n in convs if any(biased[1:]) else convs[:1]:
            state.setdefault(f"{n}.bias", torch.zeros(len(state[f"{n}.weight"])))
    config = DncnnConfig(
        first.shape[1], len(convs), first.shape[0], batch_norm, batch_norm and any(biased[1:])
    )
    return Recognised(config, {f"model.{key}": tensor for key, tensor in state.items()})


def _is_layer(key: str, tensor: Tensor) -> bool:
    return "." in key or tensor.numel() > 1  # single numbers beside the layers count steps


CARD = Card(
    name="dncnn",
    paper="Zhang et al., IEEE TIP 2017",
    configs={1: DncnnConfig(1), 3: DncnnConfig(3)},
    build=Dncnn,
    recognise=recognise,
)
