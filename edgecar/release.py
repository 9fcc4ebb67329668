"""``python -m edgecar.release``: admit trained weights to those that ship.

Copies the checkpoint, exports its artifact, measures both on test sets and writes the manifest
entry, so that no figure in the manifest was typed by hand.
"""

import json
import shutil
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from edgecar.bench.machine import commit_id, machine_facts, machine_line
from edgecar.evaluate.metrics import psnr
from edgecar.evaluate.stills import evaluate_jpeg, load_pictures
from edgecar.exporter.to_onnx import export
from edgecar.files import WEIGHTS, sha256_of, written_whole
from edgecar.media.still_codec import jpeg_coded
from edgecar.runtime.restorer import Restorer
from edgecar.zoo.checkpoints import load_network
from edgecar.zoo.shipped import MANIFEST

QUALITIES = (10, 20, 30, 40)
LICENCE = "Apache-2.0"
TILE_PX = 256  # smaller than any default window, so that a pooling network is put to the test


def admit(
    weights: Annotated[Path, typer.Argument(help="What edgecar train wrote (.safetensors).")],
    data: Annotated[list[Path], typer.Option(help="Test sets; the first one ranks networks.")],
    codec: Annotated[str, typer.Option("--for", help="What the input is coded with.")] = "jpeg",
) -> None:
    """Ship WEIGHTS: copy, export, measure, and enter them in the manifest."""
    network = load_network(weights).card.name
    training = json.loads(weights.with_suffix(".json").read_text())
    checkpoint = WEIGHTS / f"{network}.{codec}.safetensors"
    shutil.copyfile(weights, checkpoint)
    trained_on = training.pop("trained_on")
    artifact = checkpoint.with_suffix(".onnx")
    export(checkpoint, artifact, trained_on=trained_on)
    entry = {
        "network": network,
        "for": codec,
        "file": checkpoint.name,
        "sha256": sha256_of(checkpoint),
        "licence": LICENCE,
        "trained_on": trained_on,
        "psnr": measured_psnr(artifact, data),
        "tiling": tiling_cost(artifact, data[0]),
        "training": training,
        "measured": {"commit": commit_id(), "machine": machine_line(machine_facts())},
    }
    _enter(entry)
    typer.echo(json.dumps(entry, indent=2))


def measured_psnr(artifact: Path, sets: list[Path]) -> dict[str, float]:
    """Mean luma PSNR in dB by set and quality, in float32."""
    figures = {}
    with Restorer(artifact, precision="fp32") as restorer:
        for folder in sets:
            rows = evaluate_jpeg(
                restorer.luma,
                load_pictures(folder),
                QUALITIES,
                network=restorer.facts.model,
                set_name=folder.name,
            )
            for row in rows:
                figures[f"{folder.name} q{row['quality']}"] = round(row["psnr_out"], 3)
    return figures


def tiling_cost(artifact: Path, folder: Path) -> dict[str, float]:
    """What small tiles change in PSNR against whole pictures, where a network pools."""
    with Restorer(artifact, precision="fp32", tile=(TILE_PX, TILE_PX)) as restorer:
        if restorer.facts.context == "local":
            return {}
        changes = []
        for _, clean in load_pictures(folder):
            coded = jpeg_coded(clean, QUALITIES[0])
            tiled, whole = restorer.luma(coded), restorer.whole(coded)
            changes.append(psnr(clean, tiled) - psnr(clean, whole))
    return {"tile_px": TILE_PX, "tiled_minus_whole_db": round(float(np.mean(changes)), 5)}


def _enter(entry: dict[str, Any]) -> None:
    """Replace the manifest's entry for the same network and codec, or add one."""
    path = WEIGHTS / MANIFEST
    key = (entry["network"], entry["for"])
    others = [e for e in json.loads(path.read_text()) if (e["network"], e["for"]) != key]
    entries = sorted([*others, entry], key=lambda e: (e["network"], e["for"]))
    with written_whole(path) as temporary:
        temporary.write_text(json.dumps(entries, indent=2) + "\n")


if __name__ == "__main__":
    typer.run(admit)
