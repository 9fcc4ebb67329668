"""Runs of small networks on small sets."""

import numpy as np
import pytest
import torch

from edgecar.train.quality.rated import Rated, RatedSet
from edgecar.train.quality.recipe import quality_recipe_from_table


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def small_recipe():
    """A function from changes to a recipe of a narrow network and few steps."""

    def make(**changes):
        network = {"kernels": [4, 4, 4, 4, 8], "fully_connected": [8]}
        table = {"network": network, "batch": 8, "epochs": 10, "optimiser": "adam", "rate": 1e-3}
        return quality_recipe_from_table(table | changes)

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
