"""``edgecar train``: weights from photographs and a recipe."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgecar.cli.output import (
    Json,
    check_files,
    next_step,
    print_json,
    progress_bar,
    stderr,
    stdout,
)
from edgecar.errors import DataError, EdgecarError, SettingsError
from edgecar.files import quoted

if TYPE_CHECKING:
    from edgecar.train.fit import Progress

VALIDATION_PICTURES = 24


def command(
    recipe: Annotated[str, typer.Argument(help="A recipe (TOML), or the name of a shipped one.")],
    data: Annotated[
        list[Path] | None,
        typer.Option(help="Folder of clean photographs; repeat for more. Default: bsds500 here."),
    ] = None,
    validation: Annotated[
        Path | None,
        typer.Option("--val", help="Photographs held out; default: the folder val of the data."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="The .safetensors file to write.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the last run exactly where it stopped.")
    ] = False,
    device: Annotated[str, typer.Option(help="Device: auto, cpu or cuda.")] = "auto",
    minutes: Annotated[
        float | None, typer.Option(help="Stop after this time; --resume continues.")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; default: all.")] = None,
    qat: Annotated[
        bool,
        typer.Option("--qat", help="Fine-tune the weights that ship in eight bits, for INT8."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Train a network to undo a coder.

    The whole state is kept beside the output every few minutes; --resume goes on from it. With
    --qat the weights that ship learn to bear INT8, in 1000 steps, and the export keeps the ranges
    that were learned.

    Example: edgecar train edgecar-s --data bsds500
    """
    try:
        import torch

        from edgecar.bench.machine import COMMIT, machine_facts, machine_line
        from edgecar.train.data import load_photos, photo_folders, source_of
        from edgecar.train.fit import (
            describe,
            device_named,
            fit,
            new_run,
            save_weights,
            write_metadata,
        )
        from edgecar.train.qat import recipe_in_eight_bits
        from edgecar.train.recipe import TrainRecipe, find_recipe, recipe_from_toml
    except ImportError as error:
        raise EdgecarError(
            f"training needs {error.name}, which is not installed; pip install 'edgecar[train]'"
        ) from error
    path = find_recipe(recipe)
    settings = recipe_from_toml(path, TrainRecipe)
    if qat and not settings.qat:  # a recipe that says so itself is taken as it is
        settings = recipe_in_eight_bits(settings)
    weights = output or Path(f"{path.stem}{'.qat' if qat else ''}.safetensors")
    if weights.suffix != ".safetensors":
        raise SettingsError(f"output {weights} has another suffix; write to {weights}.safetensors")
    checkpoint = weights.with_suffix(".state.pt")
    check_files((weights, weights.with_suffix(".json"), checkpoint), (path, settings.start))
    if threads:
        torch.set_num_threads(threads)
    run = new_run(settings, device_named(device))
    continue_or_begin(checkpoint, resume)
    if resume:
        run.restore(checkpoint)
    folders, held_out_folder = photo_folders(data or [Path("bsds500")], validation)
    photos, held_out = load_photos(folders), load_photos([held_out_folder])
    with progress_bar("coding clips") as bar:
        source = source_of(settings.degradation, photos, seed=settings.seed, report=bar)
        examples = source_of(
            settings.degradation, held_out, seed=settings.seed, clips=VALIDATION_PICTURES
        ).spread(VALIDATION_PICTURES)
    stderr.print(
        f"training  {settings.network} on {settings.degradation.name}, {len(photos)} photographs, "
        f"{run.device}"
    )
    with progress_bar("training") as bar:

        def report(now: "Progress") -> None:
            bar(now.step, now.steps)
            stderr.print(_line(now), style="dim")

        fit(
            run,
            source,
            examples,
            checkpoint,
            report,
            stop_after_seconds=60 * minutes if minutes else math.inf,
        )
    save_weights(run, weights)
    made_on = {"machine": machine_line(machine_facts()), "commit": COMMIT}
    metadata = describe(run, folders) | made_on
    write_metadata(metadata, weights)
    if as_json:
        print_json({"path": str(weights), **metadata})
        return
    done = run.step >= settings.steps
    state = "done" if done else "stopped early; the same command with --resume continues"
    stdout.print(f"trained   {run.step} of {settings.steps} steps in {run.seconds:.0f} s, {state}")
    stdout.print(f"wrote     {weights}")
    lower = " --precision int8" if settings.qat else ""
    next_step(f"edgecar export {quoted(weights)}{lower}")


def continue_or_begin(checkpoint: Path, resume: bool) -> None:
    """Refuse to lose a run, or to go on from nothing."""
    if checkpoint.exists() and not resume:
        raise DataError(
            f"{checkpoint} holds a run; give --resume to go on, another -o, or delete it"
        )
    if resume and not checkpoint.exists():
        raise DataError(f"{checkpoint}: no such file to resume from; leave out --resume to begin")


def _line(now: "Progress") -> str:
    left = now.seconds / now.step * (now.steps - now.step)
    gain = "" if now.gain_db is None else f", validation {now.gain_db:+.3f} dB"
    return (
        f"step {now.step}/{now.steps}: loss {now.loss:.3g}, {now.mse_db:.2f} dB{gain}, "
        f"{left / 60:.0f} min left"
    )
