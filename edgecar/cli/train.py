"""``edgecar train``: weights from photographs and a recipe."""

import math
from pathlib import Path
from typing import Annotated

import typer

from edgecar.cli.output import Json, next_step, print_json, progress_bar, stderr, stdout
from edgecar.errors import EdgecarError


def command(
    recipe: Annotated[str, typer.Argument(help="A recipe (TOML), or the name of a shipped one.")],
    data: Annotated[list[Path], typer.Option(help="Folder of clean photographs; repeat for more.")],
    validation: Annotated[Path, typer.Option("--val", help="Folder of photographs held out.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Where to write the .safetensors file.")
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(help="Stop after so long; the same command continues.")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; default: all.")] = None,
    as_json: Json = False,
) -> None:
    """Train a network to undo a coder.

    The whole state is kept beside the output every few minutes, so that the same command continues
    after an interruption.

    Example: edgecar train edgecar-s --data bsds500/train --data bsds500/test --val bsds500/val
    """
    try:
        import torch

        from edgecar.bench.machine import commit_id, machine_facts, machine_line
        from edgecar.train.data import load_photos
        from edgecar.train.fit import Progress, fit
        from edgecar.train.recipe import find_recipe, recipe_from_toml
        from edgecar.train.ship import describe, save_weights, write_facts
    except ImportError as error:
        raise EdgecarError(
            f"training needs {error.name}, which is not installed; pip install 'edgecar[train]'"
        ) from error
    path = find_recipe(recipe)
    settings = recipe_from_toml(path)
    weights = output or Path(f"{path.stem}.safetensors")
    if threads:
        torch.set_num_threads(threads)
    photos, held_out = load_photos(data), load_photos([validation])
    with progress_bar("training") as bar:

        def report(now: Progress) -> None:
            bar(now.step, now.steps)
            gain = "" if now.gain_db is None else f", {now.gain_db:+.2f} dB over JPEG quality 10"
            stderr.print(f"step {now.step}: {now.loss_db:.2f} dB{gain}", style="dim")

        run = fit(
            settings,
            photos,
            held_out,
            weights.with_suffix(".state.pt"),
            report,
            stop_after_seconds=60 * minutes if minutes else math.inf,
        )
    save_weights(run, weights)
    made_on = {"machine": machine_line(machine_facts()), "commit": commit_id()}
    facts = describe(run, settings, data) | made_on
    write_facts(facts, weights)
    if as_json:
        print_json({"path": str(weights), **facts})
        return
    state = "done" if run.step >= settings.steps else "stopped early; the same command continues"
    stdout.print(f"trained   {run.step} of {settings.steps} steps in {run.seconds:.0f} s, {state}")
    stdout.print(f"wrote     {weights}")
    next_step(f"edgecar export {weights}")
