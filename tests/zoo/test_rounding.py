"""Half precision where it costs nothing, float32 where it would."""

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from edgecar.zoo.checkpoints import load_network
from edgecar.zoo.rounding import MAX_ERROR, rounded, rounding_error
from tests.networks import narrow

WEIGHT, VARIANCE = "layer.weight", "norm.running_var"


def test_ordinary_weights_become_half_and_lose_little() -> None:
    weight = torch.randn(8, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    stored = rounded({WEIGHT: weight})[WEIGHT]
    assert stored.dtype == torch.float16
    assert torch.equal(stored, weight.half())
    # Half of a step of 2^-10 at most, for each weight by itself.
    assert rounding_error(WEIGHT, weight) < 2**-11


@pytest.mark.parametrize(
    ("name", "values"),
    [
        (WEIGHT, [70_000.0, 1.0]),  # beyond the largest float16
        (WEIGHT, [1e-9, 2e-9]),  # zeros in float16
        (WEIGHT, [1e-6, 3e-7]),  # a few of its smallest steps
        (WEIGHT, [float("nan"), 1.0]),
        (WEIGHT, [float("inf"), 1.0]),
        (VARIANCE, [1.0, 1e-8]),  # would be divided by
        (VARIANCE, [1.0, 1e-6]),
    ],
)
def test_tensor_that_would_suffer_stays_as_it_is(name, values) -> None:
    tensor = torch.tensor(values)
    stored = rounded({name: tensor})[name]
    assert stored.dtype == torch.float32
    assert torch.equal(stored.nan_to_num(-1), tensor.nan_to_num(-1))


@pytest.mark.parametrize(
    ("name", "values"),
    [
        (WEIGHT, [1.0, 1e-8]),  # lost beside the other
        (WEIGHT, [0.0, 0.0]),
        (WEIGHT, 0.25),
        (VARIANCE, [1.0, 0.01]),
        ("norm.running_mean", [1.0, 1e-8]),
    ],
)
def test_what_is_small_beside_the_rest_may_go(name, values) -> None:
    assert rounded({name: torch.tensor(values)})[name].dtype == torch.float16


@pytest.mark.parametrize(("steps", "fits"), [(499.5, False), (500.5, True)])
def test_limit_is_one_in_a_thousand(steps, fits) -> None:
    tensor = torch.tensor([steps * 2**-24])  # half a step is lost: the least float16 is 2^-24
    assert rounding_error(WEIGHT, tensor) == pytest.approx(0.5 / steps)
    assert (rounding_error(WEIGHT, tensor) <= MAX_ERROR) == fits
    assert (rounded({WEIGHT: tensor})[WEIGHT].dtype == torch.float16) == fits


def test_counters_are_left_alone() -> None:
    state = nn.BatchNorm2d(3).state_dict()
    assert rounded(state)["num_batches_tracked"].dtype == torch.int64


@pytest.mark.parametrize("name", ["edgecar-xs", "dncnn", "msfan"])
def test_half_checkpoint_is_loaded_in_float32_with_these_values(name, tmp_path) -> None:
    path = tmp_path / "half.safetensors"
    save_file(rounded(narrow(name).state_dict()), path)
    kinds = {tensor.dtype for tensor in load_file(path).values()}
    assert torch.float16 in kinds
    network = load_network(path).network
    state = network.state_dict()
    for key, stored in load_file(path).items():
        if stored.is_floating_point():
            assert state[key].dtype == torch.float32
            assert torch.equal(state[key], stored.float())
    assert network(torch.rand(1, 1, 32, 32)).dtype == torch.float32
