"""What a finished run leaves behind: weights, and the facts of how they were made."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from edgecar.files import written_whole
from edgecar.train.degrade import Jpeg
from edgecar.train.fit import Run, deployed
from edgecar.train.recipe import TrainRecipe, table_of


def save_weights(run: Run, path: Path) -> None:
    """Write the averaged network in its deployed form as safetensors."""
    network = deployed(run.average.eval())
    state = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    with written_whole(path) as temporary:
        save_file(state, temporary)


def describe(run: Run, recipe: TrainRecipe, data: list[Path]) -> dict[str, Any]:
    """How weights came to be, as stored in the manifest of shipped weights."""
    return {
        "trained_on": Jpeg(*recipe.jpeg_quality).name,
        "recipe": table_of(recipe),
        "data": [f"{folder.parent.name}/{folder.name}" for folder in data],
        "steps": run.step,
        "seconds": round(run.seconds),
        "torch": torch.__version__,
    }


def write_facts(facts: dict[str, Any], weights: Path) -> None:
    """Keep the facts beside the weights, as ``<weights>.json``."""
    with written_whole(weights.with_suffix(".json")) as temporary:
        temporary.write_text(json.dumps(facts, indent=2) + "\n")
