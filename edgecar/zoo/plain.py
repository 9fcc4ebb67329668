"""edgecar-xs, -s and -m: our own small networks for cameras.

A strided 6×6 convolution (a pixel-unshuffle and a 3×3 convolution in one), 3×3 convolutions at half
resolution, and a depth-to-space that adds the residual to the picture. ReLU only, no attention, no
normalisation: every engine and INT8 kernel runs this at full speed, and its receptive field is
small and finite.

Each layer trains with more weights than it deploys: parallel and stacked linear branches (Bhardwaj
et al., "Collapsible Linear Blocks", MLSys 2022; Zhang et al., "Edge-oriented Convolution Block",
ACM MM 2021) that are summed into one kernel before every step, so that training costs no more than
the plain network and `folded` is exact.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgecar.zoo.card import Card, Recognised, State, numbered

SCALE = 2  # luma pixels per feature, each way
STEM_KERNEL = 3 * SCALE


@dataclass(frozen=True)
class PlainConfig:
    """Sizes of the network."""

    channels: int = 1
    width: int = 32
    layers: int = 6
    branches: bool = False  # training form; the deployed form is plain convolutions
    expansion: int = 4  # of the stacked branch, times the layer's width


class BranchedConv(nn.Module):
    """A convolution whose kernel is the sum of linear branches.

    ``kernel + project ∘ expand + point (+ identity)``: a direct kernel, a wide kernel projected by
    a 1×1 layer, a 1×1 kernel in the centre, and the input itself where the shapes allow.
    """

    def __init__(self, channels: int, width: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = expansion * width
        self.stride, self.padding = stride, (kernel - stride) // 2
        self.identity = channels == width and stride == 1
        self.kernel = nn.Parameter(torch.empty(width, channels, kernel, kernel))
        self.expand = nn.Parameter(torch.empty(wide, channels, kernel, kernel))
        self.project = nn.Parameter(torch.empty(width, wide))
        self.point = nn.Parameter(torch.zeros(width, channels, stride, stride))
        self.bias = nn.Parameter(torch.zeros(width))
        for weight in (self.kernel, self.expand, self.project):
            nn.init.kaiming_normal_(weight, nonlinearity="linear")
        with torch.no_grad():
            # The branches add up: share the variance that one layer should have.
            self.kernel.mul_(0.5)
            self.expand.mul_(0.5)

    def folded_kernel(self) -> Tensor:
        """The one kernel that all branches amount to, ``(width, channels, k, k)``."""
        stacked = torch.einsum("ow,wchv->ochv", self.project, self.expand)
        side = (self.kernel.shape[-1] - self.stride) // 2
        total = self.kernel + stacked + functional.pad(self.point, [side] * 4)
        if self.identity:
            eye = torch.eye(self.kernel.shape[0], dtype=total.dtype)[:, :, None, None]
            total = total + functional.pad(eye, [side] * 4)
        return total

    def forward(self, features: Tensor) -> Tensor:
        kernel = self.folded_kernel()
        return functional.conv2d(features, kernel, self.bias, self.stride, self.padding)

    def folded(self) -> nn.Conv2d:
        """The plain convolution that computes the same."""
        kernel = self.folded_kernel().detach()
        width, channels, size, _ = kernel.shape
        conv = nn.Conv2d(channels, width, size, self.stride, self.padding)
        conv.weight.data.copy_(kernel)
        conv.bias.data.copy_(self.bias.detach())  # type: ignore[union-attr]
        return conv


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

    def _layer(self, channels: int, width: int, *, first: bool) -> nn.Module:
        kernel, stride = (STEM_KERNEL, SCALE) if first else (3, 1)
        if self.config.branches:
            return BranchedConv(channels, width, kernel, stride, self.config.expansion)
        return nn.Conv2d(channels, width, kernel, stride, (kernel - stride) // 2)

    def forward(self, picture: Tensor) -> Tensor:
        """Restore ``(N, C, H, W)`` in [0, 1]."""
        features = picture
        for conv in self.convs[:-1]:
            features = functional.relu(conv(features))  # (N, width, H/2, W/2)
        residual = functional.pixel_shuffle(self.convs[-1](features), SCALE)  # (N, C, H, W)
        return picture + residual

    def folded(self) -> "Plain":
        """The deployed form: same output, plain convolutions only."""
        if not self.config.branches:
            return self
        plain = Plain(replace(self.config, branches=False))
        plain.convs = nn.ModuleList(
            conv.folded() for conv in self.convs if isinstance(conv, BranchedConv)
        )
        return plain.train(self.training)


def recognise_size(width: int, layers: int) -> Callable[[State], Recognised | None]:
    """A check for one size of the family, deployed or with its training branches."""

    def recognise(state: State) -> Recognised | None:
        branches = "convs.0.kernel" in state
        part = "kernel" if branches else "weight"
        first = state.get(f"convs.0.{part}")
        if first is None or len(numbered(state, "convs.", part)) != layers:
            return None
        if first.shape[0] != width or first.shape[2:] != (STEM_KERNEL, STEM_KERNEL):
            return None
        expansion = state["convs.0.project"].shape[1] // width if branches else 4
        config = PlainConfig(first.shape[1], width, layers, branches, expansion)
        return Recognised(config, state)

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
