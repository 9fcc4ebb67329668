"""What every network of the zoo becomes."""

import re
from pathlib import Path

import numpy as np
import onnx
import pytest

from edgecar.zoo.registry import CARDS, card_named
from tests.exporter.graphs import runner
from tests.networks import narrow

# Halo and alignment of every published network, in pixels.
GEOMETRY = {
    "arcnn": (9, 1, "local"),  # 4 + 3 + 0 + 2
    "fastarcnn": (14, 2, "local"),
    "dncnn": (20, 1, "local"),  # one a layer
    "msfan": (38, 1, "windowed"),  # 1 + 4·(1 + 2 + 3 + 2 + 1) + 1
    "carcnn": (34, 1, "local"),
    "edgecar-xs": (12, 2, "local"),  # 2 + 2·5
    "edgecar-s": (12, 2, "local"),
    "edgecar-m": (16, 2, "local"),  # 2 + 2·7
}
# What a deployed graph of convolutions alone may hold.
PLAIN = {"Conv", "LeakyRelu", "DepthToSpace", "Add"}
FUSION = pytest.param("glfusion", marks=pytest.mark.slow)  # its export takes 15 seconds
NAMES = [card.name for card in CARDS if card.name != "glfusion"] + [FUSION]


def graph(artifact) -> onnx.ModelProto:
    return onnx.load_model_from_string(artifact.onnx)


def kinds(artifact) -> set[str]:
    return {node.op_type for node in graph(artifact).graph.node}


@pytest.mark.parametrize("name", GEOMETRY)
def test_halo_and_alignment(name, exported) -> None:
    metadata = exported(name).metadata
    assert (metadata.halo_px, metadata.align_px, metadata.context) == GEOMETRY[name]


@pytest.mark.slow  # its export takes 15 seconds
def test_glfusion_aligns_to_its_deepest_scale_and_pools(exported) -> None:
    metadata = exported("glfusion").metadata
    assert (metadata.align_px, metadata.context) == (16, "windowed")
    assert metadata.halo_px % 16 == 0


@pytest.mark.parametrize("name", NAMES)
def test_card_and_graph_tell_the_same(name, exported) -> None:
    card, metadata = card_named(name), exported(name).metadata
    assert (metadata.align_px, metadata.context) == (card.align_px, card.context)


@pytest.mark.parametrize("name", NAMES)
def test_versions_are_those_that_tensorrt_10_3_reads(name, exported) -> None:
    model = graph(exported(name))
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 19)]
    assert model.ir_version <= 10
    assert not model.functions


@pytest.mark.parametrize("name", NAMES)
def test_any_batch_and_aligned_size_run_and_equal_torch(name, exported) -> None:
    import torch

    artifact, network = exported(name), narrow(name)
    run, align = runner(graph(artifact)), artifact.metadata.align_px
    axes = graph(artifact).graph.input[0].type.tensor_type.shape.dim
    assert [axis.dim_param != "" for axis in axes] == [True, False, True, True]
    for batch, rows, columns in ((1, 1, 1), (3, 2, 5), (2, 4, 1)):
        shape = (batch, 1, max(4, rows * 8) // align * align or align, columns * 16)
        pictures = np.random.default_rng(0).random(shape, np.float32)
        with torch.inference_mode():
            expected = network(torch.from_numpy(pictures)).numpy()
        got = run(pictures)
        assert got.shape == shape
        # Sums of up to 5000 products of numbers around 1 in float32, in another order. Measured:
        # 4e-6 at most, but 3e-5 through dncnn's 20 layers without a skip.
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", ["edgecar-xs", "edgecar-s", "edgecar-m"])
def test_our_networks_are_convolutions_alone(name, exported) -> None:
    assert kinds(exported(name)) == PLAIN


@pytest.mark.parametrize("name", ["dncnn", FUSION])
def test_normalisation_is_folded_into_the_convolutions(name, exported) -> None:
    assert "BatchNormalization" not in kinds(exported(name))
    assert "Conv" in kinds(exported(name))


def test_rgb_network_takes_three_channels(exported) -> None:
    artifact = exported("edgecar-xs", 3)
    assert artifact.metadata.channels == 3
    assert runner(graph(artifact))(np.zeros((1, 3, 8, 8), np.float32)).shape == (1, 3, 8, 8)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_of_this_machine_is_in_the_file(name, exported) -> None:
    model = graph(exported(name))
    for node in model.graph.node:
        assert not node.metadata_props
        assert not node.doc_string
    model.graph.ClearField("initializer")  # weights are random bytes, which may spell anything
    text = str(model)
    assert not re.search(r"\.py\b", text)
    assert not re.search(r"/(home|root|usr|tmp|work|Users|opt)\b", text)
    assert str(Path.cwd()) not in text
    assert str(Path.home()) not in text
