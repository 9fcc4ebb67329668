"""The network as training begins: fresh, from other weights, and with or without a teacher."""

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from edgecar.errors import SettingsError
from edgecar.spec import CODERS
from edgecar.train.optimise import last_layer
from edgecar.train.recipe import TrainRecipe
from edgecar.zoo.checkpoints import load_network
from edgecar.zoo.registry import card_named
from edgecar.zoo.shipped import shipped_checkpoint


def new_network(recipe: TrainRecipe) -> nn.Module:
    """The recipe's network with the weights it starts from.

    Raises:
        SettingsError: A size is unknown, patches are none that the network can read, or the
            starting weights are those of another network.
        CheckpointError: There are no such weights.
    """
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
        _start_from(network, recipe)
    return network


def start_path(recipe: TrainRecipe) -> Path:
    """The file of the weights that a recipe starts from.

    Raises:
        CheckpointError: None ship for the coder that it names.
    """
    if recipe.start in CODERS:
        return shipped_checkpoint(recipe.network, recipe.start).path
    return Path(recipe.start)


def _start_from(network: nn.Module, recipe: TrainRecipe) -> None:
    path = start_path(recipe)
    loaded = load_network(path)
    try:
        network.load_state_dict(loaded.network.state_dict())
    except RuntimeError as error:  # other names or shapes
        raise SettingsError(
            f"{path} is a {loaded.card.name} of other sizes than the recipe's {recipe.network}; "
            "start from weights of the same network"
        ) from error


def teacher_of(recipe: TrainRecipe) -> nn.Module | None:
    """The network to learn from, ready to run; None where the recipe has none.

    Raises:
        CheckpointError: There are no such weights.
    """
    if not recipe.teacher:
        return None
    path = Path(recipe.teacher)
    if not path.suffix:
        path = shipped_checkpoint(recipe.teacher, recipe.degradation.coder).path
    return load_network(path).network.requires_grad_(False)


def fit_last_layer(network: nn.Module, coded: Tensor, clean: Tensor) -> None:
    """Scale the last layer until the predicted residual spreads like the true one.

    Yue et al. (GL-Fusion), section IV: "the distribution of its outputs is the same to the
    groundtruth distortion". Networks that return picture plus residual only.

    Args:
        network: Fresh; changed in place.
        coded: ``(N, C, H, W)`` in [0, 1].
        clean: Of the same shape.
    """
    network.train()
    with torch.no_grad():
        ratio = (clean - coded).std() / (network(coded) - coded).std().clamp_min(1e-8)
        for weight in last_layer(network).parameters():
            weight.mul_(ratio)
