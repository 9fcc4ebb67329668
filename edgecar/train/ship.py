"""What a finished run leaves behind: weights, and the metadata of how they were made."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from edgecar.files import atomic_write
from edgecar.train.fit import Run
from edgecar.train.qat import int8_training, plain_state
from edgecar.train.recipe import table_of
from edgecar.train.start import new_network
from edgecar.zoo.checkpoints import metadata_of


def save_weights(run: Run, path: Path) -> None:
    """Write the averaged network as safetensors, with what training in eight bits found.

    A recipe's ``start_share`` moves it back towards the weights that the run began with.
    """
    state = {name: t.cpu().contiguous() for name, t in plain_state(run.average).items()}
    if run.recipe.start_share:
        began = new_network(run.recipe).state_dict()
        state = {name: t.lerp(began[name], run.recipe.start_share) for name, t in state.items()}
    eight_bits = int8_training(run.average, run.recipe)
    content = save(state, metadata_of(eight_bits) if eight_bits else None)
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)


def describe(run: Run, data: list[Path]) -> dict[str, Any]:
    """How weights came to be, as stored in the manifest of shipped weights."""
    return {
        "trained_on": run.recipe.degradation.name,
        "recipe": table_of(run.recipe),
        "data": ["/".join(folder.resolve().parts[-2:]) for folder in data],
        "steps": run.step,
        "seconds": round(run.seconds),
        "device": str(run.device),
        "torch": torch.__version__,
    }


def write_metadata(metadata: dict[str, Any], weights: Path) -> None:
    """Keep the metadata beside the weights, as ``<weights>.json``."""
    with atomic_write(weights.with_suffix(".json")) as temporary:
        temporary.write_text(json.dumps(metadata, indent=2) + "\n")
