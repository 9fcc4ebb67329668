"""Weights in half precision, where it loses less than a thousandth."""

from collections.abc import Mapping

import torch
from torch import Tensor

MAX_ERROR = 1e-3
"""Relative; rounding to the 11 significant bits of a normal float16 stays below 2^-11."""


def rounded(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Round tensors to float16, but for those that would lose more than `MAX_ERROR`.

    Those are tensors with values beyond float16, with no number, or so small as a whole that
    float16 has no bits left for them; they stay in float32. What is not floating point is kept.
    """
    made = {}
    for name, tensor in state.items():
        if tensor.is_floating_point():
            fits = rounding_error(name, tensor) <= MAX_ERROR  # not so where it is NaN
            tensor = tensor.to(torch.float16 if fits else torch.float32)
        made[name] = tensor.contiguous()
    return made


def rounding_error(name: str, tensor: Tensor) -> float:
    """Return the norm of what a tensor loses in float16, over its norm; infinite or NaN as it is.

    Variances of a normalisation count each by itself: small ones are divided by, and what the
    larger ones lose says nothing about them.
    """
    alone = name.rpartition(".")[2] == "running_var"
    parts = tensor.double().reshape(tensor.numel() if alone else 1, -1)
    lost = parts - parts.half().double()
    # The least double, so that zeros, of which nothing is lost, are not divided by.
    norms = parts.norm(dim=1).clamp_min(torch.finfo(torch.float64).tiny)
    return float((lost.norm(dim=1) / norms).amax())
