"""The other verbs, and what all of them share."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from edgecar.cli import app
from edgecar.zoo.registry import card_named

BENCH_KEYS = {
    "network", "channels", "height", "width", "engine", "provider", "precision", "params",
    "published_memory_mb", "published_tflops", "gmacs", "p50_ms", "p95_ms", "fps", "peak_mb",
}  # fmt: skip
WORDS = "export build inspect run serve bench models train doctor tune batch score train-scorer"
VERBS = [
    *([word] for word in WORDS.split()),
    *(["eval", word] for word in ("jpeg", "h264", "hevc", "detect")),
]


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_help_ends_in_an_example(edgecar, verb):
    done = edgecar(*verb, "--help")
    assert done.code == 0
    assert f"Example: edgecar {' '.join(verb)}" in " ".join(done.out.split())


def test_every_verb_is_tested_here():
    registered = {command.name for command in app.registered_commands}
    registered |= {group.name for group in app.registered_groups}
    assert registered == {verb[0] for verb in VERBS}


def test_export_of_a_checkpoint(edgecar, tmp_path):
    torch.manual_seed(0)
    card = card_named("edgecar-xs")
    checkpoint = tmp_path / "mine.pt"
    torch.save({"state_dict": card.build(card.config()).state_dict()}, checkpoint)
    done = edgecar("export", checkpoint)
    assert done.code == 0
    assert (tmp_path / "mine.onnx").exists()
    assert "halo      12 px" in done.out
    assert "edgecar run INPUT -o OUTPUT --network" in done.err


def test_export_of_a_shipped_network_says_so(edgecar, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = edgecar("export", "edgecar-s.pt", "--json")
    assert done.code == 0
    metadata = json.loads(done.out)
    assert (metadata["model"], metadata["halo_px"], metadata["trained_on"]) == (
        "edgecar-s",
        12,
        "jpeg 5-100",
    )
    assert metadata["shipped"] is True
    assert Path(metadata["path"]) == Path("edgecar-s.jpeg.onnx")
    assert "no file edgecar-s.pt here; exporting edgecar's own" in done.err


def test_failed_parity_is_code_three(edgecar, tmp_path):
    recipe = tmp_path / "strict.toml"
    recipe.write_text("parity_max_error = -1.0\n")
    done = edgecar("export", "edgecar-s", "-o", tmp_path / "x.onnx", "--recipe", recipe)
    assert done.code == 3
    assert not (tmp_path / "x.onnx").exists()


def test_bench_counts_without_an_engine(edgecar):
    done = edgecar("bench", "--res", "32x32", "--engine", "none", "--networks", "msfan", "--json")
    document = json.loads(done.out)
    assert set(document) == {"machine", "commit", "rows"}
    rows = {row["network"]: row for row in document["rows"]}
    assert list(rows) == ["arcnn", "fastarcnn", "msfan"]
    assert all(set(row) == BENCH_KEYS for row in rows.values())
    assert rows["msfan"]["params"] == 765_587
    assert round(rows["msfan"]["published_memory_mb"], 2) == 29.45
    assert rows["msfan"]["fps"] is None


def test_bench_measures_and_saves(edgecar, tmp_path):
    result, chart = tmp_path / "r.json", tmp_path / "r.png"
    done = edgecar(
        "bench", "--res", "96x64", "--networks", "edgecar-s", "--engine", "onnxruntime",
        "--save", result, "--chart", chart,
    )  # fmt: skip
    assert done.code == 0
    assert chart.read_bytes()[:4] == b"\x89PNG"
    rows = json.loads(result.read_text())["rows"]
    assert [row["network"] for row in rows] == ["arcnn", "fastarcnn", "edgecar-s"]
    for row in rows:
        assert row["engine"] == "onnxruntime"
        assert 0 < row["p50_ms"] <= row["p95_ms"]
        # Times are rounded to a microsecond, which matters for frames this small.
        assert row["fps"] == pytest.approx(
            1000 / row["p50_ms"], rel=0.001 / row["p50_ms"], abs=0.001
        )
        assert row["peak_mb"] > 0


@pytest.mark.slow  # a colour network is measured
def test_bench_in_colour(edgecar):
    done = edgecar("bench", "--res", "48x32", "--channels", 3, "--networks", "arcnn", "--json")
    rows = json.loads(done.out)["rows"]
    assert {row["params"] for row in rows} == {117_734, 85_575}
    assert all(row["fps"] > 0 for row in rows)


def test_models_lists_the_zoo(edgecar):
    done = edgecar("models", "--json")
    assert done.err == ""  # a result goes to stdout alone
    networks = {n["name"]: n for n in json.loads(done.out)}
    assert {"arcnn", "fastarcnn", "dncnn", "msfan", "carcnn", "glfusion"} < set(networks)
    keys = set("name channels params kmacs_per_px halo_px align_px context weights".split())
    assert all(keys <= set(network) for network in networks.values())
    weights = {entry["for"]: entry for entry in networks["edgecar-s"]["weights"]}
    assert len(weights["jpeg"]["sha256"]) == 64
    assert "edgecar-s" in edgecar("models").out


def test_doctor_names_the_default_engine(edgecar, monkeypatch):
    monkeypatch.setattr("edgecar.cli.doctor.shipped_answers", lambda _report: [])
    metadata = json.loads(edgecar("doctor", "--json").out)
    assert metadata["default_engine"] in ("openvino", "onnxruntime")
    assert metadata["default_engine"] in edgecar("doctor").out


def test_eval_jpeg_takes_qualities_as_the_papers_list_them(edgecar, tmp_path):
    import cv2
    from skimage import data

    folder = tmp_path / "classic5"
    folder.mkdir()
    cv2.imwrite(str(folder / "1.png"), data.camera()[:128, :160])
    done = edgecar("eval", "jpeg", "--data", folder, "--quality", 10, 40, "--json")
    rows = json.loads(done.out)["rows"]
    assert [row["quality"] for row in rows] == [10, 40]
    assert all(row["psnr_out"] > row["psnr_in"] for row in rows)
    table = edgecar("eval", "jpeg", "--data", folder, "--quality", "10").out
    assert "msfan" in table  # the published row


@pytest.mark.skipif(shutil.which("head") is None, reason="needs head")
def test_closed_pipe_is_no_traceback():
    command = f"{sys.executable} -m edgecar models --json | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
