"""``python -m benchmarks.run.ablations``: tables 7 to 9 of the MSFAN paper, all trained alike.

Every row is a shipped recipe, with fewer steps, smaller batches and a higher rate than the paper's:
what a row gains is compared with the whole network's, as the paper does. Rows that the result file
has are kept, so that an interrupted study goes on.
"""

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from benchmarks.run.design_study import COUNTED_SIDE
from benchmarks.run.study import run_study
from edgecar.bench.complexity import complexity
from edgecar.bench.results import new_results, resumed, write_results
from edgecar.files import shipped
from edgecar.train.data import held_out_of, source_of
from edgecar.train.degrade import Bgr, HeldOut
from edgecar.train.fit import fit, new_run, validation_gains_db
from edgecar.train.folders import load_photos, photo_folders
from edgecar.train.recipe import TrainRecipe, recipe_from_toml

KIND = "ablation"
START = "msfan-ablation-"
LEVELS = ("q10", "q20", "q30", "q40")


def row_of(name: str, recipe: TrainRecipe, photos: list[Bgr], held_out: HeldOut) -> dict[str, Any]:
    """Train one network and measure it on the middles of held-out photographs."""
    run = new_run(recipe, torch.device("cpu"))
    source = source_of(recipe.degradation, photos, seed=recipe.seed)
    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder) / "state.pt"
        fit(run, source, {}, state, lambda _now: None, save_seconds=float("inf"))
    gains = validation_gains_db(run, held_out)
    cost = complexity(run.network, 1, COUNTED_SIDE, COUNTED_SIDE)
    return {
        "row": name,
        "steps": recipe.steps,
        "batch": recipe.batch,
        "patch_px": recipe.patch_px,
        "rate": recipe.rate,
        "seconds": round(run.seconds),
        "params": cost.params,
        "kmacs_per_px": round(cost.kmacs_per_px, 3),
        **{f"gain_{level}": round(gains[level], 4) for level in LEVELS},
    }


def main(
    save: Annotated[Path, typer.Option(help="Result file; what it has already is kept.")],
    data: Annotated[Path, typer.Option(help="BSDS500: train and test to learn, val to compare.")],
    steps: Annotated[int, typer.Option(min=1, help="Steps of every row.")] = 1500,
    batch: Annotated[int, typer.Option(min=1, help="Patches per step.")] = 4,
    rate: Annotated[float, typer.Option(min=0, help="Highest learning rate.")] = 5e-4,
    only: Annotated[list[str] | None, typer.Option(help="Rows to train.")] = None,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads for training.")] = 1,
) -> None:
    """Train and measure every row that the result file lacks."""
    torch.set_num_threads(threads)
    named = "".join(f" --only {name}" for name in only or [])
    command = (
        f"python -m benchmarks.run.ablations --data {data.name} --steps {steps} --batch {batch} "
        f"--rate {rate:g} --save {save.name}{named}"
    )
    kept, command = resumed(save, command)
    rows = [dict(row) for row in kept]
    done = {row["row"] for row in rows}
    folders, validation = photo_folders([data], [])
    photos, others = load_photos(folders), load_photos(validation)
    for path in sorted(shipped("export", "training").glob(f"{START}*.toml")):
        name = path.name.removeprefix(START).partition(".")[0]
        if name in done or (only and name not in only):
            continue
        recipe = replace(recipe_from_toml(path, TrainRecipe), steps=steps, batch=batch, rate=rate)
        held_out = held_out_of(recipe.degradation, others)
        rows.append(row_of(name, recipe, photos, held_out))
        write_results(save, new_results(KIND, rows, command))
        typer.echo(rows[-1])


if __name__ == "__main__":
    run_study(main)
