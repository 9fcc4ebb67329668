"""Weights, metadata and ONNX file of a run say the same."""

import json

import numpy as np
import pytest
import torch

from edgecar.artifact import read_artifact
from edgecar.errors import ArtifactError, CheckpointError, GateError
from edgecar.evaluate.scorer import SHIPPED, Scorer
from edgecar.train.quality import ship
from edgecar.train.quality.fit import new_quality_run
from edgecar.train.quality.measure import predictions
from edgecar.train.quality.proxy import PROXY
from edgecar.train.quality.rated import Rated, RatedSet
from edgecar.train.quality.recipe import (
    find_quality_recipe,
    quality_recipe_from_table,
    quality_recipe_from_toml,
)
from edgecar.train.quality.ship import load_scorer_network, save_scorer

pytestmark = pytest.mark.slow  # trains and exports scorers

SWITCHES = [{}, {"multi_scale": False}, {"streams": "residual"}, {"streams": "distorted"}]


@pytest.fixture
def saved(small_recipe, tmp_path):
    def save(**network):
        recipe = small_recipe(lower_is_better=True)
        table = {"kernels": [4, 4, 4, 4, 8], "fully_connected": [64], **network}
        changed = small_recipe(network=table, lower_is_better=recipe.lower_is_better)
        run = new_quality_run(changed, 20.0, 90.0)
        path = tmp_path / "mine.safetensors"
        return path, save_scorer(run, path, "opinion scores of mine", "3 pictures")

    return save


@pytest.mark.parametrize("network", SWITCHES, ids=str)
def test_the_file_scores_as_the_network_in_the_unit_of_the_target(saved, network):
    path, metadata = saved(**network)
    rng = np.random.default_rng(0)
    clean = rng.integers(0, 256, (150, 300), np.uint8)
    judged = clean ^ 5
    built, stored = load_scorer_network(path)
    assert stored == metadata
    unit = predictions(built, RatedSet([clean], [Rated(0, judged, 0.0)]))[0]
    for engine in ("onnxruntime", "openvino"):
        with Scorer(path.with_suffix(".onnx"), engine, threads=1) as scorer:
            # Sums of float32 products, times a range of 70
            assert scorer.score(clean, judged) == pytest.approx(20 + 70 * unit, abs=1e-3)
            assert scorer.engine.info.precision == "fp32"
    with Scorer(path.with_suffix(".onnx"), threads=1) as scorer:
        assert scorer.metadata.target == "opinion scores of mine"
        assert (scorer.metadata.low, scorer.metadata.high) == (20.0, 90.0)
        assert scorer.metadata.parity_max_error < 1e-3 * 70
        assert scorer.gain(30.0, 20.0) == 10.0  # DMOS: low is good


def test_hidden_weights_are_stored_once(saved):
    path, _ = saved()
    halves = sum(
        tensor.numel() * 2 for name, tensor in load_scorer_network(path)[0].named_parameters()
        if name.startswith("score.0")
    )  # fmt: skip
    onnx_bytes = path.with_suffix(".onnx").stat().st_size
    assert path.stat().st_size > halves > onnx_bytes


def test_it_is_no_artifact_that_restores(saved):
    path, _ = saved()
    with pytest.raises(ArtifactError, match="without edgecar's metadata"):
        read_artifact(path.with_suffix(".onnx"))


def test_a_file_that_scores_otherwise_is_not_written(saved, monkeypatch):
    real = ship._graph

    def damaged(network):
        with torch.no_grad():
            network.score[-1].bias.add_(1.0)
        model = real(network)
        with torch.no_grad():
            network.score[-1].bias.sub_(1.0)
        return model

    monkeypatch.setattr(ship, "_graph", damaged)
    with pytest.raises(GateError, match="differs from torch by 1"):
        saved()


def test_damaged_files_are_named(saved):
    path, metadata = saved()
    del metadata["network"]
    path.with_suffix(".json").write_text(json.dumps(metadata))
    with pytest.raises(CheckpointError, match="keep what a training run wrote together"):
        load_scorer_network(path)


def test_what_ships_is_what_its_facts_say():
    weights = SHIPPED.with_suffix(".safetensors")
    network, metadata = load_scorer_network(weights)
    assert metadata["network"]["streams"] == "both"
    assert metadata["network"]["multi_scale"]
    assert metadata["target"] == PROXY
    assert "bsds500/train, bsds500/test" in metadata["trained_on"]
    assert {"kodak", "live1"} <= set(metadata["agreement"])
    recipe = quality_recipe_from_toml(find_quality_recipe("multiscale-iqa"))
    assert quality_recipe_from_table(metadata["recipe"]) == recipe
    rng = np.random.default_rng(1)
    clean = rng.integers(0, 256, (128, 128), np.uint8)
    rated = RatedSet([clean], [Rated(0, clean ^ 9, 0.0)])
    with Scorer(threads=1) as scorer:
        assert (scorer.metadata.low, scorer.metadata.high) == (metadata["low"], metadata["high"])
        span = metadata["high"] - metadata["low"]
        expected = metadata["low"] + span * predictions(network, rated)[0]
        # As allowed at export: a thousandth of the range
        assert scorer.score(clean, clean ^ 9) == pytest.approx(expected, abs=1e-3 * span)
