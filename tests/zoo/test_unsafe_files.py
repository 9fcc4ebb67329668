"""Checkpoints that are damaged, traps, no checkpoints, or of other formats."""

import io
import os
import pickle
import random
import tarfile
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save
from torch import nn

import edgecar
from edgecar.errors import CheckpointError
from edgecar.zoo.edgecar_net import EdgecarConfig, EdgecarNet
from tests.zoo.files import NETWORK, OURS, refusal, stored

FORMATS = ("zip", "legacy", "safetensors", "pickle")  # whose damage is tried below


class Trap:
    """Creates a file when unpickled."""

    def __init__(self, sprung: Path) -> None:
        self.sprung = sprung

    def __reduce__(self):
        return os.mkdir, (str(self.sprung),)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("place", ["entry", "whole"])
def test_code_in_a_checkpoint_is_refused_and_not_run(place, legacy, tmp_path) -> None:
    sprung, trap = tmp_path / "sprung", Trap(tmp_path / "sprung")
    content = {"state_dict": OURS, "hook": trap} if place == "entry" else trap
    said = refusal(content, tmp_path, _use_new_zipfile_serialization=not legacy)
    assert "refused, because loading it would run code (" in said
    assert "mkdir" in said
    assert "torch.save(network.state_dict(), path)" in said
    assert not sprung.exists()
    # The control: PyTorch's unrestricted loading does spring it.
    torch.load(tmp_path / "theirs.pth", weights_only=False)
    assert sprung.exists()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_bare_pickle_is_refused_and_not_run(protocol, tmp_path, recwarn) -> None:
    sprung = tmp_path / "sprung"
    content = pickle.dumps(Trap(sprung), protocol=protocol)
    refusal(content, tmp_path)
    assert not recwarn.list  # the one line is all that is said
    assert not sprung.exists()
    pickle.loads(content)  # the control
    assert sprung.exists()


def test_whole_networks_are_refused_with_how_to_save_them(tmp_path) -> None:
    for content in (NETWORK, {"model": NETWORK, "epoch": 3}):
        said = refusal(content, tmp_path)
        assert "Dncnn): a whole network was pickled" in said
        assert "torch.save(network.state_dict(), path)" in said
    said = refusal(nn.Sequential(nn.Conv2d(1, 1, 3)), tmp_path)
    assert "would run code (torch.nn.modules.container.Sequential" in said


def test_missing_file_and_folder(tmp_path) -> None:
    for path in (tmp_path / "absent.pt", tmp_path):
        with pytest.raises(CheckpointError, match="no such file"):
            edgecar.load(path)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize(
    "content",
    [b"", b"PK\x03\x04", b"weights of the network\n", b"\x80", b"{}", bytes(5000),
     bytes(257) + b"ustar" + bytes(300), pickle.dumps(OURS)],
    ids=lambda content: repr(content[:8]),
)  # fmt: skip
def test_no_checkpoint_at_all(content, suffix, tmp_path) -> None:
    assert "not a" in refusal(content, tmp_path, f"weights{suffix}")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([torch.zeros(2)], "holds a list, need a state dict"),
        (torch.zeros(2), "holds a Tensor, need a state dict"),
        (3, "holds a int, need a state dict"),
        ({}, "holds no tensors"),
        ({"epoch": 3, "optimizer": {"lr": 0.1}}, "holds no tensors"),
        ({"state_dict": {"a": [1, 2]}}, "holds no tensors"),
        (save({}), "holds no tensors"),
    ],
    ids=str,
)
def test_content_that_is_no_state_dict(content, said, tmp_path) -> None:
    assert said in refusal(content, tmp_path)


def test_file_that_contains_itself_ends(tmp_path) -> None:
    content: dict = {"epoch": 1}
    content["model"] = content
    assert "holds no tensors" in refusal(content, tmp_path)


def written(kind: str) -> bytes:
    state = EdgecarNet(EdgecarConfig(width=16)).state_dict()
    if kind == "safetensors":
        return save(state)
    if kind == "pickle":
        return pickle.dumps({key: value.tolist() for key, value in state.items()})
    buffer = io.BytesIO()
    torch.save(state, buffer, _use_new_zipfile_serialization=kind == "zip")
    return buffer.getvalue()


@pytest.mark.parametrize("kind", FORMATS)
def test_damaged_files_load_or_are_one_line(kind, tmp_path) -> None:
    """Any other exception than ours would be a traceback for the user."""
    whole, dice = written(kind), random.Random(4)
    name = "weights.safetensors" if kind == "safetensors" else "weights.pt"
    # Cut anywhere: headers are at the start and, of zip files, at the end.
    ends = [*range(0, 400, 13), *range(400, len(whole), len(whole) // 20), len(whole) - 1]
    for end in ends:
        refusal(whole[:end], tmp_path, name)
    refusals = []
    for _ in range(150):
        damaged = bytearray(whole)
        start = dice.choice([0, max(0, len(whole) - 2000)])
        for _ in range(dice.choice([1, 3, 10])):
            damaged[min(start + dice.randrange(2000), len(whole) - 1)] = dice.randrange(256)
        try:
            edgecar.load(stored(bytes(damaged), tmp_path, name))
        except CheckpointError as error:
            refusals.append(str(error))
    assert len(refusals) > 10
    assert not any("\n" in said for said in refusals)


# Other formats, by content and by name.


def zipped(*names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, b"x")
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
    "MATLAB file (MatConvNet)": b"MATLAB 5.0 MAT-file, Platform: GLNXA64" + bytes(200),
    "h5py from MATLAB 7.3 on": b"MATLAB 7.3 MAT-file" + bytes(600),
    "HDF5 file (Keras)": b"\x89HDF\r\n\x1a\n" + bytes(100),
    "TensorFlow Lite": bytes(4) + b"TFL3" + bytes(60),
    "Caffe network": b"\x0a\x05arcnn\xa2\x06\x20" + bytes(40),
    "ONNX file": onnx_file,
    "TensorFlow graph": b"\x08\x01\x12\x80\x02" + bytes(90),
    "OpenVINO network": b'<?xml version="1.0"?>\n<net name="a">',
    "NumPy arrays": b"\x93NUMPY\x01\x00" + bytes(90),
    "file of NumPy arrays": lambda: zipped("a.npy"),
    "zip archive that holds best.pth": lambda: zipped("best.pth", "README"),
    "tar archive that holds best/epoch_9.pth": tarred,
    "compressed archive": b"\x1f\x8b\x08" + bytes(40),
    "torch.jit.load(path).state_dict()": torchscript,
    "Keras": lambda: zipped("model.weights.h5", "config.json"),
    "git lfs pull": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
    "download the file itself": b"<!DOCTYPE html>\n<html><body>Sign in</body></html>",
    "load each shard": b'{"metadata": {}, "weight_map": {"a": "1.safetensors"}}',
}


@pytest.mark.parametrize("said", FOREIGN)
def test_other_formats_are_named_by_their_content(said, tmp_path) -> None:
    content = FOREIGN[said]() if callable(FOREIGN[said]) else FOREIGN[said]
    for suffix in (".pth", ".safetensors", ""):
        refused = refusal(content, tmp_path, f"net{suffix}")
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
