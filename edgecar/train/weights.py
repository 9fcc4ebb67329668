"""Weights that a run leaves behind, and the metadata that says how they came to be."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from edgecar.files import WEIGHTS, atomic_write, sha256_of
from edgecar.train.fit import new_network, teacher_path
from edgecar.train.folders import licence_of
from edgecar.train.loop import Run
from edgecar.train.qat import int8_training, plain_state
from edgecar.train.recipe import TrainRecipe, table_of
from edgecar.zoo.checkpoints import metadata_of
from edgecar.zoo.shipped import manifest


def save_weights(run: Run, path: Path) -> None:
    """Write the averaged network as safetensors, with the ranges that training in eight bits found.

    A recipe's ``start_share`` moves it back towards the weights that the run began with.
    """
    state = {name: t.cpu().contiguous() for name, t in plain_state(run.shipped).items()}
    if run.recipe.start_share:
        began = new_network(run.recipe).state_dict()
        state = {name: t.lerp(began[name], run.recipe.start_share) for name, t in state.items()}
    eight_bits = int8_training(run.shipped, run.recipe)
    content = save(state, metadata_of(eight_bits) if eight_bits else None)
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)


def describe(
    run: Run, sources: list[dict[str, Any]], gains_db: Mapping[str, float]
) -> dict[str, Any]:
    """Return how weights came to be, as stored in the manifest of shipped weights.

    Args:
        run: The run.
        sources: Sources of the data, as `edgecar.train.folders.sources_of` gives them.
        gains_db: Gains by `validation_gains_db`.
    """
    return {
        "trained_on": run.recipe.degradation.name,
        "purpose": run.recipe.purpose,
        "recipe": table_of(run.recipe),
        "sources": sources,
        "weights_used": weights_used(run.recipe, sources),
        "validation_db": {name: round(gain, 3) for name, gain in gains_db.items()},
        "steps": run.step,
        "seconds": round(run.seconds),
        "device": str(run.device),
        "torch": torch.__version__,
    }


def weights_used(
    recipe: TrainRecipe, sources: Sequence[dict[str, Any]] = ()
) -> list[dict[str, Any]]:
    """Return the weights that a run began with, its teacher and detectors, and what they used.

    Each has the ``sources`` that it learned from besides those given.
    """
    used: list[dict[str, Any]] = []
    others = (recipe.start_path, teacher_path(recipe), *map(Path, recipe.detectors))
    for path in dict.fromkeys(filter(None, others)):
        beside = path.with_suffix(".json")
        entry = next((e["training"] for e in manifest() if WEIGHTS / e["file"] == path), None)
        known = entry or (json.loads(beside.read_text()) if beside.is_file() else {})
        # Earlier versions named the folders alone.
        learned = known.get("sources") or [
            {"source": name, "licence": licence_of(name)} for name in known.get("data", ())
        ]
        own = {"file": path.name, "sha256": sha256_of(path), "sources": learned}
        for found in (own, *known.get("weights_used", [])):
            others_of = [source for source in found["sources"] if source not in sources]
            used.append({**found, "sources": others_of})
    return used


def write_metadata(metadata: dict[str, Any], weights: Path) -> None:
    """Write the metadata beside the weights, as ``<weights>.json``."""
    with atomic_write(weights.with_suffix(".json")) as temporary:
        temporary.write_text(json.dumps(metadata, indent=2) + "\n")
