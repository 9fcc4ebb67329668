"""Training of the scorer: it learns, goes on exactly, and ships what its metadata says."""

import json
from dataclasses import replace
from itertools import count
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from edgecar.artifact import read_artifact
from edgecar.errors import ArtifactError, CheckpointError, DataError, GateError
from edgecar.evaluate.scorer import SHIPPED, Scorer
from edgecar.train import loop
from edgecar.train.quality import fit
from edgecar.train.quality.fit import (
    agreement_of,
    fit_quality,
    load_scorer_network,
    new_quality_run,
    predictions,
    save_scorer,
)
from edgecar.train.quality.rated import Rated, RatedSet
from edgecar.train.quality.sources import PROXY, QualityRecipe
from edgecar.train.recipe import find_recipe, recipe_from_toml, record_from_table

pytestmark = pytest.mark.slow  # trains and exports scorers


@pytest.fixture
def small_recipe():
    """A function from changes to a recipe of a narrow network and few steps."""

    def make(**changes):
        network = {"kernels": [4, 4, 4, 4, 8], "fully_connected": [8]}
        table = {"network": network, "batch": 8, "epochs": 10, "optimiser": "adam", "rate": 1e-3}
        return record_from_table(QualityRecipe, table | changes)

    return make


@pytest.fixture
def noisy_set():
    """Flat pictures with more and more noise; the score is lower the more there is."""
    rng = np.random.default_rng(0)
    clean = [np.full((128, 160), code, np.uint8) for code in (90, 128, 160)]
    pictures = []
    for number, picture in enumerate(clean):
        for strength in (0, 5, 10, 20, 40):
            noise = rng.normal(0, strength, picture.shape)
            noisy = np.rint(picture + noise).clip(0, 255).astype(np.uint8)
            pictures.append(Rated(number, noisy, 5.0 - strength / 10))
    return RatedSet(clean, pictures)


def fitted(run, rated, path, **options):
    done = fit_quality(run, rated, path, lambda *_: None, **options)
    return done, run


def test_it_learns_what_more_noise_costs(small_recipe, noisy_set, tmp_path):
    run = new_quality_run(small_recipe(epochs=40), noisy_set)
    before = agreement_of(predictions(run.network, noisy_set), noisy_set)
    done, _ = fitted(run, noisy_set, tmp_path / "state.pt")
    after = agreement_of(predictions(run.network, noisy_set), noisy_set)
    assert done
    assert run.step == 75  # 40 epochs of 15 patches, 8 in a batch
    assert after.srcc > max(0.9, before.srcc)
    assert after.plcc > 0.9
    assert (after.pictures, after.references, after.pairs) == (15, 3, 0)
    assert after.same_verdict is None


@pytest.mark.parametrize("optimiser", ["sgd", "adam"])
def test_a_stopped_run_ends_with_the_same_weights(
    small_recipe, noisy_set, tmp_path, monkeypatch, optimiser
):
    recipe = small_recipe(optimiser=optimiser, epochs=4)
    _, whole = fitted(new_quality_run(recipe, noisy_set), noisy_set, tmp_path / "whole.pt")
    ticks = count()
    clock = SimpleNamespace(perf_counter=lambda: float(next(ticks)))
    monkeypatch.setattr(loop, "time", clock)
    path = tmp_path / "state.pt"
    done, first = fitted(new_quality_run(recipe, noisy_set), noisy_set, path, stop_after_seconds=6)
    assert not done
    assert 0 < first.step < whole.step
    again = new_quality_run(recipe, noisy_set)
    again.restore(path)
    done, again = fitted(again, noisy_set, path)
    assert done
    for name, tensor in whole.network.state_dict().items():
        assert torch.equal(tensor, again.network.state_dict()[name]), name


def test_another_runs_state_is_refused(small_recipe, noisy_set, tmp_path):
    recipe = small_recipe(epochs=1)
    path = tmp_path / "state.pt"
    fitted(new_quality_run(recipe, noisy_set), noisy_set, path)
    with pytest.raises(DataError, match=r"another recipe \(rate was 0.001, is 0.5\)"):
        new_quality_run(replace(recipe, rate=0.5), noisy_set).restore(path)
    fewer = RatedSet(noisy_set.references, noisy_set.pictures[1:5])
    with pytest.raises(DataError, match="other scores"):
        new_quality_run(recipe, fewer).restore(path)
    new_quality_run(recipe, noisy_set).restore(path)
    state = torch.load(path, weights_only=True)
    (state["optimiser"],) = state["optimiser"]  # as scorers were kept before the loop was shared
    del state["scaler"], state["average"]
    torch.save(state, path)
    again = new_quality_run(recipe, noisy_set)
    again.restore(path)
    assert again.step == 2


def test_scores_that_are_all_the_same_teach_nothing(small_recipe, noisy_set):
    with pytest.raises(DataError, match="learns nothing"):
        new_quality_run(small_recipe(), RatedSet(noisy_set.references, noisy_set.pictures[:1]))


def test_verdicts_are_those_of_restored_against_coded():
    clean = np.zeros((128, 128), np.uint8)
    scores = [10.0, 12.0, 30.0, 20.0, 25.0]
    before = [-1, 0, -1, 2, 2]  # one got better, two got worse
    pictures = [Rated(0, clean, s, b) for s, b in zip(scores, before, strict=True)]
    rated = RatedSet([clean], pictures)
    found = agreement_of(np.array([1.0, 2.0, 3.0, 2.5, 3.5]), rated)
    assert found.pairs == 3
    assert found.same_verdict == pytest.approx(2 / 3)


SWITCHES = [{}, {"multi_scale": False}, {"streams": "residual"}, {"streams": "distorted"}]


@pytest.fixture
def saved(small_recipe, tmp_path):
    def save(**network):
        recipe = small_recipe(lower_is_better=True)
        table = {"kernels": [4, 4, 4, 4, 8], "fully_connected": [64], **network}
        changed = small_recipe(network=table, lower_is_better=recipe.lower_is_better)
        picture = np.zeros((128, 128), np.uint8)
        rated = RatedSet([picture], [Rated(0, picture, score) for score in (20.0, 90.0)])
        run = new_quality_run(changed, rated)
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
    real = fit._graph

    def damaged(network):
        with torch.no_grad():
            network.score[-1].bias.add_(1.0)
        model = real(network)
        with torch.no_grad():
            network.score[-1].bias.sub_(1.0)
        return model

    monkeypatch.setattr(fit, "_graph", damaged)
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
    recipe = recipe_from_toml(find_recipe("multiscale-iqa", "scoring"), QualityRecipe)
    assert record_from_table(QualityRecipe, metadata["recipe"]) == recipe
    rng = np.random.default_rng(1)
    clean = rng.integers(0, 256, (128, 128), np.uint8)
    rated = RatedSet([clean], [Rated(0, clean ^ 9, 0.0)])
    with Scorer(threads=1) as scorer:
        assert (scorer.metadata.low, scorer.metadata.high) == (metadata["low"], metadata["high"])
        span = metadata["high"] - metadata["low"]
        expected = metadata["low"] + span * predictions(network, rated)[0]
        # As allowed at export: a thousandth of the range
        assert scorer.score(clean, clean ^ 9) == pytest.approx(expected, abs=1e-3 * span)
