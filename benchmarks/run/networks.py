"""Cost and halo of every network of the zoo, counted once and kept.

``python -m benchmarks.run.networks`` writes `zoo/weights/networks.json`, so that ``edgecar models``
is instant and needs no torch.
"""

import json
from typing import Any

from edgecar.bench.complexity import complexity
from edgecar.exporter.recipe import recipe_for
from edgecar.exporter.to_onnx import artifact_from_network
from edgecar.files import WEIGHTS, atomic_write
from edgecar.zoo.card import Card
from edgecar.zoo.checkpoints import Loaded
from edgecar.zoo.registry import CARDS
from edgecar.zoo.shipped import FACTS

COUNTED_SIDE = 1024  # px; a multiple of every alignment


def facts_of(card: Card) -> dict[str, Any]:
    """Cost of the luma network, and its halo, alignment and context derived from the graph."""
    network = card.build(card.config(1)).eval()
    cost = complexity(network, 1, COUNTED_SIDE, COUNTED_SIDE)
    loaded = Loaded(card, 1, network)
    recipe = recipe_for(card.name)
    _, metadata = artifact_from_network(loaded, recipe, weights_sha256="", trained_on="")
    return {
        "name": card.name,
        "paper": card.paper,
        "channels": sorted(card.configs),
        "params": cost.params,
        "kmacs_per_px": round(cost.kmacs_per_px, 3),
        "halo_px": metadata.halo_px,
        "align_px": metadata.align_px,
        "context": metadata.context,
    }


def main() -> None:
    """Write the file anew."""
    with atomic_write(WEIGHTS / FACTS) as temporary:
        temporary.write_text(json.dumps([facts_of(card) for card in CARDS], indent=2) + "\n")


if __name__ == "__main__":
    main()
