"""Layouts of third parties' checkpoints: computed as saved, or refused by name."""

import argparse
import datetime
import io
import pathlib
import pickle
import tarfile
import zipfile
from collections import OrderedDict, defaultdict

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import edgecar
from edgecar.errors import CheckpointError
from edgecar.zoo.arcnn import ArcnnConfig
from edgecar.zoo.dncnn import DncnnConfig
from edgecar.zoo.fastarcnn import FastArcnnConfig
from edgecar.zoo.registry import card_named
from tests.networks import lively


def little(seed: int = 0) -> nn.Module:
    """A DnCNN of five layers with normalisation, different for each seed."""
    network = lively(card_named("dncnn").build(DncnnConfig(depth=5, width=8)))
    torch.manual_seed(seed)
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(0.01 * torch.randn_like(weight))
    return network


NETWORK, OTHER = little(), little(1)
OURS, THEIRS = NETWORK.state_dict(), OTHER.state_dict()


def under(prefix: str, state=OURS) -> dict:
    return {f"{prefix}{key}": tensor for key, tensor in state.items()}


def outputs(network: nn.Module, channels: int = 1) -> torch.Tensor:
    torch.manual_seed(2)
    with torch.inference_mode():
        return network.eval()(torch.rand(1, channels, 24, 24))


def stored(content, folder, name="theirs.pth"):
    path = folder / name
    if name.endswith(".safetensors"):
        save_file(content, path)
    else:
        torch.save(content, path)
    return path


def refusal(content, folder, name="theirs.pth") -> str:
    path = folder / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(CheckpointError) as refused:
        edgecar.load(path)
    said = str(refused.value)
    assert said.startswith(f"{path}: ")
    assert "\n" not in said
    return said


AVERAGE = torch.optim.swa_utils.AveragedModel(NETWORK).state_dict()
PREFIXED = {
    "compiled": under("_orig_mod."),
    "compiled, of several GPUs": under("module._orig_mod."),
    "compiled twice": under("_orig_mod._orig_mod."),
    "a compiled part": {k.replace("model.", "model._orig_mod."): v for k, v in OURS.items()},
    "sharded, with checkpoints": under("_fsdp_wrapped_module._checkpoint_wrapped_module."),
    "Lightning, net": {"state_dict": under("net."), "hyper_parameters": {"lr": 1e-3}},
    "Lightning, compiled": {"state_dict": under("model._orig_mod."), "callbacks": {}},
    "any prefix": under("restorer.backbone."),
    "layers in place of model": {k.replace("model.", "layers."): v for k, v in OURS.items()},
    "network.layers": {k.replace("model.", "network.layers."): v for k, v in OURS.items()},
    "a bare sequence": {k.replace("model.", ""): v for k, v in OURS.items()},
    "a key of dictionaries": {"a": {"b": {"c": OURS}}},
}
CHOSEN = {
    "generator and discriminator": ({"G": OURS, "D": {"0.weight": torch.ones(3)}}, "G"),
    "GAN of equals": ({"netG": OURS, "netD": THEIRS}, "netG"),
    "in one dictionary": ({**under("generator."), **under("discriminator.", THEIRS)}, "generator"),
    "averaged generator": ({"g": THEIRS, "d": THEIRS, "g_ema": OURS}, "g_ema"),
    "params_ema": ({"params": THEIRS, "params_ema": OURS}, "params_ema"),
    "model_ema": ({"model": THEIRS, "model_ema": OURS, "epoch": 4}, "model_ema"),
    "state_dict_ema": ({"state_dict": THEIRS, "state_dict_ema": OURS}, "state_dict_ema"),
    "shadow": ({"model": THEIRS, "ema": {"decay": 0.99, "shadow": OURS}}, "ema.shadow"),
    "online and averaged": (
        {**under("online_model.", THEIRS), **under("ema_model."), "step": torch.tensor(5)},
        "ema_model",
    ),
    "raw and averaged": ({**under("model.", THEIRS), **under("model_ema.")}, "model_ema"),
    "SWA": ({"model": THEIRS, "swa_model": AVERAGE}, "swa_model"),
    "a loss with weights": ({**under("net."), "loss.vgg.0.weight": torch.ones(4, 4, 3, 3)}, "net"),
    "teacher beside": ({"student": OURS, "teacher": THEIRS}, "student"),
    "optimiser": (
        {"net": OURS, "optimizer": {"state": {0: {"exp_avg": torch.ones(8, 1, 3, 3)}}}},
        "net",
    ),
}


