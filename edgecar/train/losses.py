"""Losses that training minimises."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

from edgecar.errors import SettingsError

Loss = Callable[[Tensor, Tensor], Tensor]
"""Restored and clean pictures, ``(N, C, H, W)`` in [0, 1], to one number each, ``(N,)``."""

PIXELS = (1, 2, 3)
CHARBONNIER_EPSILON = 1e-3  # in units of the picture: a quarter of a code
SSIM_EDGE_PX = 5  # half of the window
CARCNN_SSIM_SHARE = 0.79  # Aqqa and Shah, section 3.3


def squared(restored: Tensor, clean: Tensor) -> Tensor:
    """Mean squared error."""
    return (restored - clean).square().mean(PIXELS)


def absolute(restored: Tensor, clean: Tensor) -> Tensor:
    """Mean absolute error."""
    return (restored - clean).abs().mean(PIXELS)


def charbonnier(restored: Tensor, clean: Tensor) -> Tensor:
    """A smooth mean absolute error."""
    return ((restored - clean).square() + CHARBONNIER_EPSILON**2).sqrt().mean(PIXELS)


def dissimilarity(restored: Tensor, clean: Tensor) -> Tensor:
    """1 − SSIM, Gaussian window 11×11, σ 1.5, windows that lie wholly inside the picture."""
    _, likeness = structural_similarity_index_measure(
        restored, clean, data_range=1.0, return_full_image=True
    )  # (N, C, H, W), beyond the edges mirrored
    inside = likeness[..., SSIM_EDGE_PX:-SSIM_EDGE_PX, SSIM_EDGE_PX:-SSIM_EDGE_PX]
    return 1 - inside.mean(PIXELS)


def carcnn_mix(restored: Tensor, clean: Tensor) -> Tensor:
    """0.79 · (1 − SSIM) + 0.21 · MSE, the loss of CAR-CNN."""
    return torch.lerp(squared(restored, clean), dissimilarity(restored, clean), CARCNN_SSIM_SHARE)


LOSSES: Mapping[str, Loss] = {
    "mse": squared,
    "l1": absolute,
    "charbonnier": charbonnier,
    "ssim": dissimilarity,
    "carcnn": carcnn_mix,
}


def loss_named(name: str) -> Loss:
    """Return a loss by name.

    Raises:
        SettingsError: There is none; the known ones are listed.
    """
    if name not in LOSSES:
        raise SettingsError(f"no loss is called {name!r}; use {', '.join(LOSSES)}")
    return LOSSES[name]
