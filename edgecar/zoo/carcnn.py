"""CAR-CNN: a 34-layer residual network for H.264 surveillance video.

Aqqa and Shah, "CAR-CNN: A Deep Residual Convolutional Neural Network for Compression Artifact
Removal in Video Surveillance Systems", VISAPP 2020. The text fixes 34 convolutions of 3×3, 64 maps,
15 residual blocks, LeakyReLU 0.2 after each and tanh at the end. How the three layers outside the
blocks and the first are placed is not printed: here two follow the blocks, inside a long skip. The
tanh output is the residual ("we propose to adapt the idea of residual learning").
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from edgecar.zoo.card import Card, Recognised, State

SLOPE = 0.2


@dataclass(frozen=True)
class CarcnnConfig:
    """Sizes of the network; the defaults are the paper's."""

    channels: int = 1
    width: int = 64
    blocks: int = 15


class ResidualBlock(nn.Module):
    """Two convolutions around a skip (Fig. 2)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.convs = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1),
            nn.LeakyReLU(SLOPE),
            nn.Conv2d(width, width, 3, padding=1),
            nn.LeakyReLU(SLOPE),
        )

    def forward(self, features: Tensor) -> Tensor:
        deeper: Tensor = features + self.convs(features)
        return deeper


class Carcnn(nn.Module):
    """Adds a residual in [-1, 1] to the picture."""

    def __init__(self, config: CarcnnConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.head = nn.Sequential(
            nn.Conv2d(config.channels, width, 3, padding=1), nn.LeakyReLU(SLOPE)
        )
        self.blocks = nn.Sequential(*(ResidualBlock(width) for _ in range(config.blocks)))
        self.tail = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1),
            nn.LeakyReLU(SLOPE),
            nn.Conv2d(width, width, 3, padding=1),
            nn.LeakyReLU(SLOPE),
        )
        self.output = nn.Conv2d(width, config.channels, 3, padding=1)

    def forward(self, picture: Tensor) -> Tensor:
        """Restore ``(N, C, H, W)`` in [0, 1]."""
        first = self.head(picture)
        features = first + self.tail(self.blocks(first))
        residual = torch.tanh(self.output(features))
        return picture + residual


def recognise(state: State) -> Recognised | None:
    """CAR-CNN by its head, tail and numbered blocks."""
    first = state.get("head.0.weight")
    if first is None or "tail.0.weight" not in state:
        return None
    blocks = len({key.split(".")[1] for key in state if key.startswith("blocks.")})
    return Recognised(CarcnnConfig(first.shape[1], first.shape[0], blocks), state)


CARD = Card(
    name="carcnn",
    paper="Aqqa and Shah, VISAPP 2020",
    configs={1: CarcnnConfig(1), 3: CarcnnConfig(3)},
    build=Carcnn,
    recognise=recognise,
)