@pytest.mark.parametrize("layout", PREFIXED)
def test_prefixes_and_wrappers_are_taken_off(layout, tmp_path) -> None:
    loaded = edgecar.load(stored(PREFIXED[layout], tmp_path))
    assert loaded.card.name == "dncnn"
    assert torch.equal(outputs(loaded.network), outputs(NETWORK))


@pytest.mark.parametrize("layout", CHOSEN)
def test_the_network_to_deploy_is_chosen_and_said(layout, tmp_path) -> None:
    content, source = CHOSEN[layout]
    loaded = edgecar.load(stored(content, tmp_path))
    assert torch.equal(outputs(loaded.network), outputs(NETWORK))
    assert loaded.source.split(",")[0] == source


def test_averaged_weights_alone_are_read(tmp_path) -> None:
    """AveragedModel writes ``module.`` and how many it averaged."""
    assert "n_averaged" in AVERAGE
    assert torch.equal(outputs(edgecar.load(stored(AVERAGE, tmp_path)).network), outputs(NETWORK))


def test_averaged_weights_have_the_statistics_of_the_network(tmp_path) -> None:
    """Moving averages are often of parameters alone."""
    parameters = {key: OURS[key] for key, _ in NETWORK.named_parameters()}
    statistics = {key: t for key, t in OURS.items() if key not in parameters}
    content = {"ema": parameters, "model": {**THEIRS, **statistics}}
    loaded = edgecar.load(stored(content, tmp_path))
    assert loaded.source == "ema, not model"
    assert torch.equal(outputs(loaded.network), outputs(NETWORK))


def test_averaged_weights_that_are_left_are_said(tmp_path) -> None:
    flat = {key.replace(".", ""): tensor for key, tensor in THEIRS.items()}
    loaded = edgecar.load(stored({"model": OURS, "model_ema": flat}, tmp_path))
    assert torch.equal(outputs(loaded.network), outputs(NETWORK))
    assert loaded.source == "model, not model_ema, whose layout is unknown"


def test_treated_networks_are_refused_with_what_to_do(tmp_path) -> None:
    convs = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.Conv2d(8, 1, 3))
    nn.utils.parametrizations.weight_norm(convs[0])
    assert "remove_parametrizations" in refusal(convs.state_dict(), tmp_path)
    eight = {**OURS, "model.0.scale": torch.ones(1), "model.0.zero_point": torch.zeros(1)}
    assert "was quantised in torch; save the network as it was" in refusal(eight, tmp_path)


def test_two_that_fit_alike_are_not_guessed_between(tmp_path) -> None:
    said = refusal({"G_A": OURS, "G_B": THEIRS}, tmp_path)
    assert "several networks that fit, G_A and G_B" in said
    same = {"G_A": OURS, "G_B": {key: t.clone() for key, t in OURS.items()}}
    assert edgecar.load(stored(same, tmp_path)).source.startswith("G_A")


def test_part_of_a_larger_network_is_not_taken_for_a_network(tmp_path) -> None:
    """Its other layers are named, whatever the part looks like."""
    said = refusal({**under("body."), "tail.weight": torch.ones(4, 1, 3, 3)}, tmp_path)
    assert "no network of the zoo fits" in said
    assert "tail.weight" in said or "closest to" in said


# How tensors and what lies beside them are stored.

STORED = {
    "half": lambda t: t.half(),
    "bfloat16": lambda t: t.bfloat16(),
    "double": lambda t: t.double(),
    "sparse": lambda t: t.to_sparse() if t.dim() else t,
    "strided": lambda t: t.repeat_interleave(2, -1)[..., ::2] if t.dim() else t,
    "parameters": lambda t: nn.Parameter(t),
    "arrays": lambda t: t.numpy(),
    "quantised": lambda t: torch.quantize_per_tensor(t, 0.01, 0, torch.qint8) if t.dim() else t,
}


