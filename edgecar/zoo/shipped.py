"""Weights that ship with edgecar: the manifest and what it promises."""

import json
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from edgecar.errors import CheckpointError
from edgecar.files import WEIGHTS
from edgecar.spec import Coder

MANIFEST = "manifest.json"
WORST = "worst"  # among gains: of all clips, and no part of the mean
FACTS = "networks.json"  # generated: python -m benchmarks.run.networks


@dataclass(frozen=True)
class ShippedWeights:
    """One checkpoint in `zoo/weights/`, as `benchmarks.run.release` entered it.

    Attributes:
        network: Name in the zoo.
        codec: Coder of the input.
        path: The safetensors file.
        sha256: SHA-256 of that file.
        licence: Licence of the weights.
        trained_on: The degradation, the coder first: ``jpeg 10-40``.
        config: Settings that differ from the published network: ``{"width": 16}``.
        cost: ``params``, ``kmacs_per_px`` and ``halo_px`` of the network so configured.
        psnr: Measured luma PSNR in dB by test set and quality, ``{"classic5 q10": 29.0}``; empty
            for video coders.
        gain_db: Measured gain in luma PSNR over the coded video in dB, mean by quantiser, and the
            ``worst`` of all clips: ``{"crf 29": 0.3, "worst": 0.1}``; empty for JPEG.
        tiling: For networks that pool over the picture: ``tiled_minus_whole_db``, what tiles of
            ``tile_px`` change in PSNR. Empty for others: nothing changes.
        training: Recipe, seed, data, steps, seconds, machine, commit.
    """

    network: str
    codec: Coder
    path: Path
    sha256: str
    licence: str
    trained_on: str
    config: dict[str, Any]
    cost: dict[str, float]
    tiling: dict[str, float]
    training: dict[str, Any]
    psnr: dict[str, float] = field(default_factory=dict)
    gain_db: dict[str, float] = field(default_factory=dict)


def manifest() -> list[dict[str, Any]]:
    """Return the manifest."""
    entries: list[dict[str, Any]] = json.loads((WEIGHTS / MANIFEST).read_text())
    return entries


def shipped_weights() -> list[ShippedWeights]:
    """Return every entry of the manifest."""
    renamed = {"for": "codec", "file": "path"}
    known = {known.name for known in fields(ShippedWeights)}
    tables = [{renamed.get(k, k): value for k, value in entry.items()} for entry in manifest()]
    return [
        ShippedWeights(
            **{key: value for key, value in table.items() if key in known}
            | {"path": WEIGHTS / table["path"]}
        )
        for table in tables
    ]


def shipped_checkpoint(network: str, codec: Coder) -> ShippedWeights:
    """Return the shipped weights of a network for one codec.

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
