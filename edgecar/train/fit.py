"""The training loop: one recipe, checkpoints on the way, averaged weights at the end."""

import copy
import io
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from edgecar.errors import DataError, SettingsError
from edgecar.files import atomic_write
from edgecar.train.data import BLOCK_PX, Batch, PatchSampler
from edgecar.train.degrade import Pair, PairSource
from edgecar.train.losses import loss_named
from edgecar.train.optimise import Optimiser, move_average, optimiser_for, rate_share_at
from edgecar.train.qat import narrow_
from edgecar.train.recipe import TrainRecipe, recipe_from_table, table_of
from edgecar.train.start import fit_last_layer, new_network, teacher_of
from edgecar.zoo.registry import card_named

VALIDATION_PX = 128  # side of the middle of each picture that is looked at
LARGEST_ALIGN_PX = 16  # of all networks: their pictures' sides are multiples of it
LEAST_MSE = 1e-5  # 50 dB: pictures that are all but perfect do not outweigh the rest
REPORT_SECONDS = 5.0
SAVE_SECONDS = 120.0


@dataclass(frozen=True)
class Progress:
    """What a run reports every few seconds."""

    step: int
    steps: int
    seconds: float
    loss: float
    mse_db: float
    gain_db: float | None  # over the coded validation pictures, at the last checkpoint


