"""The manifest of shipped weights, and their rounding to half precision."""

import json

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from safetensors.torch import load_file
from torch import nn

import edgecar
from edgecar.artifact import read_artifact, weights_stem
from edgecar.engines.select import open_engine
from edgecar.errors import CheckpointError
from edgecar.exporter.upsampling import phase_kernel
from edgecar.files import WEIGHTS, sha256_of
from edgecar.spec import coder_and_purpose
from edgecar.zoo import shipped
from edgecar.zoo.checkpoints import rounded, rounding_error
from edgecar.zoo.registry import CARDS
from edgecar.zoo.shipped import codec_of, network_table, shipped_checkpoint, shipped_weights
from tests.networks import narrow
from tests.zoo.files import stored

every_file = pytest.mark.parametrize("entry", shipped.manifest(), ids=lambda entry: entry["file"])


@pytest.fixture
def manifest(tmp_path, monkeypatch):
    """Enters networks and codecs in a manifest of its own."""
    monkeypatch.setattr(shipped, "WEIGHTS", tmp_path)

    def enter(*entries: tuple[str, str]) -> None:
        fields = {"file": "edgecar-s.jpeg.safetensors", "sha256": "0", "trained_on": "jpeg 10-40"}
        rows = []
        for network, codec in entries:
            coder, purpose = coder_and_purpose(codec)
            rows.append({**fields, "network": network, "for": coder, "purpose": purpose})
        (tmp_path / shipped.MANIFEST).write_text(json.dumps(rows))

    return enter


def test_weights_are_found_by_network_and_codec(manifest, tmp_path) -> None:
    manifest(("edgecar-s", "h264"), ("edgecar-s", "jpeg"), ("msfan", "jpeg"))
    found = shipped_checkpoint("edgecar-s", "jpeg")
    assert (found.network, found.codec, found.trained_on) == ("edgecar-s", "jpeg", "jpeg 10-40")
    assert found.path == tmp_path / "edgecar-s.jpeg.safetensors"
    with pytest.raises(
        CheckpointError, match=r"no hevc .* edgecar-s; there are some for h264, jpeg"
    ):
        shipped_checkpoint("edgecar-s", "hevc")
    with pytest.raises(CheckpointError, match="no jpeg weights ship for dncnn; give a checkpoint"):
        shipped_checkpoint("dncnn", "jpeg")


def test_weights_are_found_by_purpose(manifest) -> None:
    manifest(("edgecar-s", "h264"))
    with pytest.raises(CheckpointError, match=r"no h264:detect .* there are some for h264$"):
        shipped_checkpoint("edgecar-s", "h264:detect")
    manifest(("edgecar-s", "h264:detect"), ("edgecar-s", "h264"))
    for codec in ("h264", "h264:detect"):
        assert shipped_checkpoint("edgecar-s", codec).codec == codec


def test_table_joins_costs_and_weights(manifest, tmp_path) -> None:
    manifest(("edgecar-s", "jpeg"), ("msfan", "jpeg"))
    facts = [{"name": "edgecar-s", "params": 39_332}, {"name": "dncnn", "params": 667_072}]
    (tmp_path / shipped.FACTS).write_text(json.dumps(facts))
    small, large = network_table()
    assert small["params"] == 39_332
    assert small["weights"] == shipped.manifest()[:1]
    assert large["weights"] == []


@every_file
def test_what_ships_is_what_the_manifest_says(entry) -> None:
    path = WEIGHTS / entry["file"]
    assert path.name == f"{weights_stem(entry['network'], codec_of(entry))}.safetensors"
    assert sha256_of(path) == entry["sha256"]
    assert edgecar.load(path).card.name == entry["network"]
    metadata = read_artifact(path.with_suffix(".onnx")).metadata
    assert metadata.model == entry["network"]
    assert metadata.weights_sha256 == entry["sha256"]
    assert metadata.trained_on == entry["trained_on"]
    assert metadata.weights_for == codec_of(entry)
    assert metadata.halo_px == entry["cost"]["halo_px"]
    # How they were made, and what they achieve.
    training = entry["training"]
    assert {"recipe", "seed", "steps", "seconds", "machine", "commit"} <= set(training)
    assert training.get("sources") or training["data"]
    assert training["seed"] == training["recipe"]["seed"]
    assert entry["licence"]
    if entry["for"] == "jpeg":
        assert "gain_db" not in entry
        assert "classic5 q10" in entry["psnr"]
    else:
        assert "psnr" not in entry
        assert "worst" in entry["gain_db"]
        assert len(entry["gain_db"]) > 1


