"""Weights are rounded, measured and compared before they ship."""

import json
from dataclasses import replace
from pathlib import Path

import cv2
import onnx
import pytest
import torch
from safetensors.torch import load_file, save_file
from skimage import data

from benchmarks.run import release
from benchmarks.run.release import admit, refuse_worse
from edgecar.artifact import read_artifact
from edgecar.errors import CheckpointError, GateError, SettingsError
from edgecar.files import sha256_of
from edgecar.metadata import write_metadata
from edgecar.zoo import shipped
from edgecar.zoo.shipped import MANIFEST, manifest
from tests.media.conftest import make_clip  # noqa: F401  # a fixture
from tests.networks import narrow

pytestmark = pytest.mark.slow  # for who releases weights

FACTS = {
    "trained_on": "jpeg 10-40",
    "recipe": {"network": "edgecar-xs", "seed": 7},
    "data": ["photos/train"],
    "steps": 3,
    "seconds": 1,
    "machine": "a machine",
    "commit": "c" * 40,
}


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """Stands for the folder of shipped weights, with nothing in it."""
    path = tmp_path / "weights"
    path.mkdir()
    (path / MANIFEST).write_text("[]\n")
    monkeypatch.setattr(shipped, "WEIGHTS", path)
    monkeypatch.setattr(release, "WEIGHTS", path)
    return path


@pytest.fixture
def pictures(tmp_path) -> Path:
    path = tmp_path / "classic5"
    path.mkdir()
    for number, photo in enumerate((data.camera()[:96, :112], data.camera()[200:304, 200:296])):
        cv2.imwrite(str(path / f"{number}.png"), photo)
    return path


@pytest.fixture
def trained(tmp_path):
    """Writes what training leaves behind; a larger ``strength`` is worse."""

    def write(name: str = "edgecar-xs", strength: float = 0.0, **metadata: object) -> Path:
        network = narrow(name)
        if name == "edgecar-xs":
            with torch.no_grad():
                for weight in network.convs[-1].parameters():
                    weight.mul_(strength)
        path = tmp_path / "trained.safetensors"
        save_file(network.state_dict(), path)
        path.with_suffix(".json").write_text(json.dumps({**FACTS, **metadata}))
        return path

    return write


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_weights_ship_rounded_with_all_that_is_known_of_them(folder, pictures, trained) -> None:
    weights = trained(strength=0.1)
    admit(weights, [pictures])
    stem = "edgecar-xs.jpeg"
    assert names(folder) == {MANIFEST, f"{stem}.safetensors", f"{stem}.onnx"}
    (entry,) = manifest()
    checkpoint = folder / entry["file"]
    assert entry["sha256"] == sha256_of(checkpoint)
    assert read_artifact(checkpoint.with_suffix(".onnx")).metadata.weights_sha256 == entry["sha256"]
    assert {tensor.dtype for tensor in load_file(checkpoint).values()} == {torch.float16}
    assert checkpoint.stat().st_size < 0.6 * weights.stat().st_size
    assert (entry["network"], entry["for"], entry["trained_on"]) == (
        "edgecar-xs",
        "jpeg",
        "jpeg 10-40",
    )
    assert set(entry["psnr"]) == {f"classic5 q{quality}" for quality in (10, 20, 30, 40)}
    assert all(20 < value < 50 for value in entry["psnr"].values())
    assert entry["cost"]["params"] == 10_603
    assert entry["config"] == entry["tiling"] == {}
    assert entry["training"] == {
        **{key: value for key, value in FACTS.items() if key != "trained_on"},
        "seed": 7,
    }
    (read,) = shipped.shipped_weights()
    assert read.path == checkpoint
    assert (read.network, read.codec, read.sha256) == ("edgecar-xs", "jpeg", entry["sha256"])


