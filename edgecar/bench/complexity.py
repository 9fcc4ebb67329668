"""Cost of a network, without running it: parameters, arithmetic, the papers' memory figure.

Everything is counted on PyTorch's meta device, where tensors have a shape and no content.
"""

import copy
import math
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from edgecar.bench.results import BenchRow
from edgecar.errors import SettingsError
from edgecar.spec import Size
from edgecar.zoo.registry import card_named

FLOAT_BYTES = 4
FRAME_RATE = 30  # of the papers' TFLOPS
MEBIBYTE = 2**20
COUNTED = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
CONTAINERS = (nn.Sequential, nn.ModuleList)


@dataclass(frozen=True)
class Complexity:
    """Cost of one picture of one size.

    Attributes:
        height: Height of the picture in pixels.
        width: Width of the picture in pixels.
        params: Trainable scalars.
        published_memory_mb: The papers' comparison figure in units of 2^20 bytes: float32 input,
            parameters, and the output of every sub-module twice (once for the backward pass).
            Inference needs far less. Activations called as functions are not sub-modules.
        published_macs: Multiply-accumulates with one more per output for a bias, and with a
            transposed convolution counted as a full kernel at output resolution.
        macs: Multiply-accumulates truly done: no biases, and only the kernel taps of a transposed
            convolution that meet an input (a quarter of them at stride 2).
    """

    height: int
    width: int
    params: int
    published_memory_mb: float
    published_macs: int
    macs: int

    @property
    def published_tflops(self) -> float:
        """Published multiply-accumulates at 30 frames/s, in 1e12 a second, not rounded."""
        return self.published_macs * FRAME_RATE / 1e12

    @property
    def gmacs(self) -> float:
        """True multiply-accumulates a picture, in 1e9."""
        return self.macs / 1e9

    @property
    def kmacs_per_px(self) -> float:
        """True multiply-accumulates a pixel, in 1e3."""
        return self.macs / (self.height * self.width) / 1e3


@dataclass
class _Tally:
    """Sums that forward hooks add to."""

    outputs: int = 0
    macs: int = 0
    published_macs: int = 0

    def add(self, layer: nn.Module, given: tuple[Tensor, ...], made: Tensor) -> None:
        self.outputs += made.numel()
        if isinstance(layer, COUNTED):
            published = made.numel() * _taps(layer)
            self.published_macs += published + (made.numel() if layer.bias is not None else 0)
            if isinstance(layer, nn.ConvTranspose2d):
                # Every input value meets every tap of its kernels once.
                self.macs += given[0].numel() * layer.weight[0].numel()
            else:
                self.macs += published


def _taps(layer: nn.Conv2d | nn.ConvTranspose2d | nn.Linear) -> int:
    """Weights that one output value depends on, were none of the inputs left out."""
    if isinstance(layer, nn.Linear):
        return layer.in_features
    return layer.in_channels // layer.groups * math.prod(layer.kernel_size)


def complexity(network: nn.Module, channels: int, height: int, width: int) -> Complexity:
    """Count a network on one picture; the network itself is left alone.

    Raises:
        SettingsError: The network cannot read that shape, or has weights that no counted layer
            (convolution, transposed convolution, linear) holds.

    Example:
        >>> cost = complexity(nn.Sequential(nn.Conv2d(1, 4, 3, padding=1)), 1, 10, 20)
        >>> cost.params, cost.macs, cost.published_macs
        (40, 7200, 8000)
    """
    ghost = copy.deepcopy(network).to("meta", torch.float32).eval()
    _refuse_hidden_weights(ghost)
    tally = _Tally()
    for module in list(ghost.modules())[1:]:
        if type(module) not in CONTAINERS:
            module.register_forward_hook(tally.add)
    picture = torch.empty(1, channels, height, width, device="meta")
    try:
        with torch.inference_mode():
            ghost(picture)
    except RuntimeError as error:
        raise SettingsError(
            f"{type(network).__name__} cannot read {channels}×{height}×{width}; give the channels "
            f"it was built for and sides that are multiples of its align_px ({error})"
        ) from error
    params = sum(weight.numel() for weight in ghost.parameters())
    floats = picture.numel() + 2 * tally.outputs + params
    memory_mb = floats * FLOAT_BYTES / MEBIBYTE
    return Complexity(height, width, params, memory_mb, tally.published_macs, tally.macs)


def _refuse_hidden_weights(network: nn.Module) -> None:
    """Kernels used through functions would go uncounted; per-channel scales are point-wise work."""
    for name, module in network.named_modules():
        own = module.parameters(recurse=False)
        if not isinstance(module, COUNTED) and any(weight.dim() > 1 for weight in own):
            raise SettingsError(
                f"layer {name!r} ({type(module).__name__}) holds kernels of its own, which cannot "
                "be counted; give the deployed form: network.folded()"
            )


def complexity_row(network: str, channels: int, size: Size) -> BenchRow:
    """Cost of a network of the zoo as a row of a benchmark file, with nothing measured.

    Raises:
        SettingsError: No such network, or it cannot read that size.
    """
    card = card_named(network)
    height, width = size
    with torch.device("meta"):  # weights without content need no initialisation
        built = card.build(card.config(channels))
    cost = complexity(built, channels, height, width)
    unknown = dict.fromkeys(BenchRow.__annotations__)
    return cast(
        "BenchRow",
        {
            **unknown,
            **{"network": network, "channels": channels, "height": height, "width": width},
            "params": cost.params,
            "published_memory_mb": cost.published_memory_mb,
            "published_tflops": cost.published_tflops,
            "gmacs": cost.gmacs,
        },
    )
