"""``python -m benchmarks.run.iqa_study``: rows of table 2 of deep multi-scale IQA, trained alike.

Each row is the ablation recipe with its switches, which ``edgecar train-scorer`` takes as flags.
Rows that the result file already has are kept, so that an interrupted study goes on. With --scorer
it measures weights that are there instead.
"""

import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from edgecar.bench.results import new_results, resumed, write_results
from edgecar.errors import EdgecarError
from edgecar.train.quality.fit import QualityRun, fit_quality, new_quality_run
from edgecar.train.quality.measure import Agreement, agreement, predictions, simple_measures
from edgecar.train.quality.recipe import (
    QualityRecipe,
    find_quality_recipe,
    quality_recipe_from_table,
    quality_recipe_from_toml,
)
from edgecar.train.quality.ship import load_scorer_network
from edgecar.train.quality.sources import Sources, held_out_sets, proxy_sources
from edgecar.zoo.multiscale_iqa import MultiscaleIqa

KIND = "iqa"
SWITCHES: dict[str, dict[str, Any]] = {
    "distorted image": {"streams": "distorted", "multi_scale": False},
    "residual map": {"streams": "residual", "multi_scale": False},
    "direct concat": {"streams": "both", "multi_scale": False},
    "proposed": {"streams": "both", "multi_scale": True},
}
"""Of the network, by row of the table."""

NO_NETWORK: dict[str, Any] = dict.fromkeys(
    ("streams", "multi_scale", "fully_connected", "optimiser", "epochs", "steps", "seconds")
) | {"params": None}
Row = dict[str, Any]


def trained(recipe: QualityRecipe, sources: Sources) -> QualityRun:
    """A run from beginning to end."""
    scores = [picture.score for picture in sources.training.pictures]
    run = new_quality_run(recipe, min(scores), max(scores))
    with tempfile.TemporaryDirectory() as folder:
        fit_quality(run, sources.training, Path(folder) / "state.pt", _say)
    return run


def network_rows(
    method: str,
    network: MultiscaleIqa,
    recipe: QualityRecipe,
    done: tuple[int, float],
    sources: Sources,
) -> list[Row]:
    """A row for each held-out set.

    Args:
        method: What the table calls the network.
        network: Scores in any unit.
        recipe: It was trained by.
        done: Steps, and seconds they took.
        sources: Sets to measure on.
    """
    metadata = {
        "streams": network.config.streams,
        "multi_scale": network.config.multi_scale,
        "fully_connected": list(network.config.fully_connected),
        "optimiser": recipe.optimiser,
        "epochs": recipe.epochs,
        "steps": done[0],
        "seconds": round(done[1]),
        "params": sum(p.numel() for p in network.parameters()),
    }
    return [
        _row(method, metadata, sources.target, name, agreement(predictions(network, rated), rated))
        for name, rated in sources.held_out.items()
    ]


def simple_rows(sources: Sources) -> list[Row]:
    """PSNR and SSIM on each held-out set."""
    return [
        _row(method, NO_NETWORK, sources.target, name, agreement(found, rated))
        for name, rated in sources.held_out.items()
        for method, found in simple_measures(rated).items()
    ]


def _row(method: str, metadata: Row, target: str, name: str, found: Agreement) -> Row:
    return {
        "method": method,
        **metadata,
        "target": target,
        "set": name,
        "references": found.references,
        "pictures": found.pictures,
        "srcc": round(found.srcc, 4),
        "plcc": round(found.plcc, 4),
        "pairs": found.pairs,
        "same_verdict": None if found.same_verdict is None else round(found.same_verdict, 4),
    }


def main(
    save: Annotated[Path, typer.Option(help="Result file; what it has already is kept.")],
    data: Annotated[Path, typer.Option(help="BSDS500: train and test to learn, val to compare.")],
    test: Annotated[list[Path], typer.Option(help="Other photographs to measure on; repeat.")],
    recipe: Annotated[str, typer.Option(help="A recipe of train-scorer.")] = (
        "multiscale-iqa-ablation"
    ),
    only: Annotated[list[str] | None, typer.Option(help="Rows to train.")] = None,
    scorer: Annotated[
        Path | None, typer.Option(help="Measure these weights (.safetensors); train nothing.")
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
) -> None:
    """Train and measure every row that the result file lacks, and PSNR and SSIM beside them."""
    torch.set_num_threads(threads)
    kept, command = resumed(save, _command(save, data, test, recipe, only, scorer))
    rows = [dict(row) for row in kept]
    if scorer:
        network, metadata = load_scorer_network(scorer)
        settings = quality_recipe_from_table(metadata["recipe"])
        sources = held_out_sets(settings, [data], test, _quiet)
        done = (metadata["steps"], metadata["seconds"])
        rows += network_rows("ships", network, settings, done, sources)
        write_results(save, new_results(KIND, rows, command))
        return
    settings = quality_recipe_from_toml(find_quality_recipe(recipe))
    sources = proxy_sources(settings, [data], test, _quiet)
    finished = {row["method"] for row in rows}
    if not finished:
        rows += simple_rows(sources)
    for method, switches in SWITCHES.items():
        if method in finished or (only and method not in only):
            continue
        run = trained(replace(settings, network=replace(settings.network, **switches)), sources)
        rows += network_rows(method, run.network, run.recipe, (run.step, run.seconds), sources)
        write_results(save, new_results(KIND, rows, command))
        typer.echo(rows[-1])


def _command(
    save: Path, data: Path, test: list[Path], recipe: str, only: list[str] | None,
    scorer: Path | None,
) -> str:  # fmt: skip
    """What to type to do it again, without the folders of this machine."""
    tests = "".join(f" --test {folder.name}" for folder in test)
    how = f"--scorer {scorer.name}" if scorer else f"--recipe {recipe}"
    rows = "".join(f" --only '{name}'" for name in only or [])
    options = f"--data {data.name}{tests} {how} --save {save.name}{rows}"
    return f"python -m benchmarks.run.iqa_study {options}"


def _say(step: int, steps: int, error: float) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"\rstep {step}/{steps}: off by {error:.2f} ")


def _quiet(_done: int, _all: int) -> None:
    """Pictures that are ready already need no bar."""


if __name__ == "__main__":
    try:
        typer.run(main)
    except EdgecarError as error:
        sys.stderr.write(f"quality: {error}\n")
        sys.exit(error.exit_code)