def plain(tensor):
    tensor = torch.from_numpy(tensor) if isinstance(tensor, np.ndarray) else tensor.detach()
    tensor = tensor.dequantize() if tensor.is_quantized else tensor
    return tensor.to_dense().float() if tensor.is_sparse else tensor.float()


@pytest.mark.parametrize("kind", STORED)
def test_tensors_are_read_however_they_are_stored(kind, tmp_path) -> None:
    floats = {key: t for key, t in OURS.items() if t.is_floating_point()}
    state = {key: STORED[kind](t) for key, t in floats.items()}
    expected = little()
    expected.load_state_dict({key: plain(t) for key, t in state.items()}, strict=False)
    loaded = edgecar.load(stored(state, tmp_path))
    assert torch.equal(outputs(loaded.network), outputs(expected))


def test_tied_tensors_are_read(tmp_path) -> None:
    state = dict(OURS)
    state["model.5.weight"] = state["model.2.weight"]
    loaded = edgecar.load(stored(state, tmp_path)).network
    assert torch.equal(loaded.state_dict()["model.5.weight"], OURS["model.2.weight"])


class Mode(str):
    """Settings of a class of somebody's project."""


BESIDE = {
    "scalar of NumPy": np.float64(31.5),
    "array of NumPy": np.arange(3.0),
    "text of NumPy": np.str_("best"),
    "state of random numbers": np.random.RandomState(0).get_state(),
    "namespace": argparse.Namespace(lr=1e-3, out=pathlib.Path("runs")),
    "date": datetime.datetime(2024, 1, 2),
    "dictionary with defaults": defaultdict(list, losses=[0.1]),
    "slice": slice(1, 2),
    "class of a project": Mode("train"),
}


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("beside", BESIDE)
def test_objects_beside_the_weights_are_passed_over(beside, legacy, tmp_path) -> None:
    content = {"epoch": 3, "extra": BESIDE[beside], "state_dict": OURS}
    path = tmp_path / "theirs.ckpt"
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    assert torch.equal(outputs(edgecar.load(path).network), outputs(NETWORK))


def test_weights_in_a_dictionary_with_defaults_are_read(tmp_path) -> None:
    content = {"ema": defaultdict(dict, OURS)}
    assert torch.equal(outputs(edgecar.load(stored(content, tmp_path)).network), outputs(NETWORK))


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_values_that_are_no_numbers_are_refused_by_name(value, tmp_path) -> None:
    state = {key: t.clone() for key, t in OURS.items()}
    state["model.5.weight"][0, 0, 0, 0] = value
    said = refusal(under("_orig_mod.", state), tmp_path)
    assert "model.5.weight has 1 of 576 values that are NaN or infinite" in said
    # Elsewhere in the file they do no harm.
    loaded = edgecar.load(stored({"G": OURS, "D": state}, tmp_path))
    assert torch.equal(outputs(loaded.network), outputs(NETWORK))


def test_double_beyond_float32_is_refused_by_name(tmp_path) -> None:
    state = {**OURS, "model.0.bias": torch.full((8,), 1e39, dtype=torch.float64)}
    assert "model.0.bias has 8 of 8 values" in refusal(state, tmp_path)


def test_tensors_without_values_or_reals_are_refused_by_name(tmp_path) -> None:
    meta = {key: t.to("meta") for key, t in OURS.items()}
    assert "model.0.weight has no values" in refusal(meta, tmp_path)
    whole = {**OURS, "model.0.weight": torch.ones(8, 1, 3, 3, dtype=torch.int8)}
    assert "model.0.weight holds whole numbers" in refusal(whole, tmp_path)


