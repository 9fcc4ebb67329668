"""Times of the candidates: all in turn, of what would be shipped."""

from dataclasses import replace

import pytest

from benchmarks.run import design_timing as timing
from benchmarks.run.design_space import Shape
from benchmarks.run.design_timing import artifact_of, main
from edgecar.bench.machine import COMMIT
from edgecar.bench.results import ROW_KEYS, new_results, read_results, write_results

pytestmark = pytest.mark.slow  # a study for our own pages

PLAIN, BRANCHES = Shape(4, 3), Shape(4, 3, branches=True)
HARD = Shape(4, 4, scale=4, activation="prelu", skips=True, dilation=2)


def row_of(shape: Shape) -> dict[str, object]:
    known = dict.fromkeys(ROW_KEYS["design"])
    return known | {
        "candidate": "one", "width": shape.width, "depth": shape.depth, "scale": shape.scale,
        "activation": shape.activation, "skips": shape.skips, "dilation": shape.dilation,
        "branches": shape.branches, "optimiser": "muon", "teacher": "", "steps": 3, "seconds": 1,
        "params": 4, "kmacs_per_px": 0.1, "gain_q10": 0.1, "gain_q20": 0.1, "gain_q30": 0.1,
        "gain_q40": 0.1,
    }  # fmt: skip


def test_files_are_timed_together_and_nothing_else_of_them_changes(tmp_path, monkeypatch) -> None:
    files = [tmp_path / "a.json", tmp_path / "b.json"]
    write_results(files[0], new_results("design", [row_of(PLAIN), row_of(HARD)], "train a"))
    write_results(files[1], new_results("design", [row_of(BRANCHES)], "train b; train c"))
    before = [read_results(path) for path in files]
    asked = []

    def timed(shapes, seconds: float) -> dict[Shape, float]:
        asked.append((list(shapes), seconds))
        return {PLAIN: 12.3456, HARD: 20.0}

    monkeypatch.setattr(timing, "p50_ms", timed)
    main(files, seconds=7.0)
    main(files, seconds=7.0)  # again: the later timing stands alone
    assert asked == [([PLAIN, HARD, BRANCHES], 7.0)] * 2
    after = [read_results(path) for path in files]
    assert [[row["p50_ms"] for row in results.rows] for results in after] == [
        [12.346, 20.0],
        [12.346],  # its branches are folded
    ]
    for old, new, trained_by in zip(before, after, ("train a", "train b; train c"), strict=True):
        assert new.command.startswith(
            f"{trained_by}; python -m benchmarks.run.design_timing a.json b.json (commit {COMMIT} "
        )
        assert new.command.count("design_timing") == 1
        rows = [{**row, "p50_ms": None} for row in new.rows]
        assert replace(new, rows=rows, command=old.command) == old


@pytest.mark.slow  # every candidate is exported
def test_what_is_timed_is_an_artifact_of_the_candidate() -> None:
    metadata = artifact_of(HARD).metadata
    assert (metadata.align_px, metadata.context, metadata.channels) == (4, "local", 1)
    # Reach in features: stem 1, hidden layers 1 and 2, last 1; times 4 pixels.
    assert metadata.halo_px == 5 * 4
    assert metadata.parity_max_error <= metadata.parity_budget
