"""Paths that a person gives: what does not exist, what would be lost, and what must be quoted."""

import json
import os
import shlex
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgecar.artifact import find_artifact, read_artifact
from edgecar.errors import EdgecarError
from edgecar.exporter.to_onnx import export

NOWHERE = "/no/such/dir/edgecar-s"
SHIPPED = find_artifact("edgecar-xs")


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """A folder with pictures, a network and a recipe."""
    monkeypatch.chdir(tmp_path)
    picture = np.zeros((24, 24, 3), np.uint8)
    for name in ("a.png", "a.compare.png", "b.png", "pictures/a.png", "pictures/a.compare.png"):
        Path(name).parent.mkdir(exist_ok=True)
        cv2.imwrite(name, picture)
    Path("mine.onnx").write_bytes(read_artifact(SHIPPED).onnx)  # in one file
    shutil.copy(SHIPPED.with_suffix(".safetensors"), "mine.safetensors")
    shutil.copy("mine.onnx", "mine.json")  # suffixes say nothing about what a file is
    Path("link.onnx").symlink_to("mine.safetensors")
    Path("recipe.toml").write_text("parity_max_error = 1.0\n")
    return tmp_path


MISSING = [
    ("export", NOWHERE),
    ("export", f"{NOWHERE}.pt"),
    ("export", "./edgecar-s"),
    ("export", "./edgecar-s.pt"),
    ("export", "../edgecar-s.safetensors"),
    ("build", NOWHERE, "--target", "rtx"),
    ("build", f"{NOWHERE}.onnx", "--target", "rtx"),
    ("build", f"{NOWHERE}.plan"),
    ("inspect", NOWHERE),
    ("inspect", "edgecar-s"),
    ("run", "a.png", "-o", "null", "--network", NOWHERE),
    ("run", "a.png", "-o", "null", "--network", "./edgecar-s"),
    ("run", "a.png", "-o", "null", "--network", f"{NOWHERE}.onnx"),
    ("run", "a.png", "-o", "null", "--network", "../weights/edgecar-s"),
    ("run", NOWHERE, "-o", "null"),
    ("bench", "--engine", "none", "--networks", NOWHERE),
    ("bench", "--engine", "none", "--networks", "./arcnn"),
    ("bench", "--engine", "none", "--networks", f"{NOWHERE}.onnx"),
    ("models", NOWHERE),
    ("eval", "jpeg", "--data", "pictures", "--network", NOWHERE),
    ("score", "a.png", "b.png", "--network", NOWHERE),
    ("train", NOWHERE),
    ("train-scorer", "/no/such/dir/multiscale-iqa"),
    ("serve", NOWHERE),
    ("batch", NOWHERE, "-o", "out"),
]


@pytest.mark.parametrize("words", MISSING, ids=" ".join)
def test_path_that_does_not_exist_is_an_error(words, edgecar, place):
    done = edgecar(*words)
    assert done.code == 1, done.err
    assert "Traceback" not in done.err
    assert done.err.strip().splitlines()[-1].startswith("edgecar: ")
    assert not list(place.glob("*edgecar-s*"))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["edgecar-xs", "edgecar-xs.pt"])
def test_bare_name_means_shipped_weights_and_it_is_said(name, edgecar, place):
    done = edgecar("export", name, "--json", "-o", "x.onnx")
    assert json.loads(done.out)["shipped"] is True
    assert f"no file {name} here; exporting edgecar's own" in done.err
    done = edgecar("export", "mine.safetensors", "--json", "-o", "y.onnx")
    assert json.loads(done.out)["shipped"] is False
    with pytest.raises(EdgecarError, match="no such file"):
        export(place / name)


@pytest.mark.usefixtures("place")
def test_run_says_whether_weights_ship(edgecar):
    for network, shipped in (("edgecar-xs", True), ("mine.onnx", False)):
        done = edgecar("run", "a.png", "-o", "null", "--network", network, "--json")
        assert json.loads(done.out)["shipped"] is shipped


RUN = ("run", "a.png", "--network", "mine.onnx", "-o")
LOST = {
    "the input": (*RUN, "a.png"),
    "the input, absolute": (*RUN, "{}/a.png"),
    "through a folder": (*RUN, "pictures/../a.png"),
    "the comparison": ("run", "pictures", "-o", "pictures", "--compare", "--network", "mine.onnx"),
    "comparison of one": ("run", "a.compare.png", "-o", "a.png", "--compare"),
    "two inputs": ("run", "a.png", "pictures/a.png", "-o", "pictures"),
    "statistics over the input": (*RUN, "null", "--stats-json", "a.png"),
    "statistics over the network": (*RUN, "null", "--stats-json", "mine.onnx"),
    "statistics over the output": (*RUN, "new.png", "--stats-json", "./new.png"),
    "export over the checkpoint": ("export", "mine.safetensors", "-o", "link.onnx"),
    "export over the recipe": ("export", "edgecar-xs", "-o", "r.onnx", "--recipe", "r.onnx"),
    "result over the network": ("bench", "--networks", "mine.onnx", "--save", "mine.onnx"),
    "result over the chart": ("bench", "--save", "x.png", "--chart", "x.png"),
    "chart over the network": ("bench", "--networks", "link.onnx", "--chart", "link.onnx"),
    "result over the report": ("eval", "jpeg", "--data", "pictures", "--save", "r.json",
                               "--report", "r.json"),
    "result over a picture": ("eval", "jpeg", "--data", "pictures", "--save", "pictures/a.png"),
    "result over a network": ("eval", "jpeg", "--data", "pictures", "--network", "mine.onnx",
                              "--save", "mine.onnx"),
    "video result over the data": ("eval", "h264", "--data", "a.png", "--save", "a.png"),
    "detections over the detector": ("eval", "detect", "a.png", "--detector", "mine.onnx",
                                     "--save", "mine.onnx"),
    "report over the detector": ("eval", "detect", "a.png", "--detector", "mine.json",
                                 "--report", "mine.json"),
    "batch over its source": ("batch", "{}/clip.mp4", "-o", "."),
}  # fmt: skip


