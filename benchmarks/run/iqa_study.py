"""``python -m benchmarks.run.iqa_study``: rows of table 2 of deep multi-scale IQA, trained alike.

Each row is the ablation recipe with its switches, which ``edgecar train-scorer`` takes as flags.
Rows that the result file already has are kept, so that an interrupted study goes on. With --scorer
it measures weights that are there instead.
"""

import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, cast

import numpy as np
import torch
import typer
from numpy.typing import NDArray

from benchmarks.run.study import run_study
from edgecar.bench.results import new_results, resumed, write_results
from edgecar.evaluate.agreement import Agreement
from edgecar.evaluate.metrics import PSNR_CAP_DB, psnr, ssim
from edgecar.train.loop import Run
from edgecar.train.quality.fit import (
    agreement_of,
    fit_quality,
    load_scorer_network,
    new_quality_run,
    predictions,
)
from edgecar.train.quality.rated import RatedSet
from edgecar.train.quality.sources import QualityRecipe, Sources, proxy_sources
from edgecar.train.recipe import find_recipe, recipe_from_toml, record_from_table
from edgecar.zoo.multiscale_iqa import MultiscaleIqa

KIND = "iqa"
SWITCHES: dict[str, dict[str, Any]] = {
    "distorted image": {"streams": "distorted", "multi_scale": False},
    "residual map": {"streams": "residual", "multi_scale": False},
    "direct concat": {"streams": "both", "multi_scale": False},
    "proposed": {"streams": "both", "multi_scale": True},
}
"""Switches of the network, by row of the table."""

NO_NETWORK: dict[str, Any] = dict.fromkeys(
    ("streams", "multi_scale", "fully_connected", "optimiser", "epochs", "steps", "seconds")
) | {"params": None}
Row = dict[str, Any]


def trained(recipe: QualityRecipe, sources: Sources) -> Run:
    """Train from beginning to end."""
    run = new_quality_run(recipe, sources.training)
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
    """A row for each held-out set."""
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
        _row(
            method, metadata, sources.target, name, agreement_of(predictions(network, rated), rated)
        )
        for name, rated in sources.held_out.items()
    ]


def simple_rows(sources: Sources) -> list[Row]:
    """PSNR and SSIM on each held-out set."""
    return [
        _row(method, NO_NETWORK, sources.target, name, agreement_of(found, rated))
        for name, rated in sources.held_out.items()
        for method, found in simple_measures(rated).items()
    ]


def simple_measures(rated: RatedSet) -> dict[str, NDArray[np.float64]]:
    """Return PSNR (100 dB for equal pictures) and SSIM (Gaussian window) of every picture."""
    pairs = [(rated.references[p.reference], p.picture) for p in rated.pictures]
    return {
        "psnr": np.array([min(PSNR_CAP_DB, psnr(*pair)) for pair in pairs]),
        "ssim": np.array([ssim(*pair) for pair in pairs]),
    }


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
        settings = record_from_table(QualityRecipe, metadata["recipe"])
        sources = proxy_sources(settings, [data], test, _quiet, measure_only=True)
        done = (metadata["steps"], metadata["seconds"])
        rows += network_rows("ships", network, settings, done, sources)
        write_results(save, new_results(KIND, rows, command))
        return
    settings = recipe_from_toml(find_recipe(recipe, "scoring"), QualityRecipe)
    sources = proxy_sources(settings, [data], test, _quiet)
    finished = {row["method"] for row in rows}
    if not finished:
        rows += simple_rows(sources)
    for method, switches in SWITCHES.items():
        if method in finished or (only and method not in only):
            continue
        run = trained(replace(settings, network=replace(settings.network, **switches)), sources)
        rows += network_rows(
            method, cast(MultiscaleIqa, run.network), run.recipe, (run.step, run.seconds), sources
        )
        write_results(save, new_results(KIND, rows, command))
        typer.echo(rows[-1])


def _command(
    save: Path, data: Path, test: list[Path], recipe: str, only: list[str] | None,
    scorer: Path | None,
) -> str:  # fmt: skip
    """Command that repeats the study, without the folders of this machine."""
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
    run_study(main)
