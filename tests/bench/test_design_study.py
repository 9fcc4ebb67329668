"""The study: candidates trained alike, a result file that survives interruptions."""

import json
from pathlib import Path

import cv2
import jsonschema
import numpy as np
import pytest
import torch
from skimage import data

from benchmarks.run import design_study as study
from benchmarks.run.design_study import entries_of, even_luma, gains_db, main, trained
from edgecar.bench.results import ROW_KEYS, SCHEMA_PATH, read_results
from edgecar.errors import SettingsError
from edgecar.evaluate.metrics import psnr
from edgecar.media.pictures import jpeg_coded, read_picture

pytestmark = pytest.mark.slow  # a study for our own pages

SUITE = """
[recipe]
steps = 3
batch = 2
patch_px = 16

[[candidate]]
name = "small"
width = 4
depth = 3

[[candidate]]
name = "branches"
width = 4
depth = 3
branches = true
optimiser = "adam"
rate = 1e-3
"""
PHOTO = np.ascontiguousarray(data.astronaut()[..., ::-1])


@pytest.fixture(autouse=True)
def same_threads():
    """The study chooses how many; other tests must not notice."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def workplace(tmp_path) -> Path:
    for number, split in enumerate(("train", "test", "val")):
        (tmp_path / "set" / split).mkdir(parents=True)
        piece = PHOTO[70 * number : 70 * number + 65, 100:197]  # sides that no scale divides
        cv2.imwrite(str(tmp_path / "set" / split / "1.png"), piece)
    (tmp_path / "suite.toml").write_text(SUITE)
    return tmp_path


def run(folder: Path, **options) -> Path:
    save = folder / "design.json"
    options = {"suite": folder / "suite.toml", "threads": 1, "only": None} | options
    main(save=save, data=folder / "set", **options)
    return save


def test_a_study_writes_a_valid_result_file(workplace, capsys) -> None:
    save = run(workplace)
    document = json.loads(save.read_text())
    jsonschema.validate(document, json.loads(SCHEMA_PATH.read_text()))
    assert document["kind"] == "design"
    assert document["command"] == (
        "python -m benchmarks.run.design_study --data set --save design.json"
    )  # no folder of this machine
    small, branches = document["rows"]
    assert set(small) == ROW_KEYS["design"]
    assert (small["candidate"], small["width"], small["depth"]) == ("small", 4, 3)
    assert (small["optimiser"], small["teacher"], small["steps"]) == ("muon", "", 3)
    assert (branches["branches"], branches["optimiser"]) == (True, "adam")
    # Folded, both cost the same: 36·4 + 9·16 + 9·16 weights and 4 + 4 + 4 biases, and each kernel
    # is used once for four pixels.
    for row in (small, branches):
        assert row["params"] == 444
        assert row["kmacs_per_px"] == 0.108
        assert row["p50_ms"] is None
    assert "small" in capsys.readouterr().out
    # Trained on train and test, compared on val.
    photos = [read_picture(workplace / "set" / split / "1.png") for split in ("train", "test")]
    network, _ = trained(entries_of(workplace / "suite.toml")[0], photos)
    held_out = even_luma(read_picture(workplace / "set" / "val" / "1.png"))
    assert gains_db(network, [held_out]).items() <= small.items()


def test_a_study_goes_on_where_it_was(workplace, monkeypatch) -> None:
    save = run(workplace, only=["small"])
    first = read_results(save).rows
    assert [row["candidate"] for row in first] == ["small"]
    save = run(workplace)
    assert [row["candidate"] for row in read_results(save).rows] == ["small", "branches"]
    assert read_results(save).rows[0] == first[0]

    def refuse(*_arguments: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(study, "trained", refuse)
    before = save.read_bytes()
    run(workplace)
    assert save.read_bytes() == before
    with pytest.raises(AssertionError, match="trained again"):
        save.unlink()
        run(workplace)


def test_gains_are_those_of_rounded_pictures() -> None:
    clean = [even_luma(PHOTO[:65, :97]), even_luma(PHOTO[100:172, 50:122])]
    assert [picture.shape for picture in clean] == [(64, 96), (72, 72)]

    class Brighter(torch.nn.Module):
        def __init__(self, codes: float) -> None:
            super().__init__()
            self.codes = codes

        def forward(self, picture: torch.Tensor) -> torch.Tensor:
            return picture + self.codes / 255

    unchanged = dict.fromkeys(("gain_q10", "gain_q20", "gain_q30", "gain_q40"), 0.0)
    assert gains_db(Brighter(0.4), clean) == unchanged
    gains = gains_db(Brighter(1.6), clean)  # two codes
    for quality in (10, 40):
        coded = [jpeg_coded(picture, quality) for picture in clean]
        expected = np.mean(
            [psnr(p, c + np.uint8(2)) - psnr(p, c) for p, c in zip(clean, coded, strict=True)]
        )
        assert gains[f"gain_q{quality}"] == pytest.approx(expected, abs=1e-4)  # as rounded there


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("width = 4", "wide = 4", "candidate 'small': key 'width' is missing"),
        ("depth = 3", "depth = 1", "candidate 'small': .* is no network"),
        ("[recipe]", "[recipe", "cannot read suite"),
    ],
)
def test_what_is_wrong_with_a_suite_is_said(old, new, words, tmp_path) -> None:
    path = tmp_path / "suite.toml"
    assert old in SUITE
    path.write_text(SUITE.replace(old, new, 1))
    with pytest.raises(
        SettingsError, match=rf"suite\.toml.*{words}|{words}.*suite\.toml"
    ) as caught:
        entries_of(path)
    assert "\n" not in str(caught.value)
