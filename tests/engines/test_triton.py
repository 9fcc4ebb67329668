"""Triton model repositories: what Triton would read of them, and what is refused.

The configurations are parsed by protobuf, against those messages and fields of Triton's
`model_config.proto` that edgecar uses (names, numbers and types as published).
"""

import json
import shutil
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

from edgecar.artifact import Artifact, read_artifact
from edgecar.engines.gpu import Gpu
from edgecar.engines.plan import settings_for, sidecar_of, write_plan
from edgecar.engines.targets import target_named
from edgecar.engines.triton import config_text, served_graph, served_plan, write_repository
from edgecar.errors import ArtifactError, EngineError
from tests.engines.fake_tensorrt import fake_tensorrt

T4 = Gpu("Tesla T4", "7.5", 40, 15360, False, "12.6", "", "")
SMALL = {"tile": (64, 96), "batch": 2, "level": 0}

Field = descriptor_pb2.FieldDescriptorProto
TYPES = {
    "string": Field.TYPE_STRING, "int32": Field.TYPE_INT32, "int64": Field.TYPE_INT64,
}  # fmt: skip
ENUMS = {
    "DataType": {"TYPE_INVALID": 0, "TYPE_FP16": 10, "TYPE_FP32": 11},
    "Kind": {"KIND_AUTO": 0, "KIND_GPU": 1, "KIND_CPU": 2, "KIND_MODEL": 3},
    "SecondaryDeviceKind": {"KIND_NVDLA": 0},
}
MESSAGES = {
    "SecondaryDevice": {"kind": (1, "SecondaryDeviceKind"), "device_id": (2, "int64")},
    "ModelInstanceGroup": {
        "kind": (4, "Kind"), "count": (2, "int32"), "secondary_devices": (8, "SecondaryDevice*"),
    },
    "ModelInput": {"name": (1, "string"), "data_type": (2, "DataType"), "dims": (4, "int64*")},
    "ModelOutput": {"name": (1, "string"), "data_type": (2, "DataType"), "dims": (3, "int64*")},
    "ModelDynamicBatching": {"preferred_batch_size": (1, "int32*")},
    "ModelParameter": {"string_value": (1, "string")},
    "ParametersEntry": {"key": (1, "string"), "value": (2, "ModelParameter")},
    "ModelConfig": {
        "name": (1, "string"), "platform": (2, "string"), "max_batch_size": (4, "int32"),
        "input": (5, "ModelInput*"), "output": (6, "ModelOutput*"),
        "instance_group": (7, "ModelInstanceGroup*"),
        "dynamic_batching": (11, "ModelDynamicBatching"), "parameters": (14, "ParametersEntry*"),
    },
}  # fmt: skip
"""Of a message its fields: number, and type; a star repeats it."""


def model_config():
    """The class of Triton's `ModelConfig`, as far as it is used."""
    file = descriptor_pb2.FileDescriptorProto(name="used.proto", package="used", syntax="proto3")
    for name, values in ENUMS.items():
        enum = file.enum_type.add(name=name)
        for value, number in values.items():
            enum.value.add(name=value, number=number)
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, (number, kind) in fields.items():
            plain = kind.rstrip("*")
            added = message.field.add(name=field, number=number)
            added.label = Field.LABEL_REPEATED if kind != plain else Field.LABEL_OPTIONAL
            if plain in TYPES:
                added.type = TYPES[plain]
            else:
                added.type = Field.TYPE_ENUM if plain in ENUMS else Field.TYPE_MESSAGE
                added.type_name = f".used.{plain}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("used.ModelConfig"))


def parsed(text: str):
    return text_format.Parse(text, model_config()())


def told(config) -> dict[str, str]:
    return {entry.key: entry.value.string_value for entry in config.parameters}


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
        settings = settings_for(graph, target, any_batch=any_batch, **SMALL)
        path = folder / "gate.t4.plan"
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


def test_graph_takes_tiles_of_any_size_and_number(artifact) -> None:
    config = parsed(config_text(served_graph(artifact)))
    assert (config.name, config.platform) == ("gate", "onnxruntime_onnx")
    assert config.max_batch_size == 9
    assert config.HasField("dynamic_batching")
    (picture,), (restored,) = config.input, config.output
    assert (picture.name, list(picture.dims)) == ("input", [1, -1, -1])
    assert (restored.name, list(restored.dims)) == ("output", [1, -1, -1])
    assert picture.data_type == restored.data_type == ENUMS["DataType"]["TYPE_FP32"]
    (group,) = config.instance_group
    assert (group.count, group.kind) == (1, ENUMS["Kind"]["KIND_AUTO"])


