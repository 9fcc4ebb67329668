"""GL-Fusion: three streams for global appearance and local coding distortion.

Yue et al., "A Global Appearance and Local Coding Distortion based Fusion Framework for CNN based
Filtering in Video Coding", 2021. Every convolution is followed by batch normalisation and ReLU (Eq.
1) but for the last. Where the text leaves a choice open it is the plainest one: the shared first
layers are the first two of the six-layer stream (as many as a stage of the U-Net has), enlargement
is nearest-neighbour, the attention's 1×1 layers shrink by 16 and its spatial kernel is 7×7 as in
CBAM, which it modifies.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from edgecar.zoo.card import Card, Recognised, State


@dataclass(frozen=True)
class GlFusionConfig:
    """Sizes of the network; the defaults are the paper's."""

    channels: int = 1
    width: int = 64
    scales: int = 4  # down-scale operations of the global stream
    modules: int = 5  # mixed-scale residual modules
    reduction: int = 16


def conv(channels: int, width: int) -> nn.Sequential:
    """Eq. 1: 3×3 convolution, batch normalisation, ReLU."""
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(inplace=True)
    )


class GlobalStream(nn.Module):
    """High-level global features: a U-Net on the shared features (Eq. 2 and 3)."""

    def __init__(self, width: int, scales: int) -> None:
        super().__init__()
        widths = [width * 2**scale for scale in range(scales + 1)]
        self.pool = nn.MaxPool2d(2)
        self.enlarge = nn.Upsample(scale_factor=2, mode="nearest")
        self.down = nn.ModuleList(
            nn.Sequential(conv(widths[i], widths[i + 1]), conv(widths[i + 1], widths[i + 1]))
            for i in range(scales)
        )
        self.up = nn.ModuleList(
            nn.Sequential(conv(widths[i + 1] + widths[i], widths[i]), conv(widths[i], widths[i]))
            for i in reversed(range(scales))
        )

    def forward(self, features: Tensor) -> Tensor:
        skips = [features]
        for stage in self.down:
            skips.append(stage(self.pool(skips[-1])))
        deep = skips.pop()
        for stage in self.up:
            deep = stage(torch.cat([self.enlarge(deep), skips.pop()], dim=1))
        return deep


class MixedScaleModule(nn.Module):
    """A trunk and a half-resolution branch, fused, around a skip (Fig. 2; Eq. 4 to 6)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.trunk = conv(width, width)
        self.pool = nn.MaxPool2d(2)
        self.branch = conv(width, width)
        self.enlarge = nn.Upsample(scale_factor=2, mode="nearest")
        self.fuse = conv(2 * width, width)
        self.enhance = conv(width, width)

    def forward(self, features: Tensor) -> Tensor:
        trunk = self.trunk(features)
        coarse = self.enlarge(self.branch(self.pool(features)))
        enhanced: Tensor = self.enhance(self.fuse(torch.cat([trunk, coarse], dim=1)))
        return features + enhanced


class ChannelSpatialAttention(nn.Module):
    """CBAM with tanh, so that features can be suppressed as well as raised (Fig. 3)."""

    def __init__(self, width: int, reduction: int) -> None:
        super().__init__()
        narrow = max(1, width // reduction)
        self.weigh_channels = nn.Sequential(
            nn.Conv2d(width, narrow, 1), nn.ReLU(), nn.Conv2d(narrow, width, 1)
        )
        self.weigh_pixels = nn.Conv2d(2, 1, 7, padding=3)

    def forward(self, features: Tensor) -> Tensor:
        mean = self.weigh_channels(features.mean((2, 3), keepdim=True))
        peak = self.weigh_channels(features.amax((2, 3), keepdim=True))
        weighted = features * torch.tanh(mean + peak)
        maps = [weighted.mean(1, keepdim=True), weighted.amax(1, keepdim=True)]
        weighted = weighted * torch.tanh(self.weigh_pixels(torch.cat(maps, dim=1)))
        return features + weighted


class GlFusion(nn.Module):
    """Adds the restored distortion to the frame; sides must be multiples of 2**scales."""

    def __init__(self, config: GlFusionConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.shared = nn.Sequential(conv(config.channels, width), conv(width, width))
        self.low_local = nn.Sequential(*(conv(width, width) for _ in range(4)))
        self.high_global = GlobalStream(width, config.scales)
        self.high_local = nn.Sequential(*(MixedScaleModule(width) for _ in range(config.modules)))
        self.fuse_global = conv(2 * width, width)  # Eq. 7
        self.attend_global = ChannelSpatialAttention(width, config.reduction)
        self.attend_local = ChannelSpatialAttention(width, config.reduction)
        self.attend_fused = ChannelSpatialAttention(2 * width, config.reduction)
        self.output = nn.Conv2d(2 * width, config.channels, 3, padding=1)  # Eq. 8

    def forward(self, frame: Tensor) -> Tensor:
        """Restore ``(N, C, H, W)`` in [0, 1]."""
        first = self.shared(frame)
        low_local = self.low_local(first)
        high_global = self.fuse_global(torch.cat([self.high_global(first), low_local], dim=1))
        high_local = self.high_local(first)
        streams = [self.attend_global(high_global), self.attend_local(high_local)]
        residual: Tensor = self.output(self.attend_fused(torch.cat(streams, dim=1)))
        return frame + residual


def recognise(state: State) -> Recognised | None:
    """GL-Fusion by its shared layers and streams."""
    first, narrow = (
        state.get("shared.0.0.weight"),
        state.get("attend_fused.weigh_channels.0.weight"),
    )
    if first is None or narrow is None:
        return None

    def count(prefix: str) -> int:
        return len({k[len(prefix) :].split(".")[0] for k in state if k.startswith(prefix)})

    config = GlFusionConfig(
        channels=first.shape[1],
        width=first.shape[0],
        scales=count("high_global.down."),
        modules=count("high_local."),
        reduction=narrow.shape[1] // narrow.shape[0],
    )
    return Recognised(config, state)


CARD = Card(
    name="glfusion",
    paper="Yue et al., 2021",
    configs={1: GlFusionConfig(1), 3: GlFusionConfig(3)},
    build=GlFusion,
    recognise=recognise,
    context="windowed",  # its attention pools over the whole frame
    align_px=16,
)
