"""Plans are built from every graph; TensorRT-RTX does it with the parser of 11, without a GPU."""

import pytest
from onnx import TensorProto, helper

from edgecar.artifact import read_artifact
from edgecar.engines.plan import BuildSettings
from edgecar.engines.trt_build import build_engine, with_tile
from edgecar.engines.trt_library import load_library
from edgecar.errors import EngineError
from edgecar.files import WEIGHTS
from tests.conftest import TENSORRT
from tests.networks import every_network

pytest.importorskip("tensorrt_rtx")
TILE = (96, 128)  # multiples of every alignment
SHIPPED = sorted(path.name for path in WEIGHTS.glob("*.onnx"))


@pytest.fixture(scope="module")
def library():
    return load_library("tensorrt-rtx")


def settings(**changes) -> BuildSettings:
    return BuildSettings(**{"tile": TILE, "batch": 2, "workspace_mib": 256, "level": 0, **changes})


def refusal(library, onnx_bytes: bytes, **changes) -> str:
    with pytest.raises(EngineError) as refused:
        build_engine(library, onnx_bytes, settings(**changes))
    assert "\n" not in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize("any_batch", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", ["fp32", *TENSORRT])
@every_network
def test_every_graph_becomes_a_plan(name, kind, any_batch, exported, reduced, library) -> None:
    artifact = exported(name) if kind == "fp32" else reduced(name, kind)
    plan, layers = build_engine(library, artifact.onnx, settings(any_batch=any_batch))
    assert len(plan) > 1000
    assert layers > 3


def test_any_batch_builds_too(exported, library) -> None:
    one = build_engine(library, exported("edgecar-s").onnx, settings())
    any_batch = build_engine(library, exported("edgecar-s").onnx, settings(any_batch=True))
    assert any_batch[1] > one[1]  # shapes that are not known take arithmetic


@pytest.mark.slow
@pytest.mark.parametrize("file", SHIPPED)
def test_every_graph_that_ships_becomes_a_plan(file, library) -> None:
    assert build_engine(library, read_artifact(WEIGHTS / file).onnx, settings())[0]


def test_tile_and_batch_are_in_the_graph(exported) -> None:
    def sizes(value) -> list[int]:
        return [dim.dim_value for dim in value.type.tensor_type.shape.dim]

    fixed = with_tile(exported("edgecar-s").onnx, settings()).graph
    assert sizes(fixed.input[0]) == sizes(fixed.output[0]) == [2, 1, *TILE]
    free = with_tile(exported("edgecar-s").onnx, settings(any_batch=True)).graph
    assert sizes(free.input[0]) == [0, 1, *TILE]


def test_gpu_that_is_built_for_decides_what_is_built(exported, library) -> None:
    plans = {
        capability: build_engine(
            library, exported("edgecar-s").onnx, settings(compute_capability=capability)
        )[0]
        for capability in ("7.5", "8.9")
    }
    assert plans["7.5"] != plans["8.9"]


def test_progress_is_told(exported, library) -> None:
    told: list[str] = []
    build_engine(library, exported("edgecar-xs").onnx, settings(), report=told.append)
    assert told[0].startswith("Building engine, ")
    assert "Building engine, step 1" in told


def graph_of(operator: str) -> bytes:
    picture, restored = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 1, "h", "w"])
        for name in ("input", "output")
    )
    node = helper.make_node(operator, ["input"], ["output"], domain="own")
    graph = helper.make_graph([node], "drawing", [picture], [restored])
    opsets = [helper.make_opsetid("", 19), helper.make_opsetid("own", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()


@pytest.mark.parametrize(
    ("onnx_bytes", "said"),
    [
        (b"no graph", "not a graph from pictures to pictures of 96x128 px"),
        (b"", "not a graph from pictures to pictures"),
        (graph_of("Unheard"), "cannot read the graph: "),
    ],
)
def test_graph_that_cannot_be_read_is_refused_in_a_line(onnx_bytes, said, library) -> None:
    assert said in refusal(library, onnx_bytes)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"compute_capability": "9.0"},
            "builds for SM75, SM80, SM86, SM89, SM120, SM121, not SM90",
        ),
        ({"dla_core": 0}, "sees 0 DLA core(s) here, asked for number 0"),
        ({"weakly_typed": True, "precision": "fp16"}, "has no weak typing"),
        ({"version_compatible": True}, "built no plan: "),
        ({"hardware_compatible": True}, "TensorRT-RTX needs no --hardware-compatible"),
    ],
)
def test_setting_that_it_does_not_know_is_refused(changes, said, exported, library) -> None:
    assert said in refusal(library, exported("edgecar-xs").onnx, **changes)


def test_too_little_scratch_memory_is_said_with_what_to_do(exported, library) -> None:
    said = refusal(library, exported("msfan").onnx, tile=(512, 640), batch=4, workspace_mib=64)
    assert "more scratch memory than 64 MiB for 4 tile(s) of 640x512 px" in said
    assert "a smaller --batch" in said


def test_complaint_of_one_build_is_not_told_of_the_next(exported, library) -> None:
    refusal(library, exported("edgecar-xs").onnx, version_compatible=True)
    build_engine(library, exported("edgecar-xs").onnx, settings())
    assert library.log.complaints == []