def test_a_known_answer_is_renewed_and_nothing_else(folder, pictures, trained) -> None:
    admit(trained(strength=0.1), [pictures])
    onnx_file = folder / "edgecar-xs.jpeg.onnx"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    old = read_artifact(onnx_file)
    assert old.metadata.known_answer is not None
    model = onnx.load(onnx_file, load_external_data=False)
    write_metadata(model, replace(old.metadata, known_answer=None))
    onnx_file.write_bytes(model.SerializeToString())
    admit(folder / "edgecar-xs.jpeg.safetensors", answer_only=True)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    with pytest.raises(SettingsError, match="give --data FOLDER"):
        admit(folder / "edgecar-xs.jpeg.safetensors")


def test_worse_weights_are_refused_unless_told(folder, pictures, trained, capsys) -> None:
    admit(trained(strength=0.0), [pictures])
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    capsys.readouterr()
    with pytest.raises(GateError, match=r"edgecar-xs for jpeg would lose .* give --replace"):
        admit(trained(strength=0.05), [pictures])
    printed = capsys.readouterr().out
    assert "would ship" in printed
    assert "classic5 q40" in printed
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    admit(trained(strength=0.05), [pictures], replace=True)
    assert (
        manifest()[0]["psnr"]["classic5 q10"]
        < json.loads(before[MANIFEST])[0]["psnr"]["classic5 q10"]
    )


@pytest.mark.slow  # weights are measured on every clip and picture
@pytest.mark.parametrize(
    ("codec", "purpose", "keys"),
    [
        ("h264", "view", {"crf 29", "crf 35", "crf 41", "crf 47", "worst"}),
        ("h264", "detect", {"crf 29", "crf 35", "crf 41", "crf 47", "worst"}),
        ("hevc", "view", {"qp 22", "qp 27", "qp 32", "qp 37", "worst"}),
    ],
)
def test_video_weights_are_measured_on_coded_clips(
    folder,
    trained,
    make_clip,  # noqa: F811
    tmp_path,
    codec,
    purpose,
    keys,
) -> None:
    clips = tmp_path / "clips"
    clips.mkdir()
    for number in range(2):
        options = {"qp": "0"}
        make_clip(f"clips/{number}.mp4", frames=6, size=(64, 80 + 16 * number), options=options)
    admit(trained(strength=0.0, trained_on=f"{codec} strong", purpose=purpose), [clips])
    (entry,) = manifest()
    assert (entry["for"], entry["purpose"]) == (codec, purpose)
    assert "psnr" not in entry
    # A network that changes nothing gains nothing, exactly.
    assert entry["gain_db"] == dict.fromkeys(keys, 0.0)
    assert names(folder) == {
        MANIFEST,
        entry["file"],
        entry["file"].replace("safetensors", "onnx"),
    }
    assert entry["file"].startswith(f"edgecar-xs.{codec}{'-detect' * (purpose == 'detect')}.")
    assert read_artifact(
        folder / entry["file"].replace("safetensors", "onnx")
    ).metadata.purpose == (purpose)
    with pytest.raises(SettingsError, match="got 2 folders for"):
        admit(folder / entry["file"], [clips, clips])


@pytest.mark.parametrize("metadata", [{"trained_on": ""}, {"trained_on": "vp9 40"}])
def test_weights_for_no_known_coder_are_refused(folder, pictures, trained, metadata) -> None:
    with pytest.raises(CheckpointError, match="names no coder"):
        admit(trained(**metadata), [pictures])
    assert names(folder) == {MANIFEST}


def entry(**figures: float) -> dict[str, object]:
    return {"network": "edgecar-s", "for": "hevc", "gain_db": figures}


def test_mean_of_what_both_have_decides() -> None:
    old = entry(a=0.4, b=0.2, worst=0.1)
    refuse_worse(entry(a=0.3, b=0.4, worst=-0.5), old)
    refuse_worse(entry(a=0.3, b=0.4, c=-9.0), old)
    refuse_worse(entry(a=0.397, b=0.197), old)  # within what another machine may change
    with pytest.raises(GateError, match=r"would lose 0\.050 dB"):
        refuse_worse(entry(a=0.4, b=0.1, worst=0.3), old)
    with pytest.raises(GateError, match="would lose nan dB"):
        refuse_worse(entry(a=float("nan"), b=0.1), old)
    with pytest.raises(GateError, match="alike"):
        refuse_worse(entry(c=0.5, worst=0.1), old)
