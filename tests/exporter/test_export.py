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
from edgecar.zoo.edgecar_net import Plain, PlainConfig
from edgecar.zoo.registry import card_named
from tests.networks import lively


@pytest.fixture(scope="module")
def training_state(tmp_path_factory) -> Path:
    """What a training run of edgecar-s keeps: averaged weights among other things."""
    torch.manual_seed(1)
    path = tmp_path_factory.mktemp("trained") / "camera.pt"
    torch.save({"average": Plain(PlainConfig()).state_dict(), "step": 9}, path)
    return path


@pytest.fixture
def checkpoint(tmp_path) -> Path:
    """The least network there is with normalisation; its export takes a second."""
    path = tmp_path / "little.pth"
    torch.save(lively(Dncnn(DncnnConfig(depth=3, width=4))).state_dict(), path)
    return path


@pytest.fixture(scope="module")
def done(training_state, tmp_path_factory):
    output = tmp_path_factory.mktemp("exported") / "new" / "folder" / "camera.onnx"
    return export(training_state, output, trained_on="h264 crf 35")


def test_file_is_written_with_its_facts(done, training_state) -> None:
    assert done.path.name == "camera.onnx"
    metadata = read_artifact(done.path).metadata
    assert metadata == done.metadata
    assert (metadata.model, metadata.channels, metadata.halo_px, metadata.align_px) == (
        "edgecar-s",
        1,
        12,
        2,
    )
    assert metadata.weights_sha256 == sha256_of(training_state)
    assert metadata.trained_on == "h264 crf 35"
    assert (
        metadata.parity_max_error
        <= metadata.parity_budget
        == recipe_for("edgecar-s").parity_max_error
    )
    assert not done.shipped


@pytest.mark.parametrize(
    ("beside", "known"),
    [('{"trained_on": "hevc qp 22-37"}', "hevc qp 22-37"), ("{}", ""), ("[1]", ""), ("x", "")],
)
def test_degradation_is_read_from_the_facts_of_the_training(checkpoint, beside, known) -> None:
    checkpoint.with_suffix(".json").write_text(beside)
    assert export(checkpoint).metadata.trained_on == known


def test_file_goes_beside_the_checkpoint_if_no_place_is_given(checkpoint) -> None:
    assert export(checkpoint).path == checkpoint.with_suffix(".onnx")
    assert sorted(path.name for path in checkpoint.parent.iterdir()) == [
        "little.onnx",
        "little.pth",
    ]


def test_file_is_replaced_whole(checkpoint) -> None:
    output = checkpoint.with_suffix(".onnx")
    output.write_text("an older one")
    export(checkpoint, output)
    assert read_artifact(output).metadata.model == "dncnn"


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


def test_difference_above_the_budget_fails_the_gate(checkpoint) -> None:
    recipe = checkpoint.with_name("recipe.toml")
    # Folding normalisation into float32 weights rounds each of them by some 1e-8.
    recipe.write_text("parity_max_error = 1e-15")
    failed = assert_refused(GateError, "ONNX differs from torch by", checkpoint, recipe=recipe)
    assert failed.exit_code == 3
    assert "allowed 1e-15; nothing written" in str(failed)


def test_weights_that_are_no_numbers_are_refused_by_name(tmp_path) -> None:
    path = tmp_path / "little.pth"
    state = Dncnn(DncnnConfig(depth=3, width=4)).state_dict()
    state["model.0.weight"][0] = torch.nan
    torch.save(state, path)
    assert_refused(CheckpointError, "model.0.weight has 9 of 36 values that are NaN", path)


@pytest.mark.parametrize(("error", "passes"), [(1e-4, True), (1.01e-4, False)])
def test_budget_is_the_largest_that_passes(error, passes, monkeypatch) -> None:
    monkeypatch.setattr(to_onnx, "parity_error", lambda *_: error)
    loaded = Loaded(card_named("dncnn"), 1, Dncnn(DncnnConfig(depth=3, width=4)))
    recipe = recipe_for("dncnn")
    if passes:
        _, metadata = artifact_from_network(loaded, recipe, "", "")
        assert metadata.parity_max_error == error
    else:
        with pytest.raises(GateError):
            artifact_from_network(loaded, recipe, "", "")


def test_operator_that_tensorrt_lacks_is_refused(checkpoint, monkeypatch) -> None:
    monkeypatch.setattr(trt_lint, "SUPPORTED", trt_lint.SUPPORTED - {"Relu"})
    assert_refused(ExportError, "operator Relu", checkpoint)


