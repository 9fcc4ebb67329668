"""``python -m benchmarks.run.design_study``: train candidates alike and save their results.

Trains on photographs and measures on held-out ones; test sets have no part in it. Candidates that
the result file already has are kept, so that an interrupted study goes on.
"""

import tempfile
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer

from benchmarks.run.design_space import Candidate, Shape
from benchmarks.run.study import run_study
from edgecar.bench.complexity import complexity
from edgecar.bench.results import new_results, resumed, write_results
from edgecar.errors import SettingsError
from edgecar.evaluate.metrics import psnr
from edgecar.files import shipped, table_from_toml
from edgecar.media.color import paper_luma_from_bgr
from edgecar.media.pictures import jpeg_coded
from edgecar.train.data import source_of
from edgecar.train.degrade import Bgr, JpegRange, Luma
from edgecar.train.fit import fit, new_run
from edgecar.train.folders import load_photos, photo_folders
from edgecar.train.recipe import TrainRecipe, recipe_from_table

QUALITIES = (10, 20, 30, 40)
PICTURES = 50  # held-out ones that are measured
COUNTED_SIDE = 512  # px; a multiple of every scale
KIND = "design"
SUITE = shipped("benchmarks", "suites") / "design.toml"


@dataclass(frozen=True)
class Entry:
    """One candidate: its shape and what of the recipe differs from the suite's."""

    name: str
    shape: Shape
    recipe: TrainRecipe


def entries_of(path: Path) -> list[Entry]:
    """The candidates of a suite."""
    try:
        table = table_from_toml(path)
    except (OSError, ValueError) as error:  # not TOML, or not even text
        raise SettingsError(f"cannot read suite {path}: {error}") from error
    entries = []
    for number, given in enumerate(table.get("candidate", [])):
        try:
            entries.append(_entry(given, table.get("recipe", {})))
        except (TypeError, SettingsError) as error:  # values of another type, or out of range
            name = given.get("name", number)
            raise SettingsError(f"{path}: candidate {name!r}: {error}") from error
    return entries


def _entry(given: dict[str, Any], recipe: dict[str, Any]) -> Entry:
    missing = [key for key in ("name", "width", "depth") if key not in given]
    if missing:
        raise SettingsError(f"key {missing[0]!r} is missing")
    shape_keys = {known.name for known in fields(Shape)}
    shape = Shape(**{key: value for key, value in given.items() if key in shape_keys})
    others = {key: value for key, value in given.items() if key not in {*shape_keys, "name"}}
    settings = recipe_from_table({"network": "candidate", **recipe, **others})
    return Entry(given["name"], shape, settings)


def trained(entry: Entry, photos: list[Bgr]) -> tuple[Candidate, float]:
    """A candidate after its run, deployed form, and the seconds that took."""
    torch.manual_seed(entry.recipe.seed)
    run = new_run(entry.recipe, torch.device("cpu"), Candidate(entry.shape))
    source = source_of(JpegRange(), photos, seed=entry.recipe.seed)
    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder) / "state.pt"
        fit(run, source, {}, state, lambda _now: None, save_seconds=float("inf"))
    assert isinstance(run.average, Candidate)
    return run.average.folded(), run.seconds


def gains_db(network: Candidate, pictures: list[Luma]) -> dict[str, float]:
    """Mean PSNR over JPEG by quality, on uint8-rounded output."""
    gains: dict[str, float] = {}
    for quality in QUALITIES:
        each = []
        for clean in pictures:
            coded = jpeg_coded(clean, quality)
            with torch.inference_mode():
                given = torch.from_numpy(coded)[None, None].float() / 255
                restored = (network(given).clamp(0, 1) * 255).round().to(torch.uint8)[0, 0].numpy()
            each.append(psnr(clean, restored) - psnr(clean, coded))
        gains[f"gain_q{quality}"] = round(float(np.mean(each)), 4)
    return gains


def row_of(entry: Entry, photos: list[Bgr], pictures: list[Luma]) -> dict[str, Any]:
    """Train one candidate and measure everything but its speed, which `design_timing` measures."""
    network, seconds = trained(entry, photos)
    cost = complexity(network, 1, COUNTED_SIDE, COUNTED_SIDE)
    return {
        "candidate": entry.name,
        **{known.name: getattr(entry.shape, known.name) for known in fields(Shape)},
        "optimiser": entry.recipe.optimiser,
        "teacher": entry.recipe.teacher,
        "steps": entry.recipe.steps,
        "seconds": round(seconds),
        "params": cost.params,
        "kmacs_per_px": round(cost.kmacs_per_px, 3),
        **gains_db(network, pictures),
        "p50_ms": None,
    }


def main(
    save: Annotated[Path, typer.Option(help="Result file; what it has already is kept.")],
    data: Annotated[Path, typer.Option(help="BSDS500: train and test to learn, val to compare.")],
    suite: Annotated[Path, typer.Option(help="Candidates (TOML).")] = SUITE,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads for training.")] = 1,
    only: Annotated[list[str] | None, typer.Option(help="Names of candidates to train.")] = None,
) -> None:
    """Train and measure every candidate of SUITE that the result file lacks."""
    torch.set_num_threads(threads)
    entries = entries_of(suite)
    named = "".join(f" --only '{name}'" for name in only or [])
    command = f"python -m benchmarks.run.design_study --data {data.name} --save {save.name}{named}"
    kept, command = resumed(save, command)
    rows = [dict(row) for row in kept]
    folders, held_out = photo_folders([data], [])
    photos = load_photos(folders)
    pictures = [even_luma(photo) for photo in load_photos(held_out)[:PICTURES]]
    done = {row["candidate"] for row in rows}
    for entry in entries:
        if entry.name not in done and (not only or entry.name in only):
            rows.append(row_of(entry, photos, pictures))
            write_results(save, new_results(KIND, rows, command))
            typer.echo(rows[-1])


def even_luma(photo: Bgr) -> Luma:
    """Luma without the rows and columns that a scale of 8 would leave over."""
    height, width = (side // 8 * 8 for side in photo.shape[:2])
    return np.ascontiguousarray(paper_luma_from_bgr(photo)[:height, :width])


if __name__ == "__main__":
    run_study(main)
