"""The network as training begins."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from edgecar.errors import CheckpointError, SettingsError
from edgecar.train.optimise import last_layer
from edgecar.train.recipe import TrainRecipe
from edgecar.train.start import fit_last_layer, new_network, teacher_of
from edgecar.zoo.checkpoints import load_network
from edgecar.zoo.glfusion import GlFusionConfig
from edgecar.zoo.registry import card_named
from edgecar.zoo.shipped import shipped_checkpoint

XS = TrainRecipe("edgecar-xs")
FUSION = GlFusionConfig(width=4, scales=1, modules=1, reduction=4)


def picture(seed: int = 0, side: int = 32) -> torch.Tensor:
    return torch.rand(4, 1, side, side, generator=torch.Generator().manual_seed(seed))


def same(one: nn.Module, other: nn.Module) -> bool:
    first, second = one.state_dict(), other.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def test_weights_depend_on_the_seed() -> None:
    assert same(new_network(XS), new_network(XS))
    assert not same(new_network(XS), new_network(replace(XS, seed=1)))


def test_sizes_of_the_recipe_are_those_of_the_network() -> None:
    network = new_network(TrainRecipe("dncnn", {"width": 8, "depth": 5}))
    assert (network.config.width, network.config.depth) == (8, 5)
    assert network.model[0].weight.shape == (8, 1, 3, 3)


def test_unknown_sizes_are_answered_with_the_known_ones() -> None:
    with pytest.raises(SettingsError, match="dncnn has no size 'wide'; it has channels, depth, wi"):
        new_network(TrainRecipe("dncnn", {"wide": 8}))
    with pytest.raises(SettingsError, match="no network is called 'edgecar-z'"):
        new_network(TrainRecipe("edgecar-z"))


def test_patches_must_be_what_the_network_reads() -> None:
    with pytest.raises(SettingsError, match="patch_px is 24; glfusion reads multiples of 16"):
        new_network(TrainRecipe("glfusion", patch_px=24))
    new_network(TrainRecipe("dncnn", {"width": 8}, patch_px=24))


def test_shipped_weights_are_what_ships() -> None:
    started = new_network(replace(XS, start="jpeg")).eval()
    shipped = load_network(shipped_checkpoint("edgecar-xs", "jpeg").path).network
    with torch.inference_mode():
        assert torch.equal(started(picture()), shipped(picture()))
        assert not torch.equal(started(picture()), new_network(XS)(picture()))
    assert all(weight.requires_grad for weight in started.parameters())


def test_a_checkpoint_to_start_from(tmp_path) -> None:
    own = new_network(replace(XS, seed=9))
    save_file(own.state_dict(), tmp_path / "mine.safetensors")
    assert same(new_network(replace(XS, start=str(tmp_path / "mine.safetensors"))), own)


@pytest.mark.parametrize(
    ("recipe", "other"),
    [
        (XS, TrainRecipe("edgecar-s")),
        (XS, TrainRecipe("fastarcnn")),
        (TrainRecipe("dncnn", {"width": 8}), TrainRecipe("dncnn", {"width": 4})),
    ],
    ids=["another size", "another network", "another width"],
)
def test_weights_of_another_network_are_refused_in_one_line(recipe, other, tmp_path) -> None:
    path = tmp_path / "other.safetensors"
    save_file(new_network(other).state_dict(), path)
    with pytest.raises(SettingsError, match="start from weights of the same network") as caught:
        new_network(replace(recipe, start=str(path)))
    message = str(caught.value)
    assert "\n" not in message
    assert other.network in message
    assert recipe.network in message


def test_missing_weights_are_named(tmp_path) -> None:
    with pytest.raises(CheckpointError, match=r"gone\.pt: no such file"):
        new_network(replace(XS, start=str(tmp_path / "gone.pt")))
    with pytest.raises(CheckpointError, match="no jpeg weights ship for glfusion"):
        new_network(TrainRecipe("glfusion", start="jpeg"))


def test_teachers() -> None:
    assert teacher_of(XS) is None
    by_name = teacher_of(replace(XS, teacher="edgecar-s"))  # for the coder of the recipe: JPEG
    path = shipped_checkpoint("edgecar-s", "jpeg").path
    assert same(by_name, load_network(path).network)
    assert same(by_name, teacher_of(replace(XS, teacher=str(path))))
    assert not by_name.training
    assert not any(weight.requires_grad for weight in by_name.parameters())
    with pytest.raises(CheckpointError, match="no jpeg weights ship for glfusion"):
        teacher_of(replace(XS, teacher="glfusion"))


@pytest.mark.parametrize("name", ["edgecar-xs", "glfusion"])
def test_last_layer_is_fitted_to_the_residual(name) -> None:
    torch.manual_seed(0)
    card = card_named(name)
    network = card.build(FUSION if name == "glfusion" else card.config())
    nn.init.uniform_(last_layer(network).bias, -0.1, 0.1)  # some networks begin with none
    clean = picture()
    coded = clean + 0.03 * torch.randn(clean.shape)
    truth = (clean - coded).std()
    weights = {key: weight.clone() for key, weight in network.named_parameters()}
    with torch.no_grad():
        before = (network.train()(coded) - coded).std()
    assert abs(before / truth - 1) > 0.1  # something is to be done
    fit_last_layer(network, coded, clean)
    with torch.no_grad():
        after = (network.train()(coded) - coded).std()
    # The layer is linear: all but rounding of some hundred float32 products.
    torch.testing.assert_close(after, truth, rtol=1e-4, atol=0)
    changed = {k for k, weight in network.named_parameters() if not torch.equal(weight, weights[k])}
    last = "output" if name == "glfusion" else "convs.5"
    assert changed == {f"{last}.weight", f"{last}.bias"}
