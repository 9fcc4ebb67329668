"""Transposed convolutions leave the graph, and its output stays."""

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from edgecar.exporter.upsampling import convolve_upsampling


def exported_layer(**settings):
    """A transposed convolution as ONNX, its module and an input."""
    torch.manual_seed(0)
    layer = nn.ConvTranspose2d(3, 2, **settings).eval()
    picture = torch.rand(1, 3, 7, 9)
    program = torch.onnx.export(layer, (picture,), dynamo=True, verbose=False)
    return program.model_proto, layer, picture


def operators(model) -> set[str]:
    return {node.op_type for node in model.graph.node}


@pytest.mark.parametrize(
    "settings",
    [
        {"kernel_size": 9, "stride": 2, "padding": 4, "output_padding": 1},  # FastARCNN's
        {"kernel_size": 4, "stride": 2, "padding": 1},
        {"kernel_size": 2, "stride": 2, "bias": False},
        {"kernel_size": 5, "stride": 3, "padding": 1},
        {"kernel_size": 3, "stride": 1, "padding": 1},
        {"kernel_size": 3, "stride": 4, "output_padding": 1},
    ],
)
def test_phases_give_the_same_output(settings):
    model, layer, picture = exported_layer(**settings)
    model = convolve_upsampling(model)
    assert operators(model) == {"Conv", "DepthToSpace"}
    session = onnxruntime.InferenceSession(model.SerializeToString())
    (output,) = session.run(None, {session.get_inputs()[0].name: picture.numpy()})
    expected = layer(picture).detach().numpy()
    # Sums of at most 81 products of numbers below 1, in another order.
    np.testing.assert_allclose(output, expected, atol=1e-6)


@pytest.mark.parametrize(
    "settings",
    [
        {"kernel_size": 9, "stride": 2, "padding": 4},  # one row short of twice the height
        {"kernel_size": 3, "stride": 2, "dilation": 2, "padding": 2, "output_padding": 1},
        {"kernel_size": (3, 5), "stride": (1, 1), "padding": (1, 2)},
    ],
)
def test_what_does_not_enlarge_exactly_is_left_alone(settings):
    model, _, _ = exported_layer(**settings)
    assert list(convolve_upsampling(model).graph.node) == list(model.graph.node)
