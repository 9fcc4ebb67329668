"""Channels of one range, and biases that keep the mean: both change nothing in floating point."""

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgecar.exporter.bias import corrected, mean_errors
from edgecar.exporter.equalise import channel_peaks, equalised
from edgecar.exporter.layers import always_kept
from edgecar.exporter.quantize import SIGNED, quantised
from edgecar.exporter.ranges import ranges_of
from tests.exporter.graphs import INPUT, Drawing, runner

PICTURES = [
    np.random.default_rng(seed).integers(0, 256, (1, 48, 48)).astype(np.uint8) for seed in (0, 1)
]
BATCH = np.stack(PICTURES) / np.float32(255)


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


@pytest.mark.parametrize("activation", ["LeakyRelu", "Relu"])
def test_output_is_the_same_and_ranges_are_equal(activation) -> None:
    model = uneven(activation)
    alike = equalised(model, PICTURES)
    before, after = (channel_peaks(m, ["value1"], PICTURES)["value1"] for m in (model, alike))
    assert before.max() > 30 * before.min()
    np.testing.assert_allclose(after, after[0], rtol=1e-5)
    expected = runner(model)(BATCH)
    # Every product is rounded anew.
    np.testing.assert_allclose(runner(alike)(BATCH), expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("model", [uneven("Tanh"), uneven(skipped=True)], ids=["tanh", "skip"])
def test_channels_stay_where_scaling_would_change_the_output(model) -> None:
    before, after = (
        channel_peaks(m, ["value1"], PICTURES)["value1"]
        for m in (model, equalised(model, PICTURES))
    )
    np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize("outliers", [0.0, 1e-3, 0.1])
def test_outliers_do_not_count_for_the_range_of_a_channel(outliers) -> None:
    model = uneven()
    peaks = channel_peaks(model, ["value1"], PICTURES, outliers)["value1"]
    model.graph.output.insert(0, next(v for v in model.graph.value_info if v.name == "value1"))
    values = runner(model)(BATCH)
    by_channel = np.abs(values).transpose(1, 0, 2, 3).reshape(8, -1)
    np.testing.assert_allclose(peaks, np.quantile(by_channel, 1 - outliers, axis=1), rtol=1e-6)


def test_given_model_is_left_alone() -> None:
    model = uneven()
    before = model.SerializeToString()
    equalised(model, PICTURES)
    assert model.SerializeToString() == before


def test_eight_bits_lose_far_less_on_equal_channels(tmp_path) -> None:
    losses = []
    for model in (uneven(), onnx.shape_inference.infer_shapes(equalised(uneven(), PICTURES))):
        ranges = ranges_of(model, PICTURES, "min-max", symmetric=True, folder=tmp_path)
        lower = quantised(model, ranges, always_kept(model), SIGNED)
        losses.append(np.abs(runner(lower)(BATCH) - runner(model)(BATCH)).mean())
    assert losses[1] < 0.7 * losses[0]


def test_biases_take_back_what_moved_the_mean(exported, tmp_path) -> None:
    model = onnx.load_model_from_string(exported("edgecar-s").onnx)
    kept = always_kept(model)
    ranges = ranges_of(model, PICTURES, "percentile 99.9", symmetric=True, folder=tmp_path)
    lower = quantised(model, ranges, kept, SIGNED)
    errors = mean_errors(model, lower, PICTURES)
    assert set(errors) == {n.name for n in model.graph.node if n.op_type == "Conv"} - set(kept)
    assert all(missing.shape == (32,) for missing in errors.values())
    better = quantised(corrected(model, errors, kept), ranges, kept, SIGNED)
    # What the first convolution in eight bits reads is right, so that its error is its own.
    right, wrong, mended = (channel_means(m, "conv2d_1") for m in (model, lower, better))
    np.testing.assert_allclose(errors["node_conv2d_1"], right - wrong, atol=1e-5)
    assert np.abs(right - wrong).max() > 1e-3
    np.testing.assert_allclose(mended, right, atol=1e-5)


def channel_means(model: onnx.ModelProto, tensor: str) -> np.ndarray:
    seen = onnx.shape_inference.infer_shapes(model)
    value = next(value for value in seen.graph.value_info if value.name == tensor)
    del seen.graph.output[:]
    seen.graph.output.append(value)
    return runner(seen)(BATCH).mean(axis=(0, 2, 3))
