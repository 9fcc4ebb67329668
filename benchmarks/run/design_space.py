"""The candidates: networks around `edgecar.zoo.edgecar_net` that differ in one choice at a time.

All add a residual to the picture and compute at a fraction of its resolution. What did not earn
its cost lives here alone; the networks that ship are in the zoo.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgecar.errors import SettingsError

ACTIVATIONS = ("relu", "leaky", "prelu")
SCALES = (1, 2, 4, 8)
SLOPE = 0.1  # below zero, at the start where it is learned


@dataclass(frozen=True)
class Shape:
    """One point of the design space.

    Attributes:
        width: Maps of every hidden layer.
        depth: Convolutions, first and last included.
        scale: Pixels per feature, each way (pixel-unshuffle factor).
        activation: ``relu``; ``leaky`` has a slope of 0.1 below zero, ``prelu`` learns one a map.
        skips: Every hidden layer adds its input to its output.
        dilation: Dilation of every second hidden layer.
        branches: Train each layer as a sum of linear branches (re-parameterisation).
    """

    width: int
    depth: int
    scale: int = 2
    activation: Literal["relu", "leaky", "prelu"] = "relu"
    skips: bool = False
    dilation: int = 1
    branches: bool = False

    def __post_init__(self) -> None:
        if self.depth < 3 or self.width < 1 or self.activation not in ACTIVATIONS:
            raise SettingsError(f"{self} is no network; need 3 layers, 1 map, one of {ACTIVATIONS}")
        if self.scale not in SCALES or self.dilation < 1:
            raise SettingsError(f"{self} is no network; need a scale of {SCALES}, a dilation")
        if self.branches and self.dilation > 1:
            raise SettingsError(f"{self} is no network; linear branches are not dilated")


def activation_of(shape: Shape) -> nn.Module:
    """A new activation layer."""
    if shape.activation == "prelu":
        return nn.PReLU(shape.width, SLOPE)
    return nn.LeakyReLU(SLOPE) if shape.activation == "leaky" else nn.ReLU()


class Candidate(nn.Module):
    """A network of some shape; sides of the picture must be multiples of ``scale``."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        width, scale = shape.width, shape.scale
        dilations = [shape.dilation if number % 2 else 1 for number in range(shape.depth - 2)]
        convs = [
            self._conv(1, width, 3 * scale, scale),
            *(self._conv(width, width, 3, 1, dilation) for dilation in dilations),
            self._conv(width, scale**2, 3, 1),
        ]
        self.convs = nn.ModuleList(convs)
        self.activations = nn.ModuleList(activation_of(shape) for _ in range(shape.depth - 1))
        with torch.no_grad():
            for weight in convs[-1].parameters():
                weight.mul_(0.1)  # start near the identity: the picture itself

    def _conv(
        self, channels: int, width: int, kernel: int, stride: int, dilation: int = 1
    ) -> nn.Module:
        padding = (kernel - stride) // 2 * dilation
        if self.shape.branches:
            return BranchedConv(channels, width, kernel, stride)
        conv = nn.Conv2d(channels, width, kernel, stride, padding, dilation)
        nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
        nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
        return conv

    def forward(self, picture: Tensor) -> Tensor:
        """Restore ``(N, 1, H, W)`` in [0, 1]."""
        features = self.activations[0](self.convs[0](picture))  # (N, width, H/scale, W/scale)
        for conv, activation in zip(self.convs[1:-1], self.activations[1:], strict=True):
            made = conv(features)
            features = activation(made + features if self.shape.skips else made)
        return picture + functional.pixel_shuffle(self.convs[-1](features), self.shape.scale)

    def folded(self) -> "Candidate":
        """The deployed form: same output, plain convolutions only."""
        for number, conv in enumerate(self.convs):
            if isinstance(conv, BranchedConv):
                self.convs[number] = conv.folded()
        return self


class BranchedConv(nn.Module):
    """A convolution whose kernel is the sum of linear branches.

    ``kernel + project ∘ expand + point (+ identity)``: a direct kernel, a wide kernel projected by
    a 1×1 layer, a 1×1 kernel in the centre, and the input itself where the shapes allow (Bhardwaj
    et al., "Collapsible Linear Blocks", MLSys 2022; Zhang et al., "Edge-oriented Convolution
    Block", ACM MM 2021). They are summed before every step, so that training costs no more than a
    plain convolution.
    """

    EXPANSION = 4  # of the wide branch, times the layer's width

    def __init__(self, channels: int, width: int, kernel: int, stride: int) -> None:
        super().__init__()
        wide = self.EXPANSION * width
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
