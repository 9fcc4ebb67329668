"""``edgecar export --precision`` and ``edgecar inspect``."""

import json
from dataclasses import asdict

import pytest

from edgecar.artifact import read_artifact
from edgecar.bench import select_precision
from edgecar.bench.select_precision import Speed


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGECAR_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def test_int8_is_written_judged_and_inspected(edgecar, tmp_path):
    done = edgecar("export", "edgecar-xs", "--for", "h264", "--precision", "int8")
    assert done.code == 0, done.err
    path = tmp_path / "edgecar-xs.h264.int8.onnx"
    assert "10,603 parameters" in done.out
    assert "gate      " in done.out
    assert "(allowed 0.05)" in done.out
    assert "judged on photographs of scikit-image, h264" in done.out
    assert "made for openvino and tensorrt" in done.out
    assert "kept      node_conv2d, node_conv2d_5" in done.out
    assert "--calibrate DIR or CLIP" in done.err
    metadata = read_artifact(path).metadata
    assert metadata.precision == "int8"
    shown = edgecar("inspect", path).out
    assert "precision int8; convolutions: 2 in fp32, 4 in int8" in shown
    assert "halo      12 px" in shown
    assert metadata.quality.fp32_sha256 in shown
    found = json.loads(edgecar("inspect", path, "--json").out)
    assert found["layers"]["node_conv2d"] == "fp32"
    assert found["layers"]["node_conv2d_1"] == "int8"
    assert found["quality"] == json.loads(json.dumps(asdict(metadata.quality)))
    assert len(found["sha256"]) == 64
    assert (found["opset"], found["ir_version"], found["params"]) == (19, 10, 10_603)


def test_fp16_in_json(edgecar):
    done = edgecar("export", "edgecar-xs", "--precision", "fp16", "-o", "half.onnx", "--json")
    document = json.loads(done.out)
    assert document["precision"] == "fp16"
    assert document["quality"]["method"] == ""
    assert "convolutions: 6 in fp16" in edgecar("inspect", "half.onnx").out


def test_artifact_in_fp32_is_inspected(edgecar, tmp_path, write_artifact):
    path = write_artifact(tmp_path / "mine.onnx", "jpeg 10-40")
    shown = edgecar("inspect", path).out
    assert "precision fp32; convolutions: 6 in fp32" in shown
    assert "gate" not in shown


@pytest.mark.slow  # many graphs are judged
def test_refusal_is_code_three_and_no_file(edgecar, tmp_path):
    done = edgecar(
        "export", "edgecar-xs", "--precision", "int8", "--for-engine", "onnxruntime",
        "--budget-db", "0.0001",
    )  # fmt: skip
    assert done.code == 3
    assert "nothing written: the nearest setting that passes is" in done.err
    assert not list(tmp_path.glob("*.onnx"))


@pytest.fixture
def fps(monkeypatch):
    """Frames a second in place of measured ones, by precision; an engine without halves."""
    table = {}

    def speeds(artifacts, *_):
        return {
            name: Speed("bf16" if name == "fp16" else name, "Library 1", [table[name]] * 4)
            if name in table
            else Speed("bf16", "Library 1", ())
            for name in artifacts
        }

    monkeypatch.setattr(select_precision, "timed", speeds)
    monkeypatch.setattr(select_precision, "size_to_time", lambda *_: (270, 480))
    return table


@pytest.mark.slow  # many graphs are judged
def test_auto_writes_the_fastest_that_keeps_the_picture(edgecar, tmp_path, fps):
    fps |= {"fp32": 10.0, "int8": 17.0}
    done = edgecar("export", "edgecar-xs", "--for", "h264", "--precision", "auto")
    assert done.code == 0, done.err
    table = [line.split() for line in done.out.splitlines()]
    assert ["fp32", "fp32", "10.0", "1.00", "1.00", "–", "–", "no", "faster"] in table
    (halves,) = (line for line in table if line[:1] == ["fp16"])
    assert halves[1:5] == ["bf16", "–", "–", "–"]
    assert " ".join(halves[7:]) == "not run: Library 1 computes it in bf16 here"
    (eight,) = (line for line in table if line[:1] == ["int8"])
    assert eight[1:5] == ["int8", "17.0", "1.70", "1.70"]
    assert eight[7:] == ["taken"]
    metadata = read_artifact(tmp_path / "edgecar-xs.h264.int8.onnx").metadata
    assert metadata.precision == "int8"
    assert eight[5:7] == [f"{metadata.quality.loss_db:.3f}", f"{metadata.quality.worst_db:.3f}"]


@pytest.mark.slow  # many graphs are judged
def test_auto_tells_what_the_gate_refused_and_writes_fp32(edgecar, tmp_path, fps):
    fps |= {"fp32": 10.0, "int8": 17.0}
    options = ("--precision", "auto", "--budget-db", "0.0001", "-o", "x.onnx", "--json")
    done = edgecar("export", "edgecar-xs", "--for", "h264", *options)
    assert done.code == 0, done.err
    contest = json.loads(done.out)["contest"]
    assert contest["taken"] == "fp32"
    refused = {s["precision"]: s["why"] for s in contest["standings"] if s["outcome"] == "refused"}
    assert "dB on average (allowed 0.0001)" in refused["int8"]
    assert read_artifact(tmp_path / "x.onnx").metadata.precision == "fp32"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--calibrate", "clip.mp4"], "got --calibrate without a lower precision"),
        (["--budget-db", "0.1"], "got --budget-db without a lower precision"),
        (["--for-engine", "tensorrt"], "got --for-engine without a lower precision"),
        (["--precision", "fp16", "--for-engine", "tensorrt"], "whose one form serves all"),
        (["--precision", "int8", "--budget-db", "0"], "budget is 0.0 dB; need a number above 0"),
        (["--precision", "int8", "--budget-db", "nan"], "budget is nan dB"),
        (["--precision", "int8", "--calibrate", "absent"], "absent"),
    ],
)
def test_options_that_make_no_sense_are_one_line(edgecar, options, said):
    done = edgecar("export", "edgecar-xs", *options)
    assert done.code == 1
    assert said in done.err
    assert len(done.err.strip().splitlines()) == 1


def test_inspect_of_no_artifact_is_one_line(edgecar, tmp_path):
    (tmp_path / "x.onnx").write_text("nothing")
    done = edgecar("inspect", tmp_path / "x.onnx")
    assert done.code == 1
    assert "not an ONNX file" in done.err
