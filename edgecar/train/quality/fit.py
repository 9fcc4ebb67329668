"""The training loop of deep multi-scale IQA."""

import io
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from edgecar.errors import DataError
from edgecar.files import atomic_write
from edgecar.train.quality.rated import PatchBatch, RatedSet, patch_draws
from edgecar.train.quality.recipe import QualityRecipe, quality_recipe_from_table, table_of
from edgecar.zoo.multiscale_iqa import MultiscaleIqa

MOMENTUM = 0.9
REPORT_SECONDS = 5.0
SAVE_SECONDS = 60.0

Report = Callable[[int, int, float], None]
"""Called with steps done, steps in all, and the root of the mean squared error, in the unit."""


@dataclass
class QualityRun:
    """Everything that must survive an interruption.

    Attributes:
        recipe: Of the run.
        network: Scores 0 to 1 for ``low`` to ``high``.
        optimiser: With its momenta.
        low: Lowest score of the set it learns from, in the set's unit.
        high: Highest.
        step: Steps done.
        seconds: They took.
    """

    recipe: QualityRecipe
    network: MultiscaleIqa
    optimiser: torch.optim.Optimizer
    low: float
    high: float
    step: int = 0
    seconds: float = 0.0

    def save(self, path: Path) -> None:
        """Write the whole state; plain containers and tensors, so that it can be read safely."""
        state = {
            "recipe": table_of(self.recipe),
            "scale": [self.low, self.high],
            "network": self.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
        }
        content = io.BytesIO()  # torch's own file hides why it cannot be written
        torch.save(state, content)
        with atomic_write(path) as temporary:
            temporary.write_bytes(content.getbuffer())

    def restore(self, path: Path) -> None:
        """Continue from a file written by `save`.

        Raises:
            DataError: The file is damaged, or belongs to another recipe or other scores.
        """
        try:
            state: dict[str, Any] = torch.load(path, weights_only=True)
            recipe = quality_recipe_from_table(state["recipe"])
        except Exception as error:  # what damaged files raise shares no base
            raise DataError(
                f"{path} is damaged or no training state ({type(error).__name__}); delete it to "
                "start again"
            ) from error
        if recipe != self.recipe or state["scale"] != [self.low, self.high]:
            raise DataError(
                f"{path} was made with another recipe or other scores; give another -o, or delete "
                "it"
            )
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.seconds = state["step"], state["seconds"]


def new_quality_run(recipe: QualityRecipe, low: float, high: float) -> QualityRun:
    """A run at step 0 that learns scores from ``low`` to ``high``.

    Raises:
        DataError: All scores are the same.
    """
    if not low < high:
        raise DataError(f"all scores are {low}; a network learns nothing from that")
    torch.manual_seed(recipe.seed)
    network = MultiscaleIqa(recipe.network).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if recipe.optimiser == "adam":
        optimiser: torch.optim.Optimizer = torch.optim.Adam(
            network.parameters(), recipe.rate, weight_decay=recipe.weight_decay
        )
    else:
        optimiser = torch.optim.SGD(
            network.parameters(), recipe.rate, MOMENTUM, weight_decay=recipe.weight_decay
        )
    return QualityRun(recipe, network, optimiser, low, high)


def steps_of(recipe: QualityRecipe, rated: RatedSet) -> int:
    """Steps of a whole run on a set."""
    return max(1, math.ceil(recipe.epochs * rated.patches() / recipe.batch))


def fit_quality(
    run: QualityRun,
    rated: RatedSet,
    checkpoint: Path,
    report: Report,
    *,
    stop_after_seconds: float = math.inf,
) -> bool:
    """Train until the recipe's epochs are done.

    A run that was stopped and restored ends with the same weights as one that was not, on the same
    machine with the same number of threads.

    Args:
        run: Fresh or restored.
        rated: Pictures to train on.
        checkpoint: Where the whole state is kept; written every minute and at the end.
        report: Called every few seconds.
        stop_after_seconds: Leave early, to be continued later.

    Returns:
        Whether all steps are done.
    """
    steps = steps_of(run.recipe, rated)
    began = last_report = last_save = time.perf_counter()
    earlier, errors = run.seconds, []
    for batch in patch_draws(rated, run.recipe.batch, run.recipe.seed, run.step):
        now = time.perf_counter()
        if run.step >= steps or now - began > stop_after_seconds:
            break
        errors.append(_step(run, batch, steps))
        run.seconds = earlier + time.perf_counter() - began
        if now - last_save > SAVE_SECONDS:
            run.save(checkpoint)
            last_save = now
        if now - last_report > REPORT_SECONDS:
            report(run.step, steps, math.sqrt(float(np.mean(errors))) * (run.high - run.low))
            last_report, errors = now, []
    run.save(checkpoint)
    return run.step >= steps


def _step(run: QualityRun, batch: PatchBatch, steps: int) -> float:
    """One optimiser step; returns the squared error before it, of 1."""
    recipe = run.recipe
    share = 0.5 * (1 + math.cos(math.pi * run.step / steps))
    for group in run.optimiser.param_groups:
        group["lr"] = recipe.rate * (recipe.final_share + (1 - recipe.final_share) * share)
    run.network.train()
    target = torch.from_numpy((batch.scores - run.low) / (run.high - run.low)).float()
    loss = functional.mse_loss(run.network(_unit(batch.planes))[:, 0], target)  # Eq. 3
    run.optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    run.optimiser.step()
    run.step += 1
    return float(loss.detach())


def _unit(planes: NDArray[np.uint8]) -> torch.Tensor:
    return torch.from_numpy(planes).contiguous(memory_format=torch.channels_last).float() / 255
