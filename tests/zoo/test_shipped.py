"""The manifest of shipped weights."""

import json

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgecar.artifact import read_artifact
from edgecar.engines.select import open_engine
from edgecar.errors import CheckpointError
from edgecar.exporter.upsampling import phase_kernel
from edgecar.files import WEIGHTS, sha256_of
from edgecar.zoo import shipped
from edgecar.zoo.checkpoints import load_network
from edgecar.zoo.registry import CARDS
from edgecar.zoo.shipped import network_table, shipped_checkpoint, shipped_weights

ENTRY = {
    "network": "edgecar-s",
    "for": "jpeg",
    "file": "edgecar-s.jpeg.safetensors",
    "sha256": "0" * 64,
    "licence": "Apache-2.0",
    "trained_on": "jpeg 10-40",
    "config": {},
    "cost": {"params": 39_332, "kmacs_per_px": 9.8, "halo_px": 12},
    "psnr": {"classic5 q10": 29.0},
    "tiling": {},
    "training": {"steps": 1},
}


@pytest.fixture
def manifest(tmp_path, monkeypatch):
    """Enters networks and codecs in a manifest of its own."""
    monkeypatch.setattr(shipped, "WEIGHTS", tmp_path)

    def enter(*entries: tuple[str, str]) -> None:
        rows = [{**ENTRY, "network": network, "for": codec} for network, codec in entries]
        (tmp_path / shipped.MANIFEST).write_text(json.dumps(rows))

    return enter


def test_entry_is_found_by_network_and_codec(manifest, tmp_path) -> None:
    manifest(("edgecar-s", "h264"), ("edgecar-s", "jpeg"), ("msfan", "jpeg"))
    found = shipped_checkpoint("edgecar-s", "jpeg")
    assert (found.network, found.codec, found.trained_on) == ("edgecar-s", "jpeg", "jpeg 10-40")
    assert found.path == tmp_path / "edgecar-s.jpeg.safetensors"


def test_other_codec_is_answered_with_those_there_are(manifest) -> None:
    manifest(("edgecar-s", "jpeg"), ("edgecar-s", "h264"))
    with pytest.raises(
        CheckpointError, match=r"no hevc .* edgecar-s; there are some for h264, jpeg"
    ):
        shipped_checkpoint("edgecar-s", "hevc")


def test_network_without_weights_asks_for_a_file(manifest) -> None:
    manifest()
    with pytest.raises(CheckpointError, match="no jpeg weights ship for dncnn; give a checkpoint"):
        shipped_checkpoint("dncnn", "jpeg")


def test_table_joins_costs_and_weights(manifest, tmp_path) -> None:
    manifest(("edgecar-s", "jpeg"), ("msfan", "jpeg"))
    metadata = [{"name": "edgecar-s", "params": 39_332}, {"name": "dncnn", "params": 667_072}]
    (tmp_path / shipped.FACTS).write_text(json.dumps(metadata))
    small, large = network_table()
    assert small["params"] == 39_332
    assert small["weights"] == [ENTRY]
    assert large["weights"] == []


COSTS = {(e["network"], e["for"]): e["cost"] for e in shipped.manifest()}


@pytest.mark.parametrize("entry", shipped_weights(), ids=lambda entry: entry.path.stem)
def test_what_ships_is_what_the_manifest_says(entry) -> None:
    assert sha256_of(entry.path) == entry.sha256
    assert load_network(entry.path).card.name == entry.network
    metadata = read_artifact(entry.path.with_suffix(".onnx")).metadata
    assert metadata.model == entry.network
    assert metadata.weights_sha256 == entry.sha256
    assert metadata.trained_on == entry.trained_on
    assert metadata.coder == entry.codec
    assert metadata.halo_px == COSTS[entry.network, entry.codec]["halo_px"]


@pytest.mark.parametrize("entry", shipped.manifest(), ids=lambda entry: entry["file"])
def test_manifest_tells_how_weights_were_made_and_what_they_achieve(entry) -> None:
    assert entry["file"] == f"{entry['network']}.{entry['for']}.safetensors"
    training = entry["training"]
    assert {"recipe", "seed", "data", "steps", "seconds", "machine", "commit"} <= set(training)
    assert training["seed"] == training["recipe"]["seed"]
    assert entry["licence"]
    if entry["for"] == "jpeg":
        assert "gain_db" not in entry
        assert "classic5 q10" in entry["psnr"]
    else:
        assert "psnr" not in entry
        assert "worst" in entry["gain_db"]
        assert len(entry["gain_db"]) > 1


@pytest.mark.parametrize("entry", shipped_weights(), ids=lambda entry: entry.path.stem)
def test_exported_weights_are_the_rounded_ones(entry) -> None:
    """Where no normalisation was folded in, an FP16 engine holds exactly what was measured."""
    loaded = load_network(entry.path)
    stored = {name: tensor.numpy() for name, tensor in loaded.network.state_dict().items()}
    graph = onnx.load(entry.path.with_suffix(".onnx")).graph
    if any(name.endswith("running_var") for name in stored):  # the folded weights are others
        assert "BatchNormalization" not in {node.op_type for node in graph.node}
        return
    exported = [numpy_helper.to_array(tensor) for tensor in graph.initializer]
    for tensor in stored.values():
        if tensor.ndim == 4:
            forms = [tensor]
            if entry.network == "fastarcnn":  # its last layer enlarges
                forms.append(phase_kernel(tensor, stride=2, padding=4)[0])
            assert any(np.array_equal(form, other) for form in forms for other in exported)


@pytest.mark.parametrize("entry", shipped_weights(), ids=lambda entry: entry.path.stem)
def test_exported_weights_carry_an_answer_that_engines_here_reproduce(entry) -> None:
    artifact = read_artifact(entry.path.with_suffix(".onnx"))
    assert artifact.metadata.known_answer is not None
    for name in ("onnxruntime", "openvino"):
        with open_engine(artifact, name, "fp32") as engine:
            assert engine.check.exact
            # Below an eighth of what TF32 changed in the network that it changed least.
            assert engine.check.largest_codes < 0.002


def test_everything_in_the_folder_is_in_the_manifest() -> None:
    named = [entry.path for entry in shipped_weights()]
    expected = {shipped.MANIFEST, shipped.FACTS}
    expected |= {path.name for path in named} | {path.with_suffix(".onnx").name for path in named}
    assert {path.name for path in WEIGHTS.iterdir()} == expected
    assert len(set(named)) == len(named)
    assert {entry.network for entry in shipped_weights()} <= {card.name for card in CARDS}
