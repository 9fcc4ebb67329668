"""The network of deep multi-scale IQA: sizes of the paper, switches of its table 2."""

import pytest
import torch

from edgecar.errors import CheckpointError, SettingsError
from edgecar.zoo.multiscale_iqa import IqaConfig, MultiscaleIqa, network_from_state, rescaled_

SMALL = {"fully_connected": (8,)}
# By hand: 3×3 kernels without biases, and scale and shift of the normalisation.
STREAM = 9 * (1 * 8 + 8 * 8 + 8 * 16 + 16 * 16 + 16 * 32) + 2 * (8 + 8 + 16 + 16 + 32)
POOLED = 32 * (1 + 4 + 16 + 64)
LATERALS = (8 * 32 + 32) + (8 * 32 + 32) + (32 * 32 + 32)
LEVELS = 3 * 32 * 16


def fully_connected(features: int) -> int:
    return (features + 1) * 2048 + 2049 * 1024 + 1025


@pytest.mark.parametrize(
    ("switches", "params"),
    [
        ({}, 2 * STREAM + LATERALS + fully_connected(2 * POOLED + LEVELS)),
        ({"multi_scale": False}, 2 * STREAM + fully_connected(2 * 32 * 16**2)),
        (
            {"streams": "distorted", "multi_scale": False},
            STREAM + fully_connected(32 * 16**2),
        ),
        ({"streams": "residual", "multi_scale": False}, STREAM + fully_connected(32 * 16**2)),
        ({"streams": "distorted"}, STREAM + LATERALS + fully_connected(POOLED + LEVELS)),
        ({"streams": "residual"}, STREAM + fully_connected(POOLED)),
    ],
    ids=str,
)
def test_parameters_are_those_of_the_layers(switches, params):
    config = IqaConfig(**switches)
    with torch.device("meta"):
        network = MultiscaleIqa(config)
    assert sum(p.numel() for p in network.parameters()) == params
    if not switches:  # the paper's
        sizes = (config.kernels, config.bins, config.fully_connected)
        assert sizes == ((8, 8, 16, 16, 32), (1, 2, 4, 8), (2048, 1024))


@pytest.mark.parametrize("multi_scale", [True, False])
@pytest.mark.parametrize(("streams", "unseen"), [("distorted", 1), ("residual", 0), ("both", None)])
def test_a_stream_that_is_off_sees_nothing(streams, unseen, multi_scale):
    torch.manual_seed(0)
    config = IqaConfig(streams=streams, multi_scale=multi_scale, **SMALL)
    network = MultiscaleIqa(config).eval()
    planes = torch.rand(2, 2, 128, 128)
    before = network(planes)
    assert before.shape == (2, 1)
    for plane in (0, 1):
        changed = planes.clone()
        changed[:, plane] = torch.rand(2, 128, 128)
        assert torch.equal(network(changed), before) == (plane == unseen)


def test_pooling_before_elu_gives_the_values_of_elu_before_pooling():
    torch.manual_seed(0)
    stream = MultiscaleIqa(IqaConfig(streams="distorted", **SMALL)).eval().streams["distorted"]
    picture = torch.rand(1, 1, 128, 128)
    by_hand = picture
    levels = []
    for index in range(5):
        by_hand = torch.nn.functional.elu(stream.norms[index](stream.convs[index](by_hand)))
        if index in (0, 1, 4):
            by_hand = torch.nn.functional.max_pool2d(by_hand, 2)
            levels.append(by_hand)
    for ours, theirs in zip(stream(picture), levels, strict=True):
        # exp of vectorised and scalar code may differ in the last bit
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)
    assert [level.shape[-1] for level in levels] == [64, 32, 16]


def test_a_checkpoint_comes_back_from_half_precision_and_rescales():
    torch.manual_seed(0)
    network = MultiscaleIqa(IqaConfig(streams="residual", **SMALL)).eval()
    config = {"streams": "residual", "fully_connected": [8]}
    halves = {name: t.half() if t.is_floating_point() else t for name, t in
              network.state_dict().items()}  # fmt: skip
    again = network_from_state(halves, config)
    assert not again.training
    planes = torch.rand(2, 2, 128, 128)
    before = again(planes)
    rescaled_(again, 10.0, -5.0)
    torch.testing.assert_close(again(planes), 10 - 5 * before)
    rescaled_(again, 2.0, -0.2)  # and back
    # Half precision keeps 11 bits; the score sums thousands of products of order 0.01.
    torch.testing.assert_close(again(planes), network(planes), rtol=0, atol=2e-3)
    with pytest.raises(CheckpointError, match="do not fit their configuration"):
        network_from_state(halves, {**config, "multi_scale": False})
    with pytest.raises(CheckpointError, match="keep what a training run wrote together"):
        network_from_state(halves, {"sizes": 3})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"kernels": (8, 8)}, "need five convolutions"),
        ({"bins": (3,)}, "divisors of 16"),
        ({"bins": ()}, "divisors of 16"),
        ({"fully_connected": (0,)}, "at least 1 wide"),
        ({"streams": "none"}, "use both, distorted, residual"),
    ],
)
def test_sizes_that_make_no_network_are_refused(changes, words):
    with pytest.raises(SettingsError, match=words):
        IqaConfig(**changes)
