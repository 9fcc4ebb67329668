"""Layouts of checkpoints as training scripts write them: computed as saved, or refused by name."""

import argparse
import datetime
import pathlib
from collections import OrderedDict, defaultdict

import numpy as np
import pytest
import torch
from torch import nn

import edgecar
from tests.zoo.files import NETWORK, OURS, THEIRS, assert_computes, little, refusal, stored


def under(prefix: str, state=OURS) -> dict:
    return {f"{prefix}{key}": tensor for key, tensor in state.items()}


def renamed(prefix: str) -> dict:
    return {key.replace("model.", prefix): tensor for key, tensor in OURS.items()}


AVERAGE = torch.optim.swa_utils.AveragedModel(NETWORK).state_dict()
PARAMETERS = {key: OURS[key] for key, _ in NETWORK.named_parameters()}
STATISTICS = {key: tensor for key, tensor in OURS.items() if key not in PARAMETERS}
FLAT = {key.replace(".", ""): tensor for key, tensor in THEIRS.items()}
# Content of a file, and where its weights are said to have been, if anything is said.
LAYOUTS = {
    "ordered": (OrderedDict(OURS), ""),
    "counters left out": ({k: t for k, t in OURS.items() if "batches_tracked" not in k}, ""),
    "other entries": ({**OURS, "epoch": 3, "notes": "good"}, ""),
    "state_dict": ({"state_dict": OURS, "epoch": 3, "loss": 0.5}, "state_dict"),
    "nested": ({"state_dict": {"params": {"model": OURS}}}, "state_dict.params.model"),
    "absent average": ({"ema": None, "state_dict": OURS}, "state_dict"),
    "module": (under("module.module."), ""),
    "module in state_dict": ({"state_dict": under("module.")}, "state_dict"),
    "compiled": (under("_orig_mod."), ""),
    "compiled, of several GPUs": (under("module._orig_mod."), ""),
    "a compiled part": (renamed("model._orig_mod."), ""),
    "sharded, with checkpoints": (under("_fsdp_wrapped_module._checkpoint_wrapped_module."), ""),
    "Lightning": ({"state_dict": under("net."), "hyper_parameters": {}}, "state_dict.net"),
    "any prefix": (under("restorer.backbone."), "restorer.backbone"),
    "layers in place of model": (renamed("layers."), ""),
    "network.layers": (renamed("network.layers."), "network"),
    "a bare sequence": (renamed(""), ""),
    "SWA alone": (AVERAGE, ""),  # `module.`, and how many were averaged
    "generator and discriminator": ({"G": OURS, "D": {"0.weight": torch.ones(3)}}, "G"),
    "GAN of equals": ({"netG": OURS, "netD": THEIRS}, "netG, not netD"),
    "in one dictionary": ({**under("generator."), **under("discriminator.", THEIRS)}, "generator"),
    "averaged generator": ({"g": THEIRS, "d": THEIRS, "g_ema": OURS}, "g_ema"),
    "params_ema": ({"params": THEIRS, "params_ema": OURS}, "params_ema, not params"),
    "average": ({"network": THEIRS, "average": OURS, "step": 7}, "average"),
    "shadow": ({"model": THEIRS, "ema": {"decay": 0.99, "shadow": OURS}}, "ema.shadow"),
    "online and averaged": (
        {**under("online_model.", THEIRS), **under("ema_model."), "step": torch.tensor(5)},
        "ema_model",
    ),
    "raw and averaged": ({**under("model.", THEIRS), **under("model_ema.")}, "model_ema"),
    "SWA": ({"model": THEIRS, "swa_model": AVERAGE}, "swa_model"),
    # Moving averages are often of parameters alone.
    "average of parameters": (
        {"ema": PARAMETERS, "model": {**THEIRS, **STATISTICS}},
        "ema, not model",
    ),
    "average of unknown layout": (
        {"model": OURS, "model_ema": FLAT},
        "model, not model_ema, whose layout is unknown",
    ),
    "a loss with weights": ({**under("net."), "loss.vgg.0.weight": torch.ones(4, 4, 3, 3)}, "net"),
    "teacher beside": ({"student": OURS, "teacher": THEIRS}, "student"),
    "optimiser": (
        {"net": OURS, "optimizer": {"state": {0: {"exp_avg": torch.ones(8, 1, 3, 3)}}}},
        "net",
    ),
    "dictionary with defaults": ({"ema": defaultdict(dict, OURS)}, "ema"),
    "whole network beside": ({"model": NETWORK, "state_dict": OURS}, "state_dict"),
    "the same twice": ({"G_A": OURS, "G_B": {k: t.clone() for k, t in OURS.items()}}, "G_A"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_network_to_deploy_is_found_and_said(layout, tmp_path) -> None:
    content, source = LAYOUTS[layout]
    loaded = assert_computes(stored(content, tmp_path))
    assert loaded.card.name == "dncnn"
    if "," in source:
        assert loaded.source == source
    elif source:
        assert loaded.source.partition(",")[0] == source
    else:
        assert loaded.source in ("", "model", "layers", "dncnn")


def test_checkpoints_are_known_by_their_content(tmp_path) -> None:
    """A checkpoint under a foreign name, and safetensors that are called .pth, are read."""
    assert_computes(stored(OURS, tmp_path, "a.h5"))
    safe = stored(under("module."), tmp_path, "b.safetensors")
    assert_computes(safe)
    assert_computes(safe.rename(tmp_path / "b.pth"))
    assert_computes(stored(OURS, tmp_path, "c.pt").rename(tmp_path / "c.safetensors"))


def test_what_cannot_be_chosen_or_computed_is_refused_with_what_to_do(tmp_path) -> None:
    convs = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.Conv2d(8, 1, 3))
    nn.utils.parametrizations.weight_norm(convs[0])
    assert "remove_parametrizations" in refusal(convs.state_dict(), tmp_path)
    eight = {**OURS, "model.0.scale": torch.ones(1), "model.0.zero_point": torch.zeros(1)}
    assert "was quantised in torch; save the network as it was" in refusal(eight, tmp_path)
    two = {"G_A": OURS, "G_B": THEIRS}
    assert "several networks that fit, G_A and G_B" in refusal(two, tmp_path)
    # Part of a larger network is none, whatever the part looks like.
    said = refusal({**under("body."), "tail.weight": torch.ones(4, 1, 3, 3)}, tmp_path)
    assert "no network of the zoo fits" in said
    assert "tail.weight" in said or "closest to" in said
    twice = {**under("module."), **OURS}
    assert "twice, under different wrappers" in refusal(twice, tmp_path)


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
    state = {key: STORED[kind](t) for key, t in OURS.items() if t.is_floating_point()}
    expected = little()
    expected.load_state_dict({key: plain(t) for key, t in state.items()}, strict=False)
    assert_computes(stored(state, tmp_path), expected)


def test_tied_tensors_are_read(tmp_path) -> None:
    state = {**OURS, "model.5.weight": OURS["model.2.weight"]}
    loaded = edgecar.load(stored(state, tmp_path)).network
    assert torch.equal(loaded.state_dict()["model.5.weight"], OURS["model.2.weight"])


class Mode(str):
    """A class of somebody's project."""


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
def test_objects_beside_the_weights_are_passed_over(legacy, tmp_path) -> None:
    for beside in (*BESIDE.values(), [*BESIDE.values()]):
        content = {"epoch": 3, "extra": beside, "state_dict": OURS}
        assert_computes(stored(content, tmp_path, _use_new_zipfile_serialization=not legacy))


def changed(key: str, value) -> dict:
    return {**OURS, key: value}


NAN = OURS["model.5.weight"].clone()
NAN[0, 0, 0, 0] = torch.nan
VALUES = {
    "model.5.weight has 1 of 576 values that are NaN or infinite": changed("model.5.weight", NAN),
    "model.0.bias has 8 of 8 values": changed("model.0.bias", torch.full((8,), torch.inf)),
    "model.0.bias has 8 of 8 values that": changed(
        "model.0.bias",
        torch.full((8,), 1e39, dtype=torch.float64),  # beyond float32
    ),
    "model.0.weight has no values": {key: t.to("meta") for key, t in OURS.items()},
    "model.0.weight holds whole numbers": changed(
        "model.0.weight", torch.ones(8, 1, 3, 3, dtype=torch.int8)
    ),
}


@pytest.mark.parametrize("said", VALUES)
def test_values_that_are_no_numbers_are_refused_by_name(said, tmp_path) -> None:
    assert said in refusal(under("_orig_mod.", VALUES[said]), tmp_path)
    if "NaN" in said:  # elsewhere in the file they do no harm
        assert_computes(stored({"G": OURS, "D": VALUES[said]}, tmp_path))
