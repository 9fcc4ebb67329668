"""Training in eight bits: what is rounded, what is learned, and that the graph says the same."""

import json
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from safetensors.torch import save_file

from edgecar.artifact import Artifact
from edgecar.engines.base import CODE
from edgecar.engines.torch import TorchEngine
from edgecar.errors import CheckpointError, ExportError, SettingsError
from edgecar.exporter.calibrate import ranges_from_reaches, ranges_of
from edgecar.exporter.frames import CodedPicture
from edgecar.exporter.quantize import SIGNED, always_kept, quantised
from edgecar.exporter.recipe import recipe_for
from edgecar.exporter.to_onnx import artifact_from_network, source_of
from edgecar.train import qat
from edgecar.train.degrade import H264Range
from edgecar.train.fit import new_run
from edgecar.train.qat import (
    int8_training,
    narrow_,
    plain_state,
    reaches,
    recipe_in_eight_bits,
    rounded,
    rounded_weights,
)
from edgecar.train.recipe import TrainRecipe
from edgecar.train.weights import save_weights
from edgecar.zoo import shipped as shipped_module
from edgecar.zoo.checkpoints import Loaded, int8_training_of, load_network
from edgecar.zoo.registry import card_named
from edgecar.zoo.shipped import shipped_checkpoint

CARD = card_named("edgecar-xs")
CPU = torch.device("cpu")
SMALL = {"patch_px": 16, "batch": 2}
SAME = 1e-6  # of 1.0


@pytest.fixture
def codes() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (1, 48, 64), np.uint8)


@pytest.fixture
def narrow(codes):
    """The weights that ship, in eight bits, after a look at a picture."""
    network = load_network(shipped_checkpoint("edgecar-xs", "jpeg").path).network
    narrow_(network, CARD, "jpeg 10-40")
    network(torch.from_numpy(codes[None] * CODE))
    return network


def test_rounding_is_that_of_torch() -> None:
    x = torch.linspace(-2, 2, 1001)
    scale = torch.tensor(1.5 / 127)
    expected = torch.fake_quantize_per_tensor_affine(x, float(scale), 0, -127, 127)
    # They multiply by the inverse of the scale; next to a half that is another code now and then.
    differing = (rounded(x, scale) - expected).abs() > 1e-6
    assert differing.float().mean() < 0.01


def test_gradients_pass_through_and_reach_the_range() -> None:
    x = torch.tensor([0.1, -0.2, 9.0], requires_grad=True)
    scale = torch.tensor(1 / 127, requires_grad=True)
    rounded(x, scale).sum().backward()
    assert x.grad.tolist() == [1, 1, 0]  # what is clipped learns nothing
    inside = sum(round(v * 127) - v * 127 for v in (0.1, -0.2))
    assert scale.grad.item() == pytest.approx(127 + inside, rel=1e-4)


def test_each_channel_of_the_weights_has_a_scale_of_its_own() -> None:
    weight = torch.tensor([[[[64.0]], [[0.4]]], [[[0.64]], [[0.014]]]])
    assert rounded_weights(weight).flatten().tolist() == pytest.approx([64, 0, 0.64, 0.01])


def test_all_but_the_first_and_last_are_narrow(narrow) -> None:
    found = reaches(narrow)
    assert list(found) == [f"convs.{number}" for number in range(1, 5)]
    assert all(reach > 0 for reach in found.values())
    load_network(shipped_checkpoint("edgecar-xs", "jpeg").path).network.load_state_dict(
        plain_state(narrow)
    )


def test_channels_begin_with_one_range(narrow, codes) -> None:
    before = load_network(shipped_checkpoint("edgecar-xs", "jpeg").path).network
    after = CARD.build(before.config).eval()
    after.load_state_dict(plain_state(narrow))
    batch = torch.from_numpy(codes[None] * CODE)
    with torch.inference_mode():
        # The same function; float32 sums over other scales end in other last bits.
        assert (after(batch) - before(batch)).abs().max() < 1e-4
    assert (after.convs[1].weight - before.convs[1].weight).abs().max() > 0.01


@pytest.mark.slow  # a network is exported and reduced
def test_the_graph_rounds_as_training_did(narrow, codes) -> None:
    plain = CARD.build(narrow.config)
    plain.load_state_dict(plain_state(narrow))
    loaded = Loaded(CARD, 1, plain.eval())
    model, metadata = artifact_from_network(loaded, recipe_for("edgecar-xs"), "", "jpeg 10-40")
    seen = ranges_of(model, [CodedPicture(codes)], symmetric=True)["min-max"]
    ranges = {**seen, **ranges_from_reaches(model, reaches(narrow))}
    lower = quantised(model, ranges, always_kept(model), SIGNED)
    batch = codes[None] * CODE
    with torch.inference_mode():
        expected = narrow.eval()(torch.from_numpy(batch)).numpy()
    with TorchEngine(Artifact(metadata, lower.SerializeToString())) as engine:
        got = engine.run(batch)
    # Sums in another order put a feature into the next code now and then, and that is seen around
    # it; a graph of other ranges or weights is off everywhere.
    assert (np.abs(got - expected) < SAME).mean() > 0.2
    with TorchEngine(Artifact(metadata, model.SerializeToString())) as engine:
        assert (np.abs(engine.run(batch) - expected) < SAME).mean() < 0.05