def test_client_is_told_what_tiles_need(artifact) -> None:
    metadata = told(parsed(config_text(served_graph(artifact))))
    assert metadata["edgecar.halo_px"] == str(artifact.metadata.halo_px)
    assert metadata["edgecar.trained_on"] == "jpeg 10-40"


def test_words_with_quotes_and_accents_come_through(artifact) -> None:
    odd = 'jpeg "10" \\ é\n'
    named = Artifact(replace(artifact.metadata, trained_on=odd), artifact.onnx, artifact.path)
    assert told(parsed(config_text(served_graph(named))))["edgecar.trained_on"] == odd


def test_served_graph_gives_what_the_artifact_gives(artifact, tmp_path) -> None:
    import onnxruntime

    path = write_repository(served_graph(artifact), tmp_path / "models")
    assert path == tmp_path / "models" / "gate" / "1" / "model.onnx"
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    config = parsed((tmp_path / "models" / "gate" / "config.pbtxt").read_text())
    assert session.get_inputs()[0].name == config.input[0].name
    assert session.get_outputs()[0].name == config.output[0].name
    tiles = np.zeros((config.max_batch_size, 1, 32, 48), np.float32)
    (restored,) = session.run([config.output[0].name], {config.input[0].name: tiles})
    assert restored.shape == tiles.shape


def test_plan_of_one_batch_has_it_among_its_dimensions(plan) -> None:
    """Triton adds a batch to the dimensions only where it may choose it."""
    config = parsed(config_text(served_plan(plan()), instances=2))
    assert (config.name, config.platform) == ("gate.t4", "tensorrt_plan")
    assert config.max_batch_size == 0
    assert not config.HasField("dynamic_batching")
    assert list(config.input[0].dims) == list(config.output[0].dims) == [2, 1, 64, 96]
    (group,) = config.instance_group
    assert (group.count, group.kind) == (2, ENUMS["Kind"]["KIND_GPU"])


def test_plan_of_any_batch_is_batched_up_to_its_most(plan, tmp_path) -> None:
    path = plan(any_batch=True)
    config = parsed(config_text(served_plan(path)))
    assert config.max_batch_size == 2
    assert list(config.dynamic_batching.preferred_batch_size) == [2]
    assert list(config.input[0].dims) == [1, 64, 96]
    written = write_repository(served_plan(path), tmp_path / "models")
    assert written.name == "model.plan"
    assert written.read_bytes() == path.read_bytes()


def test_plan_of_an_accelerator_runs_there(plan) -> None:
    (group,) = parsed(config_text(served_plan(plan(dla_core=1)))).instance_group
    (device,) = group.secondary_devices
    assert (device.kind, device.device_id) == (ENUMS["SecondaryDeviceKind"]["KIND_NVDLA"], 1)


@pytest.mark.parametrize(("compatible", "needed"), [(False, ""), (True, "version-compatible=true")])
def test_plan_for_later_versions_says_what_the_server_needs(compatible, needed, plan) -> None:
    needs = served_plan(plan(version_compatible=compatible)).needs
    assert needs.partition(",")[2] == needed


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
    sidecar_of(path).unlink()
    with pytest.raises(ArtifactError, match=r"no gate\.t4\.plan\.json beside it"):
        served_plan(path)


def test_other_weights_are_the_next_version(artifact, tmp_path) -> None:
    models, first = tmp_path / "models", served_graph(artifact)
    assert write_repository(first, models).parent.name == "1"
    assert write_repository(first, models).parent.name == "1"  # the same bytes: nothing to do
    later = replace(first, content=first.content + b"\0")
    assert write_repository(later, models).parent.name == "2"
    assert write_repository(first, models).parent.name == "3"  # Triton serves the newest
    assert {path.name for path in (models / "gate").iterdir()} == {"config.pbtxt", "1", "2", "3"}


def test_other_settings_under_the_same_name_are_refused(artifact, tmp_path) -> None:
    models, model = tmp_path / "models", served_graph(artifact)
    write_repository(model, models)
    with pytest.raises(ArtifactError, match="is of another model, or has other settings"):
        write_repository(model, models, instances=2)
    assert not (models / "gate" / "2").exists()


def test_half_a_version_is_never_seen(artifact, tmp_path, monkeypatch) -> None:
    models, model = tmp_path / "models", served_graph(artifact)

    def fail(self: Path, _content: bytes) -> int:
        self.touch()
        raise OSError("no space left on device")

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(OSError, match="no space"):
        write_repository(model, models)
    assert [path.name for path in (models / "gate").iterdir()] == ["config.pbtxt"]


def test_server_of_another_user_may_read_it(artifact, tmp_path) -> None:
    path = write_repository(served_graph(artifact), tmp_path / "models")
    assert path.parent.stat().st_mode & 0o055 == 0o055
