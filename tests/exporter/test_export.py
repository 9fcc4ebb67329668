"""`export`: a checkpoint in, a checked file out, or nothing."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from edgecar.artifact import read_artifact
from edgecar.engines import trt_lint
from edgecar.errors import CheckpointError, ExportError, GateError
from edgecar.exporter import to_onnx
from edgecar.exporter.recipe import recipe_for
from edgecar.exporter.to_onnx import artifact_from_network, export, onnx_from_network
from edgecar.files import sha256_of
from edgecar.zoo import shipped
from edgecar.zoo.checkpoints import Loaded
from edgecar.zoo.dncnn import Dncnn, DncnnConfig
from edgecar.zoo.edgecar_net import EdgecarConfig, EdgecarNet
from edgecar.zoo.registry import card_named
from tests.networks import lively

LITTLE = DncnnConfig(depth=3, width=4)
"""The least network there is with normalisation; its export takes a second."""


@pytest.fixture
def checkpoint(tmp_path) -> Path:
    path = tmp_path / "little.pth"
    torch.save(lively(Dncnn(LITTLE)).state_dict(), path)
    return path


def test_file_is_written_with_its_facts(tmp_path) -> None:
    """The state of a training run: averaged weights among other things."""
    torch.manual_seed(1)
    path = tmp_path / "camera.pt"
    torch.save({"average": EdgecarNet(EdgecarConfig()).state_dict(), "step": 9}, path)
    done = export(path, tmp_path / "new" / "folder" / "camera.onnx", trained_on="h264 crf 35")
    metadata = read_artifact(done.path).metadata
    assert metadata == done.metadata
    found = (metadata.model, metadata.channels, metadata.halo_px, metadata.align_px)
    assert found == ("edgecar-s", 1, 12, 2)
    assert metadata.weights_sha256 == sha256_of(path)
    assert metadata.trained_on == "h264 crf 35"
    assert metadata.parity_budget == recipe_for("edgecar-s").parity_max_error
    assert metadata.parity_max_error <= metadata.parity_budget
    assert not done.shipped


@pytest.mark.parametrize(
    ("beside", "known", "purpose"),
    [
        ('{"trained_on": "hevc qp 22-37"}', "hevc qp 22-37", "view"),
        ('{"trained_on": "h264 crf 29-47", "purpose": "detect"}', "h264 crf 29-47", "detect"),
        ("{}", "", "view"),
        ("[1]", "", "view"),
        ("x", "", "view"),
    ],
)
def test_file_goes_beside_the_checkpoint_and_reads_the_facts_of_its_training(
    checkpoint, beside, known, purpose
) -> None:
    checkpoint.with_suffix(".json").write_text(beside)
    checkpoint.with_suffix(".onnx").write_text("an older one")
    done = export(checkpoint)
    assert (done.metadata.trained_on, done.metadata.purpose) == (known, purpose)
    assert done.path == checkpoint.with_suffix(".onnx")
    assert read_artifact(done.path).metadata == done.metadata  # replaced whole
    names = {path.name for path in checkpoint.parent.iterdir()}
    assert names == {"little.onnx", "little.pth", "little.json"}


# Refusals leave nothing behind.


def assert_refused(kind: type, said: str, checkpoint: Path, **options) -> BaseException:
    """An earlier file stays as it was, and no temporary one remains."""
    output = checkpoint.with_suffix(".onnx")
    output.write_text("an older one")
    with pytest.raises(kind) as refused:
        export(checkpoint, output, **options)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)
    assert output.read_text() == "an older one"
    names = {path.name for path in checkpoint.parent.iterdir()}
    assert names <= {"little.onnx", "little.pth", "recipe.toml"}
    return refused.value


def test_difference_above_the_budget_fails_the_gate(checkpoint, monkeypatch) -> None:
    recipe = checkpoint.with_name("recipe.toml")
    # Folding normalisation into float32 weights rounds each of them by some 1e-8.
    recipe.write_text("parity_max_error = 1e-15")
    failed = assert_refused(GateError, "ONNX differs from torch by", checkpoint, recipe=recipe)
    assert failed.exit_code == 3
    assert "allowed 1e-15; nothing written" in str(failed)
    loaded = Loaded(card_named("dncnn"), 1, Dncnn(LITTLE))
    monkeypatch.setattr(to_onnx, "parity_error", lambda *_: 1e-4)  # all that is allowed
    _, metadata = artifact_from_network(loaded, recipe_for("dncnn"), "", "")
    assert metadata.parity_max_error == 1e-4
    monkeypatch.setattr(to_onnx, "parity_error", lambda *_: 1.01e-4)
    with pytest.raises(GateError):
        artifact_from_network(loaded, recipe_for("dncnn"), "", "")


def test_weights_that_are_no_numbers_are_refused_by_name(tmp_path) -> None:
    path = tmp_path / "little.pth"
    state = Dncnn(LITTLE).state_dict()
    state["model.0.weight"][0] = torch.nan
    torch.save(state, path)
    assert_refused(CheckpointError, "model.0.weight has 9 of 36 values that are NaN", path)


def test_what_cannot_be_a_graph_for_tensorrt_is_refused(checkpoint, monkeypatch) -> None:
    monkeypatch.setattr(trt_lint, "SUPPORTED", trt_lint.SUPPORTED - {"Relu"})
    assert_refused(ExportError, "operator Relu", checkpoint)
    card = card_named("dncnn")
    with pytest.raises(ExportError, match="asks for opset 99, torch could only make"):
        onnx_from_network(card.build(LITTLE), card, 1, replace(recipe_for("dncnn"), opset=99))

    def fail(*_args, **_options):
        raise RuntimeError("pages\nof advice") from ValueError("sides must be even\nEq(s89, 2)")

    monkeypatch.setattr(torch.onnx, "export", fail)
    assert_refused(ExportError, "torch cannot export this dncnn: sides must be even", checkpoint)


def test_interrupted_writing_leaves_nothing(checkpoint, monkeypatch) -> None:
    def interrupt(path: Path, content: bytes) -> None:
        with path.open("wb") as file:
            file.write(content[: len(content) // 2])
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_bytes", interrupt)
    assert_refused(KeyboardInterrupt, "", checkpoint)


def test_output_must_be_an_onnx_file(checkpoint, monkeypatch) -> None:
    for name in ("model.trt", "model", "onnx"):
        output = checkpoint.with_name(name)
        with pytest.raises(ExportError, match=f"{name} has no .onnx suffix; write to .*onnx$"):
            export(checkpoint, output)
        assert not output.exists()
    monkeypatch.chdir(checkpoint.parent)
    for folder in (checkpoint.parent, "."):  # answered with a file in it
        with pytest.raises(ExportError, match=r"has no \.onnx suffix.*little\.onnx$"):
            export(checkpoint, folder)


# Weights that ship.


@pytest.fixture
def ships(tmp_path, monkeypatch) -> Path:
    """A manifest with edgecar-xs for JPEG, H.264 and detectors, and an empty folder to work in."""
    weights, work = tmp_path / "weights", tmp_path / "work"
    weights.mkdir()
    work.mkdir()
    path = weights / "edgecar-xs.jpeg.pt"
    torch.save(lively(EdgecarNet(EdgecarConfig(width=16))).state_dict(), path)
    entry = {"network": "edgecar-xs", "for": "jpeg", "file": path.name, "sha256": "",
             "trained_on": "jpeg 10-40"}  # fmt: skip
    video = {**entry, "for": "h264", "trained_on": "h264 crf 29-47"}
    entries = [entry, video, {**video, "purpose": "detect"}]
    (weights / shipped.MANIFEST).write_text(json.dumps(entries))
    monkeypatch.setattr(shipped, "WEIGHTS", weights)
    monkeypatch.chdir(work)
    return path


def test_name_of_a_network_exports_its_shipped_weights(ships) -> None:
    """Those for several coders, and purposes, lie side by side."""
    for name, codec, stem, trained_on in (
        ("edgecar-xs.pt", "jpeg", "jpeg", "jpeg 10-40"),
        ("edgecar-xs", "h264", "h264", "h264 crf 29-47"),
        ("edgecar-xs", "h264:detect", "h264-detect", "h264 crf 29-47"),
    ):
        done = export(name, codec=codec)
        assert done.shipped
        assert done.path == Path(f"edgecar-xs.{stem}.onnx")
        assert (done.metadata.trained_on, done.metadata.weights_for) == (trained_on, codec)
        assert done.metadata.weights_sha256 == sha256_of(ships)
    assert len(list(Path().iterdir())) == 3
    with pytest.raises(ExportError, match=r"write to edgecar-xs\.h264\.onnx$"):
        export("edgecar-xs", ".", codec="h264")
    with pytest.raises(
        CheckpointError, match=r"no hevc weights .* there are some for h264, h264:detect"
    ):
        export("edgecar-xs", codec="hevc")
    with pytest.raises(CheckpointError, match=r"camera\.pt: no such file"):
        export("camera.pt")
    # A file of that name comes first.
    torch.save(lively(Dncnn(LITTLE)).state_dict(), "edgecar-xs.pt")
    done = export("edgecar-xs.pt")
    assert (done.shipped, done.metadata.model, done.metadata.trained_on) == (False, "dncnn", "")
