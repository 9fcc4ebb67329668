"""How weights move: Muon, the schedule, the running average."""

import copy
import math

import pytest
import torch
from torch import nn

from edgecar.errors import SettingsError
from edgecar.train.fit import new_network, rate_share_at
from edgecar.train.loop import Optimiser, last_layer, move_average, optimiser_for
from edgecar.train.recipe import TrainRecipe
from edgecar.zoo.registry import CARDS

SCALER = torch.amp.GradScaler("cpu", enabled=False)
MUON = TrainRecipe("edgecar-xs", rate=0.02, rest_rate=1e-3)


def with_gradients(network: nn.Module, seed: int = 0) -> nn.Module:
    """Of some random task: every weight has one."""
    generator = torch.Generator().manual_seed(seed)
    clean = torch.rand(4, 1, 16, 16, generator=generator)
    coded = clean + 0.1 * torch.randn(clean.shape, generator=generator)
    network.zero_grad()
    (network(coded) - clean).square().mean().backward()
    return network


def copies(network: nn.Module) -> dict[str, torch.Tensor]:
    return {name: weight.detach().clone() for name, weight in network.named_parameters()}


def ready(recipe: TrainRecipe = MUON) -> tuple[nn.Module, Optimiser]:
    network = new_network(recipe)
    return network, optimiser_for(network, recipe)


@pytest.mark.parametrize("name", ["muon", "adam", "adamw"])
def test_a_step_moves_every_weight(name) -> None:
    network, optimiser = ready(TrainRecipe("edgecar-xs", optimiser=name))
    before = copies(with_gradients(network))
    optimiser.step(SCALER, 1.0)
    for key, weight in network.named_parameters():
        assert not torch.equal(weight, before[key]), key


def test_kernels_and_matrices_are_the_same_memory() -> None:
    network, optimiser = ready()
    assert len(optimiser.matrices) == 5  # of six layers; the last one is Adam's
    for kernel, matrix in optimiser.matrices:
        assert matrix.shape == (kernel.shape[0], kernel[0].numel())
        assert matrix.data_ptr() == kernel.data_ptr()
    before = copies(with_gradients(network))
    optimiser.step(SCALER, 1.0)
    for number in range(5):
        key = f"convs.{number}.weight"
        assert not torch.equal(network.get_parameter(key), before[key])
    for kernel, matrix in optimiser.matrices:
        assert torch.equal(matrix, kernel.reshape(matrix.shape))
    # Weights that are loaded later, as a resumed run does, arrive in both.
    network.load_state_dict({key: torch.zeros_like(w) for key, w in before.items()})
    assert all(not matrix.any() for _, matrix in optimiser.matrices)


def test_adam_takes_what_makes_pixels_and_what_is_no_kernel() -> None:
    network, optimiser = ready()
    _, (adam, rate), (tables, table_rate) = optimiser.parts
    assert (rate, table_rate) == (MUON.rest_rate, MUON.rate)
    shift, gain = tables.param_groups[0]["params"]
    assert (shift is network.shift.weight, gain is network.gain.weight) == (True, True)
    own = {id(weight) for weight in adam.param_groups[0]["params"]}
    names = {name for name, weight in network.named_parameters() if id(weight) in own}
    biases = {f"convs.{number}.bias" for number in range(6)}
    assert names == {"convs.5.weight", *biases}


@pytest.mark.parametrize("share", [1.0, 0.1])
def test_updates_of_kernels_are_near_orthogonal(share) -> None:
    """Newton and Schulz's iteration, as Muon has it, brings singular values into 0.7 to 1.2."""
    network, optimiser = ready()
    before = copies(with_gradients(network))
    optimiser.step(SCALER, share)
    for number in range(1, 5):  # square but for k²: no shape factor in the rate
        key = f"convs.{number}.weight"
        update = (network.get_parameter(key).detach() - before[key]).flatten(1)
        values = torch.linalg.svdvals(update) / (MUON.rate * share)
        # Five iterations in bfloat16, and directions that the gradient hardly has stay shorter.
        assert values.max() < 1.7
        assert values.min() > 0.3
        # The gradient itself is far from it.
        gradient = torch.linalg.svdvals(network.get_parameter(key).grad.flatten(1))
        assert gradient.min() / gradient.max() < 0.2


