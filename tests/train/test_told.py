"""Training tells networks the quantiser of every picture, and weighs pictures by their errors."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from edgecar.train.data import PatchSampler
from edgecar.train.degrade import Pair
from edgecar.train.fit import (
    Progress,
    balanced_weights,
    fit,
    least_mse_at,
    new_run,
    validation_gains_db,
)
from tests.train.test_fit import CPU, XS, every_step  # noqa: F401  # a fixture


class Told(nn.Module):
    """Adds the quantiser that it is told to the picture."""

    takes_quantiser = True

    def __init__(self) -> None:
        super().__init__()
        self.share = nn.Parameter(torch.ones(1))

    def forward(self, picture: torch.Tensor, quantiser: torch.Tensor) -> torch.Tensor:
        return picture + self.share * quantiser[:, None, None, None]


class Levels:
    """Pictures that lack what their quantiser says."""

    def pair(self, rng: np.random.Generator) -> Pair:
        codes = int(rng.integers(1, 100))
        return Pair(
            np.full((32, 32), 50, np.uint8), np.full((32, 32), 50 + codes, np.uint8), codes / 255
        )


@pytest.mark.usefixtures("every_step")
def test_the_quantiser_of_each_picture_reaches_network_teacher_and_validation(tmp_path) -> None:
    told: list[Progress] = []
    recipe = replace(XS, steps=1, batch=8, optimiser="adam", teacher_share=0.5)
    run = new_run(recipe, CPU, Told())
    run.teacher = Told()
    rng = np.random.default_rng(0)
    held_out = {"q10": [Levels().pair(rng) for _ in range(3)]}
    assert validation_gains_db(run, held_out)["worst"] > 40  # nothing is left
    fit(run, Levels(), held_out, tmp_path / "state.pt", told.append)
    assert told[0].loss < 1e-12


def test_lossless_pictures_have_quantiser_0_and_weigh_as_the_mean_does() -> None:
    sampler = PatchSampler(Levels(), patch_px=16, batch=64, seed=0, refresh=64, lossless=0.25)
    batch = next(sampler.batches())
    lossless = batch.quantiser == 0
    assert 4 < lossless.sum() < 30
    assert (batch.coded[lossless] == batch.clean[lossless]).all()
    assert (batch.picture_mse[lossless] == 0).all()
    weights = balanced_weights(torch.from_numpy(batch.picture_mse), 1e-5).numpy()
    assert (weights[lossless] == 1).all()
    assert weights[~lossless].mean() == pytest.approx(1, rel=1e-5)
    assert (balanced_weights(torch.zeros(3), 1e-5) == 1).all()


def test_fresh_weights_come_to_the_balance_slowly() -> None:
    fresh = [least_mse_at(step, replace(XS, steps=100)) for step in range(101)]
    assert fresh[0] == pytest.approx(1e-3)
    assert fresh[35] == pytest.approx(1e-4)  # half of seven tenths: geometrically
    assert fresh[70:] == pytest.approx([1e-5] * 31)
    assert fresh == sorted(fresh, reverse=True)
    begun = replace(XS, steps=100, start="jpeg")
    assert [least_mse_at(step, begun) for step in (0, 50, 99)] == [1e-5] * 3
