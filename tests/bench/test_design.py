"""Candidates around the networks that ship: built, trained alike, timed, kept in result files."""

import json
from dataclasses import replace
from pathlib import Path

import cv2
import jsonschema
import numpy as np
import pytest
import torch
from skimage import data
from torch import nn

from benchmarks.run import design_study as study
from benchmarks.run import design_timing as timing
from benchmarks.run.design_space import Candidate, Shape
from benchmarks.run.design_study import SUITE, entries_of, even_luma, gains_db, trained
from benchmarks.run.design_timing import artifact_of
from edgecar.bench.complexity import complexity
from edgecar.bench.machine import COMMIT
from edgecar.bench.results import ROW_KEYS, SCHEMA_PATH, new_results, read_results, write_results
from edgecar.errors import SettingsError
from edgecar.evaluate.metrics import psnr
from edgecar.media.pictures import jpeg_coded, read_picture
from edgecar.zoo import edgecar_net
from edgecar.zoo.registry import card_named

pytestmark = pytest.mark.slow  # a study for our own pages

PHOTO = np.ascontiguousarray(data.astronaut()[..., ::-1])
BRANCHED = Shape(width=8, depth=4, branches=True)
HARD = Shape(4, 4, scale=4, activation="prelu", skips=True, dilation=2)
SMALL_SUITE = """
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


@pytest.fixture(autouse=True)
def same_threads():
    """The study chooses how many; other tests must not notice."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("entry", entries_of(SUITE), ids=lambda entry: entry.name)
def test_candidate_of_the_suite(entry) -> None:
    torch.manual_seed(0)
    network = Candidate(entry.shape).eval()
    picture = torch.rand(2, 1, 32, 48)
    with torch.inference_mode():
        residual = (network(picture) - picture).std()
    # begins near the picture, whose samples deviate by 0.29; "m skips" does not: many layers add up
    assert 0 < residual < (2 if entry.name == "m skips" else 0.15)
    cost = complexity(network.folded(), 1, 64, 64)
    assert 0 < cost.kmacs_per_px < 100
    convs = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    assert len(convs) == entry.shape.depth
    assert {layer.out_channels for layer in convs[:-1]} == {entry.shape.width}


def test_candidates_are_around_the_network_that_ships() -> None:
    card = card_named("edgecar-xs")
    config = replace(card.config(), knots=0)  # shapes are compared without a quantiser
    torch.manual_seed(1)
    ours = card.build(config).eval()
    same = Candidate(Shape(config.width, config.layers, edgecar_net.SCALE, "leaky")).eval()
    same.load_state_dict(ours.state_dict())
    picture = torch.rand(1, 1, 16, 24)
    with torch.inference_mode():
        assert torch.equal(same(picture), ours(picture))


@pytest.mark.parametrize("shape", [BRANCHED, replace(BRANCHED, scale=4, skips=True)])
def test_folded_branches_compute_the_same(shape) -> None:
    torch.manual_seed(0)
    network = Candidate(shape).eval()
    with torch.no_grad():  # parts that start at zero, or near it, are put to use
        for name, weight in network.named_parameters():
            if name.endswith(("bias", "point")):
                weight.normal_(0, 0.1)
        for weight in network.convs[-1].parameters():
            weight.mul_(10)
    picture = torch.rand(2, 1, 24, 36)
    with torch.inference_mode():
        expected = network(picture)
        got = network.folded()(picture)
    assert (expected - picture).abs().max() > 0.1  # the network does something
    # The same kernels, summed in the same order: only convolutions may choose another algorithm,
    # over sums of up to 9 · 32 products of float32.
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-5)
    assert {type(layer) for layer in network.convs} == {nn.Conv2d}


@pytest.mark.parametrize(
    "changes",
    [{"depth": 2}, {"width": 0}, {"activation": "gelu"}, {"scale": 3}, {"dilation": 0},
     {"dilation": 2, "branches": True}],
    ids=str,
)  # fmt: skip
def test_shapes_that_are_no_network(changes) -> None:
    with pytest.raises(SettingsError, match="is no network"):
        replace(Shape(8, 4), **changes)


@pytest.fixture
def workplace(tmp_path) -> Path:
    for number, split in enumerate(("train", "test", "val")):
        (tmp_path / "set" / split).mkdir(parents=True)
        piece = PHOTO[70 * number : 70 * number + 65, 100:197]  # sides that no scale divides
        cv2.imwrite(str(tmp_path / "set" / split / "1.png"), piece)
    (tmp_path / "suite.toml").write_text(SMALL_SUITE)
    return tmp_path


def run(folder: Path, only: list[str] | None = None) -> Path:
    save = folder / "design.json"
    study.main(save, folder / "set", folder / "suite.toml", threads=1, only=only)
    return save


