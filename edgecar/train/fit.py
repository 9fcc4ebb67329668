"""Training of networks that restore: from a recipe to weights and their metadata."""

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torchmetrics.functional.image import structural_similarity_index_measure

from edgecar.errors import SettingsError
from edgecar.train.data import BLOCK_PX, Batch, PatchSampler
from edgecar.train.degrade import HeldOut, PairSource
from edgecar.train.features import Backbone, DetectionLoss
from edgecar.train.loop import SAVE_SECONDS, Run, cosine, last_layer, optimiser_for, train
from edgecar.train.qat import narrow_
from edgecar.train.recipe import TrainRecipe
from edgecar.zoo.card import takes_quantiser
from edgecar.zoo.checkpoints import load_network
from edgecar.zoo.registry import card_named
from edgecar.zoo.shipped import WORST, shipped_checkpoint

VALIDATION_PX = 128  # side of the middle of each validation picture
LARGEST_ALIGN_PX = 16  # largest of all networks: sides of validation pictures are multiples of it
LEAST_MSE = 1e-5  # 50 dB: pictures that are all but perfect do not outweigh the rest
# A fresh network would stay at the identity: fine pictures weigh most, and hardly anything helps
# them. So the floor of the weights falls to the least from here, over a share of the steps.
FIRST_LEAST_MSE, ANNEALED = 1e-3, 0.7
LEAST_SHOWN_MSE = 1e-10  # 100 dB: of pictures without an error
TABLES = {"shift.weight", "gain.weight"}  # that networks without a quantiser lack


@dataclass(frozen=True)
class Progress:
    """Report that a run makes every few seconds; gains in dB are those of the last checkpoint."""

    step: int
    steps: int
    seconds: float
    loss: float
    mse_db: float
    gains_db: dict[str, float]


def device_named(name: str) -> torch.device:
    """Return a device by name; ``auto`` is the first CUDA device, else the CPU.

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
    """Return the 16-bit type that this device computes fast; None: none, so float32 it is."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(False) else torch.float16
    # Asked for by name: emulated, bfloat16 is slower than float32.
    able: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return torch.bfloat16 if any(able.get(n) for n in ("avx512_bf16", "amx_bf16", "bf16")) else None


def new_run(recipe: TrainRecipe, device: torch.device, network: nn.Module | None = None) -> Run:
    """Return a run at step 0.

    Args:
        recipe: Settings.
        device: Device to train on.
        network: Network to train in place of the recipe's, with its initial weights.

    Raises:
        SettingsError: The recipe names something that does not exist.
        CheckpointError: There are no weights to start from, or no teacher.
        EngineError: A detector is not there, or is none that is understood.
    """
    loss_named(recipe.loss)  # fails before anything is coded
    torch.backends.cudnn.benchmark = True  # on a GPU: patches of a run are all of one shape
    # Kernels stay contiguous for Muon's matrices; pictures are channels-last, which convolutions
    # follow.
    network = network or new_network(recipe)
    if recipe.qat:
        # Before it moves to the device: it is traced where its weights were made.
        narrow_(network, card_named(recipe.network), recipe.degradation.name)
    network = network.to(device)
    teacher = teacher_of(recipe)
    backbones = [Backbone(Path(detector), device) for detector in recipe.detectors]
    return Run(
        recipe,
        network,
        copy.deepcopy(network).eval(),
        optimiser_for(network, recipe),
        torch.amp.GradScaler(device.type, enabled=half_precision(device) == torch.float16),
        device,
        teacher=teacher.to(device) if teacher else None,
        detection=DetectionLoss(backbones, recipe.feature_share) if backbones else None,
    )