@pytest.mark.parametrize("case", LOST)
def test_output_that_would_replace_what_is_read_is_refused(case, edgecar, place):
    Path("clip.mp4").write_bytes(b"a recording")
    Path("r.onnx").write_text("parity_max_error = 1.0\n")
    before = {p: p.read_bytes() for p in place.rglob("*") if p.is_file()}
    done = edgecar(*(word.format(place) for word in LOST[case]))
    last = done.err.strip().splitlines()[-1]
    alone = "one file for 2 videos" in last or "pictures are among" in last
    assert "would be lost" in last or "would be one file" in last or alone, last
    assert done.code == 1
    assert {p: p.read_bytes() for p in place.rglob("*") if p.is_file()} == before


@pytest.mark.usefixtures("place")
def test_pictures_whose_names_meet_get_a_file_each(edgecar):
    folder = Path("meet")
    folder.mkdir()
    picture = cv2.imencode(".png", np.zeros((24, 24, 3), np.uint8))[1].tobytes()
    names = ("a.jpg", "a.png", "a.png.webp", "A.bmp", "b.png")
    for name in names:
        (folder / name).write_bytes(picture)
    done = edgecar("run", folder, "-o", "out", "--network", "mine.onnx")
    assert done.code == 0, done.err
    written = [path.name for path in Path("out").iterdir()]
    assert len({name.casefold() for name in written}) == len(names)
    assert "b.png" in written


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize(
    "name", ["two words.png", "[red]x.png", "-x.png", ":smile:.png", "it's.png"]
)
def test_printed_paths_are_the_names_and_commands_can_be_typed(name, edgecar):
    shutil.copy("a.png", name)
    done = edgecar("run", "--network", "mine.onnx", "-o", f"out/{name}", "--", name)
    assert f"wrote     out/{name}\n" in done.out
    shutil.copy("mine.onnx", onnx := f"{name}.onnx")
    done = edgecar("inspect", "--", onnx)
    (command,) = (line for line in done.err.splitlines() if line.startswith("next"))
    *_, option, word = shlex.split(command)
    assert option == "--network"
    assert Path(word) == Path(onnx)
    assert not word.startswith("-")
    done = edgecar("run", f"nowhere/{name}", "-o", "null")
    assert f"nowhere/{name}" in done.err


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize("name", ["two\nlines.png", b"\xff\xfe.png", "n" * 251 + ".png"])
def test_any_name_is_one_line(name, edgecar):
    shutil.copy("a.png", os.fsdecode(name))
    done = edgecar("run", os.fsdecode(name), "-o", "out.png", "--network", "mine.onnx")
    assert done.code == 0, done.err
    Path("out").mkdir()
    done = edgecar("run", "a.png", "-o", f"out/{os.fsdecode(name)}", "--network", "mine.onnx")
    assert done.code == 0, done.err
    assert len(done.out.splitlines()) == 3
    assert [os.fsencode(p.name) for p in Path("out").iterdir()] == [os.fsencode(name)]


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize(
    "words",
    [
        ("run", "n" * 300 + ".png", "-o", "null"),
        ("run", "n" * 300 + ".mp4", "-o", "null"),
        ("run", "a.png", "-o", "n" * 300 + ".png"),
        ("run", "a.png", "-o", "null", "--network", "n" * 300),
        ("run", "a.png", "-o", "null", "--stats-json", "n" * 300),
        ("export", "n" * 300 + ".pt"),
        ("export", "mine.safetensors", "-o", "n" * 300 + ".onnx"),
        ("inspect", "n" * 300 + ".onnx"),
        ("eval", "jpeg", "--data", "pictures", "--save", "n" * 300 + ".json"),
        ("eval", "jpeg", "--data", "n" * 300),
        ("bench", "--save", "n" * 300 + ".json"),
        ("batch", "n" * 300, "-o", "out"),
        ("serve", "n" * 300),
        ("score", "a.png", "n" * 300 + ".png"),
    ],
    ids=lambda words: " ".join(words).replace("n" * 300, "N"),
)
def test_name_of_300_bytes_is_one_line(words, edgecar):
    done = edgecar(*words)
    assert done.code == 1
    assert "Traceback" not in done.err
    assert done.err.strip().splitlines()[-1].startswith("edgecar: ")
