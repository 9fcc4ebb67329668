"""Triton model repositories: what Triton would read of them, and what is refused.

The configurations below were parsed with Triton's own `model_config.proto`.
"""

import json
import shutil
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from google.protobuf import text_format
from google.protobuf.wrappers_pb2 import StringValue

from edgecar.artifact import Artifact, read_artifact
from edgecar.engines.plan import sidecar_of
from edgecar.engines.targets import target_named
from edgecar.engines.triton import served_graph, served_plan, write_repository
from edgecar.engines.trt_build import settings_for, write_plan
from edgecar.errors import ArtifactError, EngineError
from tests.engines.conftest import T4
from tests.engines.fake_tensorrt import fake_tensorrt

CONFIG = """\
name: {name}
platform: {platform}
max_batch_size: {max_batch}
input [ {{ name: "input" data_type: TYPE_FP32 dims: {dims} }}, \
{{ name: "quantiser" data_type: TYPE_FP32 dims: {told} }} ]
output [ {{ name: "output" data_type: TYPE_FP32 dims: {dims} }} ]
instance_group [ {{ {group} }} ]
parameters {{ key: "edgecar.model" value {{ string_value: "edgecar-s" }} }}
parameters {{ key: "edgecar.channels" value {{ string_value: "1" }} }}
parameters {{ key: "edgecar.halo_px" value {{ string_value: "12" }} }}
parameters {{ key: "edgecar.align_px" value {{ string_value: "2" }} }}
parameters {{ key: "edgecar.context" value {{ string_value: "local" }} }}
parameters {{ key: "edgecar.precision" value {{ string_value: "fp32" }} }}
parameters {{ key: "edgecar.trained_on" value {{ string_value: "jpeg 10-40" }} }}
"""


ONE_EACH = "[1] reshape: { shape: [ ] }"


def plan_config(max_batch: int, dims: str, group: str, batching: str = "") -> str:
    facts = {"name": '"gate.t4"', "platform": '"tensorrt_plan"', "max_batch": max_batch}
    facts["told"] = ONE_EACH if max_batch else "[2]"
    return CONFIG.format(**facts, dims=dims, group=group) + batching


@pytest.fixture
def artifact(exported, tmp_path) -> Artifact:
    path = tmp_path / "gate.onnx"
    path.write_bytes(exported("edgecar-s").onnx)
    return read_artifact(path)


@pytest.fixture(scope="module")
def built(exported, tmp_path_factory):
    """A function that builds a plan as TensorRT 10.3 on a T4 would; seconds the first time."""
    pytest.importorskip("tensorrt_rtx")

    @cache
    def build(any_batch: bool) -> Path:
        folder = tmp_path_factory.mktemp("plans")
        (folder / "gate.onnx").write_bytes(exported("edgecar-s").onnx)
        graph, target = read_artifact(folder / "gate.onnx"), target_named("t4")
        small = {"tile": (64, 96), "batch": 2, "level": 0, "any_batch": any_batch}
        path = folder / "gate.t4.plan"
        settings = settings_for(graph, target, **small)
        write_plan(graph, path, fake_tensorrt("10.3.0"), target, settings, T4)
        return path

    return build


@pytest.fixture
def plan(built, tmp_path):
    """A function that gives a copy of it, with what cannot be built here put into its metadata."""

    def copy(any_batch: bool = False, library: str = "tensorrt", **settings: object) -> Path:
        path: Path = shutil.copytree(built(any_batch).parent, tmp_path / "copy") / "gate.t4.plan"
        metadata = json.loads(sidecar_of(path).read_text())
        metadata["library"] = library
        metadata["settings"].update(settings)
        sidecar_of(path).write_text(json.dumps(metadata))
        return path

    return copy


def test_graph_takes_tiles_of_any_size_and_number(artifact, tmp_path) -> None:
    import onnxruntime

    served = served_graph(artifact)
    facts = {"name": '"gate"', "platform": '"onnxruntime_onnx"', "max_batch": 9, "told": ONE_EACH}
    text = CONFIG.format(**facts, dims="[1, -1, -1]", group="count: 1 kind: KIND_AUTO")
    assert served.config == text + "dynamic_batching { }\n"
    path = write_repository(served, tmp_path / "models")
    assert path == tmp_path / "models" / "gate" / "1" / "model.onnx"
    assert (tmp_path / "models" / "gate" / "config.pbtxt").read_text() == served.config
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    tiles = np.zeros((9, 1, 32, 48), np.float32)
    given = {"input": tiles, "quantiser": np.full(9, 0.5, np.float32)}
    assert session.run(["output"], given)[0].shape == tiles.shape


