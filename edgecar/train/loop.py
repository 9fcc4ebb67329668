"""Training loop shared by restoration networks, in FP32 or eight bits, and the IQA scorer."""

import io
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgecar.errors import DataError, SettingsError
from edgecar.files import atomic_write
from edgecar.train.features import DetectionLoss
from edgecar.train.recipe import TrainRecipe, record_from_table, table_of
from edgecar.zoo.card import takes_quantiser

REPORT_SECONDS = 5.0
SAVE_SECONDS = 120.0
MUON_MOMENTUM = 0.95

Batch = TypeVar("Batch")


@dataclass
class Optimiser:
    """One or two optimisers that share a schedule.

    Muon (Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024) makes the
    update of each kernel orthogonal. It takes kernels between features, as matrices
    ``(out, in·k²)``; Adam takes the rest: biases, slopes, tables, and the last layer, which makes
    pixels.
    """

    parts: list[tuple[torch.optim.Optimizer, float]]  # each with its highest rate
    matrices: list[tuple[nn.Parameter, nn.Parameter]]  # kernel, and the same memory as a matrix
    clip: float  # largest norm of the gradient of a part

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


@dataclass
class Run:
    """Everything that must survive an interruption.

    Attributes:
        recipe: `TrainRecipe` or `QualityRecipe`.
        network: Network that is trained.
        average: Running average of its weights; None: there is none.
        optimiser: Its optimiser.
        scaler: Scaler of gradients in float16; disabled in other arithmetic.
        device: Device that computes.
        step: Number of steps done.
        seconds: Time they took.
        teacher: Network to learn from besides the pictures.
        detection: Loss to minimise in training for detectors.
        scale: Lowest and highest score of the training set, which a scorer maps to 0 and 1.
    """

    recipe: Any
    network: nn.Module
    average: nn.Module | None
    optimiser: Optimiser
    scaler: torch.amp.GradScaler
    device: torch.device
    step: int = 0
    seconds: float = 0.0
    teacher: nn.Module | None = None
    detection: DetectionLoss | None = None
    scale: tuple[float, float] | None = None

    @property
    def shipped(self) -> nn.Module:
        """Network to ship: the average where there is one."""
        return self.network if self.average is None else self.average

    def save(self, path: Path) -> None:
        """Write the whole state; plain containers and tensors, so that it can be read safely."""
        state = {
            "recipe": table_of(self.recipe),
            "scale": list(self.scale) if self.scale else None,
            "network": self.network.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "optimiser": [part.state_dict() for part, _ in self.optimiser.parts],
            "scaler": self.scaler.state_dict(),
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
            state: dict[str, Any] = torch.load(path, map_location=self.device, weights_only=True)
            # Settings that did not exist when the run began have their defaults.
            before = table_of(record_from_table(type(self.recipe), state["recipe"]))
        except Exception as error:  # errors of damaged files have no common base
            raise DataError(
                f"{path} is damaged or no training state ({type(error).__name__}); delete it to "
                "start again"
            ) from error
        now = table_of(self.recipe)
        if before != now:
            raise DataError(
                f"{path} was made with another recipe ({_first_difference(before, now)}); give "
                "another -o, or delete it"
            )
        if (state.get("scale") or None) != (list(self.scale) if self.scale else None):
            raise DataError(f"{path} was made with other scores; give another -o, or delete it")
        self.network.load_state_dict(state["network"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        states = state["optimiser"]
        states = [states] if isinstance(states, dict) else states  # scorers had a single one
        for (part, _), own in zip(self.optimiser.parts, states, strict=True):
            part.load_state_dict(own)
        self.scaler.load_state_dict(state.get("scaler", {}))
        self.step, self.seconds = state["step"], state["seconds"]

    def descend(self, loss: Tensor, share_of_rate: float, decay: float = 0.0) -> None:
        """Take one step down the gradient of a loss, and move the average by its decay."""
        self.network.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        self.optimiser.step(self.scaler, share_of_rate)
        self.step += 1
        if self.average is not None:
            # Early averages would remember the initial weights for too long.
            move_average(self.average, self.network, min(decay, self.step / (self.step + 10)))


def train(
    run: Run,
    batches: Iterator[Batch],
    step: Callable[[Run, Batch], tuple[float, ...]],
    steps: int,
    checkpoint: Path,
    report: Callable[[NDArray[np.float64]], None],
    *,
    saved: Callable[[], None] = lambda: None,
    save_seconds: float = SAVE_SECONDS,
    stop_after_seconds: float = math.inf,
) -> bool:
    """Train until all steps are done; returns False if there was no time for them.

    A run that was stopped and restored ends with the same weights as one that was not, on the same
    CPU with the same number of threads.

    Args:
        run: Fresh or restored.
        batches: Batches from number ``run.step`` on.
        step: Function that takes one step and returns figures to report.
        steps: Number of steps in all.
        checkpoint: File of the whole state, written every ``save_seconds`` and at the end.
        report: Called every few seconds with the means of the figures since the last call.
        saved: Called after each save but the last.
        save_seconds: Seconds between saves.
        stop_after_seconds: Leave early, to be continued later.
    """
    began = last_report = last_save = time.perf_counter()
    earlier = run.seconds
    figures: list[tuple[float, ...]] = []
    for batch in batches:
        if run.step >= steps or time.perf_counter() - began > stop_after_seconds:
            break
        figures.append(step(run, batch))
        run.seconds = earlier + time.perf_counter() - began
        if time.perf_counter() - last_save > save_seconds:
            run.save(checkpoint)
            saved()
            last_save = time.perf_counter()
        if time.perf_counter() - last_report > REPORT_SECONDS:
            report(np.mean(figures, axis=0))
            last_report, figures = time.perf_counter(), []
    run.save(checkpoint)
    return run.step >= steps


def optimiser_for(network: nn.Module, recipe: TrainRecipe) -> Optimiser:
    """Make the optimiser that a recipe names."""
    if recipe.optimiser == "muon":
        return _muon(network, recipe)
    kinds = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    if recipe.optimiser not in kinds:
        raise SettingsError(f"no optimiser is called {recipe.optimiser!r}; use adam, adamw or muon")
    part = kinds[recipe.optimiser](
        network.parameters(), recipe.rate, weight_decay=recipe.weight_decay
    )
    return Optimiser([(part, recipe.rate)], [], recipe.clip)


def _muon(network: nn.Module, recipe: TrainRecipe) -> Optimiser:
    last = last_layer(network).weight
    kernels = [p for p in network.parameters() if p.ndim == 4 and p is not last]
    matrices = [nn.Parameter(kernel.detach().view(kernel.shape[0], -1)) for kernel in kernels]
    taken = {id(kernel) for kernel in kernels}
    tables = (
        [module.weight for module in network.modules() if isinstance(module, nn.Linear)]
        if takes_quantiser(network)
        else []
    )
    taken |= {id(table) for table in tables}
    rest = [p for p in network.parameters() if id(p) not in taken]
    muon = torch.optim.Muon(
        matrices, recipe.rate, weight_decay=recipe.weight_decay, momentum=MUON_MOMENTUM
    )
    adam = torch.optim.Adam(rest, recipe.rest_rate)
    parts: list[tuple[torch.optim.Optimizer, float]] = [
        (muon, recipe.rate),
        (adam, recipe.rest_rate),
    ]
    if tables:  # a row learns from the pictures near its quantiser alone
        parts.append((torch.optim.Adam(tables, recipe.rate), recipe.rate))
    return Optimiser(parts, list(zip(kernels, matrices, strict=True)), recipe.clip)


def last_layer(network: nn.Module) -> nn.Conv2d | nn.ConvTranspose2d:
    """Return the convolution that makes the output: the last one defined."""
    layers = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
    if not layers:
        raise SettingsError(
            f"{type(network).__name__} has no plain convolution; train it with adam"
        )
    return layers[-1]


def cosine(angle: float, final_share: float) -> float:
    """Share of the highest rate along half a cosine: 1 at an angle of 0, ``final_share`` at π."""
    return final_share + (1 - final_share) * (0.5 * (1 + math.cos(angle)))


def move_average(average: nn.Module, network: nn.Module, decay: float) -> None:
    """Move the running average of all weights a little towards the network's, in place."""
    tensors = (list(module.state_dict().values()) for module in (average, network))
    with torch.no_grad():
        for mean, now in zip(*tensors, strict=True):
            if mean.is_floating_point():
                mean.lerp_(now, 1 - decay)
            else:
                mean.copy_(now)


def _first_difference(before: dict[str, Any], now: dict[str, Any]) -> str:
    key = next(key for key in {**before, **now} if before.get(key) != now.get(key))
    was, now_is = before.get(key), now.get(key)
    if isinstance(was, dict) and isinstance(now_is, dict):
        return f"{key}.{_first_difference(was, now_is)}"
    return f"{key} was {was}, is {now_is}"
