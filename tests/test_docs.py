"""The README's commands and code run as they stand."""

import re
import shlex
from pathlib import Path

import cv2
import numpy as np
import pytest
from skimage import data

from benchmarks.run.readme import network_lines, with_table
from tests.cli.conftest import edgecar  # noqa: F401  # a fixture
from tests.cli.test_run import clip  # noqa: F401  # a fixture
from tests.runtime.test_detector_loops import stand_in  # noqa: F401  # a fixture

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


@pytest.mark.slow  # a network is exported, reduced and judged
def test_commands_run(edgecar, clip, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.chdir(tmp_path)
    (tmp_path / "clip.mp4").write_bytes(clip.read_bytes())
    cv2.imwrite("photo.jpg", data.coffee()[:160, :200, ::-1])
    (commands,) = blocks("bash")
    shown = re.findall(r"^\$ (edgecar (?:run|export) .*)", README, re.MULTILINE)
    assert shown
    for line in (*shown, *commands.splitlines()):
        name, *arguments = shlex.split(line)
        assert name == "edgecar"
        done = edgecar(*arguments)
        assert done.code == 0, f"{line}: {done.err}"
    made = {"clean.mp4", "compared.compare.mp4", "clean.png", "msfan.jpeg.onnx", "stats.json"}
    assert {p.name for p in tmp_path.iterdir()} >= made


def test_python_runs(clip, stand_in, tmp_path, monkeypatch):  # noqa: F811, ARG001
    monkeypatch.chdir(tmp_path)
    (tmp_path / "clip.mp4").write_bytes(clip.read_bytes())
    (code,) = blocks("python")
    seen, results = [], []

    def yolo(source, stream):  # noqa: ARG001  # tests/runtime/test_detector_loops.py has the real one
        source.source_type = source.source_type
        for _, pictures, _ in source:
            yield from pictures

    picture = np.ascontiguousarray(data.astronaut()[:64, :80, ::-1])
    scope = {"bgr": picture, "detect": lambda bgr: seen.append(bgr.shape)}
    scope |= {"yolo": yolo, "show": results.append}
    exec(code, scope)
    assert scope["clean"].shape == (64, 80, 3)
    assert seen == [bgr.shape for bgr in results] == [(180, 240, 3)] * 12
    ok, bgr = scope["capture"].read()
    scope["capture"].release()
    assert ok
    assert bgr.shape == (180, 240, 3)


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text()
    text = README + (ROOT / "CONTRIBUTING.md").read_text()
    targets = set(re.findall(r"(?:`|\$ )make ([a-z-]+)", text))
    assert {"demo", "test"} <= targets
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


@pytest.mark.parametrize(
    "name",
    [
        "README.md",
        "CONTRIBUTING.md",
        "benchmarks/README.md",
        "engines/README.md",
        "engines/service/README.md",
    ],
)
def test_links_lead_somewhere(name):
    page = ROOT / name
    for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
        assert (page.parent / link).exists(), link


def test_table_of_networks_is_that_of_the_results():
    assert with_table(README, network_lines()) == README
