"""Which network a checkpoint is for, and what is said when it is for none."""

import pytest
import torch
from torch import nn

from edgecar.zoo.arcnn import ArcnnConfig
from edgecar.zoo.carcnn import CarcnnConfig
from edgecar.zoo.dncnn import DncnnConfig
from edgecar.zoo.edgecar_net import EdgecarConfig
from edgecar.zoo.fastarcnn import FastArcnnConfig
from edgecar.zoo.glfusion import GlFusionConfig
from edgecar.zoo.msfan import MsfanConfig
from edgecar.zoo.registry import CARDS, card_named
from tests.networks import NARROW, lively
from tests.zoo.files import assert_computes, refusal, stored

SMALL = {
    **{card.name: card.config(1) for card in CARDS},
    **NARROW,
    "glfusion": GlFusionConfig(width=8, scales=2, modules=2, reduction=4),
}
SIZES = [
    *SMALL.items(),
    ("dncnn", DncnnConfig(depth=3, width=4, batch_norm=False)),
    ("dncnn", DncnnConfig(channels=3, depth=6, width=8)),
    ("msfan", MsfanConfig(width=8, blocks=2, reduction=4)),
    ("msfan", MsfanConfig(width=16, blocks=1, attention_layers=3, reduction=2)),
    ("msfan", MsfanConfig(channels=3, width=16, blocks=3, reduction=8)),
    ("carcnn", CarcnnConfig(channels=3, width=4, blocks=1)),
    ("fastarcnn", FastArcnnConfig(channels=3, activation="relu")),
    ("glfusion", GlFusionConfig(width=8, scales=3, modules=1, reduction=8)),
    ("glfusion", GlFusionConfig(channels=3, width=4, scales=1, modules=3, reduction=2)),
    ("edgecar-xs", EdgecarConfig(3, 16, 6)),
    ("edgecar-m", EdgecarConfig(3, 64, 8)),
]


def state_of(name: str, channels: int = 1) -> dict[str, torch.Tensor]:
    card = card_named(name)
    with torch.device("meta"):
        return card.build(card.config(channels)).state_dict()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", [card.name for card in CARDS])
def test_each_state_dict_has_one_owner(name, channels) -> None:
    state = state_of(name, channels)
    owners = {card.name: found for card in CARDS if (found := card.recognise(state))}
    assert list(owners) == [name]
    assert owners[name].config == card_named(name).config(channels)


@pytest.mark.parametrize(("name", "config"), SIZES, ids=str)
def test_every_network_comes_back_and_its_sizes_are_read_off(name, config, tmp_path) -> None:
    network = lively(card_named(name).build(config), config.channels)
    for suffix in (".pt", ".safetensors"):
        path = stored(network.state_dict(), tmp_path, f"weights{suffix}")
        loaded = assert_computes(path, network, config.channels)
        assert loaded.card.name == name
        assert loaded.network.config == config
        published = vars(card_named(name).config(config.channels))
        assert loaded.config == {k: v for k, v in vars(config).items() if v != published[k]}


# Networks as their public repositories write them.


class PublicArcnn(nn.Module):
    """Layer names of the common PyTorch port: base.0 to base.5, last."""

    def __init__(self, channels: int = 3, *, fast: bool = False) -> None:
        super().__init__()
        layers = [
            nn.Conv2d(channels, 64, 9, stride=2 if fast else 1, padding=4),
            nn.PReLU(),
            *([nn.Conv2d(64, 32, 1), nn.PReLU()] if fast else []),
            nn.Conv2d(32, 32, 7, padding=3) if fast else nn.Conv2d(64, 32, 7, padding=3),
            nn.PReLU(),
            nn.Conv2d(32, 64 if fast else 16, 1),
            nn.PReLU(),
        ]
        self.base = nn.Sequential(*layers)
        self.last = nn.Conv2d(16, channels, 5, padding=2)
        if fast:
            self.last = nn.ConvTranspose2d(64, channels, 9, stride=2, padding=4, output_padding=1)

    def forward(self, picture):
        return self.last(self.base(picture))


