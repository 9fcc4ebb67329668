"""Export measures what a network restores, and refuses one that was read wrongly."""

import json
import re
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import edgecar
from edgecar.cli import main
from edgecar.errors import GateError
from edgecar.exporter.restoring import looks_drawn, restoration
from edgecar.zoo.arcnn import ArcnnConfig
from edgecar.zoo.dncnn import Dncnn, DncnnConfig
from edgecar.zoo.registry import CARDS, card_named
from edgecar.zoo.shipped import shipped_checkpoint, shipped_weights
from tests.networks import lively

DATA = Path(__file__).parents[3] / "shared" / "data"
ROOM = 1.0  # added before each ReLU, so that it passes what lies below zero


def smoother(channels: int = 1) -> nn.Module:
    """DnCNN that takes a picture's difference to its 3×3 means for its error: removes noise."""
    network = Dncnn(DncnnConfig(channels, depth=3, width=2 * channels, batch_norm=False)).eval()
    first, middle, last = (layer for layer in network.model if isinstance(layer, nn.Conv2d))
    with torch.no_grad():
        for weight in network.parameters():
            weight.zero_()
        first.bias.fill_(ROOM)
        for c in range(channels):
            first.weight[c, c, 1, 1] = 1
            first.weight[channels + c, c] = 1 / 9
            last.weight[c, c, 1, 1], last.weight[c, channels + c, 1, 1] = 1, -1
        for wide in range(2 * channels):
            middle.weight[wide, wide, 1, 1] = 1
    return network


def changed(name: str) -> nn.Module:
    """The smoother as another author would have trained it."""
    network = smoother(3 if "BGR" in name else 1)
    first, _, last = (layer for layer in network.model if isinstance(layer, nn.Conv2d))
    with torch.no_grad():
        match name:
            case "its sign is reversed":
                last.weight.neg_()
            case "it predicts the picture itself":
                last.weight[0, 0] = 0
                last.weight.neg_()
                last.bias.fill_(-ROOM)
            case "it ends in a sigmoid":
                last.weight[0, 0] = 0
                last.weight.mul_(-5)
                last.bias.fill_(-5 * (ROOM + 0.5))
            case "it reads and writes 0 to 255":  # differences below 10 codes are left alone
                first.weight[0, 0] = -1 / 9
                first.weight[0, 0, 1, 1] += 1
                first.weight[1] = -first.weight[0]
                first.bias.fill_(-10)
            case "it writes 0 to 255":
                last.weight.mul_(255)
            case "the bias of its last layer is missing or wrong":
                last.bias.fill_(0.15)
            case "the channels of its output are BGR":
                last.weight.copy_(last.weight.flip(0))
    return network


