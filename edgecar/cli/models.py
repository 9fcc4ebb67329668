"""``edgecar models``: the networks, what they cost and what their weights achieve."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import JustifyMethod
from rich.table import Table

from edgecar.artifact import Artifact, read_artifact
from edgecar.cli.output import Json, next_step, print_json, quality_line, stdout
from edgecar.spec import WEIGHTS_FOR, WeightsFor
from edgecar.zoo.shipped import WORST, codec_of, network_table

NONE = "–"
CLASSIC = "classic5 q10"
CAPTION = """\
Weights that ship: jpeg, luma PSNR in dB on Classic5 at quality 10; h264 and hevc, mean gain in
luma PSNR over the coded video in dB. Measured; –: none. :detect: for detectors, not to view. Ch:
luma 1, RGB 3. Halo: from the graph."""


def command(
    files: Annotated[
        list[Path] | None,
        typer.Argument(help="Exported .onnx files to list besides, with the outcome of the gate."),
    ] = None,
    as_json: Json = False,
) -> None:
    """List the networks of the zoo with their cost, halo, weights and measured quality.

    Example: edgecar models
    """
    artifacts = [read_artifact(path) for path in files or []]
    networks = [_with_artifacts(network, artifacts) for network in network_table()]
    if as_json:
        print_json(networks)
        return
    table = Table(box=SIMPLE_HEAD, caption=CAPTION, caption_justify="left")
    figures = ("Params", "kMAC/px", "Halo px", *WEIGHTS_FOR)
    for name in ("Network", "Ch", "Context", *figures):
        side: JustifyMethod = "right" if name in figures else "left"
        table.add_column(name.replace(":", ":\n"), no_wrap=True, justify=side)
    for network in networks:
        for row in _rows(network):
            table.add_row(*row)
    stdout.print(table)
    for artifact in artifacts:
        metadata = artifact.metadata
        stdout.print(
            f"{artifact.path}: {metadata.model}, {metadata.precision}, {metadata.trained_on}"
        )
        if metadata.quality:
            stdout.print(f"gate      {quality_line(metadata.quality)}")
            stdout.print(f"kept      {', '.join(metadata.quality.kept) or 'nothing'}")
    next_step("edgecar run INPUT -o OUTPUT --network edgecar-s")


def _with_artifacts(network: dict[str, Any], artifacts: Sequence[Artifact]) -> dict[str, Any]:
    """The network, and the files given that are of it."""
    own = [artifact for artifact in artifacts if artifact.metadata.model == network["name"]]
    listed = [{"path": str(artifact.path), **asdict(artifact.metadata)} for artifact in own]
    return {**network, "artifacts": listed} if listed else network


def _rows(network: dict[str, Any]) -> list[list[str]]:
    """The published network, then one row for each other configuration that weights ship for."""
    weights = network["weights"]
    configs = [{}, *(entry["config"] for entry in weights if entry["config"])]
    distinct = [config for place, config in enumerate(configs) if config not in configs[:place]]
    return [
        _row(network, config, {codec_of(e): e for e in weights if e["config"] == config})
        for config in distinct
    ]


def _row(
    network: dict[str, Any], config: dict[str, Any], weights: dict[WeightsFor, dict[str, Any]]
) -> list[str]:
    sizes = [f"  {key} {value}" for key, value in config.items()]
    cost = next(iter(weights.values()))["cost"] if config else network
    return [
        "\n".join([network["name"], *sizes]),
        "/".join(str(count) for count in network["channels"]),
        network["context"],
        f"{cost['params']:,}",
        f"{cost['kmacs_per_px']:.1f}",
        str(cost["halo_px"]),
        *(_quality(weights[each]) if each in weights else NONE for each in WEIGHTS_FOR),
    ]


def _quality(entry: dict[str, Any]) -> str:
    """One figure for the weights; that they ship must show even where it was not measured."""
    gains = [gain for name, gain in entry.get("gain_db", {}).items() if name != WORST]
    if gains:
        return f"{sum(gains) / len(gains):+.2f}"
    psnr = entry.get("psnr", {}).get(CLASSIC)
    return "yes" if psnr is None else f"{psnr:.2f}"
