"""The table of a study on the generated page."""

import pytest

from edgecar.bench.design_page import beaten, design_cells, mean_gain_db
from edgecar.bench.machine import Machine
from edgecar.bench.page import readme
from edgecar.bench.results import Results, write_results
from edgecar.errors import DataError

ROW = {
    "candidate": "xs", "width": 16, "depth": 6, "scale": 2, "activation": "leaky", "skips": False,
    "dilation": 1, "branches": False, "optimiser": "muon", "teacher": "", "steps": 6000,
    "seconds": 321, "params": 10452, "kmacs_per_px": 2.592, "gain_q10": 1.0, "gain_q20": 0.9,
    "gain_q30": 0.8, "gain_q40": 0.7, "p50_ms": None,
}  # fmt: skip


def row(name: str, cost: float, gain: float, **changes) -> dict:
    gains = {f"gain_q{quality}": gain for quality in (10, 20, 30, 40)}
    return {**ROW, "candidate": name, "kmacs_per_px": cost, **gains, **changes}


def study(*rows: dict) -> Results:
    machine = Machine(
        cpu="Some CPU", cpu_features=["avx2"], cores=2, memory_gib=15.6, os="Linux-6.1",
        python="3.11.7", gpus=[], jetson=None,
    )  # fmt: skip
    versions = {"numpy": "2.4.6", "opencv": "5.0.0"}
    command = "python -m benchmarks.run.design_study --data bsds500"
    return Results("design", rows, machine, versions, None, command, "2026-01-31T23:59:59Z")


def section(text: str) -> str:
    return text.split("## Choice of shapes\n")[1].split("\n## ")[0]


def test_cells_of_a_candidate() -> None:
    header, (cells,) = design_cells(
        [ROW | {"p50_ms": 25.04, "skips": True, "teacher": "edgecar-m"}]
    )
    assert dict(zip(header, cells, strict=True)) == {
        "Candidate": "**xs**",
        "Width": "16",
        "Depth": "6",
        "Scale": "2",
        "Activation": "leaky",
        "Skips": "yes",
        "Dilation": "1",
        "Branches": "–",
        "Optimiser": "muon",
        "Teacher": "edgecar-m",
        "Steps": "6,000",
        "Parameters": "10,452",
        "kMAC/px": "2.59",
        "q10": "+1.00",
        "q20": "+0.90",
        "q30": "+0.80",
        "q40": "+0.70",
        "Mean": "+0.85",
        "p50 ms": "25.0",
    }
    assert mean_gain_db(ROW) == pytest.approx(0.85)


def test_cheapest_first_then_the_better() -> None:
    rows = [row("dear", 9, 1.2), row("cheap", 2, 0.5), row("worse", 5, 0.4), row("better", 5, 0.9)]
    _, cells = design_cells(rows)
    assert [line[0] for line in cells] == ["**cheap**", "**better**", "worse", "**dear**"]


@pytest.mark.parametrize(
    ("cost", "gain", "expected"),
    [
        (4, 1.0, True),  # as good at less
        (5, 1.1, True),  # better at as much
        (4, 1.1, True),
        (5, 1.0, False),  # its equal: both stay
        (4, 0.9, False),
        (6, 1.1, False),
    ],
)
def test_the_front(cost, gain, expected) -> None:
    one = row("one", 5, 1.0)
    assert beaten(one, [one, row("other", cost, gain)]) == expected


def test_page_has_the_study_with_its_provenance() -> None:
    text = section(readme([("design", study(ROW, row("worse", 3, 0.1)))]))
    assert "| **xs** | 16 | 6 |" in text
    assert "| worse | 16 | 6 |" in text
    for fact in (
        "design: Some CPU",
        "2026-01-31",
        "`python -m benchmarks.run.design_study --data bsds",
    ):
        assert fact in text
    assert "Nothing measured yet" not in text


def test_candidates_of_several_files_are_compared_with_each_other() -> None:
    files = [("b", study(row("better", 2, 0.5))), ("a", study(row("worse", 3, 0.1)))]
    text = section(readme(files))
    assert "| **better** |" in text
    assert "| worse |" in text
    assert text.count("| Candidate |") == 1
    assert "a: Some CPU" in text
    assert "b: Some CPU" in text


def test_page_without_a_study_says_how() -> None:
    assert "`python -m benchmarks.run.design_study --help` says how" in section(readme([]))


def test_rows_must_be_whole(tmp_path) -> None:
    path = tmp_path / "design.json"
    write_results(path, study(ROW))
    with pytest.raises(DataError, match="row 0: unknown 'speed'"):
        write_results(path, study({**ROW, "speed": 1}))
    with pytest.raises(DataError, match="row 0: no 'params'"):
        write_results(path, study({key: value for key, value in ROW.items() if key != "params"}))