def new_network(recipe: TrainRecipe) -> nn.Module:
    """Return the recipe's network with the weights it starts from."""
    card = card_named(recipe.network)
    config = card.config(1)
    unknown = sorted(set(recipe.sizes) - set(vars(config)))
    if unknown:
        raise SettingsError(
            f"{recipe.network} has no size {unknown[0]!r}; it has {', '.join(vars(config))}"
        )
    if recipe.patch_px % card.align_px:
        raise SettingsError(
            f"patch_px is {recipe.patch_px}; {recipe.network} reads multiples of {card.align_px}"
        )
    torch.manual_seed(recipe.seed)
    network = card.build(replace(config, **recipe.sizes))
    start = recipe.start_path
    if start:
        loaded = load_network(start)
        state = loaded.network.state_dict()
        if takes_quantiser(network) and not takes_quantiser(loaded.network):
            state |= {name: network.state_dict()[name] for name in TABLES}  # they change nothing
        try:
            network.load_state_dict(state)
        except RuntimeError as error:  # other names or shapes
            raise SettingsError(
                f"{start} is a {loaded.card.name} of other sizes than the recipe's "
                f"{recipe.network}; start from weights of the same network"
            ) from error
    return network


def teacher_of(recipe: TrainRecipe) -> nn.Module | None:
    """Return the network to learn from, ready to run; None where the recipe has none."""
    path = teacher_path(recipe)
    return load_network(path).network.requires_grad_(False) if path else None


def teacher_path(recipe: TrainRecipe) -> Path | None:
    """Return the file of the network to learn from; None where the recipe has none."""
    if recipe.teacher and not Path(recipe.teacher).suffix:
        return shipped_checkpoint(recipe.teacher, recipe.degradation.coder).path
    return Path(recipe.teacher) if recipe.teacher else None


def restored_by(network: nn.Module, coded: Tensor, quantiser: Tensor) -> Tensor:
    """Return what a network makes of ``(N, C, H, W)``; it is told ``(N,)`` if it takes that."""
    output: Tensor = network(coded, quantiser) if takes_quantiser(network) else network(coded)
    return output


def fit_last_layer(network: nn.Module, coded: Tensor, clean: Tensor) -> None:
    """Scale the last layer, in place, until the predicted residual spreads like the true one.

    Yue et al. (GL-Fusion), section IV: "the distribution of its outputs is the same to the
    groundtruth distortion". For networks that return picture plus residual, ``(N, C, H, W)``.
    """
    network.train()
    with torch.no_grad():
        ratio = (clean - coded).std() / (network(coded) - coded).std().clamp_min(1e-8)
        for weight in last_layer(network).parameters():
            weight.mul_(ratio)


def fit(
    run: Run,
    source: PairSource,
    held_out: HeldOut,
    checkpoint: Path,
    report: Callable[[Progress], None],
    *,
    save_seconds: float = SAVE_SECONDS,
    stop_after_seconds: float = math.inf,
) -> None:
    """Train until the recipe's steps are done, as `edgecar.train.loop.train` does.

    ``run.average`` is the network to ship. The pairs held out are reported on, never trained on.
    """
    recipe: TrainRecipe = run.recipe
    sampler = PatchSampler(
        source,
        patch_px=recipe.patch_px,
        batch=recipe.batch,
        seed=recipe.seed,
        # Pictures cost a coding each, frames of coded clips nothing.
        refresh=1 if recipe.degradation.coder == "jpeg" else recipe.batch,
        lossless=recipe.lossless,
    )
    gains: dict[str, float] = {}

    def saved() -> None:
        gains.update(validation_gains_db(run, held_out))

    def tell(means: NDArray[np.float64]) -> None:
        loss, mse = means
        mse_db = -10 * math.log10(max(mse, LEAST_SHOWN_MSE))
        report(Progress(run.step, recipe.steps, run.seconds, loss, mse_db, dict(gains)))

    train(
        run,
        sampler.batches(run.step),
        _step,
        recipe.steps,
        checkpoint,
        tell,
        saved=saved,
        save_seconds=save_seconds,
        stop_after_seconds=stop_after_seconds,
    )


