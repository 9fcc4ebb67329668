"""The training loop: it learns, it goes on exactly, and it knows its own files."""

from dataclasses import replace
from itertools import count
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from edgecar.errors import DataError
from edgecar.train.quality import fit as fit_module
from edgecar.train.quality.fit import fit_quality, new_quality_run, steps_of
from edgecar.train.quality.measure import agreement, predictions, simple_measures
from edgecar.train.quality.rated import Rated, RatedSet

pytestmark = pytest.mark.slow  # trains scorers

SCALE = (1.0, 5.0)


def fitted(run, rated, path, **options):
    done = fit_quality(run, rated, path, lambda *_: None, **options)
    return done, run


def test_it_learns_what_more_noise_costs(small_recipe, noisy_set, tmp_path):
    run = new_quality_run(small_recipe(epochs=40), *SCALE)
    before = agreement(predictions(run.network, noisy_set), noisy_set)
    done, _ = fitted(run, noisy_set, tmp_path / "state.pt")
    after = agreement(predictions(run.network, noisy_set), noisy_set)
    assert done
    assert run.step == steps_of(run.recipe, noisy_set) == 75
    assert after.srcc > max(0.9, before.srcc)
    assert after.plcc > 0.9
    assert (after.pictures, after.references, after.pairs) == (15, 3, 0)
    assert after.same_verdict is None


@pytest.mark.parametrize("optimiser", ["sgd", "adam"])
def test_a_stopped_run_ends_with_the_same_weights(
    small_recipe, noisy_set, tmp_path, monkeypatch, optimiser
):
    recipe = small_recipe(optimiser=optimiser, epochs=4)
    _, whole = fitted(new_quality_run(recipe, *SCALE), noisy_set, tmp_path / "whole.pt")
    ticks = count()
    clock = SimpleNamespace(perf_counter=lambda: float(next(ticks)))
    monkeypatch.setattr(fit_module, "time", clock)
    path = tmp_path / "state.pt"
    done, first = fitted(new_quality_run(recipe, *SCALE), noisy_set, path, stop_after_seconds=6)
    assert not done
    assert 0 < first.step < whole.step
    again = new_quality_run(recipe, *SCALE)
    again.restore(path)
    done, again = fitted(again, noisy_set, path)
    assert done
    for name, tensor in whole.network.state_dict().items():
        assert torch.equal(tensor, again.network.state_dict()[name]), name


def test_another_runs_state_is_refused(small_recipe, noisy_set, tmp_path):
    recipe = small_recipe(epochs=1)
    path = tmp_path / "state.pt"
    fitted(new_quality_run(recipe, *SCALE), noisy_set, path)
    for other in (
        new_quality_run(replace(recipe, rate=0.5), *SCALE),
        new_quality_run(recipe, 0.0, 5.0),
    ):
        with pytest.raises(DataError, match="another recipe or other scores"):
            other.restore(path)
    path.write_bytes(b"nothing")
    with pytest.raises(DataError, match="damaged or no training state"):
        new_quality_run(recipe, *SCALE).restore(path)


def test_the_rate_falls_to_its_final_share(small_recipe, noisy_set, tmp_path):
    run = new_quality_run(small_recipe(epochs=5, final_share=0.25), *SCALE)
    fitted(run, noisy_set, tmp_path / "state.pt")
    (group,) = run.optimiser.param_groups
    # The last of ten steps is a tenth before the end of the cosine.
    assert 0.25e-3 < group["lr"] < 0.3e-3


def test_scores_that_are_all_the_same_teach_nothing(small_recipe):
    with pytest.raises(DataError, match="learns nothing"):
        new_quality_run(small_recipe(), 3.0, 3.0)


def test_verdicts_are_those_of_restored_against_coded():
    clean = np.zeros((128, 128), np.uint8)
    scores = [10.0, 12.0, 30.0, 20.0, 25.0]
    before = [-1, 0, -1, 2, 2]  # one got better, two got worse
    pictures = [Rated(0, clean, s, "", b) for s, b in zip(scores, before, strict=True)]
    rated = RatedSet([clean], pictures)
    found = agreement(np.array([1.0, 2.0, 3.0, 2.5, 3.5]), rated)
    assert found.pairs == 3
    assert found.same_verdict == pytest.approx(2 / 3)


def test_simple_measures_fall_with_noise(noisy_set):
    for name, values in simple_measures(noisy_set).items():
        for first in range(0, 15, 5):
            own = values[first : first + 5]
            assert (np.diff(own) < 0).all(), name
    assert simple_measures(noisy_set)["psnr"].max() == 100.0
