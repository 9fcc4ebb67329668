"""``python -m benchmarks.run.design_timing FILE…``: how long each candidate takes, all in turn.

Result files of several studies are timed together: a machine is never twice the same, so that only
what took turns in one process can be compared. Weights do not matter, hence none are kept.
"""

import re
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import fields, replace
from pathlib import Path
from statistics import median
from typing import Annotated

import typer

from benchmarks.run.design_space import Candidate, Shape
from benchmarks.run.study import run_study
from edgecar.artifact import Artifact
from edgecar.bench.machine import COMMIT, machine_facts, machine_line
from edgecar.bench.results import read_results, write_results
from edgecar.bench.select_precision import ROUNDS, dense_restorer, frame_pass
from edgecar.exporter.recipe import recipe_for
from edgecar.exporter.to_onnx import artifact_from_network
from edgecar.runtime.tune import timed_rounds
from edgecar.spec import Size
from edgecar.zoo.card import Card
from edgecar.zoo.checkpoints import Loaded

TIMED_SIZE: Size = (1080, 1920)


def deployed(shape: Shape) -> Shape:
    """The shape of what a candidate is folded into: its branches are gone."""
    return replace(shape, branches=False)


def artifact_of(shape: Shape) -> Artifact:
    """A candidate as it would be shipped, with some weights."""
    card = Card(
        "candidate", "ours", {1: shape}, Candidate, lambda _state: None, "local", shape.scale
    )
    loaded = Loaded(card, 1, Candidate(shape).folded().eval())
    model, metadata = artifact_from_network(loaded, recipe_for(card.name), "", "")
    return Artifact(metadata, model.SerializeToString())


def p50_ms(shapes: Iterable[Shape], seconds: float, size: Size = TIMED_SIZE) -> dict[Shape, float]:
    """Median time of a frame on this machine's default engine, by deployed shape."""
    with ExitStack() as stack:
        restorers = {
            shape: stack.enter_context(dense_restorer(artifact_of(shape), "auto"))
            for shape in dict.fromkeys(map(deployed, shapes))
        }
        passes = {shape: frame_pass(restorer, size) for shape, restorer in restorers.items()}
        timed_rounds(passes, 0, least=2)  # shapes are compiled, memory is there
        rates = timed_rounds(passes, seconds, least=ROUNDS)
    return {shape: 1000 / median(each) for shape, each in rates.items()}


def main(
    files: Annotated[list[Path], typer.Argument(help="Result files of the study.")],
    seconds: Annotated[float, typer.Option(min=0, help="To go on for.")] = 120.0,
) -> None:
    """Fill in how long the candidates of FILES take."""
    found = {path: read_results(path) for path in files}
    shape_keys = [known.name for known in fields(Shape)]
    shapes = {
        (path, number): Shape(**{key: row[key] for key in shape_keys})
        for path, results in found.items()
        for number, row in enumerate(results.rows)
    }
    times = p50_ms(shapes.values(), seconds)
    command = f"python -m benchmarks.run.design_timing {' '.join(path.name for path in files)}"
    timing = f"{command} (commit {COMMIT} on {machine_line(machine_facts())})"
    for path, results in found.items():
        rows = [
            {**row, "p50_ms": round(times[deployed(shapes[path, number])], 3)}
            for number, row in enumerate(results.rows)
        ]
        trained_by = "; ".join(
            each for each in results.command.split("; ") if not re.search(r"design[._]timing", each)
        )
        write_results(path, replace(results, rows=rows, command=f"{trained_by}; {timing}"))


if __name__ == "__main__":
    run_study(main)