@dataclass
class Run:
    """Everything that must survive an interruption."""

    recipe: TrainRecipe
    network: nn.Module
    average: nn.Module
    optimiser: Optimiser
    scaler: torch.amp.GradScaler
    device: torch.device
    step: int = 0
    seconds: float = 0.0
    teacher: nn.Module | None = field(default=None, repr=False)

    def save(self, path: Path) -> None:
        """Write the whole state; plain containers and tensors, so that it can be read safely."""
        state = {
            "recipe": table_of(self.recipe),
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state(),
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
            DataError: The file is damaged, or belongs to another recipe.
        """
        try:
            state = torch.load(path, map_location=self.device, weights_only=True)
            # What a recipe could not say when the run began has its default.
            recipe = table_of(recipe_from_table(state["recipe"]))
        except Exception as error:  # what damaged files raise shares no base
            raise DataError(
                f"{path} is damaged or no training state ({type(error).__name__}); delete it to "
                "start again"
            ) from error
        if recipe != table_of(self.recipe):
            changed = _first_difference(recipe, table_of(self.recipe))
            raise DataError(
                f"{path} was made with another recipe ({changed}); give another -o, or delete it"
            )
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimiser.restore(state["optimiser"])
        self.scaler.load_state_dict(state["scaler"])
        self.step, self.seconds = state["step"], state["seconds"]


def device_named(name: str) -> torch.device:
    """``auto`` is the first CUDA device, else the CPU.

    Raises:
        SettingsError: There is no such device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise SettingsError(f"no device is called {name!r}; use auto, cpu or cuda") from error
    if device.type not in ("cpu", "cuda"):
        raise SettingsError(f"device {name!r} is none to train on; use auto, cpu or cuda")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise SettingsError(f"no CUDA device {name!r} is usable here; use --device cpu")
    return device


def half_precision(device: torch.device) -> torch.dtype | None:
    """The short type that this device computes fast; None: none, so float32 it is."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(False) else torch.float16
    # Asked for by name: emulated, bfloat16 is slower than float32.
    able: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return torch.bfloat16 if any(able.get(n) for n in ("avx512_bf16", "amx_bf16", "bf16")) else None


def new_run(recipe: TrainRecipe, device: torch.device) -> Run:
    """A run at step 0.

    Raises:
        SettingsError: The recipe names something that does not exist.
    """
    loss_named(recipe.loss)  # known to exist before anything is coded
    torch.backends.cudnn.benchmark = True  # on a GPU: patches of a run are all of one shape
    # Kernels stay contiguous for Muon's matrices; pictures are channels-last, which convolutions
    # follow.
    network = new_network(recipe)
    if recipe.qat:
        # Before it moves to the device: it is traced where its weights were made.
        narrow_(network, card_named(recipe.network), recipe.degradation.name)
    network = network.to(device)
    teacher = teacher_of(recipe)
    return Run(
        recipe,
        network,
        copy.deepcopy(network).eval(),
        optimiser_for(network, recipe),
        torch.amp.GradScaler(device.type, enabled=half_precision(device) == torch.float16),
        device,
        teacher=teacher.to(device) if teacher else None,
    )


def fit(
    run: Run,
    source: PairSource,
    held_out: Sequence[Pair],
    checkpoint: Path,
    report: Callable[[Progress], None],
    *,
    save_seconds: float = SAVE_SECONDS,
    stop_after_seconds: float = math.inf,
) -> None:
    """Train until the recipe's steps are done; ``run.average`` is the network to ship.

    A run that was stopped and restored ends with the same weights as one that was not, on the same
    CPU with the same number of threads.

    Args:
        run: Fresh or restored.
        source: Pairs to train on.
        held_out: Pairs to report on, never trained on.
        checkpoint: Where the whole state is kept; written every ``save_seconds`` and at the end.
        report: Called every few seconds.
        save_seconds: Between checkpoints.
        stop_after_seconds: Leave early, to be continued later.
    """
    recipe = run.recipe
    sampler = PatchSampler(source, patch_px=recipe.patch_px, batch=recipe.batch, seed=recipe.seed)
    began = last_report = last_save = time.perf_counter()
    earlier, gain, errors = run.seconds, None, []
    for batch in sampler.batches(run.step):
        if run.step >= recipe.steps or time.perf_counter() - began > stop_after_seconds:
            break
        errors.append(_step(run, batch))
        run.seconds = earlier + time.perf_counter() - began
        if time.perf_counter() - last_save > save_seconds:
            run.save(checkpoint)
            gain = validation_gain_db(run, held_out)
            last_save = time.perf_counter()
        if time.perf_counter() - last_report > REPORT_SECONDS:
            loss, mse = np.mean(errors, axis=0)
            mse_db = -10 * math.log10(mse)
            report(Progress(run.step, recipe.steps, run.seconds, loss, mse_db, gain))
            last_report, errors = time.perf_counter(), []
    run.save(checkpoint)


def _step(run: Run, batch: Batch) -> tuple[float, float]:
    """One optimiser step; returns the loss and the mean squared error before it."""
    recipe = run.recipe
    given, target = _unit(batch.coded, run.device), _unit(batch.clean, run.device)
    if recipe.fit_last_layer and run.step == 0 and not recipe.start:
        fit_last_layer(run.network, given, target)
    run.network.train()
    # Halves round about as coarsely as what is to be learned.
    short = None if recipe.qat else half_precision(run.device)
    with torch.autocast(run.device.type, dtype=short, enabled=short is not None):
        restored = run.network(given)
        taught = run.teacher(given) if run.teacher else None
    criterion = loss_named(recipe.loss)
    restored = restored.float()
    losses = criterion(restored, target)
    if taught is not None:
        losses = torch.lerp(losses, criterion(restored, taught.float()), recipe.teacher_share)
    if recipe.balanced:
        losses = losses * _weights(batch, run.device)
    loss = losses.mean()
    run.network.zero_grad(set_to_none=True)
    run.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
    run.optimiser.step(run.scaler, rate_share_at(run.step, recipe))
    run.step += 1
    # Early averages would remember the initial weights for too long.
    move_average(run.average, run.network, min(recipe.average, run.step / (run.step + 10)))
    return float(loss.detach()), float(functional.mse_loss(restored.detach(), target))


def _weights(batch: Batch, device: torch.device) -> Tensor:
    """Of each patch, ``(N,)``: what makes the errors of all coded pictures weigh the same."""
    weights = 1 / (torch.from_numpy(batch.picture_mse) + LEAST_MSE)
    return (weights / weights.mean()).to(device)


def _unit(codes: NDArray[np.uint8], device: torch.device) -> Tensor:
    tensor = torch.from_numpy(codes).to(device).float() / 255
    return tensor.to(memory_format=torch.channels_last)


def validation_gain_db(run: Run, held_out: Sequence[Pair]) -> float:
    """Mean PSNR gain over the coded middles of held-out pictures, in dB, not rounded."""
    gains = []
    with torch.inference_mode():
        for pair in held_out:
            middle = tuple(map(_middle, pair.clean.shape))
            coded, clean = (
                _unit(np.ascontiguousarray(whole[middle])[None, None], run.device)
                for whole in (pair.coded, pair.clean)
            )
            errors = (coded - clean, run.average(coded).clamp(0, 1) - clean)
            before, after = (float(error.square().mean()) for error in errors)
            gains.append(10 * math.log10(max(before, 1e-10) / max(after, 1e-10)))
    return float(np.mean(gains))


def _middle(side: int) -> slice:
    """Of a picture's side; from one block edge on, and a multiple of what any network reads."""
    length = min(VALIDATION_PX, side // LARGEST_ALIGN_PX * LARGEST_ALIGN_PX)
    start = (side - length) // (2 * BLOCK_PX) * BLOCK_PX
    return slice(start, start + length)


def _first_difference(before: dict[str, Any], now: dict[str, Any]) -> str:
    key = next(key for key in {**before, **now} if before.get(key) != now.get(key))
    was, now_is = before.get(key), now.get(key)
    if isinstance(was, dict) and isinstance(now_is, dict):
        return f"{key}.{_first_difference(was, now_is)}"
    return f"{key} was {was}, is {now_is}"
