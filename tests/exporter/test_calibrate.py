"""Calibration of INT8: equal channels, ranges, rounded weights, biases that keep the mean."""

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from edgecar.engines.select import LARGEST_WEIGHT
from edgecar.exporter.calibrate import (
    METHODS,
    bias_shifts,
    equalised,
    observed,
    ranges_of,
    rounded_weights,
)
from edgecar.exporter.frames import CodedPicture
from edgecar.exporter.graphs import rebuilt
from edgecar.exporter.quantize import SIGNED, always_kept, quantised, step_of
from edgecar.exporter.recipe import recipe_for
from edgecar.exporter.to_onnx import onnx_from_network
from edgecar.train.qat import load_initialisers
from edgecar.zoo.edgecar_net import XS, EdgecarConfig, EdgecarNet
from tests.exporter.graphs import INPUT, Drawing, runner
from tests.networks import lively

PICTURES = [
    CodedPicture(np.random.default_rng(seed).integers(0, 256, (1, 48, 48)).astype(np.uint8), told)
    for seed, told in ((0, 0.3), (1, 0.9))
]
BATCH = np.stack([picture.codes for picture in PICTURES]) / np.float32(255)
QUANTISERS = np.array([picture.quantiser for picture in PICTURES], np.float32)


def uneven(activation: str = "LeakyRelu", *, skipped: bool = False) -> onnx.ModelProto:
    """Two convolutions around channels whose ranges differ by about 2⁷."""
    d = Drawing(seed=3)
    d.weights = lambda *shape: d.constant(
        (d.dice.normal(0, 1, shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)
    )
    first = d.conv(INPUT, out=8)
    factors = 2.0 ** np.arange(8)[:, None, None, None]
    wide = numpy_helper.to_array(d.constants[0]) * factors
    d.constants[0].CopyFrom(numpy_helper.from_array(wide.astype(np.float32), d.constants[0].name))
    middle = d.node(activation, first, **({"alpha": 0.1} if activation == "LeakyRelu" else {}))
    second = d.node("Relu", d.conv(middle, out=8))
    return d.model(d.conv(d.node("Add", second, middle) if skipped else second))


def values_of(model: onnx.ModelProto, tensor: str) -> np.ndarray:
    """Values by channel, over all pictures."""
    return np.concatenate([seen[tensor][0] for seen in observed(model, [tensor], PICTURES)], axis=1)


def peaks(model: onnx.ModelProto, outliers: float = 0.0) -> np.ndarray:
    channels = np.abs(values_of(model, "value1")).reshape(8, -1)
    return np.quantile(channels, 1 - outliers, axis=1)


@pytest.mark.parametrize("activation", ["LeakyRelu", "Relu"])
@pytest.mark.parametrize("outliers", [0.0, 0.001])
def test_output_is_the_same_and_ranges_are_equal(activation, outliers) -> None:
    model = uneven(activation)
    given = model.SerializeToString()
    alike = equalised(model, PICTURES, outliers)
    assert model.SerializeToString() == given
    before, after = (peaks(m, outliers) for m in (model, alike))
    assert before.max() > 30 * before.min()
    np.testing.assert_allclose(after, after[0], rtol=1e-5)
    expected = runner(model)(BATCH)
    # Every product is rounded anew.
    np.testing.assert_allclose(runner(alike)(BATCH), expected, atol=1e-5 * np.abs(expected).max())


def shifted() -> EdgecarNet:
    """A network whose first channels the quantiser shifts, of ranges that differ by about 2⁷."""
    network = lively(EdgecarNet(EdgecarConfig(width=8, layers=3)))
    factors = 2.0 ** torch.arange(8.0)
    with torch.no_grad():
        network.shift.weight.normal_().mul_(factors[:, None])
        network.convs[0].weight.mul_(factors[:, None, None, None])
        network.convs[0].bias.mul_(factors)
    return network


@pytest.fixture
def told() -> onnx.ModelProto:
    return onnx_from_network(shifted(), XS, 1, recipe_for("edgecar-xs"))


def test_each_picture_is_calibrated_on_at_its_own_quantiser(told) -> None:
    expected = runner(told)(BATCH, QUANTISERS)
    got = [seen["output"][0] for seen in observed(told, ["output"], PICTURES)]
    np.testing.assert_allclose(got, expected, atol=1e-4)
    assert np.abs(expected - runner(told)(BATCH)).max() > 0.1  # in the middle it is another


def test_shifts_are_scaled_with_the_channels_that_they_shift(told) -> None:
    alike = equalised(told, PICTURES)
    for quantisers in (QUANTISERS, np.zeros(2, np.float32), np.ones(2, np.float32)):
        expected = runner(told)(BATCH, quantisers)
        error = np.abs(runner(alike)(BATCH, quantisers) - expected)
        assert error.max() < 1e-5 * np.abs(expected).max()
    before, after = (
        np.abs(values_of(model, "leaky_relu")).reshape(8, -1).max(axis=1) for model in (told, alike)
    )
    assert before.max() > 30 * before.min()
    np.testing.assert_allclose(after, after[0], rtol=1e-5)


def test_network_takes_over_scaled_shifts_under_their_names(told) -> None:
    """Training in eight bits begins with channels of one range."""
    network = shifted()
    given = torch.from_numpy(BATCH), torch.from_numpy(QUANTISERS)
    with torch.inference_mode():
        before, shifts = network(*given), network.shift.weight.clone()
        load_initialisers(network, equalised(told, PICTURES))
        after = network(*given)
    assert not torch.equal(network.shift.weight, shifts)
    assert (after - before).abs().max() < 1e-5 * before.abs().max()


def test_shifts_that_move_more_than_one_tensor_stay(told) -> None:
    """Those channels keep their ranges, since the other tensor has others."""
    nodes = list(told.graph.node)
    (add,) = (node for node in nodes if node.op_type == "Add" and node.input[0] == "conv2d")
    (second,) = (node for node in nodes if "conv2d_1" in node.input)
    moved = onnx.helper.make_node("Add", ["conv2d_1", add.input[1]], ["moved"], "moved")
    second.input[0] = "moved"
    shared = rebuilt(told, [*nodes[: nodes.index(second)], moved, *nodes[nodes.index(second) :]])
    values = [values_of(m, "leaky_relu") for m in (shared, equalised(shared, PICTURES))]
    np.testing.assert_array_equal(*values)


@pytest.mark.parametrize("model", [uneven("Tanh"), uneven(skipped=True)], ids=["tanh", "skip"])
def test_channels_stay_where_scaling_would_change_the_output(model) -> None:
    np.testing.assert_array_equal(peaks(model), peaks(equalised(model, PICTURES)))


def test_eight_bits_lose_far_less_on_equal_channels() -> None:
    losses = []
    for model in (uneven(), onnx.shape_inference.infer_shapes(equalised(uneven(), PICTURES))):
        ranges = ranges_of(model, PICTURES, symmetric=True)["min-max"]
        lower = quantised(model, ranges, always_kept(model), SIGNED)
        losses.append(np.abs(runner(lower)(BATCH) - runner(model)(BATCH)).mean())
    assert losses[1] < 0.7 * losses[0]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("symmetric", [True, False])
def test_range_leaves_out_a_share_of_all_values(method, symmetric) -> None:
    """Of the tensor that the second convolution reads, which has values of both signs."""
    model = uneven()
    low, high = ranges_of(model, PICTURES, symmetric=symmetric)[method]["value1"]
    values = values_of(model, "value1").ravel()
    ends = (np.abs(values), np.abs(values)) if symmetric else (-values, values)
    expected = [np.quantile(end, 1 - METHODS[method]) for end in ends]
    np.testing.assert_allclose([-low, high], expected, rtol=1e-5)


def test_weights_are_rounded_for_what_they_read() -> None:
    """Outputs on real pictures change less than with weights rounded to the nearest."""
    model = uneven()
    codes = rounded_weights(model, PICTURES)
    weights = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    assert set(codes) == {"constant1", "constant2"}  # the first reads the picture
    outputs = []
    for rounded in (codes["constant1"], None):
        lower = onnx.ModelProto.FromString(model.SerializeToString())
        step = step_of(weights["constant1"])[:, None, None, None]
        kept = np.rint(weights["constant1"] / step) if rounded is None else rounded
        assert np.abs(kept).max() == LARGEST_WEIGHT
        tensor = next(t for t in lower.graph.initializer if t.name == "constant1")
        tensor.CopyFrom(numpy_helper.from_array((kept * step).astype(np.float32), tensor.name))
        outputs.append(values_of(lower, "value2"))
    right = values_of(model, "value2")
    by_pictures, to_nearest = (np.square(output - right).mean() for output in outputs)
    assert by_pictures < 0.8 * to_nearest


def test_biases_take_back_what_moved_the_mean(exported) -> None:
    model = onnx.load_model_from_string(exported("edgecar-s").onnx)
    kept = always_kept(model)
    ranges = ranges_of(model, PICTURES, symmetric=True)["percentile 99.9"]
    codes = rounded_weights(model, PICTURES)
    shifts = bias_shifts(model, PICTURES, ranges, codes, signed=True)
    wrong = quantised(model, ranges, kept, SIGNED, codes)
    mended = quantised(model, ranges, kept, SIGNED, codes, shifts)
    # What the first convolution in eight bits reads is right, so that its error is its own.
    means = [values_of(m, "conv2d_1").mean((1, 2)) for m in (model, wrong, mended)]
    assert np.abs(means[0] - means[1]).max() > 1e-3
    np.testing.assert_allclose(means[2], means[0], atol=2e-5)
    constants = [{t.name: t for t in m.graph.initializer} for m in (model, mended)]
    for node in model.graph.node:  # biases of kept layers stay
        if node.name in kept:
            assert constants[0][node.input[2]] == constants[1][node.input[2]]
