"""Weights and metadata that a run leaves behind."""

import json
from pathlib import Path

import pytest
import torch

from edgecar.train.degrade import H264Range, HevcRange
from edgecar.train.fit import Run, new_run
from edgecar.train.recipe import TrainRecipe, recipe_from_table
from edgecar.train.ship import describe, save_weights, write_metadata
from edgecar.zoo.checkpoints import load_network

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
    folder = tmp_path / "bsds500" / "train"
    folder.mkdir(parents=True)
    metadata = describe(run, [folder])
    write_metadata({**metadata, "commit": None}, tmp_path / "mine.safetensors")
    read = json.loads((tmp_path / "mine.json").read_text())
    assert recipe_from_table(read.pop("recipe")) == RECIPE  # lists and all
    assert read == {
        "trained_on": "hevc qp 20-38",
        "data": ["bsds500/train"],
        "steps": 7,
        "seconds": 13,
        "device": "cpu",
        "torch": torch.__version__,
        "commit": None,
    }
    assert str(tmp_path) not in json.dumps(read)


def test_data_given_as_a_relative_folder_has_a_name(run, tmp_path, monkeypatch) -> None:
    (tmp_path / "set").mkdir()
    monkeypatch.chdir(tmp_path / "set")
    assert describe(run, [Path()])["data"] == [f"{tmp_path.name}/set"]
