"""How weights move: optimisers and the learning rate over a run."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from edgecar.errors import SettingsError
from edgecar.train.recipe import TrainRecipe

MUON_MOMENTUM = 0.95


@dataclass
class Optimiser:
    """One or two optimisers that share a schedule.

    Muon (Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024) makes the
    update of each kernel orthogonal. It takes kernels between features, as matrices
    ``(out, in·k²)``; Adam takes the rest: biases, slopes, and the last layer, which makes pixels.
    """

    parts: list[tuple[torch.optim.Optimizer, float]]  # with its highest rate
    matrices: list[tuple[nn.Parameter, nn.Parameter]]  # kernel, and the same memory as a matrix
    clip: float  # largest norm of a part's gradient

    def step(self, scaler: torch.amp.GradScaler, share_of_rate: float) -> None:
        """Move all weights along their gradients, at a share of the highest rate."""
        for kernel, matrix in self.matrices:
            matrix.grad = None if kernel.grad is None else kernel.grad.reshape(matrix.shape)
        for part, rate in self.parts:
            for group in part.param_groups:
                group["lr"] = rate * share_of_rate
            scaler.unscale_(part)
            nn.utils.clip_grad_norm_(part.param_groups[0]["params"], self.clip)
            scaler.step(part)
        scaler.update()

    def state(self) -> list[dict[str, Any]]:
        """What `restore` needs to go on exactly."""
        return [part.state_dict() for part, _ in self.parts]

    def restore(self, states: list[dict[str, Any]]) -> None:
        """Go on from `state`."""
        for (part, _), state in zip(self.parts, states, strict=True):
            part.load_state_dict(state)


def optimiser_for(network: nn.Module, recipe: TrainRecipe) -> Optimiser:
    """The optimiser that a recipe names.

    Raises:
        SettingsError: It names none that exists.
    """
    weights = list(network.parameters())
    if recipe.optimiser == "adam":
        adam = torch.optim.Adam(weights, recipe.rate, weight_decay=recipe.weight_decay)
        return Optimiser([(adam, recipe.rate)], [], recipe.clip)
    if recipe.optimiser == "adamw":
        adamw = torch.optim.AdamW(weights, recipe.rate, weight_decay=recipe.weight_decay)
        return Optimiser([(adamw, recipe.rate)], [], recipe.clip)
    if recipe.optimiser == "muon":
        return _muon(network, recipe)
    raise SettingsError(f"no optimiser is called {recipe.optimiser!r}; use adam, adamw or muon")


def _muon(network: nn.Module, recipe: TrainRecipe) -> Optimiser:
    last = last_layer(network).weight
    kernels = [p for p in network.parameters() if p.ndim == 4 and p is not last]
    matrices = [nn.Parameter(kernel.detach().view(kernel.shape[0], -1)) for kernel in kernels]
    taken = {id(kernel) for kernel in kernels}
    rest = [p for p in network.parameters() if id(p) not in taken]
    muon = torch.optim.Muon(
        matrices, recipe.rate, weight_decay=recipe.weight_decay, momentum=MUON_MOMENTUM
    )
    adam = torch.optim.Adam(rest, recipe.rest_rate)
    parts: list[tuple[torch.optim.Optimizer, float]] = [
        (muon, recipe.rate),
        (adam, recipe.rest_rate),
    ]
    return Optimiser(parts, list(zip(kernels, matrices, strict=True)), recipe.clip)


def last_layer(network: nn.Module) -> nn.Conv2d | nn.ConvTranspose2d:
    """The convolution that makes the output: the last one defined.

    Raises:
        SettingsError: The network has none, such as one of linear branches.
    """
    layers = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
    if not layers:
        raise SettingsError(
            f"{type(network).__name__} has no plain convolution; train it with adam"
        )
    return layers[-1]


def rate_share_at(step: int, recipe: TrainRecipe) -> float:
    """Share of the highest learning rate: a linear rise, then half a cosine to ``final_share``."""
    if step < recipe.warmup:
        return (step + 1) / recipe.warmup
    done = (step - recipe.warmup) / max(1, recipe.steps - recipe.warmup)
    swing = 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
    return recipe.final_share + (1 - recipe.final_share) * swing


def move_average(average: nn.Module, network: nn.Module, decay: float) -> None:
    """Move the running average of all weights a little towards the network's, in place."""
    with torch.no_grad():
        for mean, now in zip(_tensors(average), _tensors(network), strict=True):
            if mean.is_floating_point():
                mean.lerp_(now, 1 - decay)
            else:
                mean.copy_(now)


def _tensors(network: nn.Module) -> list[Tensor]:
    return list(network.state_dict().values())
