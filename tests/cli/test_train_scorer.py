"""``edgecar train-scorer``: from opinions and from the proxy, to a scorer that scores."""

import csv
import json

import cv2
import numpy as np
import pytest
import torch
from skimage import data

RECIPE = """\
epochs = 2
batch = 4
optimiser = "adam"
[network]
kernels = [2, 2, 2, 2, 4]
fully_connected = [8]
[distortions]
coded = 3
restored = 1
networks = ["edgecar-xs"]
"""
FACTS = {
    *("path", "network", "target", "trained_on", "low", "high", "lower_is_better", "recipe"),
    *("steps", "seconds", "torch", "agreement", "machine", "commit"),
}


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """A recipe, photographs, and a study of five references."""
    photo = np.ascontiguousarray(data.astronaut()[..., ::-1])
    for number, split in enumerate(("train", "val")):
        (tmp_path / "set" / split).mkdir(parents=True)
        piece = photo[190 * number : 190 * number + 190, 100:300]
        cv2.imwrite(str(tmp_path / "set" / split / "1.png"), piece)
    rng = np.random.default_rng(0)
    with (tmp_path / "study.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["reference", "distorted", "mos"])
        for number in range(5):
            clean = photo[60 * number : 60 * number + 140, 200:340]
            cv2.imwrite(str(tmp_path / f"{number}.png"), clean)
            for strength in (2, 10, 20, 30, 40):
                noisy = np.clip(clean + rng.normal(0, strength, clean.shape), 0, 255)
                cv2.imwrite(str(tmp_path / f"{number}-{strength}.png"), noisy.astype(np.uint8))
                table.writerow([f"{number}.png", f"{number}-{strength}.png", 5 - strength / 10])
    (tmp_path / "tiny.toml").write_text(RECIPE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDGECAR_CACHE", str(tmp_path / "cache"))
    return tmp_path


TRAIN = ("train-scorer", "tiny.toml", "--threads", 1)


@pytest.mark.slow  # a scorer is trained
def test_opinions_are_learned_and_split_by_reference(edgecar, workplace):
    done = edgecar(*TRAIN, "--scores", "study.csv", "--json")
    assert done.code == 0, done.err
    metadata = json.loads(done.out)
    assert set(metadata) == FACTS
    assert metadata["target"] == "opinion scores of study"
    assert metadata["trained_on"] == "study: 20 pictures of 4 references"
    assert (metadata["low"], metadata["high"]) == (1.0, 4.8)
    found = metadata["agreement"]["study"]
    assert (found["references"], found["pictures"]) == (1, 5)
    assert -1 <= found["srcc"] <= 1
    stored = json.loads((workplace / "tiny.json").read_text())
    assert {"path": "tiny.safetensors", **stored} == metadata
    scored = edgecar("score", "0.png", "0-40.png", "--scorer", "tiny.onnx")
    assert scored.code == 0, scored.err
    assert "opinion scores of study" in scored.out


@pytest.mark.slow  # a scorer is trained
def test_without_opinions_the_proxy_is_named(edgecar, workplace):
    done = edgecar(*TRAIN, "--data", "set", "--test", "set/val", "--streams", "residual")
    assert done.code == 0, done.err
    assert "Against proxy: 100 × mean of MS-SSIM and VIF" in done.out
    assert "next      edgecar score REF DIST --scorer tiny.onnx" in done.err
    metadata = json.loads((workplace / "tiny.json").read_text())
    assert metadata["network"]["streams"] == "residual"
    assert metadata["network"]["multi_scale"]
    assert set(metadata["agreement"]) == {"validation", "val"}
    assert metadata["agreement"]["val"]["pairs"] == 1
    assert "6 pictures" not in metadata["trained_on"]  # five, and the photograph as it is


@pytest.mark.slow  # a scorer is trained
def test_a_run_goes_on_and_is_not_lost(edgecar, workplace):
    first = edgecar(*TRAIN, "--scores", "study.csv", "--minutes", 0)
    assert first.code == 0, first.err
    again = edgecar(*TRAIN, "--scores", "study.csv")
    assert again.code == 1
    assert "--resume" in again.err
    done = edgecar(*TRAIN, "--scores", "study.csv", "--resume", "--direct-concat")
    assert "another recipe" in done.err
    done = edgecar(*TRAIN, "--scores", "study.csv", "--resume")
    assert done.code == 0, done.err
    assert done.out.splitlines()[0].endswith("done")
    assert sorted(path.name for path in workplace.glob("tiny.*")) == [
        *("tiny.json", "tiny.onnx", "tiny.safetensors", "tiny.state.pt", "tiny.toml")
    ]


@pytest.mark.usefixtures("workplace")
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--scores", "study.csv", "--data", "set"], "give one"),
        (["--scores", "gone.csv"], "gone.csv"),
        (["--data", "gone"], "gone is not a folder"),
        (["-o", "mine.pt"], "write to mine.pt.safetensors"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_is_wrong_is_said_in_one_line(edgecar, arguments, words):
    done = edgecar(*TRAIN, *arguments)
    assert done.code == 1
    assert words in done.err.strip().splitlines()[-1]
    assert "Traceback" not in done.err
