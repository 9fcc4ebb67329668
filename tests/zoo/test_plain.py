"""edgecar-xs, -s and -m: what trains with branches deploys as plain convolutions."""

import pytest
import torch
from torch import nn

from edgecar.zoo.plain import BranchedConv, Plain, PlainConfig

# Each pixel sums up to 9·32 products of float32 a layer, in another order: about sqrt(288)
# roundings of 6e-8 each relative to values near 1, over 6 layers; 1e-5 is some ten times that.
FOLDING_TOLERANCE = 1e-5


def branched(channels: int = 1, width: int = 32, layers: int = 6) -> Plain:
    torch.manual_seed(2)
    network = Plain(PlainConfig(channels, width, layers, branches=True)).eval()
    with torch.no_grad():
        for conv in network.convs:
            conv.point.normal_(0, 0.1)  # these start at zero: no difference would be seen
            conv.bias.normal_(0, 0.1)
        network.convs[-1].kernel.mul_(10)  # and the last layer starts near zero
    return network


def branch_by_branch(conv: BranchedConv, features: torch.Tensor) -> torch.Tensor:
    """The sum of the branches, each run on its own as the papers draw them."""
    side = (conv.kernel.shape[-1] - conv.stride) // 2

    def run(kernel: torch.Tensor) -> torch.Tensor:
        return nn.functional.conv2d(features, kernel, None, conv.stride, side)

    wide = run(conv.expand)
    total = run(conv.kernel) + nn.functional.conv2d(wide, conv.project[:, :, None, None])
    total = total + nn.functional.conv2d(features, conv.point, conv.bias, conv.stride)
    return total + features if conv.identity else total


@pytest.mark.parametrize("channels", [1, 3])
def test_folded_network_computes_the_same(channels) -> None:
    network = branched(channels)
    picture = torch.rand(2, channels, 24, 36)
    with torch.inference_mode():
        expected, got = network(picture), network.folded()(picture)
    assert (expected - picture).abs().max() > 0.1  # the network does something
    assert (got - expected).abs().max() < FOLDING_TOLERANCE


@pytest.mark.parametrize("index", [0, 1, 5])
def test_kernel_is_the_sum_of_the_branches(index) -> None:
    conv = branched().convs[index]
    assert conv.identity == (index == 1)
    features = torch.rand(1, conv.kernel.shape[1], 12, 12)
    with torch.inference_mode():
        difference = conv(features) - branch_by_branch(conv, features)
    # One layer, values of a few units: the sums through 4·32 expanded channels are longer.
    assert difference.abs().max() < FOLDING_TOLERANCE * 10


def test_deployed_form_is_plain_convolutions() -> None:
    folded = branched().folded()
    assert not folded.config.branches
    assert {type(layer) for layer in folded.convs} == {nn.Conv2d}
    plain = Plain(PlainConfig())
    assert folded.state_dict().keys() == plain.state_dict().keys()
    assert sum(weight.numel() for weight in folded.parameters()) == 39_332


def test_folding_a_plain_network_returns_it() -> None:
    plain = Plain(PlainConfig(width=16))
    assert plain.folded() is plain


def test_folded_network_keeps_the_mode() -> None:
    network = branched()
    assert not network.folded().training
    assert network.train().folded().training


def test_every_branch_learns_and_moves_the_folded_kernel() -> None:
    network = branched(width=16).train()
    before = [conv.folded_kernel().detach() for conv in network.convs]
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1)
    clean = torch.rand(2, 1, 16, 16)
    loss = (network(clean + 0.1 * torch.rand_like(clean)) - clean).square().mean()
    loss.backward()
    for name, weight in network.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.abs().max() > 0, name
    optimiser.step()
    for conv, earlier in zip(network.convs, before, strict=True):
        assert not torch.equal(conv.folded_kernel(), earlier)


def test_training_starts_near_the_picture() -> None:
    torch.manual_seed(0)
    network = Plain(PlainConfig(branches=True)).eval()
    picture = torch.rand(1, 1, 32, 32)
    with torch.inference_mode():
        # Well under the 0.29 that noise of this range deviates by itself.
        assert (network(picture) - picture).std() < 0.1
