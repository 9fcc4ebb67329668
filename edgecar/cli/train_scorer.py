"""``edgecar train-scorer``: weights of deep multi-scale IQA, from opinions or from a proxy."""

import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table

from edgecar.cli.output import (
    Json,
    check_files,
    next_step,
    print_json,
    progress_bar,
    stderr,
    stdout,
)
from edgecar.cli.train import continue_or_begin
from edgecar.errors import EdgecarError, SettingsError
from edgecar.files import quoted

if TYPE_CHECKING:
    from edgecar.evaluate.agreement import Agreement

StreamsName = Literal["both", "distorted", "residual"]
DEFAULT_DATA = Path("bsds500")


def command(
    recipe: Annotated[
        str, typer.Argument(help="A recipe (TOML), or the name of a shipped one.")
    ] = "multiscale-iqa",
    scores: Annotated[
        Path | None,
        typer.Option(help="Opinion scores (CSV: reference,distorted,mos), split by reference."),
    ] = None,
    data: Annotated[
        list[Path] | None,
        typer.Option(help="Photographs to distort and score by the proxy, without opinions."),
    ] = None,
    test: Annotated[
        list[Path] | None,
        typer.Option(help="Other photographs to measure on; repeat for several folders."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="The .safetensors file to write.")
    ] = None,
    streams: Annotated[
        StreamsName | None,
        typer.Option(help="Input of the network (table 2 of the paper)."),
    ] = None,
    direct_concat: Annotated[
        bool,
        typer.Option("--direct-concat", help="Leave out both pyramids (table 2)."),
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the last run exactly where it stopped.")
    ] = False,
    minutes: Annotated[
        float | None, typer.Option(help="Stop after this time; --resume continues.")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; default: all.")] = None,
    as_json: Json = False,
) -> None:
    """Train the scorer that `edgecar score` uses, and measure how well it predicts held-out scores.

    With --scores it learns opinions of people. Without, it learns a full-reference proxy, which is
    no opinion: see edgecar score --help. Writes weights, metadata and the .onnx file side by side.

    Example: edgecar train-scorer multiscale-iqa --data bsds500 --test kodak
    """
    try:
        import torch

        from edgecar.bench.machine import COMMIT, machine_facts, machine_line
        from edgecar.train.quality import fit
        from edgecar.train.quality.sources import QualityRecipe, opinion_sources, proxy_sources
        from edgecar.train.recipe import find_recipe, recipe_from_toml
        from edgecar.train.weights import write_metadata
    except ImportError as error:
        raise EdgecarError(
            f"training needs {error.name}, which is not installed; pip install 'edgecar[train]'"
        ) from error
    if scores and (data or test):
        raise SettingsError(
            "got --scores and photographs; give one: opinions, or --data and --test"
        )
    path = find_recipe(recipe, "scoring")
    settings = recipe_from_toml(path, QualityRecipe)
    switches: dict[str, Any] = {"streams": streams} if streams else {}
    switches |= {"multi_scale": False} if direct_concat else {}
    settings = replace(settings, network=replace(settings.network, **switches))
    weights = output or Path(f"{path.stem}.safetensors")
    if weights.suffix != ".safetensors":
        raise SettingsError(f"output {weights} has another suffix; write to {weights}.safetensors")
    checkpoint = weights.with_suffix(".state.pt")
    beside = [weights.with_suffix(suffix) for suffix in (".json", ".onnx")]
    check_files((weights, checkpoint, *beside), (path, scores))
    if threads:
        torch.set_num_threads(threads)
    continue_or_begin(checkpoint, resume)
    with progress_bar("distorting") as bar:
        sources = (
            opinion_sources(settings, scores)
            if scores
            else proxy_sources(settings, data or [DEFAULT_DATA], test or [], bar)
        )
    run = fit.new_quality_run(settings, sources.training)
    if resume:
        run.restore(checkpoint)
    stderr.print(f"training  {sources.trained_on}; {sources.target}")
    with progress_bar("training") as bar:

        def report(step: int, steps: int, error: float) -> None:
            bar(step, steps)
            stderr.print(f"step {step}/{steps}: off by {error:.2f}", style="dim")

        seconds = 60 * minutes if minutes else math.inf
        done = fit.fit_quality(
            run, sources.training, checkpoint, report, stop_after_seconds=seconds
        )
    metadata = fit.save_scorer(run, weights, sources.target, sources.trained_on)
    network, _ = fit.load_scorer_network(weights)  # as it was written: rounded
    found = {
        name: fit.agreement_of(fit.predictions(network, rated), rated)
        for name, rated in sources.held_out.items()
    }
    metadata |= {
        "agreement": {name: asdict(each) for name, each in found.items()},
        "machine": machine_line(machine_facts()),
        "commit": COMMIT,
    }
    write_metadata(metadata, weights)
    if as_json:
        print_json({"path": str(weights), **metadata})
        return
    state = "done" if done else "stopped early; the same command with --resume continues"
    stdout.print(f"trained   {run.step} steps in {run.seconds:.0f} s, {state}")
    stdout.print(agreement_table(found, sources.target))
    stdout.print(f"wrote     {weights} and {weights.with_suffix('.onnx').name}")
    next_step(f"edgecar score REF DIST --scorer {quoted(weights.with_suffix('.onnx'))}")


def agreement_table(found: "dict[str, Agreement]", target: str) -> Table:
    """Return a table of SRCC and PLCC by set."""
    table = Table(box=SIMPLE_HEAD, caption=f"Against {target}; references never trained on.")
    for name in ("Held out", "References", "Pictures", "SRCC", "PLCC", "Same verdict"):
        table.add_column(name, justify="left" if name == "Held out" else "right")
    for name, each in found.items():
        verdict = "–" if each.same_verdict is None else f"{each.same_verdict:.1%}"
        figures = (f"{each.srcc:.3f}", f"{each.plcc:.3f}", verdict)
        table.add_row(name, str(each.references), str(each.pictures), *figures)
    return table
