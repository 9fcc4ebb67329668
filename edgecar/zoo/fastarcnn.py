"""FastARCNN: ARCNN at half resolution, with shrinking and expanding 1×1 layers.

Yu et al., "Deep Convolution Networks for Compression Artifacts Reduction", 2016. Layer names follow
the public PyTorch layout, so its checkpoints load as they are.
"""

from dataclasses import dataclass
from typing import get_args

from torch import Tensor, nn

from edgecar.zoo.arcnn import Activation, activation
from edgecar.zoo.card import Card, Recognised, State


@dataclass(frozen=True)
class FastArcnnConfig:
    """Settings that vary between published FastARCNNs."""

    channels: int = 1
    activation: Activation = "prelu"


class FastArcnn(nn.Module):
    """Maps a coded picture straight to the restored one; sides must be even."""

    def __init__(self, config: FastArcnnConfig) -> None:
        super().__init__()
        self.config = config
        self.base = nn.Sequential(
            nn.Conv2d(config.channels, 64, 9, stride=2, padding=4),  # (N, 64, H/2, W/2)
            activation(config.activation),
            nn.Conv2d(64, 32, 1),  # shrinking
            activation(config.activation),
            nn.Conv2d(32, 32, 7, padding=3),  # enhancement
            activation(config.activation),
            nn.Conv2d(32, 64, 1),  # mapping
            activation(config.activation),
        )
        self.last = nn.ConvTranspose2d(
            64, config.channels, 9, stride=2, padding=4, output_padding=1
        )  # (N, C, H, W)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.normal_(layer.weight, std=0.001)
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]  # every layer here has one

    def forward(self, picture: Tensor) -> Tensor:
        """Restore ``(N, C, H, W)`` in [0, 1]."""
        restored: Tensor = self.last(self.base(picture))
        return restored


def recognise(state: State) -> Recognised | None:
    """FastARCNN in the public PyTorch layout."""
    first, third = state.get("base.0.weight"), state.get("base.4.weight")
    if first is None or third is None or third.shape[2:] != (7, 7):
        return None
    kind: Activation = "prelu" if "base.1.weight" in state else "relu"
    return Recognised(FastArcnnConfig(first.shape[1], kind), state)


CARD = Card(
    name="fastarcnn",
    paper="Yu et al., 2016",
    configs={1: FastArcnnConfig(1), 3: FastArcnnConfig(3)},
    build=FastArcnn,
    recognise=recognise,
    by_shape=tuple(FastArcnnConfig(c, kind) for c in (1, 3) for kind in get_args(Activation)),
    align_px=2,
)