@pytest.fixture
def run(capsys, monkeypatch):
    """Runs ``edgecar export`` and returns its exit code, output and what it said."""

    def call(*arguments):
        monkeypatch.setattr("sys.argv", ["edgecar", "export", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            main()
            raise SystemExit(0)
        shown = capsys.readouterr()
        return stopped.value.code or 0, shown.out, " ".join(shown.err.split())

    return call


@pytest.mark.parametrize("channels", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_denoiser_is_judged_on_the_noise_that_it_removes(channels, tmp_path) -> None:
    path = tmp_path / "theirs.pth"
    torch.save(smoother(channels).state_dict(), path)
    done = edgecar.export(path)
    assert done.restored.undoes.startswith("noise of ")
    assert done.restored.gain_db > 3
    assert not done.restored.note
    picture = np.random.default_rng(0).random((1, channels, 16, 16)).astype(np.float32)
    session = onnxruntime.InferenceSession(str(done.path), providers=["CPUExecutionProvider"])
    (made,) = session.run(None, {session.get_inputs()[0].name: picture})
    means = cv2.blur(picture[0].transpose(1, 2, 0), (3, 3), borderType=cv2.BORDER_CONSTANT)
    means = np.atleast_3d(means).transpose(2, 0, 1)
    np.testing.assert_allclose(made[0, :, 2:-2, 2:-2], means[:, 2:-2, 2:-2], atol=1e-5)


@pytest.mark.parametrize(
    "said",
    [
        "its sign is reversed",
        "it predicts the picture itself",
        "it ends in a sigmoid",
        "it reads and writes 0 to 255",
        "it writes 0 to 255",
        "the bias of its last layer is missing or wrong",
        "the channels of its output are BGR",
    ],
)
def test_misread_network_is_refused_with_the_reason(said, tmp_path, run):
    path = tmp_path / "theirs.pth"
    torch.save(changed(said).state_dict(), path)
    code, out, err = run(path)
    assert (code, out) == (3, "")
    assert said in err
    assert re.search(r"then \d+\.\d to \d+\.\d dB", err)
    assert [file.name for file in tmp_path.iterdir()] == ["theirs.pth"]


def trained(tmp_path, change, network="edgecar-xs"):
    """The shipped weights, changed, beside what they claim to undo."""
    state = load_file(shipped_checkpoint(network, "jpeg").path)
    change(state)
    path = tmp_path / "theirs.safetensors"
    save_file({key: tensor.contiguous() for key, tensor in state.items()}, path)
    path.with_suffix(".json").write_text(json.dumps({"trained_on": "jpeg 10-40"}))
    return path


def negate(state) -> None:
    for key in ("convs.5.weight", "convs.5.bias"):
        state[key] = -state[key]


def shuffle(state) -> None:
    state["convs.2.weight"], state["convs.3.weight"] = (
        state["convs.3.weight"].flip(0),
        state["convs.2.weight"].flip(1),
    )


@pytest.mark.slow
def test_weights_that_claim_a_coder_are_judged_on_it(tmp_path) -> None:
    done = edgecar.export(trained(tmp_path, lambda _state: None))
    assert done.restored.undoes == "jpeg 10-40"
    assert done.restored.gain_db > 0.3


@pytest.mark.parametrize(
    ("change", "said"),
    [(negate, "its sign is reversed"), (shuffle, "is damaged; give the network")],
)
def test_trained_weights_that_do_harm_are_refused(change, said, tmp_path) -> None:
    path = trained(tmp_path, change)
    with pytest.raises(GateError) as refused:
        edgecar.export(path)
    assert said in str(refused.value)
    assert "jpeg 10-40: " in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not path.with_suffix(".onnx").exists()
    if change is negate:  # what is made by hand, or for its speed alone, can be exported
        assert edgecar.export(path, restores=False).restored is None


def test_untrained_weights_are_exported_and_said_to_be(tmp_path, run) -> None:
    torch.manual_seed(0)
    path = tmp_path / "fresh.pt"
    torch.save(card_named("edgecar-xs").build(card_named("edgecar-xs").config()).state_dict(), path)
    code, out, err = run(path, "--json")
    assert code == 0, err
    assert "untrained" in json.loads(out)["restored"]["note"]


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)
def test_fresh_weights_are_told_from_trained_ones(card) -> None:
    torch.manual_seed(0)
    if card.name != "glfusion":  # 32 million weights take long to draw
        assert looks_drawn(card.build(card.config(1)))
    assert looks_drawn(lively(nn.Sequential(nn.Conv2d(1, 32, 3), nn.Conv2d(32, 32, 3))))
    for weights in shipped_weights():
        if weights.network == card.name:
            assert not looks_drawn(edgecar.load(weights.path).network)


@pytest.mark.slow
def test_every_shipped_network_restores_what_it_is_for() -> None:
    for weights in shipped_weights():
        found = restoration(edgecar.load(weights.path), weights.trained_on, weights.path)
        # Middles of six photographs only: 0.07 dB for HEVC, 0.3 for H.264, above 1 for JPEG.
        assert found.gain_db > 0.05, weights.path.name
        assert not found.note


@pytest.mark.slow
@pytest.mark.skipif(not (DATA / "faults").is_dir(), reason="witnesses not at hand")
@pytest.mark.parametrize(
    ("name", "source"),
    [("compiled.pt", ""), ("lightning.ckpt", "state_dict.net"), ("gd.pth", "G"),
     ("npscalar.pth", "state_dict")],
)  # fmt: skip
def test_witness_exports(name, source, tmp_path, run) -> None:
    code, out, err = run(DATA / "faults" / name, "-o", tmp_path / "x.onnx", "--json")
    assert code == 0, err
    assert json.loads(out)["source"] == source


@pytest.mark.slow
@pytest.mark.skipif(not (DATA / "checkpoints").is_dir(), reason="checkpoints not at hand")
@pytest.mark.parametrize(
    ("name", "trained_on", "config", "undoes", "least_db"),
    [
        # Measured: 0.81 and 8.7 dB. A last layer or range that is not as trained loses many.
        ("bubo0_ARCNN_epoch50.pkl", "jpeg 10-10", ArcnnConfig(relu_output=True), "jpeg 10-10", 0.7),
        ("kair_dncnn_25.pth", "", DncnnConfig(depth=17, batch_norm=False), "noise of 25 codes", 8),
    ],
)
def test_published_checkpoint_restores_what_it_is_for(
    name, trained_on, config, undoes, least_db, tmp_path
) -> None:
    path = DATA / "checkpoints" / name
    done = edgecar.export(path, tmp_path / "x.onnx", trained_on=trained_on)
    assert done.restored.undoes == undoes
    assert done.restored.gain_db > least_db
    assert edgecar.load(path).network.config == config
