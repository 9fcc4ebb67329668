"""Artifacts of small networks, exported once per run."""

from collections.abc import Callable
from functools import cache

import pytest

from edgecar.artifact import Artifact

Exported = Callable[..., Artifact]


@pytest.fixture(scope="session")
def exported() -> Exported:
    """A function from a network's name to its artifact (seconds the first time)."""

    @cache
    def make(name: str, channels: int = 1) -> Artifact:
        # Loaded here: most tests need no torch, which takes seconds.
        from edgecar.exporter.recipe import recipe_for
        from edgecar.exporter.to_onnx import artifact_from_network
        from edgecar.zoo.checkpoints import Loaded
        from edgecar.zoo.registry import card_named
        from tests.networks import narrow

        loaded = Loaded(card_named(name), channels, narrow(name, channels))
        model, facts = artifact_from_network(loaded, recipe_for(name), "f" * 64, "jpeg 10-40")
        return Artifact(facts, model.SerializeToString())

    return make
