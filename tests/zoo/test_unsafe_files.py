"""Checkpoints that are damaged, no checkpoints, or traps."""

import io
import os
import pickle
import random
from pathlib import Path

import pytest
import torch
from safetensors.torch import save
from torch import nn

from edgecar.errors import CheckpointError
from edgecar.zoo.checkpoints import load_network
from edgecar.zoo.edgecar_net import Plain, PlainConfig

# The formats whose damage is tried below.
FORMATS = ("zip", "legacy", "safetensors", "pickle")


class Trap:
    """Creates a file when unpickled."""

    def __init__(self, sprung: Path) -> None:
        self.sprung = sprung

    def __reduce__(self):
        return os.mkdir, (str(self.sprung),)


def refusal(path: Path) -> str:
    with pytest.raises(CheckpointError) as refused:
        load_network(path)
    said = str(refused.value)
    assert said.startswith(f"{path}: ")
    assert "\n" not in said
    return said


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("place", ["entry", "whole"])
def test_code_in_a_checkpoint_is_refused_and_not_run(place, legacy, tmp_path) -> None:
    sprung, path = tmp_path / "sprung", tmp_path / "weights.pth"
    state = Plain(PlainConfig(width=16)).state_dict()
    trap = Trap(sprung)
    content = {"state_dict": state, "hook": trap} if place == "entry" else trap
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    said = refusal(path)
    assert "refused, because loading it would run code (" in said
    assert "mkdir" in said
    assert "torch.save(network.state_dict(), path)" in said
    assert not sprung.exists()
    # The control: PyTorch's unrestricted loading does spring it.
    torch.load(path, weights_only=False)
    assert sprung.exists()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_bare_pickle_is_refused_and_not_run(protocol, tmp_path, recwarn) -> None:
    sprung, path = tmp_path / "sprung", tmp_path / "weights.pkl"
    path.write_bytes(pickle.dumps(Trap(sprung), protocol=protocol))
    refusal(path)
    assert not recwarn.list  # the one line is all that is said
    assert not sprung.exists()
    pickle.loads(path.read_bytes())  # the control
    assert sprung.exists()


def test_whole_module_is_refused_by_name(tmp_path) -> None:
    path = tmp_path / "whole.pth"
    torch.save(nn.Sequential(nn.Conv2d(1, 1, 3)), path)
    said = refusal(path)
    assert "would run code (torch.nn.modules.container.Sequential" in said


def test_missing_file_and_folder(tmp_path) -> None:
    assert "no such file" in refusal(tmp_path / "absent.pt")
    assert "no such file" in refusal(tmp_path)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize(
    "content", [b"", b"PK\x03\x04", b"weights of the network\n", b"\x80", b"{}", bytes(5000)]
)
def test_no_checkpoint_at_all(content, suffix, tmp_path) -> None:
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(content)
    assert "not a" in refusal(path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([torch.zeros(2)], "holds a list, need a state dict"),
        (torch.zeros(2), "holds a Tensor, need a state dict"),
        (3, "holds a int, need a state dict"),
        ({}, "holds no tensors"),
        ({"epoch": 3, "optimizer": {"lr": 0.1}}, "holds no tensors"),
        ({"state_dict": {}}, "holds no tensors"),
        ({"state_dict": {"a": [1, 2]}}, "holds no tensors"),
    ],
)
def test_content_that_is_no_state_dict(content, said, tmp_path) -> None:
    path = tmp_path / "weights.pt"
    torch.save(content, path)
    assert said in refusal(path)


def test_safetensors_without_tensors(tmp_path) -> None:
    path = tmp_path / "weights.safetensors"
    path.write_bytes(save({}))
    assert "holds no tensors" in refusal(path)


def written(kind: str) -> bytes:
    state = Plain(PlainConfig(width=16)).state_dict()
    if kind == "safetensors":
        return save(state)
    if kind == "pickle":
        return pickle.dumps({key: value.tolist() for key, value in state.items()})
    buffer = io.BytesIO()
    torch.save(state, buffer, _use_new_zipfile_serialization=kind == "zip")
    return buffer.getvalue()


@pytest.mark.parametrize("kind", FORMATS)
def test_truncated_anywhere_is_one_line(kind, tmp_path) -> None:
    whole = written(kind)
    path = tmp_path / ("weights.safetensors" if kind == "safetensors" else "weights.pt")
    # Headers are at the start and, of zip files, at the end.
    ends = [*range(0, 400, 13), *range(400, len(whole), len(whole) // 20), len(whole) - 1]
    for end in ends:
        path.write_bytes(whole[:end])
        refusal(path)


@pytest.mark.parametrize("kind", FORMATS)
def test_damaged_bytes_load_or_are_one_line(kind, tmp_path) -> None:
    """Any other exception than ours would be a traceback for the user."""
    whole, dice = written(kind), random.Random(4)
    path = tmp_path / ("weights.safetensors" if kind == "safetensors" else "weights.pt")
    refusals = []
    for _ in range(150):
        damaged = bytearray(whole)
        start = dice.choice([0, max(0, len(whole) - 2000)])
        for _ in range(dice.choice([1, 3, 10])):
            damaged[min(start + dice.randrange(2000), len(whole) - 1)] = dice.randrange(256)
        path.write_bytes(damaged)
        try:
            load_network(path)
        except CheckpointError as error:
            refusals.append(str(error))
    assert len(refusals) > 10
    assert not any("\n" in said for said in refusals)
