"""edgecar-n, -xs, -s and -m: our own small networks for cameras.

A strided 6×6 convolution (a pixel-unshuffle and a 3×3 convolution in one), 3×3 convolutions at half
resolution, and a depth-to-space that adds the residual to the picture. No attention, no
normalisation: every engine and INT8 kernel runs this at full speed, and its receptive field is
small and finite. The quantiser of the coder, where it is given, moves the bias of the first layer
and scales the residual. `benchmarks.run.design_study` compares it with other shapes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgecar.spec import MIDDLE_QUANTISER
from edgecar.zoo.card import Card, Recognised, State, numbered

SCALE = 2  # luma pixels per feature, each way
STEM_KERNEL = 3 * SCALE
SLOPE = 0.1  # of LeakyReLU: with plain ReLU the same training ends lower
KNOTS = 9  # evenly spaced over the range of quantisers: every six QPs of H.264
IDENTITY_KNOTS = 2
"""Knots without a residual: what is as fine as QP 6 or JPEG quality 99 stays as it is."""


@dataclass(frozen=True)
class EdgecarConfig:
    """Sizes of the network.

    Attributes:
        channels: 1 for luma, 3 for RGB.
        width: Features of every layer but the last.
        layers: Convolutions.
        knots: Quantisers at which shifts and gains are learned, more than two; 0 makes a network
            without that input.
    """

    channels: int = 1
    width: int = 32
    layers: int = 6
    knots: int = KNOTS


class EdgecarNet(nn.Module):
    """Adds a predicted residual to the picture; sides must be even."""

    def __init__(self, config: EdgecarConfig) -> None:
        super().__init__()
        self.config = config
        widths = [config.channels, *[config.width] * (config.layers - 1)]
        convs = [self._layer(*pair, first=not i) for i, pair in enumerate(pairwise(widths))]
        convs.append(self._layer(config.width, config.channels * SCALE**2, first=False))
        self.convs = nn.ModuleList(convs)
        with torch.no_grad():
            for weight in convs[-1].parameters():
                weight.mul_(0.1)  # start near the identity: the picture itself
        if config.knots:
            self.shift = nn.Linear(config.knots, config.width, bias=False)
            self.gain = nn.Linear(config.knots - IDENTITY_KNOTS, 1, bias=False)
            nn.init.zeros_(self.shift.weight)
            nn.init.ones_(self.gain.weight)

    @property
    def takes_quantiser(self) -> bool:
        """True if the network has the second input."""
        return self.config.knots > 0

    def _layer(self, channels: int, width: int, *, first: bool) -> nn.Conv2d:
        kernel, stride = (STEM_KERNEL, SCALE) if first else (3, 1)
        conv = nn.Conv2d(channels, width, kernel, stride, (kernel - stride) // 2)
        nn.init.kaiming_normal_(conv.weight, SLOPE)
        nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
        return conv

    def forward(self, picture: Tensor, quantiser: Tensor | None = None) -> Tensor:
        """Restore ``(N, C, H, W)`` in [0, 1].

        Args:
            picture: The coded pictures.
            quantiser: ``(N,)`` in [0, 1], by `edgecar.media.quantiser`; None takes the middle of
                the range. A network without knots ignores it.
        """
        if quantiser is None:
            quantiser = torch.full_like(picture[:, 0, 0, 0], MIDDLE_QUANTISER)
        shares = shares_of_knots(quantiser, self.config.knots)  # (N, knots)
        features = self.convs[0](picture)  # (N, width, H/2, W/2)
        if self.config.knots:
            features = features + interpolated(self.shift, shares)[:, :, None, None]
        features = functional.leaky_relu(features, SLOPE)
        for conv in self.convs[1:-1]:
            features = functional.leaky_relu(conv(features), SLOPE)
        residual = self.convs[-1](features)  # (N, 4 C, H/2, W/2)
        if self.config.knots:
            gain = interpolated(self.gain, shares[:, IDENTITY_KNOTS:])
            residual = residual * gain[:, :, None, None]
        return picture + functional.pixel_shuffle(residual, SCALE)


def shares_of_knots(quantiser: Tensor, knots: int) -> Tensor:
    """Return the share of each knot in quantisers between them, ``(N, knots)``.

    Args:
        quantiser: ``(N,)`` in [0, 1].
        knots: Number of knots, evenly spaced over that range.

    Example:
        >>> shares_of_knots(torch.tensor([0.25]), 3)
        tensor([[0.5000, 0.5000, 0.0000]])
    """
    places = torch.arange(float(knots), device=quantiser.device)
    return functional.relu(1 - (quantiser[:, None] * (knots - 1) - places).abs())


def interpolated(table: nn.Linear, shares: Tensor) -> Tensor:
    """Return the values of a table between its knots, from shares ``(N, knots)`` of these.

    A sum of products and not a matrix product: TensorRT-RTX has none in FP32 for Turing, and with
    no more than two shares above nought, every order of the sum gives the same bits.
    """
    return (shares[:, None] * table.weight).sum(2)


def recognise_size(width: int, layers: int) -> Callable[[State], Recognised | None]:
    """A check for one size of the family."""

    def recognise(state: State) -> Recognised | None:
        first = state.get("convs.0.weight")
        if first is None or len(numbered(state, "convs.")) != layers:
            return None
        if first.shape[0] != width or first.shape[2:] != (STEM_KERNEL, STEM_KERNEL):
            return None
        shift = state.get("shift.weight")
        knots = 0 if shift is None else shift.shape[1]
        return Recognised(EdgecarConfig(first.shape[1], width, layers, knots), state)

    return recognise


def card(name: str, width: int, layers: int) -> Card:
    """The card of one size."""
    return Card(
        name=name,
        paper="ours",
        configs={channels: EdgecarConfig(channels, width, layers) for channels in (1, 3)},
        build=EdgecarNet,
        recognise=recognise_size(width, layers),
        align_px=SCALE,
    )


N = card("edgecar-n", width=8, layers=6)
XS = card("edgecar-xs", width=16, layers=6)
S = card("edgecar-s", width=32, layers=6)
M = card("edgecar-m", width=64, layers=8)
