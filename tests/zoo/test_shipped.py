"""The manifest of shipped weights."""

import json

import pytest

from edgecar.artifact import read_artifact
from edgecar.errors import CheckpointError
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
    "trained_on": "jpeg 10-40",
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
    manifest(("edgecar-s", "jpeg"))
    facts = [{"name": "edgecar-s", "params": 39_332}, {"name": "msfan", "params": 765_587}]
    (tmp_path / shipped.FACTS).write_text(json.dumps(facts))
    small, large = network_table()
    assert small["params"] == 39_332
    assert small["weights"] == [{"for": "jpeg", "sha256": "0" * 64, "psnr": {"classic5 q10": 29.0}}]
    assert large["weights"] == []


@pytest.mark.parametrize("entry", shipped_weights(), ids=lambda entry: entry.path.stem)
def test_what_ships_is_what_the_manifest_says(entry) -> None:
    assert sha256_of(entry.path) == entry.sha256
    assert load_network(entry.path).card.name == entry.network
    facts = read_artifact(entry.path.with_suffix(".onnx")).facts
    assert facts.model == entry.network
    assert facts.weights_sha256 == entry.sha256
    assert facts.trained_on == entry.trained_on


def test_nothing_else_ships() -> None:
    named = {entry.path.name for entry in shipped_weights()}
    assert {path.name for path in WEIGHTS.glob("*.safetensors")} == named
    assert {path.stem for path in WEIGHTS.glob("*.onnx")} == {name[:-12] for name in named}
    assert {entry.network for entry in shipped_weights()} <= {card.name for card in CARDS}
