"""Deep multi-scale IQA: a quality score from a distorted picture and its difference to the source.

Zhou and Chen, "Deep Multi-Scale Features Learning for Distorted Image Quality Assessment", ISCAS
2021. It judges pictures and restores none, so it is no card of the registry. Where the paper leaves
a layer out of its text, the comment beside it says what is taken.
"""

from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgecar.errors import CheckpointError, SettingsError
from edgecar.zoo.card import State

PATCH_PX = 128
POOLED_AFTER = (0, 1, 4)  # convolutions, as in AlexNet, by which the streams are inspired
LEVEL_BINS = 4  # per side, of each level of the feature pyramid
Streams = Literal["both", "distorted", "residual"]


@dataclass(frozen=True)
class IqaConfig:
    """Sizes of the network; the defaults are the paper's, the switches are the rows of table 2.

    Attributes:
        kernels: Widths of the five 3×3 convolutions of a stream.
        bins: Bins per side of the spatial pyramid pooling.
        fully_connected: Widths of the hidden layers before the score.
        streams: Inputs that the network sees.
        multi_scale: False: the streams' last features are concatenated as they are ("direct
            concat"), without spatial pyramid pooling and feature pyramid.
    """

    kernels: tuple[int, ...] = (8, 8, 16, 16, 32)
    bins: tuple[int, ...] = (1, 2, 4, 8)
    fully_connected: tuple[int, ...] = (2048, 1024)
    streams: Streams = "both"
    multi_scale: bool = True

    def __post_init__(self) -> None:
        if len(self.kernels) <= POOLED_AFTER[-1]:
            raise SettingsError(f"kernels are {list(self.kernels)}; need five convolutions")
        side = PATCH_PX >> len(POOLED_AFTER)
        unfit = [bins for bins in self.bins if bins < 1 or side % bins]
        if unfit or not self.bins:
            raise SettingsError(f"bins are {list(self.bins)}; need divisors of {side}")
        if min((*self.kernels, *self.fully_connected)) < 1:
            raise SettingsError("kernels and fully_connected must be at least 1 wide")
        if self.streams not in get_args(Streams):
            raise SettingsError(f"streams is {self.streams!r}; use {', '.join(get_args(Streams))}")


class Stream(nn.Module):
    """Five convolutions with batch normalisation and ELU (Eq. 2), the pooling of AlexNet."""

    def __init__(self, kernels: tuple[int, ...]) -> None:
        super().__init__()
        widths = (1, *kernels)
        self.convs = nn.ModuleList(
            nn.Conv2d(narrow, wide, 3, padding=1, bias=False)  # the normalisation has a bias
            for narrow, wide in zip(widths, kernels, strict=False)
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for width in kernels)

    def forward(self, plane: Tensor) -> list[Tensor]:
        """Return the features after each pooling, the finest first, of ``(N, 1, 128, 128)``."""
        levels: list[Tensor] = []
        features = plane
        for index, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            features = norm(conv(features))
            if index in POOLED_AFTER:
                # Before ELU, which rises everywhere: the same values at a quarter of the work.
                levels.append(functional.elu(functional.max_pool2d(features, 2)))
                features = levels[-1]
            else:
                features = functional.elu(features)
        return levels  # sides of 64, 32 and 16 px


class FeaturePyramid(nn.Module):
    """Levels of the distorted picture's stream, merged from coarse to fine (Lin et al., [29]).

    The paper names the method and no sizes: here every level gets a 1×1 convolution to the width of
    the coarsest, takes up the level below it, and is averaged in 4×4 bins for the score.
    """

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.laterals = nn.ModuleList(nn.Conv2d(width, widths[-1], 1) for width in widths)

    def forward(self, levels: list[Tensor]) -> Tensor:
        merged = self.laterals[-1](levels[-1])
        bins = [binned(merged, LEVEL_BINS)]
        for lateral, level in zip(self.laterals[-2::-1], levels[-2::-1], strict=True):
            merged = lateral(level) + functional.interpolate(merged, scale_factor=2.0)
            bins.append(binned(merged, LEVEL_BINS))
        return torch.cat(bins, dim=1)


def binned(features: Tensor, bins: int) -> Tensor:
    """Average over ``bins`` × ``bins`` equal parts of each channel, ``(N, C bins²)``."""
    return functional.avg_pool2d(features, features.shape[-1] // bins).flatten(1)


class MultiscaleIqa(nn.Module):
    """Quality score of a patch (Fig. 2)."""

    def __init__(self, config: IqaConfig) -> None:
        super().__init__()
        self.config = config
        seen = ("distorted", "residual") if config.streams == "both" else (config.streams,)
        self.streams = nn.ModuleDict({name: Stream(config.kernels) for name in seen})
        self.pyramid: FeaturePyramid | None = None
        if config.multi_scale and "distorted" in seen:
            self.pyramid = FeaturePyramid(tuple(config.kernels[index] for index in POOLED_AFTER))
        layers: list[nn.Module] = []
        width = self._features(len(seen))
        for wide in config.fully_connected:
            layers += [nn.Linear(width, wide), nn.ELU()]
            width = wide
        self.score = nn.Sequential(*layers, nn.Linear(width, 1))

    def forward(self, planes: Tensor) -> Tensor:
        """Score ``(N, 2, 128, 128)``: distorted luma and residual map (Eq. 1), in [0, 1].

        Returns:
            ``(N, 1)``.
        """
        parts: list[Tensor] = []
        for name, plane in (("distorted", planes[:, :1]), ("residual", planes[:, 1:])):
            if name not in self.streams:
                continue
            levels = self.streams[name](plane)
            if not self.config.multi_scale:
                parts.append(levels[-1].flatten(1))
                continue
            # Spatial pyramid pooling (Fig. 3): means, as in [28], which the paper follows.
            parts += [binned(levels[-1], bins) for bins in self.config.bins]
            if name == "distorted" and self.pyramid is not None:
                parts.append(self.pyramid(levels))
        score: Tensor = self.score(torch.cat(parts, dim=1))
        return score

    def _features(self, streams: int) -> int:
        """Number of features that the fully connected layers read."""
        last, side = self.config.kernels[POOLED_AFTER[-1]], PATCH_PX >> len(POOLED_AFTER)
        if not self.config.multi_scale:
            return streams * last * side**2
        pooled = streams * last * sum(bins**2 for bins in self.config.bins)
        levels = len(POOLED_AFTER) * last * LEVEL_BINS**2 if self.pyramid is not None else 0
        return pooled + levels


def rescaled_(network: MultiscaleIqa, low: float, span: float) -> None:
    """Make a network that scores 0 to 1 score ``low`` to ``low + span``, in place and exactly."""
    last = network.score[-1]
    assert isinstance(last, nn.Linear)
    with torch.no_grad():
        last.weight.mul_(span)
        last.bias.mul_(span).add_(low)


def network_from_state(state: State, config: dict[str, Any]) -> MultiscaleIqa:
    """Build the network of a checkpoint, in evaluation mode.

    Args:
        state: Tensors; half precision is widened.
        config: Configuration as plain values, stored beside it.

    Raises:
        CheckpointError: They do not fit each other.
    """
    try:
        values: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in config.items()
        }
        network = MultiscaleIqa(IqaConfig(**values))
        network.load_state_dict({name: tensor.float() for name, tensor in state.items()})
    except (RuntimeError, TypeError, SettingsError) as error:
        raise CheckpointError(
            f"weights do not fit their configuration ({str(error).splitlines()[0]}); keep what a "
            "training run wrote together"
        ) from error
    return network.eval()
