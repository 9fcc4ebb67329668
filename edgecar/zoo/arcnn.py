"""ARCNN: four convolutions that remove JPEG artifacts.

Dong et al., "Compression Artifacts Reduction by a Deep Convolutional Network", ICCV 2015. Layer
names and the shared-slope PReLU follow the public PyTorch layout, so its checkpoints load as they
are. The luma network of the MSFAN paper's table 10 has ReLU instead (106,561 parameters).
"""

from dataclasses import dataclass
from typing import Literal, get_args

from torch import Tensor, nn

from edgecar.zoo.card import Card, Recognised, State

Activation = Literal["relu", "prelu"]


@dataclass(frozen=True)
class ArcnnConfig:
    """Settings that vary between published ARCNNs."""

    channels: int = 1
    activation: Activation = "relu"
    relu_output: bool = False  # some checkpoints were trained with a ReLU after the last layer too


def activation(kind: Activation) -> nn.Module:
    """A new activation layer; PReLU has one slope shared by all channels."""
    return nn.PReLU() if kind == "prelu" else nn.ReLU(inplace=True)


class Arcnn(nn.Module):
    """Maps a coded picture straight to the restored one (no residual connection)."""

    def __init__(self, config: ArcnnConfig) -> None:
        super().__init__()
        self.config = config
        self.base = nn.Sequential(
            nn.Conv2d(config.channels, 64, 9, padding=4),  # feature extraction
            activation(config.activation),
            nn.Conv2d(64, 32, 7, padding=3),  # feature enhancement
            activation(config.activation),
            nn.Conv2d(32, 16, 1),  # mapping
            activation(config.activation),
        )
        self.last = nn.Conv2d(16, config.channels, 5, padding=2)  # reconstruction
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.normal_(layer.weight, std=0.001)
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]  # every layer here has one

    def forward(self, picture: Tensor) -> Tensor:
        """Restore ``(N, C, H, W)`` in [0, 1]."""
        restored: Tensor = self.last(self.base(picture))
        return restored.relu() if self.config.relu_output else restored


# Public checkpoints with other layer names and a ReLU after every convolution, the last included.
NUMBERED_NAMES = {"conv1": "base.0", "conv2": "base.2", "conv3": "base.4", "conv4": "last"}


def recognise(state: State) -> Recognised | None:
    """ARCNN in the public PyTorch layout, or with layers named conv1 to conv4."""
    if set(state) == {f"{name}.{part}" for name in NUMBERED_NAMES for part in ("weight", "bias")}:
        layers = {key: key.split(".") for key in state}
        renamed = {f"{NUMBERED_NAMES[n]}.{part}": state[key] for key, (n, part) in layers.items()}
        state, relu_output = renamed, True
    else:
        relu_output = False
    first, fourth = state.get("base.0.weight"), state.get("base.4.weight")
    if first is None or fourth is None or fourth.shape[:2] != (16, 32):
        return None
    kind: Activation = "prelu" if "base.1.weight" in state else "relu"
    return Recognised(ArcnnConfig(first.shape[1], kind, relu_output), state)


CARD = Card(
    name="arcnn",
    paper="Dong et al., ICCV 2015",
    configs={1: ArcnnConfig(1, "relu"), 3: ArcnnConfig(3, "prelu")},
    build=Arcnn,
    recognise=recognise,
    by_shape=tuple(ArcnnConfig(c, kind) for c in (1, 3) for kind in get_args(Activation)),
)