def test_share_of_the_rate_scales_all_parts() -> None:
    """But for weights' own rounding: a step of 2e-5 on weights near 0.1 keeps 3 digits."""
    moves = []
    for share in (1.0, 0.5):
        network, optimiser = ready()
        before = copies(with_gradients(network))
        optimiser.step(SCALER, share)
        moves.append({k: w.detach() - before[k] for k, w in network.named_parameters()})
    for key, whole in moves[0].items():
        torch.testing.assert_close(moves[1][key], whole / 2, rtol=1e-2, atol=1e-7)


def test_long_gradients_are_clipped() -> None:
    recipe = TrainRecipe("edgecar-xs", optimiser="adam", clip=0.5)
    network, optimiser = ready(recipe)
    with_gradients(network)
    for weight in network.parameters():
        weight.grad.mul_(1e6)
    optimiser.step(SCALER, 1.0)
    norm = torch.stack([weight.grad.norm() for weight in network.parameters()]).norm()
    assert float(norm) == pytest.approx(0.5, rel=1e-4)  # torch divides by the norm + 1e-6


def test_other_optimisers_are_refused() -> None:
    with pytest.raises(SettingsError, match="no optimiser is called 'sgd'; use adam, adamw or"):
        optimiser_for(nn.Conv2d(1, 1, 3), TrainRecipe("edgecar-xs", optimiser="sgd"))


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)
def test_last_layer_is_the_one_that_makes_pixels(card) -> None:
    with torch.device("meta"):
        network, picture = card.build(card.config()).eval(), torch.empty(1, 1, 64, 64)
    ran: list[nn.Module] = []
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            layer.register_forward_hook(lambda layer, _given, _made: ran.append(layer))
    network(picture)
    assert last_layer(network) is ran[-1]


def test_a_network_without_convolutions_needs_another_optimiser() -> None:
    with pytest.raises(SettingsError, match="Linear has no plain convolution; train it with adam"):
        optimiser_for(nn.Linear(2, 2), MUON)


def test_schedule_rises_and_falls() -> None:
    recipe = TrainRecipe("edgecar-xs", steps=1000, warmup=100, final_share=0.01)
    shares = [rate_share_at(step, recipe) for step in range(1001)]
    assert shares[0] == 1 / 100
    assert shares[49] == pytest.approx(0.5)
    assert shares[99] == shares[100] == 1
    assert shares[550] == pytest.approx(0.01 + 0.99 / 2)  # half way down a cosine
    assert shares[1000] == pytest.approx(0.01)
    # The last step that is taken is the one before: 1/900 of the cosine's end, squared.
    assert shares[999] == pytest.approx(0.01 + 0.99 * (math.pi / 900) ** 2 / 4, rel=1e-3)
    assert shares[:100] == sorted(shares[:100])
    assert shares[100:] == sorted(shares[100:], reverse=True)
    assert rate_share_at(5000, recipe) == pytest.approx(0.01)


def test_average_moves_by_its_decay() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))
    average = copy.deepcopy(network)
    for value, module in ((1.0, average), (2.0, network)):
        for tensor in module.state_dict().values():
            tensor.fill_(value)
    move_average(average, network, 0.75)
    state = average.state_dict()
    counter = state.pop("1.num_batches_tracked")
    assert counter == 2  # whole numbers have no mean
    assert {"1.running_mean", "1.running_var"} < set(state)  # statistics are averaged too
    for name, tensor in state.items():
        assert (tensor == 1.25).all(), name
    assert all((tensor == 2).all() for tensor in network.state_dict().values())
    move_average(average, network, 1.0)
    assert (average[0].weight == 1.25).all()
    move_average(average, network, 0.0)
    assert (average[0].weight == 2).all()
