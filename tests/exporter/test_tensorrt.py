"""Every graph of the zoo builds with TensorRT's parser and builder, for which no GPU is needed."""

import pytest

from edgecar.zoo.registry import CARDS
from tests.conftest import TENSORRT

trt = pytest.importorskip("tensorrt_rtx")

WORKSPACE_BYTES = 256 << 20
SIDES_PX = (32, 64, 128)  # least, best, most; multiples of every alignment


@pytest.fixture(scope="module")
def logger():
    return trt.Logger(trt.Logger.INTERNAL_ERROR)  # the parser's errors are asked for


def parsed(onnx_bytes: bytes, logger):
    """Builder, network and parser: all must live until the plan is built."""
    builder = trt.Builder(logger)
    typed = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network = builder.create_network(typed)
    parser = trt.OnnxParser(network, logger)
    assert parser.parse(onnx_bytes) == (parser.num_errors == 0)
    return builder, network, parser


def profile(builder, channels: int):
    shapes = [(batch, channels, s, s) for batch, s in zip((1, 1, 2), SIDES_PX, strict=True)]
    dynamic = builder.create_optimization_profile()
    dynamic.set_shape("input", *shapes)
    return dynamic


@pytest.mark.parametrize("name", [card.name for card in CARDS])
@pytest.mark.parametrize("kind", ["fp32", *TENSORRT])
def test_graph_parses_and_builds(name, kind, exported, lowered, logger) -> None:
    artifact = exported(name) if kind == "fp32" else lowered(name, kind)
    builder, network, parser = parsed(artifact.onnx, logger)
    assert [str(parser.get_error(index)) for index in range(parser.num_errors)] == []
    assert (network.num_inputs, network.num_outputs) == (1, 1)
    assert network.get_input(0).name == "input"
    assert network.get_output(0).name == "output"
    assert tuple(network.get_input(0).shape) == (-1, 1, -1, -1)
    config = builder.create_builder_config()
    config.builder_optimization_level = 0  # the quickest plan; only whether there is one matters
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, WORKSPACE_BYTES)
    assert config.add_optimization_profile(profile(builder, 1)) == 0
    assert builder.build_serialized_network(network, config) is not None


def test_operator_we_refuse_is_refused_by_the_parser_too(logger) -> None:
    """The control: this parser does say no."""
    from onnx import TensorProto, helper

    picture = helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 1, 8, 8])
    output = helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, 1])
    node = helper.make_node("Det", ["input"], ["output"])
    model = helper.make_model(
        helper.make_graph([node], "drawing", [picture], [output]),
        opset_imports=[helper.make_opsetid("", 19)],
        ir_version=10,
    )
    _, _, parser = parsed(model.SerializeToString(), logger)
    assert parser.num_errors > 0
