"""``edgecar train``: weights from photographs, real clips and a recipe."""

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
    from collections.abc import Mapping

    from edgecar.train.fit import Progress


def command(
    recipe: Annotated[str, typer.Argument(help="A recipe (TOML), or the name of a shipped one.")],
    data: Annotated[
        list[Path] | None,
        typer.Option(
            help="Folder of clean photographs, or of real clips with a table; repeat for more. "
            "Default: bsds500 here."
        ),
    ] = None,
    validation: Annotated[
        list[Path] | None,
        typer.Option(
            "--val",
            help="Folder held out, of photographs or real clips; repeat for more. Default: the "
            "folder val of the data.",
        ),
    ] = None,
    licence: Annotated[
        str, typer.Option(help="Licence of the data that states none; entered with the weights.")
    ] = "",
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

    Folders of real clips, and of photographs from many places, have a table that states the licence
    of each file (export/README.md). Files from a source that is held out are not trained on.

    Example: edgecar train edgecar-s --data bsds500
    """
    try:
        import torch

        from edgecar.bench.machine import COMMIT, machine_facts, machine_line
        from edgecar.media.pictures import read_picture
        from edgecar.train.data import held_out_of, source_of
        from edgecar.train.fit import (
            device_named,
            fit,
            new_run,
            validation_gains_db,
        )
        from edgecar.train.folders import (
            originals_in,
            photo_folders,
            sources_of,
            training_originals,
        )
        from edgecar.train.qat import recipe_in_eight_bits
        from edgecar.train.recipe import TrainRecipe, find_recipe, recipe_from_toml
        from edgecar.train.weights import describe, save_weights, write_metadata
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
    folders, validation_folders = photo_folders(data or [Path("bsds500")], validation or [])
    held_out = [original for folder in validation_folders for original in originals_in(folder)]
    originals = training_originals(folders, held_out, licence)
    degradation = settings.degradation
    if not getattr(degradation, "real", 0.0):  # such a recipe takes photographs alone
        originals = [original for original in originals if not original.is_clip]
    photos, held_out_photos = (
        [read_picture(o.path) for o in group if not o.is_clip] for group in (originals, held_out)
    )
    clips, held_out_clips = ([o for o in g if o.is_clip] for g in (originals, held_out))
    with progress_bar("coding clips") as bar:
        source = source_of(degradation, photos, seed=settings.seed, report=bar, real=clips)
    with progress_bar("coding clips to validate on") as bar:
        examples = held_out_of(degradation, held_out_photos, report=bar, real=held_out_clips)
    stderr.print(
        f"training  {settings.network} on {degradation.name}, {len(photos)} photographs, "
        f"{len(clips)} real clips, {run.device}"
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
    gains_db = validation_gains_db(run, examples)
    metadata = describe(run, sources_of(originals), gains_db) | made_on
    write_metadata(metadata, weights)
    if as_json:
        print_json({"path": str(weights), **metadata})
        return
    done = run.step >= settings.steps
    state = "done" if done else "stopped early; the same command with --resume continues"
    stdout.print(f"trained   {run.step} of {settings.steps} steps in {run.seconds:.0f} s, {state}")
    stdout.print(f"gains     {_gains(gains_db)}")
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
    gains = f", {_gains(now.gains_db)}" if now.gains_db else ""
    return (
        f"step {now.step}/{now.steps}: loss {now.loss:.3g}, {now.mse_db:.2f} dB{gains}, "
        f"{left / 60:.0f} min left"
    )


def _gains(gains_db: "Mapping[str, float]") -> str:
    """Gains on what is held out, in words."""
    return ", ".join(f"{name} {gain:+.3f}" for name, gain in gains_db.items()) + " dB"