def test_graph_without_a_quantiser_asks_for_none(exported) -> None:
    assert "quantiser" not in served_graph(exported("fastarcnn")).config


def test_words_with_quotes_and_accents_come_through(artifact) -> None:
    odd = 'jpeg "10" \\ é\n'
    named = Artifact(replace(artifact.metadata, trained_on=odd), artifact.onnx, artifact.path)
    (line,) = [line for line in served_graph(named).config.splitlines() if "trained_on" in line]
    text = line.partition("string_value: ")[2].removesuffix(" } }")
    assert text_format.Parse(f"value: {text}", StringValue()).value == odd


@pytest.mark.parametrize(
    ("settings", "instances", "config"),
    [
        ({}, 2, plan_config(0, "[2, 1, 64, 96]", "count: 2 kind: KIND_GPU")),
        (
            {"any_batch": True},
            1,
            plan_config(
                *(2, "[1, 64, 96]", "count: 1 kind: KIND_GPU"),
                "dynamic_batching { preferred_batch_size: [ 2 ] }\n",
            ),
        ),
        (
            {"dla_core": 1},
            1,
            plan_config(
                *(0, "[2, 1, 64, 96]", "count: 1 kind: KIND_GPU secondary_devices "),
            ).replace("devices  ", "devices [ { kind: KIND_NVDLA device_id: 1 } ] "),
        ),
    ],
)
def test_plan_takes_its_tile_and_batch(settings, instances, config, plan, tmp_path) -> None:
    """Triton adds a batch to the dimensions only where it may choose it."""
    path = plan(**settings)
    served = served_plan(path, instances)
    assert served.config == config
    assert served.needs == ""
    written = write_repository(served, tmp_path / "models")
    assert written.name == "model.plan"
    assert written.read_bytes() == path.read_bytes()


def test_plan_for_later_versions_says_what_the_server_needs(plan) -> None:
    needs = "--backend-config=tensorrt,version-compatible=true"
    assert served_plan(plan(version_compatible=True)).needs == needs


def test_plan_of_the_rtx_edition_is_refused(plan) -> None:
    with pytest.raises(EngineError, match=r"Triton does not run; .*--library tensorrt"):
        served_plan(plan(library="tensorrt-rtx"))


def test_plan_without_its_graph_or_with_another_is_refused(plan, exported) -> None:
    path = plan()
    graph = path.with_name("gate.onnx")
    graph.write_bytes(exported("edgecar-xs").onnx)
    with pytest.raises(ArtifactError, match=r"is not what gate\.t4\.plan was built from"):
        served_plan(path)
    graph.unlink()
    with pytest.raises(ArtifactError, match="no such file"):
        served_plan(path)


def test_other_weights_are_the_next_version(artifact, tmp_path) -> None:
    models, first = tmp_path / "models", served_graph(artifact)
    assert write_repository(first, models).parent.name == "1"
    assert write_repository(first, models).parent.name == "1"  # the same bytes: nothing to do
    later = replace(first, content=first.content + b"\0")
    assert write_repository(later, models).parent.name == "2"
    path = write_repository(first, models)
    assert path.parent.name == "3"  # Triton serves the newest
    assert {path.name for path in (models / "gate").iterdir()} == {"config.pbtxt", "1", "2", "3"}
    assert path.parent.stat().st_mode & 0o055 == 0o055  # the server is another user
    with pytest.raises(ArtifactError, match="is of another model, or has other settings"):
        write_repository(served_graph(artifact, instances=2), models)


def test_half_a_version_is_never_seen(artifact, tmp_path, monkeypatch) -> None:
    def fail(self: Path, _content: bytes) -> int:
        self.touch()
        raise OSError("no space left on device")

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(OSError, match="no space"):
        write_repository(served_graph(artifact), tmp_path / "models")
    assert [path.name for path in (tmp_path / "models" / "gate").iterdir()] == ["config.pbtxt"]
