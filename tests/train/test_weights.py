"""The network as training begins, and the weights and metadata that a run leaves behind."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from edgecar.errors import CheckpointError, SettingsError
from edgecar.files import sha256_of
from edgecar.train.degrade import H264Range, HevcRange
from edgecar.train.fit import fit_last_layer, new_network, new_run, teacher_of
from edgecar.train.loop import Run, last_layer
from edgecar.train.recipe import TrainRecipe, recipe_from_table
from edgecar.train.weights import describe, save_weights, weights_used, write_metadata
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


def test_weights_without_knots_start_a_network_with_knots(tmp_path) -> None:
    torch.manual_seed(0)
    card = card_named("edgecar-xs")
    blind = card.build(replace(card.config(), knots=0)).eval()
    path = tmp_path / "blind.safetensors"
    save_file(blind.state_dict(), path)
    started = new_network(replace(XS, start=str(path))).eval()
    with torch.inference_mode():
        for quantiser in (0.25, 0.5, 1.0):  # from the third knot: no gain at the first two
            told = torch.full((4,), quantiser)
            # The gain is 1 there: sums of shares of knots have float32's rounding.
            assert torch.allclose(started(picture(), told), blind(picture()), atol=1e-6)
        assert torch.equal(started(picture(), torch.zeros(4)), picture())
    with pytest.raises(SettingsError, match="start from weights of the same network"):
        new_network(replace(XS, sizes={"knots": 0}, start=str(_saved(new_network(XS), tmp_path))))


def _saved(network: nn.Module, folder: Path) -> Path:
    save_file(network.state_dict(), folder / "told.safetensors")
    return folder / "told.safetensors"


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


RECIPE = TrainRecipe("dncnn", {"width": 8}, HevcRange(), seed=3)


@pytest.fixture
def run() -> Run:
    run = new_run(RECIPE, torch.device("cpu"))
    with torch.no_grad():
        for weight in run.average.parameters():
            weight.add_(0.25)  # to tell it from the network
    run.step, run.seconds = 7, 12.6
    return run


def test_weights_are_those_of_the_average(run, tmp_path) -> None:
    path = tmp_path / "new" / "mine.safetensors"
    save_weights(run, path)
    loaded = load_network(path)
    assert loaded.card.name == "dncnn"
    assert loaded.config == {"width": 8}
    given = torch.rand(1, 1, 12, 12)
    with torch.inference_mode():
        assert torch.equal(loaded.network(given), run.average.eval()(given))
        assert not torch.equal(loaded.network(given), run.network.eval()(given))
    assert [file.name for file in path.parent.iterdir()] == ["mine.safetensors"]


def test_weights_lie_between_those_it_began_with_and_the_average(tmp_path) -> None:
    recipe = TrainRecipe("edgecar-xs", degradation=H264Range(), start="h264", start_share=0.25)
    run = new_run(recipe, torch.device("cpu"))
    began = {name: t.clone() for name, t in run.average.state_dict().items()}
    with torch.no_grad():
        for weight in run.average.parameters():
            weight.add_(1.0)
    save_weights(run, tmp_path / "mine.safetensors")
    for name, weight in load_network(tmp_path / "mine.safetensors").network.state_dict().items():
        assert torch.allclose(weight, began[name] + 0.75, atol=1e-6)


def test_facts_tell_how_weights_came_to_be(run, tmp_path) -> None:
    sources = [{"source": "someone/clips", "licence": "MIT", "files": 2}]
    metadata = describe(run, sources, {"qp 22": 0.12345, "worst": -0.1})
    write_metadata({**metadata, "commit": None}, tmp_path / "mine.safetensors")
    read = json.loads((tmp_path / "mine.json").read_text())
    assert recipe_from_table(read.pop("recipe")) == RECIPE  # lists and all
    assert read == {
        "trained_on": "hevc qp 20-38",
        "purpose": "view",
        "sources": sources,
        "weights_used": [],
        "validation_db": {"qp 22": 0.123, "worst": -0.1},
        "steps": 7,
        "seconds": 13,
        "device": "cpu",
        "torch": torch.__version__,
        "commit": None,
    }
    assert str(tmp_path) not in json.dumps(read)


def test_weights_tell_what_those_they_began_with_learned_from(run, tmp_path) -> None:
    own = tmp_path / "own.safetensors"
    save_weights(run, own)
    sources = [{"source": "someone/clips", "licence": "MIT", "files": 2}]
    write_metadata(describe(run, sources, {}), own)
    recipe = replace(RECIPE, start=str(own), teacher=str(own))
    (used,) = weights_used(recipe)
    assert used["file"] == "own.safetensors"
    assert used["sources"] == sources
    for name in ("yolox.onnx", "fastest.onnx"):
        (tmp_path / name).write_text(name)
    detectors = str(tmp_path / "yolox.onnx"), str(tmp_path / "fastest.onnx")
    used = weights_used(replace(XS, start="jpeg", detectors=detectors, feature_share=0.2))
    assert [each["file"] for each in used[-2:]] == ["yolox.onnx", "fastest.onnx"]
    assert used[-2]["sha256"] == sha256_of(tmp_path / "yolox.onnx")
    shipped = weights_used(replace(XS, start="jpeg", teacher="edgecar-s"))
    names = [each["file"] for each in shipped]
    assert names[0] == "edgecar-xs.jpeg.safetensors"
    assert "edgecar-s.jpeg.safetensors" in names[1:]
    assert all(source["licence"] for each in shipped for source in each["sources"])
    assert shipped[0]["sources"]


def test_what_weights_used_before_is_listed_once_and_without_the_sources_of_the_run(
    run, tmp_path
) -> None:
    sources = [{"source": name, "licence": "MIT", "files": 2} for name in ("a/a", "b/b", "c/c")]
    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    save_weights(run, first)
    write_metadata(describe(run, sources[:2], {}), first)
    run.recipe = replace(RECIPE, start=str(first))
    save_weights(run, second)
    write_metadata(describe(run, sources[1:], {}), second)
    used = weights_used(replace(RECIPE, start=str(second)), sources[2:])
    assert [(each["file"], each["sources"]) for each in used] == [
        ("second.safetensors", sources[1:2]),
        ("first.safetensors", sources[:1]),
    ]