def test_whole_networks_are_refused_with_how_to_save_them(tmp_path) -> None:
    for content in (NETWORK, {"model": NETWORK, "epoch": 3}):
        said = refusal(content, tmp_path)
        assert "Dncnn): a whole network was pickled" in said
        assert "torch.save(network.state_dict(), path)" in said
    beside = edgecar.load(stored({"model": NETWORK, "state_dict": OURS}, tmp_path))
    assert torch.equal(outputs(beside.network), outputs(NETWORK))


# Other formats, by content and by name.


def zipped(**files: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name.replace("__", "/").replace("_dot_", "."), content)
    return buffer.getvalue()


def tarred() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("best/epoch_9.pth"))
    return buffer.getvalue()


def torchscript() -> bytes:
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.trace(NETWORK, torch.rand(1, 1, 8, 8)), buffer)
    return buffer.getvalue()


def onnx_file() -> bytes:
    from onnx import TensorProto, helper

    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "ab"]
    graph = helper.make_graph([helper.make_node("Relu", ["a"], ["b"])], "g", value[:1], value[1:])
    return helper.make_model(graph, producer_name="pytorch").SerializeToString()


FOREIGN = {
    "MATLAB": (b"MATLAB 5.0 MAT-file, Platform: GLNXA64" + bytes(200), "MATLAB file (MatConvNet)"),
    "MATLAB 7.3": (b"MATLAB 7.3 MAT-file" + bytes(600), "MATLAB file"),
    "HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(100), "HDF5 file (Keras)"),
    "TFLite": (bytes(4) + b"TFL3" + bytes(60), "TensorFlow Lite"),
    "Caffe": (b"\x0a\x05arcnn\xa2\x06\x20" + bytes(40), "Caffe network"),
    "ONNX": (onnx_file, "ONNX file"),
    "SavedModel": (b"\x08\x01\x12\x80\x02" + bytes(90), "TensorFlow graph"),
    "NumPy": (b"\x93NUMPY\x01\x00" + bytes(90), "NumPy array"),
    "NumPy arrays": (lambda: zipped(a_dot_npy=b"x"), "NumPy arrays"),
    "zip": (lambda: zipped(best_dot_pth=b"x", README=b""), "zip archive that holds best.pth"),
    "tar": (tarred, "tar archive that holds best/epoch_9.pth"),
    "gzip": (b"\x1f\x8b\x08" + bytes(40), "compressed archive"),
    "TorchScript": (torchscript, "torch.jit.load(path).state_dict()"),
    "Keras 3": (lambda: zipped(model_dot_weights_dot_h5=b"", config_dot_json=b"{}"), "Keras"),
    "LFS": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
    "page": (b"<!DOCTYPE html>\n<html><body>Sign in</body></html>", "download the file itself"),
    "shards": (b'{"metadata": {}, "weight_map": {"a": "1.safetensors"}}', "load each shard"),
}


@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ""])
@pytest.mark.parametrize("kind", FOREIGN)
def test_other_formats_are_named_by_their_content(kind, suffix, tmp_path) -> None:
    content, said = FOREIGN[kind]
    refused = refusal(content() if callable(content) else content, tmp_path, f"net{suffix}")
    assert said in refused
    assert "not a PyTorch checkpoint; " in refused


@pytest.mark.parametrize(
    ("name", "said"),
    [("a.mat", "MATLAB"), ("a.h5", "Keras"), ("a.caffemodel", "Caffe"), ("a.pb", "TensorFlow"),
     ("a.tflite", "TensorFlow Lite"), ("a.safetensors.index.json", "index"), ("a.ZIP", "archive")],
)  # fmt: skip
def test_other_formats_are_named_by_their_names(name, said, tmp_path) -> None:
    """Content tells nothing: damaged, or a protocol buffer like any other."""
    assert f"{said}" in refusal(b"nothing to tell", tmp_path, name)


def test_checkpoints_are_known_by_their_content(tmp_path) -> None:
    """A checkpoint under a foreign name, and safetensors that are called .pth, are read."""
    for name, make in (("a.h5", torch.save), ("b.pth", save_file), ("c.safetensors", torch.save)):
        make(OURS, tmp_path / name)
        assert torch.equal(outputs(edgecar.load(tmp_path / name).network), outputs(NETWORK))