def test_a_study_writes_a_valid_result_file_and_goes_on_where_it_was(
    workplace, monkeypatch
) -> None:
    first = read_results(run(workplace, only=["small"])).rows
    save = run(workplace)
    document = json.loads(save.read_text())
    jsonschema.validate(document, json.loads(SCHEMA_PATH.read_text()))
    assert document["kind"] == "design"
    assert document["command"].endswith(
        "; python -m benchmarks.run.design_study --data set --save design.json"
    )  # no folder of this machine
    small, branches = document["rows"]
    assert small == first[0]
    assert set(small) == ROW_KEYS["design"]
    assert (small["candidate"], small["width"], small["depth"]) == ("small", 4, 3)
    assert (small["optimiser"], small["teacher"], small["steps"]) == ("muon", "", 3)
    assert (branches["branches"], branches["optimiser"]) == (True, "adam")
    # Folded, both cost the same: 36·4 + 9·16 + 9·16 weights and 4 + 4 + 4 biases, and each kernel
    # is used once for four pixels.
    for row in (small, branches):
        assert (row["params"], row["kmacs_per_px"], row["p50_ms"]) == (444, 0.108, None)
    # Trained on train and test, compared on val.
    photos = [read_picture(workplace / "set" / split / "1.png") for split in ("train", "test")]
    network, _ = trained(entries_of(workplace / "suite.toml")[0], photos)
    held_out = even_luma(read_picture(workplace / "set" / "val" / "1.png"))
    assert gains_db(network, [held_out]).items() <= small.items()
    monkeypatch.setattr(study, "trained", lambda *_: pytest.fail("trained again"))
    before = save.read_bytes()
    run(workplace)
    assert save.read_bytes() == before


def test_gains_are_those_of_rounded_pictures() -> None:
    clean = [even_luma(PHOTO[:65, :97]), even_luma(PHOTO[100:172, 50:122])]
    assert [picture.shape for picture in clean] == [(64, 96), (72, 72)]

    class Brighter(nn.Module):
        def __init__(self, codes: float) -> None:
            super().__init__()
            self.codes = codes

        def forward(self, picture: torch.Tensor) -> torch.Tensor:
            return picture + self.codes / 255

    unchanged = dict.fromkeys(("gain_q10", "gain_q20", "gain_q30", "gain_q40"), 0.0)
    assert gains_db(Brighter(0.4), clean) == unchanged
    gains = gains_db(Brighter(1.6), clean)  # two codes
    coded = [jpeg_coded(picture, 10) for picture in clean]
    pairs = list(zip(clean, coded, strict=True))
    expected = np.mean([psnr(p, c + np.uint8(2)) - psnr(p, c) for p, c in pairs])
    assert gains["gain_q10"] == pytest.approx(expected, abs=1e-4)  # as rounded there


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
    path.write_text(SMALL_SUITE.replace(old, new, 1))
    with pytest.raises(SettingsError, match=words) as caught:
        entries_of(path)
    assert "\n" not in str(caught.value)
    assert "suite.toml" in str(caught.value)


def row_of(shape: Shape) -> dict[str, object]:
    figures = dict.fromkeys(ROW_KEYS["design"], 1)
    return figures | {"optimiser": "muon", "teacher": "", "candidate": "one"} | vars(shape)


def test_files_are_timed_together_and_nothing_else_of_them_changes(tmp_path, monkeypatch) -> None:
    plain, branches = Shape(4, 3), Shape(4, 3, branches=True)
    files = [tmp_path / "a.json", tmp_path / "b.json"]
    write_results(files[0], new_results("design", [row_of(plain), row_of(HARD)], "train a"))
    write_results(files[1], new_results("design", [row_of(branches)], "train b; train c"))
    before = [read_results(path) for path in files]
    asked = []

    def timed(shapes, seconds: float) -> dict[Shape, float]:
        asked.append((list(shapes), seconds))
        return {plain: 12.3456, HARD: 20.0}

    monkeypatch.setattr(timing, "p50_ms", timed)
    timing.main(files, seconds=7.0)
    timing.main(files, seconds=7.0)  # again: the later timing stands alone
    assert asked == [([plain, HARD, branches], 7.0)] * 2
    after = [read_results(path) for path in files]
    # The branches of the third are folded.
    times = [[row["p50_ms"] for row in results.rows] for results in after]
    assert times == [[12.346, 20.0], [12.346]]
    for old, new, trained_by in zip(before, after, ("train a", "train b; train c"), strict=True):
        assert new.command.startswith(
            f"{trained_by}; python -m benchmarks.run.design_timing a.json b.json (commit {COMMIT} "
        )
        assert new.command.count("design_timing") == 1
        rows = [{**row, "p50_ms": 1} for row in new.rows]
        assert replace(new, rows=rows, command=old.command) == old


def test_what_is_timed_is_an_artifact_of_the_candidate() -> None:
    metadata = artifact_of(HARD).metadata
    assert (metadata.align_px, metadata.context, metadata.channels) == (4, "local", 1)
    # Reach in features: stem 1, hidden layers 1 and 2, last 1; times 4 pixels.
    assert metadata.halo_px == 5 * 4
    assert metadata.parity_max_error <= metadata.parity_budget
