"""`edgecar export --triton`."""

import json
from pathlib import Path

import pytest

from edgecar.artifact import read_artifact


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def onnx(exported) -> Path:
    path = Path("gate.onnx")
    path.write_bytes(exported("edgecar-s").onnx)
    return path


def test_exported_file_is_put_into_a_repository(edgecar, onnx) -> None:
    done = edgecar("export", onnx, "--triton", "models", "--instances", "2")
    assert done.code == 0, done.err
    assert "gate, onnxruntime_onnx; up to 9 tiles" in done.out
    assert "tritonserver --model-repository models" in done.err
    assert Path("models/gate/1/model.onnx").read_bytes() == read_artifact(onnx).onnx
    assert "count: 2" in Path("models/gate/config.pbtxt").read_text()


def test_network_that_ships_is_exported_and_put_there(edgecar) -> None:
    done = edgecar("export", "edgecar-xs", "--triton", "models", "--json")
    assert done.code == 0, done.err
    table = json.loads(done.out)
    assert table["triton"] == "models/edgecar-xs.jpeg/1/model.onnx"
    assert Path(table["path"]).is_file()


def test_facts_of_what_is_served_are_one_json_document(edgecar, onnx) -> None:
    table = json.loads(edgecar("export", onnx, "--triton", "models", "--json").out)
    assert table["platform"] == "onnxruntime_onnx"
    assert table["model"] == "edgecar-s"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), "is exported already; all there is to do with it here is --triton DIR"),
        (("--triton", "models", "--precision", "fp16"), "is exported already"),
        (("--triton", "models", "-o", "other.onnx"), "is exported already"),
        (("--instances", "2"), "got --instances without --triton"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(options, words, edgecar, onnx) -> None:
    done = edgecar("export", onnx, *options)
    assert done.code == 1
    assert words in done.err
    assert len(done.err.strip().splitlines()) == 1
    assert not Path("models").exists()


def test_plan_without_its_facts_is_refused(edgecar) -> None:
    Path("gate.plan").write_bytes(b"what a stranger sent")
    done = edgecar("export", "gate.plan", "--triton", "models")
    assert done.code == 1
    assert "no gate.plan.json beside it" in done.err
