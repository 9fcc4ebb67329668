"""``edgecar models``: one table, however many weights ship."""

import json

import pytest

from edgecar.cli import models
from edgecar.files import WEIGHTS
from edgecar.spec import WEIGHTS_FOR
from edgecar.zoo import shipped
from edgecar.zoo.shipped import FACTS, MANIFEST, codec_of

MOST_COLUMNS = 100


def entry(network: str, coder: str, **metadata: object) -> dict[str, object]:
    cost = {"params": 2_041_882, "kmacs_per_px": 116.24, "halo_px": 112}
    return {"network": network, "for": coder, "config": {}, "cost": cost, **metadata}


ENTRIES = [
    entry("edgecar-s", "jpeg", psnr={"classic5 q10": 29.023, "classic5 q40": 33.4}),
    entry("edgecar-s", "h264", gain_db={"crf 29": 0.25, "crf 47": 0.75, "worst": -3.0}),
    entry("edgecar-s", "h264", purpose="detect", gain_db={"crf 47": 0.125}),
    entry("edgecar-m", "jpeg", psnr={"live1 q10": 29.0}),
    entry("dncnn", "hevc", gain_db={"qp 22": -0.1, "worst": -0.2}),
    entry("glfusion", "hevc", gain_db={"qp 22": 0.1}, config={"width": 16, "reduction": 4}),
]


@pytest.fixture
def ships(tmp_path, monkeypatch) -> None:
    """Some weights of every kind."""
    (tmp_path / FACTS).write_text((WEIGHTS / FACTS).read_text())
    (tmp_path / MANIFEST).write_text(json.dumps(ENTRIES))
    monkeypatch.setattr(shipped, "WEIGHTS", tmp_path)


def rows(text: str) -> dict[str, list[str]]:
    """Cells by network; sizes of its own are on the lines below it and join its name."""
    table: dict[str, list[str]] = {}
    for cells in map(str.split, text.splitlines()):
        if len(cells) == 2 and cells[1].isdigit():
            name, values = table.popitem()
            table["_".join([name, *cells])] = values
        elif cells:
            table[cells[0] if cells[0] not in table else f"{cells[0]}+"] = cells[1:]
    return table


@pytest.mark.usefixtures("ships")
def test_weights_are_shown_by_coder_with_what_was_measured(edgecar) -> None:
    table = rows(edgecar("models").out)
    assert table["Network"][-4:] == [*WEIGHTS_FOR[:3], "detect"]  # below "h264:"
    # The worst is no part of the mean.
    assert table["edgecar-s"][-4:] == ["29.02", "+0.50", "–", "+0.12"]
    assert table["dncnn"][-4:] == ["–", "–", "-0.10", "–"]
    assert table["edgecar-m"][-4:] == ["yes", "–", "–", "–"]  # not measured there, but it ships
    assert table["arcnn"][-4:] == ["–"] * 4


@pytest.mark.usefixtures("ships")
def test_other_sizes_have_a_row_and_a_cost_of_their_own(edgecar) -> None:
    table = rows(edgecar("models").out)
    published, narrow = table["glfusion"], table["glfusion+_width_16_reduction_4"]
    assert published[-4:] == ["–"] * 4
    assert published[2] == "32,541,882"
    assert narrow == ["1/3", "windowed", "2,041,882", "116.2", "112", "–", "–", "+0.10", "–"]


@pytest.mark.usefixtures("ships")
def test_json_has_all_that_the_manifest_has(edgecar) -> None:
    listed = {network["name"]: network for network in json.loads(edgecar("models", "--json").out)}
    assert [e for network in listed.values() for e in network["weights"]] == sorted(
        ENTRIES, key=lambda e: list(listed).index(e["network"])
    )


@pytest.mark.usefixtures("ships")
def test_table_fits_a_narrow_terminal(edgecar) -> None:
    assert max(map(len, edgecar("models").out.splitlines())) <= MOST_COLUMNS


def test_what_ships_fits_a_narrow_terminal_too(edgecar) -> None:
    out = edgecar("models").out
    assert max(map(len, out.splitlines())) <= MOST_COLUMNS
    assert models.CAPTION in out
    table = rows(out)
    for entry in shipped.manifest():
        if not entry["config"]:
            assert (
                table[entry["network"]][WEIGHTS_FOR.index(codec_of(entry)) - len(WEIGHTS_FOR)]
                != "–"
            )


def test_doctor_lists_weights_by_coder(edgecar, monkeypatch) -> None:
    monkeypatch.setattr("edgecar.cli.doctor.shipped_answers", lambda _report: [])
    weights = json.loads(edgecar("doctor", "--json").out)["weights"]
    assert list(weights) == list(WEIGHTS_FOR)
    assert "edgecar-s" in weights["jpeg"]
    assert f"weights   jpeg: {', '.join(weights['jpeg'])}" in edgecar("doctor").out
