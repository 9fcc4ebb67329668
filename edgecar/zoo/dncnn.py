"""DnCNN: a plain deep network that predicts the error of the picture.

Zhang et al., "Beyond a Gaussian Denoiser: Residual Learning of Deep CNN for Image Denoising", IEEE
TIP 2017. Twenty layers with batch normalisation for JPEG (the MSFAN paper's table 10 counts that
one); seventeen layers with the normalisation folded into biases in the widely used KAIR weights.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from edgecar.zoo.card import Card, Recognised, State, numbered


@dataclass(frozen=True)
class DncnnConfig:
    """What varies between published DnCNNs."""

    channels: int = 1
    depth: int = 20
    width: int = 64
    batch_norm: bool = True  # without it every convolution has a bias


class Dncnn(nn.Module):
    """Subtracts the predicted error from the picture."""

    def __init__(self, config: DncnnConfig) -> None:
        super().__init__()
        self.config = config
        folded = not config.batch_norm
        layers: list[nn.Module] = [
            nn.Conv2d(config.channels, config.width, 3, padding=1),
            nn.ReLU(inplace=True),
        ]
        for _ in range(config.depth - 2):
            layers.append(nn.Conv2d(config.width, config.width, 3, padding=1, bias=folded))
            if config.batch_norm:
                layers.append(nn.BatchNorm2d(config.width))
            layers.append(nn.ReLU(inplace=True))
        layers.append(nn.Conv2d(config.width, config.channels, 3, padding=1, bias=folded))
        self.model = nn.Sequential(*layers)

    def forward(self, picture: Tensor) -> Tensor:
        """Restore ``(N, C, H, W)`` in [0, 1]."""
        error: Tensor = self.model(picture)
        return picture - error


def recognise(state: State) -> Recognised | None:
    """DnCNN as ``model.N`` (ours, KAIR) or ``dncnn.N`` (the public PyTorch port)."""
    ported = "dncnn.0.weight" in state
    state = {f"model.{key.removeprefix('dncnn.')}" if key.startswith("dncnn.") else key: tensor
             for key, tensor in state.items()}  # fmt: skip
    convs = [n for n in numbered(state, "model.") if state[f"model.{n}.weight"].dim() == 4]
    if len(convs) < 3 or len(state) < len(convs) or any(not k.startswith("model.") for k in state):
        return None
    first = state[f"model.{convs[0]}.weight"]
    batch_norm = any(key.endswith("running_mean") for key in state)
    if first.shape[2:] != (3, 3) or convs[1] != 2:
        return None
    if ported and batch_norm:  # the older port has no biases at all
        state.setdefault("model.0.bias", torch.zeros(first.shape[0]))
    config = DncnnConfig(first.shape[1], len(convs), first.shape[0], batch_norm)
    return Recognised(config, state)


CARD = Card(
    name="dncnn",
    paper="Zhang et al., IEEE TIP 2017",
    configs={1: DncnnConfig(1), 3: DncnnConfig(3)},
    build=Dncnn,
    recognise=recognise,
)
