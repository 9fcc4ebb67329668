"""MSFAN: multi-scale features from dilated convolutions, weighted by channel attention.

Kim and Jun, "Artifacts Reduction Using Multi-Scale Feature Attention Network in Compressed Medical
Images", CMC 2022. The paper leaves some layer settings out of its text; those used here are the
ones that give its 765,587 parameters and 29.45 MB (table 10).
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from edgecar.zoo.card import Card, Recognised, State, numbered

# Fig. 5 names the factors, not their order.
DILATIONS = (1, 2, 3, 2, 1)
NO_SKIP = "no_skip"


@dataclass(frozen=True)
class MsfanConfig:
    """Sizes of the network; the defaults are the paper's, other values are its ablations."""

    channels: int = 1
    width: int = 64  # table 8
    blocks: int = 4  # Fig. 3
    attention_layers: int = 2  # table 9: 1×1 layers in a channel attention block
    reduction: int = 16
    # Table 7 switches parts off, and does not say how. A block that is off passes on what it gets:
    # were it left out of the chain, all four rows would be one network of three blocks.
    block_off: int = 0  # 1 to 4; 0: none
    attention: bool = True  # off: every channel, everywhere, has the weight 1
    skip: bool = True  # off: the picture is not added, so that it is predicted, not the residual


class ChannelAttention(nn.Module):
    """Scales each channel by a weight from the mean of all channels (Eq. 2 and 3)."""

    def __init__(self, width: int, reduction: int, layers: int) -> None:
        super().__init__()
        narrow = width // reduction
        widths = [width, *[narrow] * (layers - 1), width]
        self.pool = nn.AdaptiveAvgPool2d(1)
        steps: list[nn.Module] = []
        for index, (wide, out) in enumerate(pairwise(widths)):
            last = index == layers - 1
            steps += [nn.Conv2d(wide, out, 1, bias=False), nn.Sigmoid() if last else nn.ReLU()]
        self.weigh = nn.Sequential(*steps)

    def forward(self, features: Tensor) -> Tensor:
        weights: Tensor = self.weigh(self.pool(features))  # (N, C, 1, 1)
        return features * weights


def channel_attention(config: MsfanConfig, width: int) -> nn.Module:
    """Attention over ``width`` channels, or nothing where it is switched off."""
    if not config.attention:
        return nn.Identity()
    return ChannelAttention(width, config.reduction, config.attention_layers)


class FeatureExtraction(nn.Module):
    """Five dilated convolutions and an attention-weighted skip (Fig. 4b)."""

    def __init__(self, config: MsfanConfig) -> None:
        super().__init__()
        steps: list[nn.Module] = []
        for index, dilation in enumerate(DILATIONS):
            # Eq. 4: this padding keeps the size.
            steps.append(
                nn.Conv2d(
                    config.width, config.width, 3, padding=dilation, dilation=dilation, bias=False
                )
            )
            if index < len(DILATIONS) - 1:
                steps.append(nn.PReLU())
        self.convs = nn.Sequential(*steps)
        self.skip = channel_attention(config, config.width)

    def forward(self, features: Tensor) -> Tensor:
        extracted: Tensor = self.convs(features) + self.skip(features)
        return extracted


class Msfan(nn.Module):
    """Adds a predicted residual to the picture (Fig. 3)."""

    def __init__(self, config: MsfanConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.input = nn.Conv2d(config.channels, width, 3, padding=1, bias=False)
        self.input_act = nn.PReLU()
        self.blocks = nn.ModuleList(
            nn.Identity() if number == config.block_off else FeatureExtraction(config)
            for number in range(1, config.blocks + 1)
        )
        self.attention = channel_attention(config, width * config.blocks)
        self.bottleneck = nn.Conv2d(width * config.blocks, width, 1, bias=False)
        self.bottleneck_act = nn.PReLU()
        self.skip = channel_attention(config, width)
        self.output = nn.Conv2d(width, config.channels, 3, padding=1)
        if not config.skip:  # no weight tells: without this mark, a checkpoint would be misread
            self.register_buffer(NO_SKIP, torch.zeros(()))
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.orthogonal_(layer.weight)  # table 1

    def forward(self, picture: Tensor) -> Tensor:
        """Restore ``(N, C, H, W)`` in [0, 1]."""
        first: Tensor = self.input_act(self.input(picture))  # F1
        stages: list[Tensor] = []
        features = first
        for block in self.blocks:
            features = block(features)
            stages.append(features)
        joined = self.attention(torch.cat(stages, dim=1))  # F2 weighted
        fused = self.bottleneck_act(self.bottleneck(joined)) + self.skip(first)  # F3
        residual: Tensor = self.output(fused)  # F4
        return picture + residual if self.config.skip else residual


def recognise(state: State) -> Recognised | None:
    """MSFAN by its attention and extraction blocks."""
    first, fuse = state.get("input.weight"), state.get("bottleneck.weight")
    if first is None or fuse is None:
        return None
    width = first.shape[0]
    blocks = fuse.shape[1] // width
    off = [n for n in range(1, blocks + 1) if f"blocks.{n - 1}.convs.0.weight" not in state]
    if len(off) > 1:
        return None
    own = MsfanConfig()
    wide = state.get("attention.weigh.0.weight")
    config = MsfanConfig(
        channels=first.shape[1],
        width=width,
        blocks=blocks,
        attention_layers=len(numbered(state, "attention.weigh.")) or own.attention_layers,
        reduction=own.reduction if wide is None else wide.shape[1] // wide.shape[0],
        block_off=off[0] if off else 0,
        attention=wide is not None,
        skip=NO_SKIP not in state,
    )
    return Recognised(config, state)


CARD = Card(
    name="msfan",
    paper="Kim and Jun, CMC 2022",
    configs={1: MsfanConfig(1), 3: MsfanConfig(3)},
    build=Msfan,
    recognise=recognise,
    context="windowed",  # channel attention averages over the whole picture
)