class NumberedArcnn(nn.Module):
    """conv1 to conv4, with a ReLU after the last one too."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 64, 9, padding=4)
        self.conv2 = nn.Conv2d(64, 32, 7, padding=3)
        self.conv3 = nn.Conv2d(32, 16, 1)
        self.conv4 = nn.Conv2d(16, 1, 5, padding=2)

    def forward(self, picture):
        for conv in (self.conv1, self.conv2, self.conv3, self.conv4):
            picture = conv(picture).relu()
        return picture


class TheirDncnn(nn.Module):
    """DnCNN from its paper: x - f(x), f a plain sequence, its biases where the author has them."""

    def __init__(self, depth, name="dncnn", biases="", *, channels=1, width=16, norm=True):
        super().__init__()
        has = [place in biases.split() for place in ("first", "middle", "last")]
        steps = [nn.Conv2d(channels, width, 3, padding=1, bias=has[0]), nn.ReLU()]
        for _ in range(depth - 2):
            steps.append(nn.Conv2d(width, width, 3, padding=1, bias=has[1]))
            steps += [nn.BatchNorm2d(width)] if norm else []
            steps.append(nn.ReLU())
        steps.append(nn.Conv2d(width, channels, 3, padding=1, bias=has[2]))
        self.add_module(name, nn.Sequential(*steps))

    def forward(self, picture):
        (sequence,) = self.children()
        return picture - sequence(picture)


ALL = "first middle last"
FOLDED = DncnnConfig(depth=17, width=16, batch_norm=False)
AUTHORS = {
    "ARCNN, RGB": (PublicArcnn(), ArcnnConfig(3, "prelu")),
    "ARCNN, luma PReLU": (PublicArcnn(1), ArcnnConfig(1, "prelu")),
    "FastARCNN": (PublicArcnn(fast=True), FastArcnnConfig(3)),
    "ARCNN, conv1 to conv4": (NumberedArcnn(), ArcnnConfig(1, "relu", relu_output=True)),
    "DnCNN-S, no biases": (TheirDncnn(17), DncnnConfig(depth=17, width=16)),
    "DnCNN-S, bias first": (TheirDncnn(17, "dncnn", "first"), DncnnConfig(depth=17, width=16)),
    "DnCNN-S, biases everywhere": (
        TheirDncnn(17, "model", ALL),
        DncnnConfig(depth=17, width=16, biases=True),
    ),
    "DnCNN-B of 20, outer biases": (TheirDncnn(20, "layers", "first last"), None),
    "DnCNN-S, folded": (TheirDncnn(17, "model", ALL, norm=False), FOLDED),
    "DnCNN-S, folded, no biases": (TheirDncnn(17, "model", norm=False), FOLDED),
    "5 layers": (TheirDncnn(5, "net", "first"), DncnnConfig(depth=5, width=16)),
    "RGB of 20, folded": (TheirDncnn(20, "model", ALL, channels=3, norm=False), None),
}


@pytest.mark.parametrize("author", AUTHORS)
def test_public_layouts_compute_what_their_authors_run(author, tmp_path) -> None:
    theirs, config = AUTHORS[author]
    channels = next(iter(theirs.state_dict().values())).shape[1]
    path = stored(lively(theirs, channels).state_dict(), tmp_path)
    # Adding a bias of zero changes no bit; the order of sums is the same.
    loaded = assert_computes(path, theirs, channels)
    assert config is None or loaded.network.config == config


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("config", [ArcnnConfig, FastArcnnConfig])
@pytest.mark.parametrize("kind", ["relu", "prelu"])
def test_networks_of_unlike_layers_are_known_by_shape(config, channels, kind, suffix, tmp_path):
    name = {ArcnnConfig: "arcnn", FastArcnnConfig: "fastarcnn"}[config]
    network = lively(card_named(name).build(config(channels, kind)), channels)
    parts = {}
    for number, layer in enumerate([*network.base, network.last]):
        parts |= {f"stage{number}.unit.{k}": t for k, t in layer.state_dict().items()}
    loaded = assert_computes(stored(parts, tmp_path, f"theirs{suffix}"), network, channels)
    assert (loaded.card.name, loaded.network.config) == (name, config(channels, kind))


# What is said of checkpoints that fit nothing.


def test_unknown_network_is_told_the_nearest_by_shapes(tmp_path) -> None:
    """Names say nothing here; tensors of other shapes than the nearest network's are named."""
    state = {f"stage{n}": torch.zeros(t.shape) for n, t in enumerate(state_of("arcnn").values())}
    state["stage4"] = torch.zeros(16, 32, 3, 3)
    said = refusal(state, tmp_path)
    assert "no network of the zoo fits; it has stage0, stage1, stage2 and 5 more" in said
    assert "closest to arcnn: stage4 is (16, 32, 3, 3), need (16, 32, 1, 1)" in said
    del state["stage7"]
    assert "lacks last.bias (1,)" in refusal(state, tmp_path)
    assert "near none of them" in refusal({"head.weight": torch.zeros(5, 4)}, tmp_path)
    # DnCNN of any size is near to itself: blocks of a convolution and a normalisation each.
    blocks = {
        f"stage{key.split('.')[1]}.{key}": tensor
        for key, tensor in TheirDncnn(5, "body", "first", width=64).state_dict().items()
    }
    said = refusal(blocks, tmp_path)
    assert "all its shapes are those of dncnn, under other names" in said