def _step(run: Run, batch: Batch) -> tuple[float, float]:
    """Take one optimiser step; return the loss and the mean squared error before it."""
    recipe: TrainRecipe = run.recipe
    given, target = _unit(batch.coded, run.device), _unit(batch.clean, run.device)
    quantiser = torch.from_numpy(batch.quantiser).to(run.device)
    if recipe.fit_last_layer and run.step == 0 and not recipe.start:
        fit_last_layer(run.network, given, target)
    run.network.train()
    # Rounding to 16 bits is about as coarse as the errors that eight bits make.
    short = None if recipe.qat else half_precision(run.device)
    with torch.autocast(run.device.type, dtype=short, enabled=short is not None):
        restored = restored_by(run.network, given, quantiser)
        taught = restored_by(run.teacher, given, quantiser) if run.teacher else None
    criterion = loss_named(recipe.loss)
    restored = restored.float()
    if run.detection:
        losses = run.detection(restored, target, given, (recipe.seed, run.step))
    else:
        losses = criterion(restored, target)
    if taught is not None:
        losses = torch.lerp(losses, criterion(restored, taught.float()), recipe.teacher_share)
    if recipe.harm:
        losses = losses + recipe.harm * (losses - criterion(given, target)).clamp_min(0)
    if recipe.balanced:
        weights = balanced_weights(
            torch.from_numpy(batch.picture_mse), least_mse_at(run.step, recipe)
        )
        losses = losses * weights.to(run.device)
    loss = losses.mean()
    run.descend(loss, rate_share_at(run.step, recipe), recipe.average)
    return float(loss.detach()), float(functional.mse_loss(restored.detach(), target))


def balanced_weights(picture_mse: Tensor, least_mse: float) -> Tensor:
    """Return weights, ``(N,)``, with which the errors of all coded pictures count the same.

    Their mean is 1, and that is the weight of a picture without any error.
    """
    lossy = picture_mse > 0
    weights = 1 / (picture_mse + least_mse)
    return torch.where(lossy, weights / weights[lossy].mean(), 1.0)


def least_mse_at(step: int, recipe: TrainRecipe) -> float:
    """Return the squared error below which pictures do not weigh more, of 1.0."""
    if recipe.start:
        return LEAST_MSE
    done = min(1.0, step / (ANNEALED * recipe.steps))
    return float(FIRST_LEAST_MSE * (LEAST_MSE / FIRST_LEAST_MSE) ** done)


def rate_share_at(step: int, recipe: TrainRecipe) -> float:
    """Share of the highest learning rate: a linear rise, then half a cosine to ``final_share``."""
    if step < recipe.warmup:
        return (step + 1) / recipe.warmup
    done = (step - recipe.warmup) / max(1, recipe.steps - recipe.warmup)
    return cosine(math.pi * min(1.0, done), recipe.final_share)


def _unit(codes: NDArray[np.uint8], device: torch.device) -> Tensor:
    tensor = torch.from_numpy(codes).to(device).float() / 255
    return tensor.to(memory_format=torch.channels_last)


def validation_gains_db(run: Run, held_out: HeldOut) -> dict[str, float]:
    """Return mean PSNR gains over the middles of held-out pictures, in dB.

    Besides the entries of ``held_out``, there is the ``mean`` of these and the ``worst`` picture.
    """
    gains: dict[str, list[float]] = {name: [] for name in held_out}
    with torch.inference_mode():
        for name, pair in ((name, pair) for name, pairs in held_out.items() for pair in pairs):
            middle = tuple(map(_middle, pair.clean.shape))
            coded, clean = (
                _unit(np.array(whole[middle])[None, None], run.device)
                for whole in (pair.coded, pair.clean)
            )
            quantiser = torch.tensor([pair.quantiser], device=run.device)
            restored = restored_by(run.shipped, coded, quantiser).clamp(0, 1).mul(255).round() / 255
            before, after = (float((p - clean).square().mean()) for p in (coded, restored))
            gain = 10 * math.log10(max(before, LEAST_SHOWN_MSE) / max(after, LEAST_SHOWN_MSE))
            gains[name].append(gain)
    if not gains:
        return {}
    means = {name: float(np.mean(each)) for name, each in gains.items()}
    mean = float(np.mean(list(means.values())))
    return {**means, "mean": mean, WORST: min(min(each) for each in gains.values())}


def _middle(side: int) -> slice:
    """Middle of a side, from one block edge on; its length suits every network."""
    length = min(VALIDATION_PX, side // LARGEST_ALIGN_PX * LARGEST_ALIGN_PX)
    start = (side - length) // (2 * BLOCK_PX) * BLOCK_PX
    return slice(start, start + length)


# Losses that training minimises: restored and clean pictures to one number each.

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
