"""Training of networks that restore: from a recipe to weights and their metadata."""

import copy
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional
from torchmetrics.functional.image import structural_similarity_index_measure

from edgecar.errors import SettingsError
from edgecar.files import atomic_write
from edgecar.train.data import BLOCK_PX, Batch, PatchSampler
from edgecar.train.degrade import Pair, PairSource
from edgecar.train.loop import SAVE_SECONDS, Run, cosine, last_layer, optimiser_for, train
from edgecar.train.qat import int8_training, narrow_, plain_state
from edgecar.train.recipe import TrainRecipe, table_of
from edgecar.zoo.checkpoints import load_network, metadata_of
from edgecar.zoo.registry import card_named
from edgecar.zoo.shipped import shipped_checkpoint

VALIDATION_PX = 128  # side of the middle of each validation picture
LARGEST_ALIGN_PX = 16  # largest of all networks: sides of validation pictures are multiples of it
LEAST_MSE = 1e-5  # 50 dB: pictures that are all but perfect do not outweigh the rest


@dataclass(frozen=True)
class Progress:
    """Report that a run makes every few seconds; the gain is that of the last checkpoint."""

    step: int
    steps: int
    seconds: float
    loss: float
    mse_db: float
    gain_db: float | None


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
    return Run(
        recipe,
        network,
        copy.deepcopy(network).eval(),
        optimiser_for(network, recipe),
        torch.amp.GradScaler(device.type, enabled=half_precision(device) == torch.float16),
        device,
        teacher=teacher.to(device) if teacher else None,
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
    if recipe.start:
        loaded = load_network(recipe.start_path)
        try:
            network.load_state_dict(loaded.network.state_dict())
        except RuntimeError as error:  # other names or shapes
            raise SettingsError(
                f"{recipe.start_path} is a {loaded.card.name} of other sizes than the recipe's "
                f"{recipe.network}; start from weights of the same network"
            ) from error
    return network


def teacher_of(recipe: TrainRecipe) -> nn.Module | None:
    """Return the network to learn from, ready to run; None where the recipe has none."""
    if not recipe.teacher:
        return None
    path = Path(recipe.teacher)
    if not path.suffix:
        path = shipped_checkpoint(recipe.teacher, recipe.degradation.coder).path
    return load_network(path).network.requires_grad_(False)


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
    held_out: Sequence[Pair],
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
    sampler = PatchSampler(source, patch_px=recipe.patch_px, batch=recipe.batch, seed=recipe.seed)
    gain: float | None = None

    def saved() -> None:
        nonlocal gain
        gain = validation_gain_db(run, held_out)

    def tell(means: NDArray[np.float64]) -> None:
        loss, mse = means
        report(Progress(run.step, recipe.steps, run.seconds, loss, -10 * math.log10(mse), gain))

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
    if recipe.fit_last_layer and run.step == 0 and not recipe.start:
        fit_last_layer(run.network, given, target)
    run.network.train()
    # Rounding to 16 bits is about as coarse as the errors that eight bits make.
    short = None if recipe.qat else half_precision(run.device)
    with torch.autocast(run.device.type, dtype=short, enabled=short is not None):
        restored = run.network(given)
        taught = run.teacher(given) if run.teacher else None
    criterion = loss_named(recipe.loss)
    restored = restored.float()
    losses = criterion(restored, target)
    if taught is not None:
        losses = torch.lerp(losses, criterion(restored, taught.float()), recipe.teacher_share)
    if recipe.balanced:  # errors of all coded pictures weigh the same
        weights = 1 / (torch.from_numpy(batch.picture_mse) + LEAST_MSE)
        losses = losses * (weights / weights.mean()).to(run.device)
    loss = losses.mean()
    run.descend(loss, rate_share_at(run.step, recipe), recipe.average)
    return float(loss.detach()), float(functional.mse_loss(restored.detach(), target))


def rate_share_at(step: int, recipe: TrainRecipe) -> float:
    """Share of the highest learning rate: a linear rise, then half a cosine to ``final_share``."""
    if step < recipe.warmup:
        return (step + 1) / recipe.warmup
    done = (step - recipe.warmup) / max(1, recipe.steps - recipe.warmup)
    return cosine(math.pi * min(1.0, done), recipe.final_share)


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
            errors = (coded - clean, run.shipped(coded).clamp(0, 1) - clean)
            before, after = (float(error.square().mean()) for error in errors)
            gains.append(10 * math.log10(max(before, 1e-10) / max(after, 1e-10)))
    return float(np.mean(gains))


def _middle(side: int) -> slice:
    """Middle of a side, from one block edge on; its length suits every network."""
    length = min(VALIDATION_PX, side // LARGEST_ALIGN_PX * LARGEST_ALIGN_PX)
    start = (side - length) // (2 * BLOCK_PX) * BLOCK_PX
    return slice(start, start + length)


def save_weights(run: Run, path: Path) -> None:
    """Write the averaged network as safetensors, with the ranges that training in eight bits found.

    A recipe's ``start_share`` moves it back towards the weights that the run began with.
    """
    state = {name: t.cpu().contiguous() for name, t in plain_state(run.shipped).items()}
    if run.recipe.start_share:
        began = new_network(run.recipe).state_dict()
        state = {name: t.lerp(began[name], run.recipe.start_share) for name, t in state.items()}
    eight_bits = int8_training(run.shipped, run.recipe)
    content = save(state, metadata_of(eight_bits) if eight_bits else None)
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)


def describe(run: Run, data: list[Path]) -> dict[str, Any]:
    """Return how weights came to be, as stored in the manifest of shipped weights."""
    return {
        "trained_on": run.recipe.degradation.name,
        "recipe": table_of(run.recipe),
        "data": ["/".join(folder.resolve().parts[-2:]) for folder in data],
        "steps": run.step,
        "seconds": round(run.seconds),
        "device": str(run.device),
        "torch": torch.__version__,
    }


def write_metadata(metadata: dict[str, Any], weights: Path) -> None:
    """Write the metadata beside the weights, as ``<weights>.json``."""
    with atomic_write(weights.with_suffix(".json")) as temporary:
        temporary.write_text(json.dumps(metadata, indent=2) + "\n")


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
