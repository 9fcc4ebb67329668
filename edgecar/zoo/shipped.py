"""Weights that ship with edgecar, by the manifest in `zoo/weights/`."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgecar.errors import CheckpointError
from edgecar.files import WEIGHTS
from edgecar.spec import WeightsFor, weights_for_purpose

MANIFEST = "manifest.json"
WORST = "worst"  # among gains: of all clips, and no part of the mean
FACTS = "networks.json"  # generated: python -m benchmarks.run.networks


@dataclass(frozen=True)
class ShippedWeights:
    """One checkpoint that ships.

    Attributes:
        network: Name in the zoo.
        codec: Coder of the input, with the purpose if it is not to view.
        path: The safetensors file.
        sha256: SHA-256 of that file.
        trained_on: The degradation, the coder first: ``jpeg 10-40``.
    """

    network: str
    codec: WeightsFor
    path: Path
    sha256: str
    trained_on: str


def manifest() -> list[dict[str, Any]]:
    """Return the manifest, as `benchmarks.run.release` entered it.

    Besides what `ShippedWeights` has: ``for``, the coder; ``purpose``, if it is not to view;
    ``licence``; ``config``, settings that differ from the
    published network; ``cost`` of the network so configured; ``psnr`` in dB by test set and quality
    (JPEG), or ``gain_db`` over the coded video by quantiser, and the ``worst`` of all clips;
    ``tiling``, what tiles change for networks that pool over the picture; and ``training``.
    """
    entries: list[dict[str, Any]] = json.loads((WEIGHTS / MANIFEST).read_text())
    return entries


def shipped_weights() -> list[ShippedWeights]:
    """Return every entry of the manifest."""
    return [
        ShippedWeights(
            network=entry["network"],
            codec=codec_of(entry),
            path=WEIGHTS / entry["file"],
            sha256=entry["sha256"],
            trained_on=entry["trained_on"],
        )
        for entry in manifest()
    ]


def codec_of(entry: dict[str, Any]) -> WeightsFor:
    """Return what an entry of the manifest is for: the coder, and a purpose that is not to view."""
    return weights_for_purpose(entry["for"], entry.get("purpose", "view"))


def shipped_checkpoint(network: str, codec: WeightsFor) -> ShippedWeights:
    """Return the shipped weights of a network for a coder, and for a purpose: ``h264:detect``.

    Raises:
        CheckpointError: None ship; says for which some do.
    """
    own = {entry.codec: entry for entry in shipped_weights() if entry.network == network}
    if codec in own:
        return own[codec]
    there = f"there are some for {', '.join(sorted(own))}" if own else "give a checkpoint of yours"
    raise CheckpointError(f"no {codec} weights ship for {network}; {there}")


def network_table() -> list[dict[str, Any]]:
    """Return every network with cost, halo and weights, as ``edgecar models --json`` prints.

    Read from generated files, so that it needs no torch. Cost and halo of a network are those of
    the published one; weights of another ``config`` have a ``cost`` of their own.
    """
    networks: list[dict[str, Any]] = json.loads((WEIGHTS / FACTS).read_text())
    entries = manifest()
    return [
        {**network, "weights": [e for e in entries if e["network"] == network["name"]]}
        for network in networks
    ]
