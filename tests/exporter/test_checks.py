"""The comparison of an ONNX file with its network, and transposed convolutions as plain ones."""

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from edgecar.exporter.checks import SIDES, parity_error, real_crops
from edgecar.exporter.upsampling import convolve_upsampling
from tests.exporter.graphs import INPUT, Drawing, runner


class Blend(nn.Module):
    """What one multiplication of an ONNX file does; at the first size, and elsewhere."""

    def __init__(self, factor: float, elsewhere: float = 0.0) -> None:
        super().__init__()
        self.factor, self.elsewhere = factor, elsewhere

    def forward(self, picture):
        return picture * self.factor + (0 if picture.shape[2:] == SIDES[0] else self.elsewhere)


def onnx_blend(factor: float, channels: int = 1) -> bytes:
    d = Drawing(channels)
    constant = d.constant(np.array(factor, np.float32))
    return d.model(d.node("Mul", INPUT, constant)).SerializeToString()


@pytest.mark.parametrize("channels", [1, 3])
def test_difference_is_the_largest_of_any_pixel_at_any_size(channels) -> None:
    brightest = max(float(crops.max()) for crops in real_crops(channels, 1))
    assert brightest > 0.5
    error = parity_error(Blend(1.0), onnx_blend(0.75, channels), channels, 1)
    # A quarter of the brightest pixel, in float32.
    assert error == pytest.approx(brightest / 4, rel=1e-6)
    # A constant that was traced as a size: right for one shape, wrong for the other.
    traced = Blend(1.0, elsewhere=0.5)
    assert parity_error(traced, onnx_blend(1, channels), channels, 1) == pytest.approx(0.5)


@pytest.mark.parametrize(("torch_factor", "onnx_factor"), [(np.nan, 1), (1, np.nan), (1, np.inf)])
def test_no_number_on_either_side_is_no_small_difference(torch_factor, onnx_factor) -> None:
    error = parity_error(Blend(torch_factor), onnx_blend(onnx_factor), 1, 1)
    assert not error <= 1


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("align", [1, 16, 28])
def test_crops_are_coded_pictures_of_two_aligned_shapes(channels, align) -> None:
    batches = list(real_crops(channels, align))
    assert len({crops.shape for crops in batches}) == 2
    for crops in batches:
        assert crops.dtype == np.float32
        assert crops.shape[:2] == (2, channels)
        assert crops.shape[2] % align == crops.shape[3] % align == 0
        # 8-bit codes over their range, of pictures with content, two different ones.
        codes = crops * 255
        np.testing.assert_allclose(codes, np.rint(codes), atol=1e-4)
        assert 0 <= crops.min() < crops.max() <= 1
        assert crops.std(axis=(1, 2, 3)).min() > 0.05
        assert not np.array_equal(crops[0], crops[1])


def test_damaged_weights_are_seen() -> None:
    """The control: one weight of 49 changed by 1 % shows."""
    torch.manual_seed(0)
    conv = nn.Conv2d(1, 1, 7, padding=3)
    d = Drawing()
    weights = d.constant(conv.weight.detach().numpy())
    output = d.node("Conv", INPUT, weights, d.constant(conv.bias.detach().numpy()), pads=[3] * 4)
    model = d.model(output)
    # Sums of 49 products below 0.2: rounding is some 1e-7.
    assert parity_error(conv, model.SerializeToString(), 1, 1) < 1e-6
    damaged = onnx.ModelProto()
    damaged.CopyFrom(model)
    values = numpy_helper.to_array(damaged.graph.initializer[0]).copy()
    values.flat[values.size // 2] *= 1.01
    damaged.graph.initializer[0].CopyFrom(numpy_helper.from_array(values, weights))
    assert parity_error(conv, damaged.SerializeToString(), 1, 1) > 1e-6


@pytest.mark.parametrize(
    ("settings", "enlarges"),
    [
        ({"kernel_size": 9, "stride": 2, "padding": 4, "output_padding": 1}, True),  # FastARCNN's
        ({"kernel_size": 4, "stride": 2, "padding": 1}, True),
        ({"kernel_size": 2, "stride": 2, "bias": False}, True),
        ({"kernel_size": 5, "stride": 3, "padding": 1}, True),
        ({"kernel_size": 3, "stride": 1, "padding": 1}, True),
        ({"kernel_size": 3, "stride": 4, "output_padding": 1}, True),
        ({"kernel_size": 9, "stride": 2, "padding": 4}, False),  # one row short of twice the height
        (
            {"kernel_size": 3, "stride": 2, "dilation": 2, "padding": 2, "output_padding": 1},
            False,
        ),
        ({"kernel_size": (3, 5), "stride": (1, 1), "padding": (1, 2)}, False),
    ],
)
def test_transposed_convolutions_that_enlarge_exactly_become_plain(settings, enlarges) -> None:
    torch.manual_seed(0)
    layer, picture = nn.ConvTranspose2d(3, 2, **settings).eval(), torch.rand(1, 3, 7, 9)
    model = torch.onnx.export(layer, (picture,), dynamo=True, verbose=False).model_proto
    plain = convolve_upsampling(model)
    if not enlarges:
        assert list(plain.graph.node) == list(model.graph.node)
        return
    assert {node.op_type for node in plain.graph.node} == {"Conv", "DepthToSpace"}
    # Sums of at most 81 products of numbers below 1, in another order.
    expected = layer(picture).detach().numpy()
    np.testing.assert_allclose(runner(plain)(picture.numpy()), expected, atol=1e-6)