@every_file
def test_exported_weights_are_the_rounded_ones_and_carry_an_answer(entry) -> None:
    """Where no normalisation was folded in, an FP16 engine holds exactly what was measured."""
    path = WEIGHTS / entry["file"]
    artifact = read_artifact(path.with_suffix(".onnx"))
    graph = onnx.load_model_from_string(artifact.onnx).graph
    weights = {name: t.numpy() for name, t in edgecar.load(path).network.state_dict().items()}
    if any(name.endswith("running_var") for name in weights):  # the folded weights are others
        assert "BatchNormalization" not in {node.op_type for node in graph.node}
        weights = {}
    exported = [numpy_helper.to_array(tensor) for tensor in graph.initializer]
    for tensor in (tensor for tensor in weights.values() if tensor.ndim == 4):
        forms = [tensor]
        if entry["network"] == "fastarcnn":  # its last layer enlarges
            forms.append(phase_kernel(tensor, stride=2, padding=4)[0])
        assert any(np.array_equal(form, other) for form in forms for other in exported)
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


# Half precision where it costs nothing, float32 where it would.

WEIGHT, VARIANCE = "layer.weight", "norm.running_var"


@pytest.mark.parametrize(
    ("name", "values", "fits"),
    [
        (WEIGHT, torch.randn(8, 4, 3, 3, generator=torch.Generator().manual_seed(0)), True),
        (WEIGHT, [70_000.0, 1.0], False),  # beyond the largest float16
        (WEIGHT, [1e-9, 2e-9], False),  # zeros in float16
        (WEIGHT, [1e-6, 3e-7], False),  # a few of its smallest steps
        (WEIGHT, [float("nan"), 1.0], False),
        (WEIGHT, [float("inf"), 1.0], False),
        (VARIANCE, [1.0, 1e-8], False),  # would be divided by
        (VARIANCE, [1.0, 1e-6], False),
        (WEIGHT, [1.0, 1e-8], True),  # lost beside the other
        (WEIGHT, [0.0, 0.0], True),
        (WEIGHT, 0.25, True),
        (VARIANCE, [1.0, 0.01], True),
        ("norm.running_mean", [1.0, 1e-8], True),
        # Half a step is lost, the least float16 being 2^-24: the limit is one in a thousand.
        (WEIGHT, [499.5 * 2**-24], False),
        (WEIGHT, [500.5 * 2**-24], True),
    ],
    ids=str,
)
def test_only_tensors_that_lose_little_become_half(name, values, fits) -> None:
    tensor = torch.as_tensor(values)
    made = rounded({name: tensor})[name]
    assert made.dtype == (torch.float16 if fits else torch.float32)
    assert torch.equal(made.nan_to_num(-1), tensor.to(made.dtype).nan_to_num(-1))
    if tensor.dim() == 4:  # half of a step of 2^-10 at most, for each weight by itself
        assert rounding_error(name, tensor) < 2**-11


@pytest.mark.parametrize("name", ["edgecar-xs", "dncnn", "msfan"])
def test_half_checkpoint_is_loaded_in_float32_with_these_values(name, tmp_path) -> None:
    assert rounded(nn.BatchNorm2d(3).state_dict())["num_batches_tracked"].dtype == torch.int64
    path = stored(rounded(narrow(name).state_dict()), tmp_path, "half.safetensors")
    halves = {k: t for k, t in load_file(path).items() if t.is_floating_point()}
    assert torch.float16 in {tensor.dtype for tensor in halves.values()}
    network = edgecar.load(path).network
    for key, half in halves.items():
        assert network.state_dict()[key].dtype == torch.float32
        assert torch.equal(network.state_dict()[key], half.float())
    assert network(torch.rand(1, 1, 32, 32)).dtype == torch.float32
