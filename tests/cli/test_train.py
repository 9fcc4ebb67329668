"""``edgecar train``: weights that can be exported, and runs that are never lost."""

import json
from itertools import count
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from skimage import data

from edgecar.artifact import read_artifact
from edgecar.media.scene import write_scene
from edgecar.train import loop, qat

STEPS = 12
RECIPE = f'network = "edgecar-xs"\nsteps = {STEPS}\nbatch = 2\npatch_px = 16\nwarmup = 4\n'
FACTS = {
    *("path", "trained_on", "purpose", "recipe", "sources", "weights_used", "validation_db"),
    *("steps", "seconds", "device", "torch", "machine", "commit"),
}


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """A folder with a data set and a recipe, where the user stands."""
    photo = np.ascontiguousarray(data.astronaut()[..., ::-1])
    for number, split in enumerate(("train", "test", "val")):
        (tmp_path / "set" / split).mkdir(parents=True)
        piece = photo[64 * number : 64 * number + 64, 100:196]
        cv2.imwrite(str(tmp_path / "set" / split / "1.png"), piece)
    (tmp_path / "tiny.toml").write_text(RECIPE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDGECAR_CACHE", str(tmp_path / "cache"))
    return tmp_path


@pytest.fixture
def seconds_pass(monkeypatch) -> None:
    """Every look at the training loop's clock takes a second."""
    ticks = count()
    monkeypatch.setattr(loop, "time", SimpleNamespace(perf_counter=lambda: float(next(ticks))))


OWN = ("--licence", "my own")
TRAIN = ("train", "tiny.toml", "--data", "set", *OWN, "--device", "cpu", "--threads", "1")


def assert_one_line(done, *words: str) -> None:
    assert done.code == 1
    assert done.out == ""
    (line,) = done.err.strip().splitlines()
    for word in words:
        assert word in line


@pytest.mark.usefixtures("seconds_pass")
def test_a_stopped_run_goes_on_and_exports(edgecar, workplace):
    first = edgecar(*TRAIN, "--minutes", 0.5)
    assert first.code == 0, first.err
    assert "stopped early; the same command with --resume continues" in first.out
    assert "step " in first.err  # progress is told
    assert "min left" in first.err
    early = json.loads((workplace / "tiny.json").read_text())
    assert 0 < early["steps"] < STEPS

    done = edgecar(*TRAIN, "--resume")
    assert done.code == 0, done.err
    assert f"trained   {STEPS} of {STEPS} steps" in done.out
    assert done.out.splitlines()[0].endswith("done")
    assert "next      edgecar export tiny.safetensors" in done.err
    assert json.loads((workplace / "tiny.json").read_text())["steps"] == STEPS
    assert sorted(path.name for path in workplace.glob("tiny.*")) == [
        *("tiny.json", "tiny.safetensors", "tiny.state.pt", "tiny.toml")
    ]

    exported = edgecar("export", "tiny.safetensors")
    assert exported.code == 0, exported.err
    assert read_artifact(workplace / "tiny.onnx").metadata.model == "edgecar-xs"


@pytest.mark.slow  # a network is trained, exported and judged
def test_weights_trained_in_eight_bits_export_with_their_ranges(edgecar, workplace, monkeypatch):
    monkeypatch.setattr(qat, "STEPS", 2)
    done = edgecar(*TRAIN, "--qat")
    assert done.code == 0, done.err
    assert "trained   2 of 2 steps" in done.out
    assert "next      edgecar export tiny.qat.safetensors --precision int8" in done.err
    recipe = json.loads((workplace / "tiny.qat.json").read_text())["recipe"]
    assert (recipe["qat"], recipe["start"], recipe["teacher"]) == (True, "jpeg", "edgecar-xs")

    # Two steps teach nothing; whether the gate would let it pass is not asked here.
    words = ("--precision", "int8", "--budget-db", "3")
    exported = edgecar("export", "tiny.qat.safetensors", *words)
    assert exported.code == 0, exported.err
    metadata = read_artifact(workplace / "tiny.qat.int8.onnx").metadata
    assert metadata.quality.method == "training"
    assert len(metadata.quality.kept) == 2


def test_facts_are_complete(edgecar, workplace):
    done = edgecar(*TRAIN, "--json")
    metadata = json.loads(done.out)
    assert set(metadata) == FACTS
    assert metadata["path"] == "tiny.safetensors"
    assert metadata["trained_on"] == "jpeg 10-40"
    assert metadata["sources"] == [  # and not val
        {"source": f"set/{split}", "licence": "my own", "files": 1} for split in ("test", "train")
    ]
    assert set(metadata["validation_db"]) == {"q10", "q20", "q30", "q40", "mean", "worst"}
    assert metadata["steps"] == metadata["recipe"]["steps"] == STEPS
    assert metadata["device"] == "cpu"
    beside = json.loads((workplace / "tiny.json").read_text())
    assert metadata == {"path": "tiny.safetensors", **beside}
    assert str(workplace) not in done.out
    assert "edgecar-xs on jpeg 10-40, 2 photographs, 0 real clips, cpu" in done.err


def test_a_run_is_not_overwritten(edgecar, workplace):
    assert edgecar(*TRAIN).code == 0
    before = {path: path.read_bytes() for path in workplace.glob("tiny.*")}
    assert_one_line(edgecar(*TRAIN), "tiny.state.pt holds a run", "--resume", "another -o")
    assert {path: path.read_bytes() for path in workplace.glob("tiny.*")} == before
    assert edgecar(*TRAIN, "-o", "other.safetensors").code == 0


def test_nothing_to_resume(edgecar, workplace):
    assert_one_line(edgecar(*TRAIN, "--resume"), "tiny.state.pt", "no such file to resume from")
    assert not (workplace / "tiny.safetensors").exists()


def test_another_recipe_does_not_resume(edgecar, workplace):
    assert edgecar(*TRAIN).code == 0
    (workplace / "tiny.toml").write_text(RECIPE + "rate = 0.5\n")
    done = edgecar(*TRAIN, "--resume")
    assert done.code == 1
    assert "rate was 0.02, is 0.5" in done.err
    assert "Traceback" not in done.err


@pytest.mark.usefixtures("workplace")
def test_photographs_held_out_may_be_given(edgecar):
    held_out = ("--val", "set/val")
    done = edgecar("train", "tiny.toml", "--data", "set/train", *OWN, *held_out, "--json")
    assert [each["source"] for each in json.loads(done.out)["sources"]] == ["set/train"]


def test_video_recipes_code_their_clips_once(edgecar, workplace):
    degradation = 'coder = "h264"\nclips = 2\nframes = 4\nsize = [64, 96]\npresets = ["ultrafast"]'
    (workplace / "tiny.toml").write_text(f"{RECIPE}\n[degradation]\n{degradation}\n")
    done = edgecar(*TRAIN, "--json")
    assert json.loads(done.out)["trained_on"] == "h264 crf 22-48"
    # Two to train on, and as many as are looked at in between.
    assert len(list((workplace / "cache" / "coded").iterdir())) == 2 + 24


def test_real_clips_are_trained_and_validated_on(edgecar, workplace):
    for name, source in (("clips", "someone/streets"), ("held", "other/walks")):
        (workplace / name).mkdir()
        write_scene(workplace / name / "a.mp4", (360, 640), 6, 20)
        table = f"| file | repository | licence | s |\n|-|-|-|-|\n| a.mp4 | {source} | MIT | 4 |\n"
        (workplace / name / "README.md").write_text(table)
    degradation = (
        'coder = "h264"\nclips = 2\nframes = 4\nsize = [64, 96]\nreal = 0.5\ndraws = 2\n'
        "quantiser = [23, 29]"
    )
    (workplace / "tiny.toml").write_text(f"{RECIPE}\n[degradation]\n{degradation}\n")
    done = edgecar(*TRAIN, "--data", "clips", "--val", "held", "--json")
    assert done.code == 0, done.err
    assert "2 photographs, 1 real clips" in done.err
    metadata = json.loads(done.out)
    assert {"source": "someone/streets", "licence": "MIT", "files": 1} in metadata["sources"]
    assert "other/walks" not in json.dumps(metadata["sources"])
    assert set(metadata["validation_db"]) == {"crf 23", "crf 29", "mean", "worst"}
    # Two of photographs, two codings of the real one, and one at each CRF of the one held out.
    assert len(list((workplace / "cache" / "coded").iterdir())) == 2 + 2 + 2
    refused = edgecar(*TRAIN, "-o", "other.safetensors")
    assert refused.code == 1
    assert "set real = 0" in refused.err


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (("--data", "gone"), ["gone is not a folder", "--data"]),
        (("--data", "set/train"), ["set/train has no folder 'val'", "--val"]),
        (("--data", "set", "--val", "set/train"), ["trained on and held out"]),
        (("--data", "set", "--val", "gone"), ["gone is not a folder"]),
        (("--data", "set"), ["train/1.png states no licence", "--licence"]),
        (("--data", "set", "--device", "abacus"), ["no device is called 'abacus'", "cpu or cuda"]),
        (("--data", "set", "--device", "mps"), ["'mps'", "cpu or cuda"]),
        (("--data", "set", "-o", "mine.v2"), ["mine.v2", "write to mine.v2.safetensors"]),
    ],
    ids=lambda value: " ".join(value[1:]) if isinstance(value, tuple) else "",
)
def test_what_is_wrong_is_said_in_one_line(edgecar, workplace, changes, words):
    assert_one_line(edgecar("train", "tiny.toml", *changes), *words)
    assert not list(workplace.glob("*.safetensors"))
    assert not list(workplace.glob("*.pt"))


@pytest.mark.usefixtures("workplace")
def test_no_data_at_all(edgecar):
    assert_one_line(edgecar("train", "tiny.toml"), "bsds500 is not a folder", "--data")


def test_recipes_are_found_by_name(edgecar, workplace):
    assert_one_line(
        edgecar("train", "edgecar-z", "--data", "set"),
        *("no recipe is called 'edgecar-z'", "edgecar-xs.jpeg", "msfan-paper.jpeg"),
    )
    (workplace / "bad.toml").write_text('network = "edgecar-xs"\nstpes = 3\n')
    assert_one_line(edgecar("train", "bad.toml", "--data", "set"), "bad.toml", "'stpes'")
