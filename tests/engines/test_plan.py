"""Plans and their metadata: what is built, what is refused, and in which words."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from edgecar.artifact import Artifact, read_artifact
from edgecar.engines.answer import LEAST_TOLERANCE, ROUNDING_CODES, mirrored
from edgecar.engines.base import CODE
from edgecar.engines.plan import (
    BuildSettings,
    read_plan,
    read_plan_metadata,
    sidecar_of,
    why_not_here,
)
from edgecar.engines.select import open_engine
from edgecar.engines.targets import target_named
from edgecar.engines.trt_build import (
    build_engine,
    metadata_at_tile,
    settings_for,
    with_tile,
    write_plan,
)
from edgecar.engines.trt_library import Library
from edgecar.errors import ArtifactError, EngineError, WindowError
from edgecar.files import WEIGHTS
from edgecar.metadata import Quality
from edgecar.spec import MIDDLE_QUANTISER
from tests.conftest import TENSORRT
from tests.engines.conftest import CARD, SMALL, T4
from tests.engines.fake_tensorrt import fake_tensorrt
from tests.networks import every_network

pytest.importorskip("tensorrt_rtx")
TILE = (96, 128)  # multiples of every alignment
SHIPPED = sorted(path.name for path in WEIGHTS.glob("*.onnx"))


def settings(**changes) -> BuildSettings:
    return BuildSettings(**{"tile": TILE, "batch": 2, "workspace_mib": 256, "level": 0, **changes})


def refusal(call, *arguments, **named) -> str:
    with pytest.raises((ArtifactError, EngineError)) as refused:
        call(*arguments, **named)
    assert "\n" not in str(refused.value)
    return str(refused.value)


@pytest.fixture
def copy(built, tmp_path) -> Path:
    """A copy of the plan in a folder of its own, with its metadata and graph."""
    return shutil.copytree(built.parent, tmp_path / "copy") / built.name


@pytest.fixture
def artifact(built) -> Artifact:
    return read_artifact(built.with_name("net.onnx"))


# Metadata.


def test_facts_come_back_as_they_were(built, artifact, library) -> None:
    metadata, content = read_plan(built)
    assert built.name == "net.rtx.plan"
    assert content == built.read_bytes()
    assert metadata.network == artifact.metadata
    assert metadata.settings == settings_for(artifact, target_named("rtx"), **SMALL)
    assert (metadata.library, metadata.version) == ("tensorrt-rtx", library.version)
    assert (metadata.target, metadata.onnx, metadata.gpu) == ("rtx", "net.onnx", "")
    assert metadata.layers > 3
    assert metadata.inspected is None  # nothing here can load it


def test_facts_of_a_lower_precision_come_back(reduced, tmp_path, library) -> None:
    path = tmp_path / "half.onnx"
    path.write_bytes(reduced("edgecar-s", "fp16").onnx)
    half, target = read_artifact(path), target_named("rtx")
    quality = Quality(0.1, 0.2, 0, 1, 3, 6, "", "", "", 6, ("a",), ("b",), "", (("exact", 0.1),))
    half = replace(half, metadata=replace(half.metadata, quality=quality))
    plan = tmp_path / "half.plan"
    made = write_plan(half, plan, library, target, settings_for(half, target, **SMALL), None)
    assert read_plan_metadata(plan) == made
    assert made.settings.precision == "fp16"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda table: table.update(format=0), "another format"),
        (lambda table: table.update(library="trt"), "another format or library"),
        (lambda table: table.pop("version"), "'version'"),
        (lambda table: table.update(more=1), "'more' is missing or unknown"),
        (lambda table: table["settings"].update(tiles=1), "tiles"),
        (lambda table: table["network"].pop("halo_px"), "halo_px"),
        (lambda table: table["network"]["known_answer"].update(allowed_db=9.0), "is damaged"),
        (lambda table: table["network"].update(known_answer="much"), "is damaged"),
    ],
)
def test_facts_that_are_not_understood_are_refused(change, said, copy) -> None:
    table = json.loads(sidecar_of(copy).read_text())
    change(table)
    sidecar_of(copy).write_text(json.dumps(table))
    assert said in refusal(read_plan, copy)


def test_plan_that_was_cut_off_is_not_loaded(copy) -> None:
    copy.write_bytes(copy.read_bytes()[:-1])
    assert "other bytes than net.rtx.plan.json names" in refusal(read_plan, copy)


def test_plan_runs_where_it_was_built_for(built, library) -> None:
    metadata, version = read_plan_metadata(built), library.version
    turing = replace(CARD, name="NVIDIA GeForce RTX 2080", compute_capability="7.5")
    assert why_not_here(metadata, version, CARD) is None
    assert why_not_here(metadata, version, turing) == (
        "it was built for GPUs from Ampere on, this is NVIDIA GeForce RTX 2080 (7.5)"
    )
    assert why_not_here(metadata, version, None) == "there is no NVIDIA GPU here"
    assert why_not_here(metadata, "1.0", CARD) == (
        f"it was built with TensorRT-RTX {version}, this is 1.0"
    )
    l4 = replace(CARD, name="NVIDIA L4")
    metadata = replace(metadata, gpu="NVIDIA L4", compute_capability="8.9")
    assert why_not_here(metadata, version, l4) is None
    assert why_not_here(metadata, version, CARD) == (
        "it was built for NVIDIA L4 (8.9), this is NVIDIA GeForce RTX 4090 (8.9)"
    )
    free = replace(metadata, settings=replace(metadata.settings, hardware_compatible=True))
    assert why_not_here(free, version, CARD) is None
    kept = replace(metadata, settings=replace(metadata.settings, version_compatible=True))
    assert why_not_here(kept, "99", l4) is None


# What is written.


def test_build_that_fails_leaves_what_was_there(copy, artifact, library) -> None:
    before = {path.name: path.read_bytes() for path in copy.parent.iterdir()}
    target = target_named("rtx")
    wrong = settings_for(artifact, target, **SMALL, version_compatible=True)
    assert "built no plan: " in refusal(write_plan, artifact, copy, library, target, wrong, None)
    assert {path.name: path.read_bytes() for path in copy.parent.iterdir()} == before


@pytest.mark.parametrize(
    ("gpu", "said"),
    [
        (None, "builds on the GPU that will run the plan, and there is none here"),
        (CARD, "target t4 has compute capability 7.5, this is NVIDIA GeForce RTX 4090 (8.9)"),
    ],
)
def test_tensorrt_builds_only_on_the_box_itself(gpu, said, artifact, tmp_path, library) -> None:
    enterprise, target = Library("tensorrt", library.trt, library.log), target_named("t4")
    given = artifact, tmp_path / "x.plan", enterprise, target
    words = refusal(write_plan, *given, settings_for(artifact, target, **SMALL), gpu)
    assert said in words
    assert "run this on the t4 itself" in words


def test_timings_are_kept_for_the_next_build(artifact, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("EDGECAR_CACHE", str(tmp_path / "cache"))
    given: list[bytes] = []
    fake, target = fake_tensorrt("10.3.0", timings=given), target_named("t4")
    wanted = settings_for(artifact, target, **SMALL)
    for _ in range(2):
        metadata = write_plan(artifact, tmp_path / "x.plan", fake, target, wanted, T4)
    (kept,) = (tmp_path / "cache" / "engines").iterdir()
    assert kept.name == "tensorrt-10.3.0-tesla-t4.timings"
    assert given == [b"", kept.read_bytes()]
    assert (metadata.gpu, metadata.compute_capability, metadata.cuda) == ("Tesla T4", "7.5", "12.6")


def test_tile_or_precision_that_does_not_suit_is_refused(artifact) -> None:
    target = target_named("rtx")
    for tile in ((64, 63), (24, 64)):
        with pytest.raises(WindowError, match="multiples of 2 px and at least 26 px"):
            settings_for(artifact, target, tile=tile)
    assert settings_for(artifact, target, compute_capability="8.9").compute_capability == "8.9"
    said = refusal(settings_for, artifact, replace(target, precisions=("int8",)))
    assert "rtx takes int8, the graph is in fp32" in said


def test_graph_that_would_be_misread_is_not_built(reduced, tmp_path, library) -> None:
    path = tmp_path / "unsigned.onnx"
    path.write_bytes(reduced("edgecar-s", "int8 onnxruntime").onnx)
    artifact, target = read_artifact(path), target_named("rtx")
    given = artifact, tmp_path / "x.plan", library, target
    said = refusal(write_plan, *given, settings_for(artifact, target, **SMALL), None)
    assert "unsigned codes" in said
    assert not (tmp_path / "x.plan").exists()


# What is built: TensorRT-RTX does it with the parser of 11.


@pytest.mark.parametrize("any_batch", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", ["fp32", *TENSORRT])
@every_network
def test_every_graph_becomes_a_plan(name, kind, any_batch, exported, reduced, library) -> None:
    artifact = exported(name) if kind == "fp32" else reduced(name, kind)
    plan, layers = build_engine(library, artifact.onnx, settings(any_batch=any_batch))
    assert len(plan) > 1000
    assert layers > 3


@pytest.mark.parametrize("any_batch", [False, True])
def test_plan_fixes_the_shapes_of_picture_and_quantiser(any_batch, artifact, library) -> None:
    made = with_tile(artifact.onnx, settings(any_batch=any_batch))
    given = {
        value.name: [dim.dim_value or dim.dim_param for dim in value.type.tensor_type.shape.dim]
        for value in (*made.graph.input, *made.graph.output)
    }
    batch = "batch" if any_batch else 2
    assert given == {
        "input": [batch, 1, *TILE], "quantiser": [batch], "output": [batch, 1, *TILE]
    }  # fmt: skip
    assert build_engine(library, artifact.onnx, settings(any_batch=any_batch))[0]


def test_known_answer_of_a_tile_is_that_of_its_quantiser(artifact) -> None:
    """Networks that pool over the whole picture have one for each tile."""
    pooled = replace(artifact, metadata=replace(artifact.metadata, context="windowed"))
    known = metadata_at_tile(pooled, TILE).known_answer
    assert known.quantiser == artifact.metadata.known_answer.quantiser != MIDDLE_QUANTISER
    with open_engine(artifact, "onnxruntime", threads=1) as engine:
        codes = mirrored(known.codes(), TILE)[None] * CODE
        expected = 255 * engine.run(codes, [known.quantiser])[0]
    height, width = known.shape[1:]
    apart = known.expected_codes() - np.clip(expected, 0, 255)[:, :height, :width]
    assert np.abs(apart).max() <= ROUNDING_CODES + 255 * LEAST_TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize("file", SHIPPED)
def test_every_graph_that_ships_becomes_a_plan(file, library) -> None:
    assert build_engine(library, read_artifact(WEIGHTS / file).onnx, settings())[0]


def test_settings_decide_what_is_built(artifact, library) -> None:
    told: list[str] = []
    turing, layers = build_engine(
        library, artifact.onnx, settings(compute_capability="7.5"), report=told.append
    )
    assert told[0].startswith("Building engine, ")
    assert "Building engine, step 1" in told
    ada, _ = build_engine(library, artifact.onnx, settings(compute_capability="8.9"))
    assert turing != ada
    _, more = build_engine(library, artifact.onnx, settings(any_batch=True))
    assert more > layers  # shapes that are not known take arithmetic


def graph_of(operator: str, *more: str) -> bytes:
    *given, restored = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 1, "h", "w"])
        for name in ("input", *more, "output")
    )
    node = helper.make_node(operator, ["input", *more], ["output"], domain="own")
    graph = helper.make_graph([node], "drawing", given, [restored])
    opsets = [helper.make_opsetid("", 19), helper.make_opsetid("own", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()


@pytest.mark.parametrize(
    ("onnx_bytes", "said"),
    [
        (b"no graph", "not a graph from pictures to pictures of 96x128 px"),
        (b"", "not a graph from pictures to pictures"),
        (graph_of("Unheard"), "cannot read the graph: "),
        (graph_of("Add", "more"), "96x128 px: its second input must be 'quantiser'"),
    ],
)
def test_graph_that_cannot_be_read_is_refused_in_a_line(onnx_bytes, said, library) -> None:
    assert said in refusal(build_engine, library, onnx_bytes, settings())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"compute_capability": "9.0"}, "SM75, SM80, SM86, SM89, SM120, SM121, not SM90"),
        ({"dla_core": 0}, "sees 0 DLA core(s) here, asked for number 0"),
        ({"weakly_typed": True, "precision": "fp16"}, "has no weak typing"),
        ({"version_compatible": True}, "built no plan: "),
        ({"hardware_compatible": True}, "TensorRT-RTX needs no --hardware-compatible"),
        *(
            (
                {"tile": (512, 640), "batch": 4, "workspace_mib": mib},
                f"more scratch memory than {mib} MiB for 4 tile(s) of 640x512 px",
            )
            for mib in (64, 1)  # which TensorRT words differently
        ),
    ],
)
def test_setting_that_it_does_not_take_is_refused(changes, said, exported, library) -> None:
    name = "msfan" if "workspace_mib" in changes else "edgecar-xs"
    assert said in refusal(build_engine, library, exported(name).onnx, settings(**changes))
    build_engine(library, exported("edgecar-xs").onnx, settings())
    assert library.log.complaints == []  # not told of the next build