def test_what_is_nearly_a_network_is_told_what_is_wrong(tmp_path) -> None:
    arcnn = dict(card_named("arcnn").build(ArcnnConfig()).state_dict())
    arcnn["last.weight"] = torch.zeros(1, 16, 3, 3)
    wrong = "looks like arcnn but last.weight is (1, 16, 3, 3), need (1, 16, 5, 5)"
    assert wrong in refusal(arcnn, tmp_path)
    state = dict(card_named("edgecar-xs").build(EdgecarConfig(width=16)).state_dict())
    said = refusal({**state, "head.weight": torch.zeros(1)}, tmp_path)
    assert "looks like edgecar-xs but has extra head.weight" in said
    del state["convs.3.bias"]
    assert "looks like edgecar-xs but lacks convs.3.bias" in refusal(state, tmp_path)
    # Without any bias a network was trained so; without one it is damaged.
    folded = lively(TheirDncnn(5, "model", ALL, norm=False)).state_dict()
    del folded["model.8.bias"]
    assert "looks like dncnn but lacks model.8.bias" in refusal(folded, tmp_path)
    for channels in (2, 4):
        network = card_named("dncnn").build(DncnnConfig(channels, depth=3, width=4))
        said = refusal(network.state_dict(), tmp_path)
        assert f"looks like dncnn for {channels} channels" in said


MISFITS = {
    "scalar": torch.zeros(()),
    "empty": torch.zeros(0),
    "vector": torch.zeros(3),
    "no rows": torch.zeros(0, 0, 0, 0),
    "one pixel": torch.zeros(1, 1, 1, 1),
    "five axes": torch.zeros(2, 2, 2, 2, 2),
    "absent": None,
}
TINY = {
    **{name: SMALL[name] for name in ("fastarcnn", "msfan", "carcnn", "edgecar-xs")},
    "arcnn": ArcnnConfig(1, "prelu"),
    "dncnn": DncnnConfig(depth=4, width=4),
    "glfusion": GlFusionConfig(width=4, scales=1, modules=1, reduction=4),
}


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
@pytest.mark.parametrize("misfit", MISFITS)
@pytest.mark.parametrize("name", TINY)
def test_any_tensor_of_another_shape_is_refused_in_words(name, misfit, tmp_path) -> None:
    """Every card, with each of its first and last tensors replaced: never a traceback."""
    state = dict(card_named(name).build(TINY[name]).state_dict())
    keys = [key for key in state if not key.endswith("num_batches_tracked")]
    # What cards look at is in the first layers and in attention blocks; the rest is alike.
    looked_at = keys[:3] + [key for key in keys if key.endswith(("0.weight", "project"))][:4]
    for key in {*looked_at, keys[-1]}:
        changed = {k: v for k, v in state.items() if k != key}
        if MISFITS[misfit] is not None:
            changed[key] = MISFITS[misfit]
        elif (name, key) == ("dncnn", "model.0.bias"):
            continue  # authors train it without this one too
        if changed.get(key, torch.zeros(7)).shape == state[key].shape:
            continue  # PReLU's slope is one number, like one of the misfits
        refusal(changed, tmp_path)
