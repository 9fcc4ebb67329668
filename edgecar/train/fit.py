"""The training loop: one recipe, checkpoints on the way, averaged weights at the end."""

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from edgecar.errors import DataError
from edgecar.files import written_whole
from edgecar.media.still_codec import jpeg_coded
from edgecar.train.data import PatchSampler
from edgecar.train.degrade import Jpeg, Luma
from edgecar.train.recipe import TrainRecipe, table_of
from edgecar.zoo.plain import Plain
from edgecar.zoo.registry import card_named

VALIDATION_QUALITY = 10
VALIDATION_PHOTOS = 20
VALIDATION_PX = 128  # side of the middle of each photo that is looked at


@dataclass(frozen=True)
class Progress:
    """What a run reports every few seconds."""

    step: int
    steps: int
    seconds: float
    loss_db: float
    gain_db: float | None  # over the coded validation pictures, at the last checkpoint


@dataclass
class Run:
    """Everything that must survive an interruption."""

    network: nn.Module
    average: nn.Module
    optimiser: torch.optim.Adam
    step: int = 0
    seconds: float = 0.0

    def state(self, recipe: TrainRecipe) -> dict[str, Any]:
        """Plain containers and tensors, so that `torch.load(weights_only=True)` reads it."""
        return {
            "recipe": table_of(recipe),
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
        }

    def restore(self, state: dict[str, Any], recipe: TrainRecipe) -> None:
        """Continue from `state`.

        Raises:
            DataError: The checkpoint belongs to another recipe.
        """
        if state["recipe"] != table_of(recipe):
            raise DataError(
                "the checkpoint was made with another recipe; give another -o, or delete it"
            )
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.seconds = state["step"], state["seconds"]


def fit(
    recipe: TrainRecipe,
    photos: list[Luma],
    held_out: list[Luma],
    checkpoint: Path,
    report: Callable[[Progress], None],
    *,
    save_seconds: float = 120.0,
    stop_after_seconds: float = math.inf,
) -> Run:
    """Train a network; continue from ``checkpoint`` where it exists.

    Args:
        recipe: Network, degradation and schedule.
        photos: Clean training luma.
        held_out: Clean validation luma; only reported on, never trained on.
        checkpoint: Where the whole state is kept; written every ``save_seconds`` and at the end.
        report: Called every few seconds.
        save_seconds: Between checkpoints.
        stop_after_seconds: Leave early, to be continued later.

    Returns:
        The run; ``run.average`` is the network to ship.
    """
    torch.manual_seed(recipe.seed)
    run = _new_run(recipe)
    if checkpoint.exists():
        run.restore(torch.load(checkpoint, weights_only=True), recipe)
    sampler = PatchSampler(
        photos,
        Jpeg(*recipe.jpeg_quality),
        patch_px=recipe.patch_px,
        batch=recipe.batch,
        seed=recipe.seed + run.step,  # a continued run sees other patches, not the same again
    )
    began = last_report = last_save = time.perf_counter()
    earlier, gain, losses = run.seconds, None, []
    for coded, clean in sampler:
        if run.step >= recipe.steps or time.perf_counter() - began > stop_after_seconds:
            break
        losses.append(_step(run, recipe, coded, clean))
        run.seconds = earlier + time.perf_counter() - began
        if time.perf_counter() - last_save > save_seconds:
            _save(run, recipe, checkpoint)
            gain = validation_gain_db(run.average, held_out)
            last_save = time.perf_counter()
        if time.perf_counter() - last_report > 5:
            loss_db = -10 * math.log10(float(np.mean(losses)))
            report(Progress(run.step, recipe.steps, run.seconds, loss_db, gain))
            last_report, losses = time.perf_counter(), []
    _save(run, recipe, checkpoint)
    return run


def _new_run(recipe: TrainRecipe) -> Run:
    card = card_named(recipe.network)
    config = card.config(1)
    if hasattr(config, "branches"):
        config = type(config)(**{**vars(config), "branches": True})
    network = card.build(config).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = torch.optim.Adam(
        network.parameters(), lr=recipe.rate, weight_decay=recipe.weight_decay
    )
    return Run(network, copy.deepcopy(network).eval(), optimiser)


def rate_at(step: int, recipe: TrainRecipe) -> float:
    """Learning rate: linear rise, then a half cosine down to ``final_rate``."""
    if step < recipe.warmup:
        return recipe.rate * (step + 1) / recipe.warmup
    done = (step - recipe.warmup) / max(1, recipe.steps - recipe.warmup)
    swing = 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
    return recipe.final_rate + (recipe.rate - recipe.final_rate) * swing


def _step(
    run: Run, recipe: TrainRecipe, coded: NDArray[np.uint8], clean: NDArray[np.uint8]
) -> float:
    """One optimiser step; returns the mean squared error before it."""
    for group in run.optimiser.param_groups:
        group["lr"] = rate_at(run.step, recipe)
    run.network.train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        restored = run.network(_unit(coded))
    loss = functional.mse_loss(restored.float(), _unit(clean))
    run.optimiser.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(run.network.parameters(), recipe.clip)
    run.optimiser.step()
    run.step += 1
    # Early averages would remember the initial weights for too long.
    decay = min(recipe.average, run.step / (run.step + 10))
    with torch.no_grad():
        for mean, now in zip(
            run.average.state_dict().values(), run.network.state_dict().values(), strict=True
        ):
            if mean.is_floating_point():
                mean.lerp_(now, 1 - decay)
            else:
                mean.copy_(now)
    return float(loss.detach())


def _unit(codes: NDArray[np.uint8]) -> Tensor:
    tensor = torch.from_numpy(codes).float() / 255
    return tensor.to(memory_format=torch.channels_last)


def validation_gain_db(network: nn.Module, photos: list[Luma]) -> float:
    """Mean PSNR gain over JPEG at quality 10 on the middles of held-out photos, not rounded."""
    gains = []
    with torch.inference_mode():
        for photo in photos[:VALIDATION_PHOTOS]:
            top, left = ((side - VALIDATION_PX) // 2 for side in photo.shape)
            clean = photo[top : top + VALIDATION_PX, left : left + VALIDATION_PX]
            coded = _unit(jpeg_coded(clean, VALIDATION_QUALITY)[None, None])
            target = _unit(clean[None, None])
            errors = (coded - target, network(coded).clamp(0, 1) - target)
            before, after = (float(error.square().mean()) for error in errors)
            gains.append(10 * math.log10(before / after))
    return float(np.mean(gains))


def _save(run: Run, recipe: TrainRecipe, checkpoint: Path) -> None:
    with written_whole(checkpoint) as temporary:
        torch.save(run.state(recipe), temporary)


def deployed(network: nn.Module) -> nn.Module:
    """The network as shipped: training branches folded away."""
    return network.folded() if isinstance(network, Plain) else network