def test_interrupted_writing_leaves_nothing(checkpoint, monkeypatch) -> None:
    def interrupt(path: Path, content: bytes) -> None:
        with path.open("wb") as file:
            file.write(content[: len(content) // 2])
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_bytes", interrupt)
    assert_refused(KeyboardInterrupt, "", checkpoint)


@pytest.mark.parametrize("name", ["model.trt", "model", "onnx"])
def test_output_must_be_an_onnx_file(name, checkpoint) -> None:
    output = checkpoint.with_name(name)
    with pytest.raises(ExportError, match=f"{name} has no .onnx suffix; write to .*onnx$"):
        export(checkpoint, output)
    assert not output.exists()


def test_folder_as_output_is_answered_with_a_file_in_it(checkpoint, monkeypatch) -> None:
    monkeypatch.chdir(checkpoint.parent)
    for folder in (checkpoint.parent, "."):
        with pytest.raises(ExportError, match=r"has no \.onnx suffix.*little\.onnx$"):
            export(checkpoint, folder)


def test_opset_that_torch_cannot_make_is_refused() -> None:
    card = card_named("dncnn")
    network = card.build(DncnnConfig(depth=3, width=4))
    with pytest.raises(ExportError, match="asks for opset 99, torch could only make"):
        onnx_from_network(network, card, 1, replace(recipe_for(card.name), opset=99))


def test_network_that_torch_cannot_trace_is_refused_in_one_line(checkpoint, monkeypatch) -> None:
    def fail(*_args, **_options):
        raise RuntimeError("pages\nof advice") from ValueError("sides must be even\nEq(s89, 2)")

    monkeypatch.setattr(torch.onnx, "export", fail)
    assert_refused(ExportError, "torch cannot export this dncnn: sides must be even", checkpoint)


# Weights that ship.


@pytest.fixture
def ships(tmp_path, monkeypatch) -> Path:
    """A manifest with edgecar-xs for JPEG and H.264, and an empty folder to work in."""
    weights, work = tmp_path / "weights", tmp_path / "work"
    weights.mkdir()
    work.mkdir()
    path = weights / "edgecar-xs.jpeg.pt"
    torch.save(lively(Plain(PlainConfig(width=16))).state_dict(), path)
    entry = {"network": "edgecar-xs", "for": "jpeg", "file": path.name, "sha256": "",
             "licence": "", "trained_on": "jpeg 10-40", "config": {}, "cost": {}, "psnr": {},
             "tiling": {}, "training": {}}  # fmt: skip
    video = {**entry, "for": "h264", "trained_on": "h264 crf 29-47"}
    (weights / shipped.MANIFEST).write_text(json.dumps([entry, video]))
    monkeypatch.setattr(shipped, "WEIGHTS", weights)
    monkeypatch.chdir(work)
    return path


def test_name_of_a_network_exports_its_shipped_weights(ships) -> None:
    done = export("edgecar-xs.pt")
    assert done.shipped
    assert done.path == Path("edgecar-xs.jpeg.onnx")
    assert done.path.is_file()
    assert done.metadata.trained_on == "jpeg 10-40"
    assert done.metadata.weights_sha256 == sha256_of(ships)


@pytest.mark.usefixtures("ships")
def test_weights_for_several_coders_lie_side_by_side() -> None:
    for coder, trained_on in (("jpeg", "jpeg 10-40"), ("h264", "h264 crf 29-47")):
        done = export("edgecar-xs", codec=coder)
        assert done.path == Path(f"edgecar-xs.{coder}.onnx")
        assert done.metadata.trained_on == trained_on
        assert done.metadata.coder == coder
    assert len(list(Path().iterdir())) == 2
    with pytest.raises(ExportError, match=r"write to edgecar-xs\.h264\.onnx$"):
        export("edgecar-xs", ".", codec="h264")


@pytest.mark.usefixtures("ships")
def test_file_of_that_name_comes_first() -> None:
    torch.save(lively(Dncnn(DncnnConfig(depth=3, width=4))).state_dict(), "edgecar-xs.pt")
    done = export("edgecar-xs.pt")
    assert (done.shipped, done.metadata.model, done.metadata.trained_on) == (False, "dncnn", "")


@pytest.mark.usefixtures("ships")
def test_other_codec_is_answered_with_those_that_ship() -> None:
    with pytest.raises(CheckpointError, match=r"no hevc weights .* there are some for h264, jpeg"):
        export("edgecar-xs", codec="hevc")
    assert not list(Path().iterdir())


@pytest.mark.usefixtures("ships")
def test_missing_file_of_another_name_is_missing() -> None:
    with pytest.raises(CheckpointError, match=r"camera\.pt: no such file"):
        export("camera.pt")
