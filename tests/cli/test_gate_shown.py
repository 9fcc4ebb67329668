"""What a lower precision costs is shown wherever its artifact is, and where it is no gain."""

import json
from dataclasses import asdict, replace

import onnx
import pytest

from edgecar.metadata import Quality, write_metadata
from tests.cli.test_run import clip  # noqa: F401  # a fixture

SIGNED = ("openvino", "tensorrt")
QUALITY = Quality(
    0.0123, 0.0456, 0.02, 0.05, 0.15, 6, "photographs", "d", "entropy", 6, ("first", "last"),
    SIGNED, "f",
)  # fmt: skip
LINE = (
    "loses 0.012 dB on average (allowed 0.05), loses 0.046 dB on the worst of 6 pictures (allowed "
    "0.15), means move by 0.02 codes at most; 2 of 6 layers in higher precision, ranges by entropy"
)
WARNING = "warning   got INT8 made for openvino and tensorrt; ONNX Runtime"
TIMED = ("--res", "64x64", "--engine", "onnxruntime", "--networks")


@pytest.fixture
def lower(tmp_path, exported):
    """A function that writes an artifact which says it is in eight bits, made for some engines."""
    artifact = exported("edgecar-xs")

    def write(engines):
        model = onnx.load_model_from_string(artifact.onnx)
        quality = replace(QUALITY, engines=engines)
        write_metadata(model, replace(artifact.metadata, precision="int8", quality=quality))
        path = tmp_path / "lower.onnx"
        path.write_bytes(model.SerializeToString())
        return path

    return write


def test_models_lists_files(edgecar, lower, tmp_path, write_artifact):
    path, plain = lower(SIGNED), write_artifact(tmp_path / "plain.onnx", "jpeg 10-40")
    out = edgecar("models", path, plain).out
    assert f"{path}: edgecar-xs, int8, jpeg 10-40\ngate      {LINE}\nkept      first, last" in out
    assert out.rstrip().endswith(f"{plain}: edgecar-xs, fp32, jpeg 10-40")
    networks = {n["name"]: n for n in json.loads(edgecar("models", path, "--json").out)}
    (listed,) = networks["edgecar-xs"]["artifacts"]
    assert listed["path"] == str(path)
    assert listed["quality"] == json.loads(json.dumps(asdict(QUALITY)))
    assert "artifacts" not in networks["edgecar-s"]


def test_a_file_that_is_none_is_one_line(edgecar, tmp_path):
    done = edgecar("models", tmp_path / "absent.onnx")
    assert (done.code, len(done.err.splitlines())) == (1, 1)


@pytest.mark.parametrize("engines", [SIGNED, ("onnxruntime",)])
def test_run_warns_of_a_form_that_is_slow_there(edgecar, lower, clip, engines):  # noqa: F811
    options = ("-o", "null", "--frames", 1, "--network", lower(engines))
    done = edgecar("run", clip, *options, "--engine", "onnxruntime")
    assert done.code == 0, done.err
    assert (WARNING in done.err) == (engines == SIGNED)
    if engines == SIGNED:
        assert "--for-engine onnxruntime" in done.err
        assert WARNING not in edgecar("run", clip, *options, "--engine", "openvino").err


def test_bench_shows_the_gate_and_warns(edgecar, lower, monkeypatch):
    from edgecar.bench import speed
    from edgecar.cli import bench

    monkeypatch.setattr(bench, "YARDSTICKS", ())
    monkeypatch.setattr(speed, "MIN_SECONDS", 0.0)
    path = lower(SIGNED)
    done = edgecar("bench", *TIMED, path)
    assert done.code == 0, done.err
    assert f"gate      {path}: {LINE}; kept: first, last" in done.out
    assert WARNING in done.err