def test_weights_for_detectors_teach_themselves_in_eight_bits(tmp_path, monkeypatch) -> None:
    entry = {"network": "edgecar-xs", "for": "h264", "purpose": "detect", "file": "xs.safetensors",
             "sha256": "", "trained_on": "h264 crf 10-51"}  # fmt: skip
    (tmp_path / shipped_module.MANIFEST).write_text(json.dumps([entry]))
    monkeypatch.setattr(shipped_module, "WEIGHTS", tmp_path)
    detectors = {"detectors": ("yolox.onnx",), "feature_share": 0.2}
    plain = TrainRecipe("edgecar-xs", degradation=H264Range(), start="h264", **detectors, **SMALL)
    recipe = recipe_in_eight_bits(plain)
    own = str(tmp_path / "xs.safetensors")
    assert (recipe.start, recipe.teacher, recipe.detectors) == ("h264:detect", own, ())
    assert plain.purpose == recipe.purpose == "detect"
    assert recipe_in_eight_bits(TrainRecipe("edgecar-xs", **SMALL)).purpose == "view"


@pytest.mark.slow  # a network is trained and exported
def test_what_was_learned_travels_with_the_weights(tmp_path) -> None:
    recipe = recipe_in_eight_bits(TrainRecipe("edgecar-xs", **SMALL))
    assert (recipe.start, recipe.teacher, recipe.steps) == ("jpeg", "edgecar-xs", qat.STEPS)
    assert (recipe.teacher_share, recipe.balanced) == (1.0, True)
    run = new_run(recipe, CPU)
    run.average.train()(torch.rand(1, 1, 16, 16))
    path = tmp_path / "a.safetensors"
    save_weights(run, path)
    assert int8_training_of(path) == int8_training(run.average, recipe)
    shipped = shipped_checkpoint("edgecar-xs", "jpeg")
    assert int8_training_of(path).start_sha256 == shipped.sha256
    source = source_of(path, codec="jpeg")
    trained = source.trained(source.graph()[0])
    assert set(trained.ranges.values()) == {(-r, r) for r in reaches(run.average).values()}


def test_plain_weights_say_nothing(tmp_path) -> None:
    assert int8_training_of(shipped_checkpoint("edgecar-xs", "jpeg").path) is None
    assert int8_training_of(tmp_path / "x.pt") is None


def test_a_damaged_note_is_refused(tmp_path) -> None:
    save_file({"x": torch.zeros(1)}, tmp_path / "a.safetensors", {"edgecar.int8": "[]"})
    with pytest.raises(CheckpointError, match="its training in eight bits is not understood"):
        int8_training_of(tmp_path / "a.safetensors")


@pytest.mark.slow  # a network is trained and exported
def test_weights_it_was_tuned_from_must_be_there(tmp_path) -> None:
    start = tmp_path / "start.safetensors"
    start.write_bytes(shipped_checkpoint("edgecar-xs", "jpeg").path.read_bytes())
    recipe = recipe_in_eight_bits(TrainRecipe("edgecar-xs", start=str(start), **SMALL))
    assert recipe.start == recipe.teacher == str(start)
    run = new_run(recipe, CPU)
    run.average.train()(torch.rand(1, 1, 16, 16))
    path = tmp_path / "tuned.safetensors"
    save_weights(run, path)
    source = source_of(path, codec="jpeg")
    model, _ = source.graph()
    assert source.trained(model) is not None
    start.unlink()
    with pytest.raises(ExportError, match=r"was fine-tuned from .* put it back"):
        source.trained(model)


def test_other_graphs_are_refused() -> None:
    with pytest.raises(ExportError, match="'elsewhere', which the graph does not have"):
        ranges_from_reaches(onnx.ModelProto(), {"elsewhere": 1.0})


def test_network_without_such_layers_is_refused(monkeypatch) -> None:
    monkeypatch.setattr(qat, "eight_bit_layers", lambda _model: ["nowhere"])
    with pytest.raises(SettingsError, match="no convolution of edgecar-xs would compute in eight"):
        narrow_(CARD.build(CARD.config(1)), CARD, "jpeg 10-40")


@pytest.mark.slow  # a network is exported and reduced
def test_a_recipe_that_starts_afresh_may_be_trained_so_too() -> None:
    recipe = replace(TrainRecipe("edgecar-xs", **SMALL), qat=True)
    run = new_run(recipe, CPU)
    assert list(reaches(run.network)) == [f"convs.{n}" for n in range(1, 5)]
    assert int8_training(run.network, recipe).start == ""
