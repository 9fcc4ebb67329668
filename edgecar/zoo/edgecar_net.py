"""edgecar-xs, -s and -m: our own small networks for cameras.

A strided 6×6 convolution (a pixel-unshuffle and a 3×3 convolution in one), 3×3 convolutions at half
resolution, and a depth-to-space that adds the residual to the picture. No attention, no
normalisation: every engine and INT8 kernel runs this at full speed, and its receptive field is
small and finite. `benchmarks.run.design_study` compares it with other shapes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgecar.zoo.card import Card, Recognised, State, numbered

SCALE = 2  # luma pixels per feature, each way
STEM_KERNEL = 3 * SCALE
SLOPE = 0.1  # of LeakyReLU: with plain ReLU the same training ends lower


@dataclass(frozen=True)
class PlainConfig:
    """Sizes of the network."""

    channels: int = 1
    width: int = 32
    layers: int = 6


class Plain(nn.Module):
    """Adds a predicted residual to the picture; sides must be even."""

    def __init__(self, config: PlainConfig) -> None:
        super().__init__()
        self.config = config
        widths = [config.channels, *[config.width] * (config.layers - 1)]
        convs = [self._layer(*pair, first=not i) for i, pair in enumerate(pairwise(widths))]
        convs.append(self._layer(config.width, config.channels * SCALE**2, first=False))
        self.convs = nn.ModuleList(convs)
        with torch.no_grad():
            for weight in convs[-1].parameters():
                weight.mul_(0.1)  # start near the identity: the picture itself

    def _layer(self, channels: int, width: int, *, first: bool) -> nn.Conv2d:
        kernel, stride = (STEM_KERNEL, SCALE) if first else (3, 1)
        conv = nn.Conv2d(channels, width, kernel, stride, (kernel - stride) // 2)
        nn.init.kaiming_normal_(conv.weight, SLOPE)
        nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
        return conv

    def forward(self, picture: Tensor) -> Tensor:
        """Restore ``(N, C, H, W)`` in [0, 1]."""
        features = picture
        for conv in self.convs[:-1]:
            features = functional.leaky_relu(conv(features), SLOPE)  # (N, width, H/2, W/2)
        residual = functional.pixel_shuffle(self.convs[-1](features), SCALE)  # (N, C, H, W)
        return picture + residual


def recognise_size(width: int, layers: int) -> Callable[[State], Recognised | None]:
    """A check for one size of the family."""

    def recognise(state: State) -> Recognised | None:
        first = state.get("convs.0.weight")
        if first is None or len(numbered(state, "convs.")) != layers:
            return None
        if first.shape[0] != width or first.shape[2:] != (STEM_KERNEL, STEM_KERNEL):
            return None
        return Recognised(PlainConfig(first.shape[1], width, layers), state)

    return recognise


def card(name: str, width: int, layers: int) -> Card:
    """The card of one size."""
    return Card(
        name=name,
        paper="ours",
        configs={1: PlainConfig(1, width, layers), 3: PlainConfig(3, width, layers)},
        build=Plain,
        recognise=recognise_size(width, layers),
        align_px=SCALE,
    )


XS = card("edgecar-xs", width=16, layers=6)
S = card("edgecar-s", width=32, layers=6)
M = card("edgecar-m", width=64, layers=8)
