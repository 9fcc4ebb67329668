"""The precision benchmark: its rows, its resuming, its tables."""

import json

import cv2
import jsonschema
import numpy as np
import pytest
import typer
from skimage import data
from typer.testing import CliRunner

from benchmarks.run import precision
from benchmarks.run.precision import Made
from edgecar.artifact import find_artifact, read_artifact
from edgecar.bench.results import SCHEMA_PATH, read_results
from edgecar.evaluate.clips import load_pictures
from edgecar.evaluate.metrics import psnr
from edgecar.media.frame import Coding, Frame
from edgecar.media.pictures import jpeg_coded
from edgecar.media.quantiser import quantiser_from_jpeg_quality
from edgecar.media.video_codec import VideoCoding, video_coded
from edgecar.metadata import Quality
from edgecar.runtime.restorer import Restorer
from edgecar.zoo.shipped import shipped_checkpoint

pytestmark = pytest.mark.slow  # a harness for our own pages

APP = typer.Typer()
APP.command()(precision.measure)
WEIGHTS = [shipped_checkpoint("edgecar-xs", coder) for coder in ("jpeg", "h264")]
REFUSED = "edgecar-xs in int8 loses 0.5 dB"


@pytest.fixture
def folder(tmp_path):
    """Pictures and a clip, where the benchmark looks for them."""
    for name, photo in (("classic5", data.camera()), ("live1", data.coins())):
        (tmp_path / name).mkdir()
        cv2.imwrite(str(tmp_path / name / "1.png"), photo[60:124, 80:160])
    grey = np.full((32, 40), 128, np.uint8)
    frames = [Frame(data.camera()[n : n + 64, 80:160].copy(), grey, grey) for n in range(3)]
    # Sources are coded finely; nothing else in the folder is a video.
    clip = video_coded(frames, VideoCoding("h264", 10))
    (tmp_path / "clip.mkv").write_bytes(clip.bitstream)
    return tmp_path


@pytest.fixture
def made(monkeypatch, reduced):
    """Weights that ship, FP16 that the engine does not compute, INT8 as the test says."""
    calls = []
    int8 = {"edgecar-xs": Made(None, why=REFUSED)}

    def lower(checkpoint, codec, kind, _study, _folder):
        calls.append((checkpoint.rpartition("/")[2], codec, kind))
        if kind == "fp16":
            return Made(reduced("edgecar-xs", "fp16"), 1000)
        return int8[checkpoint.rpartition("/")[2]]

    def export(network, path, codec):
        path.write_bytes(read_artifact(find_artifact(network, codec)).onnx)

    monkeypatch.setattr(precision, "export", export)  # what ships was exported, and that takes long
    monkeypatch.setattr(precision, "shipped_weights", lambda: WEIGHTS)
    monkeypatch.setattr(precision, "_lowered", lower)
    monkeypatch.setattr(precision, "native_form", lambda: "onnxruntime")
    return int8, calls


def measured(folder, *more: object):
    size = ("--width", 64, "--height", 48, "--seconds", 0, "--every", 2)
    words = ("--data", folder, "--save", folder / "x.json", *size, *more)
    return CliRunner().invoke(APP, [str(word) for word in words])


def test_rows_are_saved_and_fit_the_schema(folder, made, reduced) -> None:
    made[0]["edgecar-xs"] = Made(reduced("edgecar-xs", "int8 onnxruntime"), 2000)
    done = measured(folder)
    assert done.exit_code == 0, done.output
    table = json.loads((folder / "x.json").read_text())
    jsonschema.validate(table, json.loads(SCHEMA_PATH.read_text()))
    rows = {(row["weights"], row["precision"]): row for row in table["rows"]}
    kinds = ("fp32", "fp16", "int8")
    assert list(rows) == [(coder, kind) for coder in ("jpeg", "h264") for kind in kinds]
    for coder in ("jpeg", "h264"):
        base, halves, eight = (rows[coder, kind] for kind in kinds)
        assert (base["outcome"], base["computed"], base["to_fp32"]) == ("passed", "fp32", 1)
        # ONNX Runtime has no kernels for halves on x86.
        assert (halves["outcome"], halves["fps"], halves["bytes"]) == ("not run", None, 1000)
        assert "computes it in fp32 here" in halves["why"]
        assert (eight["outcome"], eight["computed"]) == ("passed", "int8")
        assert eight["fps"] > 0
        assert eight["rounds"] >= 9
        columns = ("classic5_db", "live1_db") if coder == "jpeg" else ("video_db",)
        assert all(base[key] > 20 for key in columns)
        assert all(eight[key] != base[key] for key in columns)
    # Of what the engine does not compute, by one that rounds as the graph says.
    ((_, clean),) = load_pictures(folder / "live1")
    with Restorer(reduced("edgecar-xs", "fp16"), "onnxruntime") as restorer:
        told = Coding(codec="jpeg", quantiser=quantiser_from_jpeg_quality(10))
        expected = psnr(clean, restorer.luma(jpeg_coded(clean, 10), coding=told))
    assert rows["jpeg", "fp16"]["live1_db"] == pytest.approx(expected, abs=6e-4)  # three digits


def test_what_was_broken_off_goes_on(folder, made) -> None:
    assert measured(folder, "--only", "edgecar-xs.jpeg").exit_code == 0
    first = read_results(folder / "x.json").rows
    made[1].clear()
    assert measured(folder).exit_code == 0
    assert {codec for _, codec, _ in made[1]} == {"h264"}
    rows = read_results(folder / "x.json").rows
    assert list(rows[: len(first)]) == list(first)
    assert {row["weights"] for row in rows[len(first) :]} == {"h264"}


def test_refused_weights_give_way_to_trained_ones(folder, made, reduced) -> None:
    int8, _ = made
    done = measured(folder, "--only", "jpeg")
    assert f"edgecar-xs for jpeg, int8: refused; {REFUSED}" in done.output
    (folder / "x.json").unlink()
    trained = folder / "qat" / "edgecar-xs.jpeg.qat.safetensors"
    trained.parent.mkdir()
    trained.touch()
    int8[trained.name] = Made(reduced("edgecar-xs", "int8 onnxruntime"), 2000)
    done = measured(folder, "--only", "jpeg", "--qat", trained.parent)
    assert "edgecar-xs for jpeg, int8: passed" in done.output


def test_quality_of_the_gate_is_in_the_row(made, reduced, folder) -> None:
    from dataclasses import replace

    quality = Quality(
        0.01234, 0.0456, 0.02, 0.05, 0.15, 6, "p", "d", "training", 6, ("a", "b"), ("x",), "f"
    )
    artifact = reduced("edgecar-xs", "int8 onnxruntime")
    judged = replace(artifact, metadata=replace(artifact.metadata, quality=quality))
    made[0]["edgecar-xs"] = Made(judged, 2000)
    measured(folder, "--only", "jpeg")
    (row,) = (r for r in read_results(folder / "x.json").rows if r["precision"] == "int8")
    assert (row["method"], row["layers"], row["kept"]) == ("training", 6, 2)
    assert (row["loss_db"], row["worst_db"], row["budget_db"]) == (0.0123, 0.0456, 0.05)
