"""Recipes: what is refused and how it is said, and those that ship."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from edgecar.errors import SettingsError
from edgecar.files import shipped
from edgecar.spec import CODERS, WEIGHTS_FOR
from edgecar.train.degrade import H264Range, HevcRange, JpegRange
from edgecar.train.fit import loss_named, new_network, rate_share_at
from edgecar.train.loop import optimiser_for
from edgecar.train.recipe import (
    TrainRecipe,
    find_recipe,
    recipe_from_table,
    recipe_from_toml,
    table_of,
)
from edgecar.zoo.msfan import Msfan

SHIPPED = sorted(shipped("export", "training").glob("*.toml"))
JPEG = {"coder": "jpeg"}
H264 = {"coder": "h264"}
DETECT = {"detectors": ["yolox.onnx"], "feature_share": 0.2}


def refusal(table: dict) -> str:
    """The one line that a user would read."""
    with pytest.raises(SettingsError) as caught:
        recipe_from_table(table)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"stpes": 5}, ["'stpes'", "known are network", "steps", "patch_px"]),
        ({"steps": "many"}, ["steps is 'many'", "a whole number"]),
        ({"steps": 1e4}, ["steps is 10000.0", "a whole number"]),
        ({"steps": 0}, ["steps is 0", "at least 1"]),
        ({"batch": -1}, ["batch is -1", "at least 1"]),
        ({"rate": "fast"}, ["rate is 'fast'", "a number"]),
        ({"fit_last_layer": 1}, ["fit_last_layer is 1", "true or false"]),
        ({"sizes": 16}, ["sizes is 16", "a table"]),
        ({"loss": 2}, ["loss is 2", "a string"]),
        ({"start_share": 0.5}, ["start_share is 0.5", "weights to start from"]),
        ({"start": "h264", "start_share": 1.0}, ["start_share is 1.0", "below 1"]),
        ({"lossless": 1.0}, ["lossless is 1.0", "below 1"]),
        ({"detectors": "yolox.onnx"}, ["detectors is 'yolox.onnx'", "a list"]),
        ({"detectors": ["a.onnx", "b.onnx"]}, ["2 detector(s) and feature_share 0.0", "need both"]),
        ({"feature_share": 0.2}, ["0 detector(s) and feature_share 0.2", "need both"]),
        ({**DETECT, "balanced": True}, ["with detectors", "leave out loss, teacher and balanced"]),
        ({**DETECT, "teacher": "edgecar-m"}, ["with detectors", "leave out loss"]),
        ({**DETECT, "loss": "ssim"}, ["with detectors", "leave out loss"]),
        ({"degradation": {**H264, "real": 2.0}}, ["real is 2.0", "a share from 0 to 1"]),
        ({"patch_px": 60}, ["patch_px is 60", "multiple of 8"]),
        ({"patch_px": 8}, ["patch_px is 8", "at least 16"]),
        ({"degradation": "jpeg"}, ["degradation is 'jpeg'", "a table"]),
        ({"degradation": {}}, ["degradation.coder is None", "jpeg, h264, hevc"]),
        ({"degradation": {"coder": "av1"}}, ["degradation.coder is 'av1'", "jpeg, h264, hevc"]),
        ({"degradation": {**JPEG, "crf": [1, 2]}}, ["'degradation.crf'", "known are quality"]),
        ({"degradation": {**H264, "unfiltered": 0.5}}, ["'degradation.unfiltered'", "limits_mbps"]),
        ({"degradation": {**JPEG, "quality": [40, 10]}}, ["quality is [40, 10]", "1 to 100"]),
        ({"degradation": {**JPEG, "quality": [0, 10]}}, ["quality is [0, 10]", "1 to 100"]),
        ({"degradation": {**JPEG, "quality": [10]}}, ["quality is [10]", "two whole numbers"]),
        ({"degradation": {**JPEG, "quality": [1.5, 9]}}, ["quality is [1.5, 9]", "whole numbers"]),
        ({"degradation": {**JPEG, "quality": 10}}, ["degradation.quality is 10", "[10, 40]"]),
        ({"degradation": {**JPEG, "coders": ["mozjpeg"]}}, ["'mozjpeg'", "opencv and pillow"]),
        ({"degradation": {**H264, "quantiser": [20, 52]}}, ["quantiser is [20, 52]", "0 to 51"]),
        ({"degradation": {**H264, "gops": 12}}, ["degradation.gops is 12", "[12, 60]"]),
        ({"degradation": {**H264, "presets": []}}, ["presets is []", "at least one"]),
        ({"degradation": {**H264, "clips": 0}}, ["clips", "at least 1"]),
        ({"degradation": {**H264, "size": [65, 96]}}, ["size is [65, 96]", "even"]),
        ({"degradation": {**H264, "size": [64, 32]}}, ["size is [64, 32]", "64 or more"]),
    ],
    ids=str,
)
def test_what_is_wrong_is_said_in_one_line(changes, words) -> None:
    line = refusal({"network": "edgecar-xs", **changes})
    for word in words:
        assert word in line


def test_a_recipe_needs_a_network() -> None:
    assert "'network' is missing" in refusal({"steps": 5})


def test_whole_numbers_do_for_rates() -> None:
    recipe = recipe_from_table({"network": "edgecar-xs", "rate": 1, "weight_decay": 0})
    assert (recipe.rate, recipe.weight_decay) == (1, 0)


@pytest.mark.parametrize("text", [b"network = ", b"\xff\xfe"])
def test_what_is_no_toml_is_named(tmp_path, text) -> None:
    path = tmp_path / "odd.toml"
    path.write_bytes(text)
    with pytest.raises(SettingsError, match=r"cannot read recipe .*odd\.toml"):
        recipe_from_toml(path, TrainRecipe)
    with pytest.raises(SettingsError, match=r"cannot read recipe .*absent\.toml"):
        recipe_from_toml(tmp_path / "absent.toml", TrainRecipe)


def test_file_is_named_with_what_is_wrong_in_it(tmp_path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('network = "edgecar-xs"\nstpes = 5\n')
    with pytest.raises(SettingsError, match=r"mine\.toml: unknown key 'stpes'"):
        recipe_from_toml(path, TrainRecipe)


def test_names_of_recipes() -> None:
    folder = shipped("export", "training")
    assert find_recipe("edgecar-s") == folder / "edgecar-s.jpeg.toml"
    assert find_recipe("edgecar-s.hevc") == folder / "edgecar-s.hevc.toml"
    assert find_recipe("glfusion-paper.hevc") == folder / "glfusion-paper.hevc.toml"
    assert find_recipe("elsewhere/mine.toml") == Path("elsewhere/mine.toml")
    with pytest.raises(SettingsError, match=r"no recipe is called 'edgecar-z'.*edgecar-xs\.jpeg"):
        find_recipe("edgecar-z")


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_recipe(path) -> None:
    recipe = recipe_from_toml(path, TrainRecipe)
    network, made_for = path.stem.split(".")
    coder = made_for.removesuffix("-detect")
    assert recipe.network == network.partition("-ablation-")[0].removesuffix("-paper")
    assert recipe.degradation.coder == coder
    assert (recipe.purpose == "detect") == (coder != made_for)
    assert recipe_from_table(table_of(recipe)) == recipe
    # The weights that it starts from may not ship yet.
    with torch.device("meta"):
        built = new_network(replace(recipe, start="", start_share=0.0))
    assert sum(weight.numel() for weight in built.parameters()) > 0
    assert vars(built.config).items() >= recipe.sizes.items()
    assert recipe.start in ("", *CODERS)
    assert recipe.teacher == "" or find_recipe(f"{recipe.teacher}.{coder}").exists()
    loss_named(recipe.loss)
    optimiser_for(built, recipe)
    assert recipe.warmup < recipe.steps


def test_ablations_of_msfan_differ_in_one_size_and_nothing_else() -> None:
    """Kim and Jun, CMC 2022, tables 7 to 9."""
    recipes = [recipe_from_toml(path, TrainRecipe) for path in SHIPPED if "-ablation-" in path.stem]
    sizes = [tuple(recipe.sizes.items()) for recipe in recipes]
    assert sorted(sizes, key=str) == sorted(
        [
            (),
            *((("block_off", number),) for number in (1, 2, 3, 4)),
            (("attention", False),),
            (("skip", False),),
            *((("width", width),) for width in (32, 48, 80)),
            *((("attention_layers", layers),) for layers in (3, 4)),
        ],
        key=str,
    )
    assert len({replace(recipe, sizes={}).seed for recipe in recipes}) == 1
    assert all(replace(recipe, sizes={}) == replace(recipes[0], sizes={}) for recipe in recipes)


def test_recipes_ship() -> None:
    assert len(SHIPPED) >= 10
    made_for = {path.stem.split(".")[1] for path in SHIPPED}
    assert made_for == {each.replace(":", "-") for each in WEIGHTS_FOR}


@pytest.mark.parametrize(
    "degradation",
    [
        JpegRange((5, 95), ("pillow",)),
        H264Range((20, 30), size=(64, 96), limits_mbps=(1.0,)),
        HevcRange(unfiltered=0.5),
    ],
)
def test_every_degradation_survives_the_table(degradation) -> None:
    recipe = TrainRecipe("edgecar-m", {"width": 8}, degradation, start="jpeg", teacher="edgecar-m")
    assert recipe_from_table(table_of(recipe)) == recipe


def test_msfan_paper_is_table_1_of_the_paper() -> None:
    """Kim and Jun, CMC 2022, table 1."""
    recipe = recipe_from_toml(find_recipe("msfan-paper.jpeg"), TrainRecipe)
    assert recipe.loss == "mse"  # "Loss function: Mean Square Error (MSE)"
    assert recipe.optimiser == "adam"
    assert recipe.batch == 128
    assert recipe.rate == 1e-4  # "10^-4 to 10^-6"
    assert recipe.rate * rate_share_at(recipe.steps, recipe) == pytest.approx(1e-6)
    assert recipe.weight_decay == 1e-6
    assert (recipe.start, recipe.teacher, recipe.sizes) == ("", "", {})
    assert not recipe.fit_last_layer
    network = new_network(recipe)
    assert isinstance(network, Msfan)
    layers = list(network.modules())
    activations = {type(m) for m in layers if type(m).__module__ == torch.nn.PReLU.__module__}
    # The attention's own (ReLU between its layers, sigmoid at its end) are those of its figure.
    assert activations == {torch.nn.PReLU, torch.nn.ReLU, torch.nn.Sigmoid}
    assert sum(isinstance(m, torch.nn.PReLU) for m in layers) == 2 + 4 * 4
    for conv in (m for m in layers if isinstance(m, torch.nn.Conv2d)):
        assert conv.padding_mode == "zeros"
        rows = conv.weight.detach().flatten(1)
        grid = rows @ rows.T if rows.shape[0] <= rows.shape[1] else rows.T @ rows
        # "Orthogonal": a decomposition in float32 leaves some 1e-6.
        assert torch.allclose(grid, torch.eye(len(grid)), atol=1e-5)