def test_bare_pickle_of_weights_is_told_from_a_checkpoint(tmp_path) -> None:
    said = refusal(pickle.dumps(OURS), tmp_path)
    assert "torch.save(network.state_dict(), path)" in said or "not a PyTorch checkpoint" in said


# Networks as third parties write them.


class TheirDncnn(nn.Module):
    """DnCNN from its paper: x - f(x), f a plain sequence, its biases where the author has them."""

    def __init__(self, layers, *, channels=1, width=16, name="dncnn", norm=True, biases=""):
        super().__init__()
        has = [place in biases.split() for place in ("first", "middle", "last")]
        steps = [nn.Conv2d(channels, width, 3, padding=1, bias=has[0]), nn.ReLU()]
        for _ in range(layers - 2):
            steps.append(nn.Conv2d(width, width, 3, padding=1, bias=has[1]))
            steps += [nn.BatchNorm2d(width)] if norm else []
            steps.append(nn.ReLU())
        steps.append(nn.Conv2d(width, channels, 3, padding=1, bias=has[2]))
        self.add_module(name, nn.Sequential(*steps))

    def forward(self, picture):
        (sequence,) = self.children()
        return picture - sequence(picture)


ALL = "first middle last"
AUTHORS = {
    "DnCNN-S, no biases": TheirDncnn(17, name="dncnn"),
    "DnCNN-S, bias first": TheirDncnn(17, name="dncnn", biases="first"),
    "DnCNN-S, biases everywhere": TheirDncnn(17, name="model", biases=ALL),
    "DnCNN-B of 20, outer biases": TheirDncnn(20, name="layers", biases="first last"),
    "DnCNN-S, folded": TheirDncnn(17, name="model", norm=False, biases=ALL),
    "DnCNN-S, folded, no biases": TheirDncnn(17, name="model", norm=False),
    "5 layers": TheirDncnn(5, name="net", biases="first"),
    "5 layers, folded": TheirDncnn(5, name="model", norm=False, biases=ALL),
    "RGB of 20": TheirDncnn(20, channels=3, name="dncnn"),
    "RGB of 20, folded": TheirDncnn(20, channels=3, name="model", norm=False, biases=ALL),
}


@pytest.mark.parametrize("author", AUTHORS)
def test_dncnn_of_others_computes_what_its_author_runs(author, tmp_path) -> None:
    theirs = AUTHORS[author]
    channels = theirs.state_dict()[next(iter(theirs.state_dict()))].shape[1]
    lively(theirs, channels)
    loaded = edgecar.load(stored(theirs.state_dict(), tmp_path))
    assert (loaded.card.name, loaded.channels) == ("dncnn", channels)
    # Adding a bias of zero changes no bit; the order of sums is the same.
    assert torch.equal(outputs(loaded.network, channels), outputs(theirs, channels))


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("config", [ArcnnConfig, FastArcnnConfig])
@pytest.mark.parametrize("kind", ["relu", "prelu"])
def test_networks_of_unlike_layers_are_known_by_shape(config, channels, kind, suffix, tmp_path):
    name = {ArcnnConfig: "arcnn", FastArcnnConfig: "fastarcnn"}[config]
    network = lively(card_named(name).build(config(channels, kind)), channels)
    parts = OrderedDict()
    for number, layer in enumerate([*network.base, network.last]):
        parts |= {f"stage{number}.unit.{k}": t for k, t in layer.state_dict().items()}
    loaded = edgecar.load(stored(parts, tmp_path, f"theirs{suffix}"))
    assert (loaded.card.name, loaded.network.config) == (name, config(channels, kind))
    assert torch.equal(outputs(loaded.network, channels), outputs(network, channels))


def test_bias_that_one_layer_alone_lacks_is_missing(tmp_path) -> None:
    """Without any a network was trained so; without one it is damaged."""
    folded = lively(TheirDncnn(5, name="model", norm=False, biases=ALL)).state_dict()
    del folded["model.8.bias"]
    assert "looks like dncnn but lacks model.8.bias" in refusal(folded, tmp_path)
