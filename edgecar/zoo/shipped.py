"""Weights that ship with edgecar: the manifest and what it promises."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgecar.errors import CheckpointError
from edgecar.files import WEIGHTS

MANIFEST = "manifest.json"
FACTS = "networks.json"  # generated: python -m edgecar.bench.networks


@dataclass(frozen=True)
class ShippedWeights:
    """One checkpoint in `zoo/weights/`.

    Attributes:
        network: Name in the zoo.
        codec: What the input is coded with: ``jpeg``, ``h264`` or ``hevc``.
        path: The safetensors file.
        sha256: Of that file.
        trained_on: The degradation, e.g. ``jpeg 10-40``.
        psnr: Measured luma PSNR in dB by test set and quality, e.g. ``{"classic5 q10": 29.0}``.
        tiling: For networks that pool over the picture: ``tiled_minus_whole_db``, what tiles of
            ``tile_px`` change in PSNR on Classic5 at quality 10. Empty for others: nothing changes.
        training: Recipe, data, steps, seconds, machine, commit.
    """

    network: str
    codec: str
    path: Path
    sha256: str
    trained_on: str
    psnr: dict[str, float]
    tiling: dict[str, float]
    training: dict[str, Any]


def shipped_weights() -> list[ShippedWeights]:
    """Every entry of the manifest."""
    folder = WEIGHTS
    entries = json.loads((folder / MANIFEST).read_text())
    return [
        ShippedWeights(
            network=entry["network"],
            codec=entry["for"],
            path=folder / entry["file"],
            sha256=entry["sha256"],
            trained_on=entry["trained_on"],
            psnr=entry["psnr"],
            tiling=entry["tiling"],
            training=entry["training"],
        )
        for entry in entries
    ]


def shipped_checkpoint(network: str, codec: str) -> ShippedWeights:
    """The shipped weights of a network for one codec.

    Raises:
        CheckpointError: None ship; says for which codecs some do.
    """
    own = [entry for entry in shipped_weights() if entry.network == network]
    for entry in own:
        if entry.codec == codec:
            return entry
    others = ", ".join(sorted(entry.codec for entry in own))
    raise CheckpointError(
        f"no {codec} weights ship for {network}; "
        + (f"there are some for {others}" if own else "give a checkpoint file of yours")
    )


def network_table() -> list[dict[str, Any]]:
    """Every network with its cost, halo and shipped weights, as ``edgecar models --json`` prints.

    Read from generated files, so that it needs no torch.
    """
    networks: list[dict[str, Any]] = json.loads((WEIGHTS / FACTS).read_text())
    own: dict[str, list[dict[str, Any]]] = {network["name"]: [] for network in networks}
    for entry in shipped_weights():
        own[entry.network].append(
            {"for": entry.codec, "sha256": entry.sha256, "psnr": entry.psnr, **entry.tiling}
        )
    return [{**network, "weights": own[network["name"]]} for network in networks]
