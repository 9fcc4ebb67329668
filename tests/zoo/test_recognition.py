"""Which network a checkpoint is for, and what is said when it is for none."""

import pytest
import torch
from torch import nn

from edgecar.errors import CheckpointError
from edgecar.zoo.arcnn import ArcnnConfig
from edgecar.zoo.checkpoints import load_network
from edgecar.zoo.dncnn import DncnnConfig
from edgecar.zoo.edgecar_net import PlainConfig
from edgecar.zoo.glfusion import GlFusionConfig
from edgecar.zoo.registry import CARDS, card_named
from tests.networks import NARROW, lively


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


# Networks as their public repositories write them.


def convs(*layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(*layers)


class PublicArcnn(nn.Module):
    """Layer names of the common PyTorch port: base.0 to base.5, last."""

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.base = convs(
            nn.Conv2d(channels, 64, kernel_size=9, padding=4),
            nn.PReLU(),
            nn.Conv2d(64, 32, kernel_size=7, padding=3),
            nn.PReLU(),
            nn.Conv2d(32, 16, kernel_size=1),
            nn.PReLU(),
        )
        self.last = nn.Conv2d(16, channels, kernel_size=5, padding=2)

    def forward(self, picture):
        return self.last(self.base(picture))


class PublicFastArcnn(PublicArcnn):
    def __init__(self, channels: int = 3) -> None:
        super().__init__(channels)
        self.base = convs(
            nn.Conv2d(channels, 64, kernel_size=9, stride=2, padding=4),
            nn.PReLU(),
            nn.Conv2d(64, 32, kernel_size=1),
            nn.PReLU(),
            nn.Conv2d(32, 32, kernel_size=7, padding=3),
            nn.PReLU(),
            nn.Conv2d(32, 64, kernel_size=1),
            nn.PReLU(),
        )
        self.last = nn.ConvTranspose2d(64, channels, 9, stride=2, padding=4, output_padding=1)


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


class PublicDncnn(nn.Module):
    """A denoiser whose layers are one sequence of the name given."""

    def __init__(self, name: str, *, first_bias=True, others_bias=False, norm=True, depth=5):
        super().__init__()
        layers = [nn.Conv2d(1, 64, 3, padding=1, bias=first_bias), nn.ReLU()]
        for _ in range(depth - 2):
            layers.append(nn.Conv2d(64, 64, 3, padding=1, bias=others_bias))
            layers += [nn.BatchNorm2d(64)] if norm else []
            layers.append(nn.ReLU())
        layers.append(nn.Conv2d(64, 1, 3, padding=1, bias=others_bias))
        setattr(self, name, nn.Sequential(*layers))
        self.layers_name = name

    def forward(self, picture):
        return picture - getattr(self, self.layers_name)(picture)


THIRD_PARTY = {
    "ARCNN, RGB": (PublicArcnn, 3, "arcnn", ArcnnConfig(3, "prelu")),
    "ARCNN, luma PReLU": (lambda: PublicArcnn(1), 1, "arcnn", ArcnnConfig(1, "prelu")),
    "FastARCNN": (PublicFastArcnn, 3, "fastarcnn", card_named("fastarcnn").config(3)),
    "ARCNN, conv1 to conv4": (NumberedArcnn, 1, "arcnn", ArcnnConfig(1, "relu", True)),
    "DnCNN, normalisation folded": (
        lambda: PublicDncnn("model", others_bias=True, norm=False, depth=17),
        1,
        "dncnn",
        DncnnConfig(depth=17, batch_norm=False),
    ),
    "DnCNN, dncnn.N": (lambda: PublicDncnn("dncnn"), 1, "dncnn", DncnnConfig(depth=5)),
    "DnCNN, no bias at all": (
        lambda: PublicDncnn("dncnn", first_bias=False),
        1,
        "dncnn",
        DncnnConfig(depth=5),
    ),
}


@pytest.mark.parametrize("layout", THIRD_PARTY)
def test_public_layouts_compute_what_their_authors_run(layout, tmp_path) -> None:
    make, channels, name, config = THIRD_PARTY[layout]
    network, path = lively(make(), channels), tmp_path / "theirs.pth"
    torch.save(network.state_dict(), path)
    loaded = load_network(path)
    assert loaded.card.name == name
    assert loaded.network.config == config
    picture = torch.rand(1, channels, 24, 24)
    with torch.inference_mode():
        assert torch.equal(loaded.network(picture), network(picture))


# What is said of checkpoints that fit nothing.


def refusal(state, tmp_path) -> str:
    path = tmp_path / "theirs.pth"
    torch.save(state, path)
    with pytest.raises(CheckpointError) as refused:
        load_network(path)
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_unknown_network_is_told_the_nearest_by_shapes(tmp_path) -> None:
    """Names say nothing here; tensors of other shapes than the nearest network's are named."""
    state = {f"stage{n}": tensor for n, tensor in enumerate(state_of("arcnn").values())}
    state = {name: torch.zeros(tensor.shape) for name, tensor in state.items()}
    state["stage4"] = torch.zeros(16, 32, 3, 3)
    said = refusal(state, tmp_path)
    assert "no network of the zoo fits; it has stage0, stage1, stage2 and 5 more" in said
    assert "closest to arcnn: stage4 is (16, 32, 3, 3), need (16, 32, 1, 1)" in said
    del state["stage7"]
    assert "lacks last.bias (1,)" in refusal(state, tmp_path)
    assert "near none of them" in refusal({"head.weight": torch.zeros(5, 4)}, tmp_path)


def test_dncnn_of_any_size_is_near_to_itself(tmp_path) -> None:
    """Five layers of eight maps, as blocks of a convolution and a normalisation each."""
    network = PublicDncnn("body", depth=5)
    names = {f"body.{n}": f"stage{n}.{n}.unit" for n in range(20)}
    state = {
        f"{names[key.rpartition('.')[0]]}.{key.rpartition('.')[2]}": tensor
        for key, tensor in network.state_dict().items()
    }
    said = refusal(state, tmp_path)
    assert "all its shapes are those of dncnn, under other names" in said


def test_wrong_shape_is_told_with_both_shapes(tmp_path) -> None:
    state = dict(card_named("arcnn").build(ArcnnConfig()).state_dict())
    state["last.weight"] = torch.zeros(1, 16, 3, 3)
    said = refusal(state, tmp_path)
    assert "looks like arcnn but last.weight is (1, 16, 3, 3), need (1, 16, 5, 5)" in said


def test_missing_and_extra_keys_are_named(tmp_path) -> None:
    state = dict(card_named("edgecar-xs").build(PlainConfig(width=16)).state_dict())
    said = refusal({**state, "head.weight": torch.zeros(1)}, tmp_path)
    assert "looks like edgecar-xs but has extra head.weight" in said
    del state["convs.3.bias"]
    assert "looks like edgecar-xs but lacks convs.3.bias" in refusal(state, tmp_path)


@pytest.mark.parametrize("channels", [2, 4])
def test_other_numbers_of_channels_are_refused(channels, tmp_path) -> None:
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
    "arcnn": ArcnnConfig(1, "prelu"),
    "fastarcnn": card_named("fastarcnn").config(1),
    "dncnn": DncnnConfig(depth=4, width=4),
    "msfan": NARROW["msfan"],
    "carcnn": NARROW["carcnn"],
    "glfusion": GlFusionConfig(width=4, scales=1, modules=1, reduction=4),
    "edgecar-xs": PlainConfig(1, 16, 6),
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
