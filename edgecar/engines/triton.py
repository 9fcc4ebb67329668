"""Model repositories for NVIDIA's Triton Inference Server.

``DIR/<model>/config.pbtxt`` says what a model takes and gives, ``DIR/<model>/<version>/`` holds it.
Keys and values are those of ``ModelConfig`` in Triton's ``model_config.proto``. What a client must
know to cut a frame into tiles is among the parameters, which Triton passes on to who asks for the
model's configuration.
"""

import json
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path

from edgecar.artifact import Artifact, read_artifact
from edgecar.engines.plan import onnx_sha256, read_plan
from edgecar.errors import ArtifactError, EngineError
from edgecar.files import atomic_write, quoted, writing
from edgecar.metadata import Metadata
from edgecar.spec import QUANTISER

ANY_BATCH = 9
"""Most tiles at a time of a graph that takes any number: as many as cover 1080p (`targets`)."""

TOLD = ("model", "channels", "halo_px", "align_px", "context", "precision", "trained_on")
"""Metadata that are among the parameters, under ``edgecar.*`` as in an artifact."""

# Protobuf's text format: JSON escapes alike what it escapes in ASCII.
CONFIG = """\
name: {name}
platform: {platform}
max_batch_size: {max_batch}
input [ {input} ]
output [ {output} ]
instance_group [ {{ {group} }} ]
"""
TENSOR = "{{ name: {name} data_type: {kind} dims: {dims} }}"
NO_DIMENSIONS = "[1] reshape: { shape: [ ] }"
"""Dims of a value for each tile of a batch: Triton wants one dimension, the graph has none."""
PARAMETER = 'parameters {{ key: "edgecar.{key}" value {{ string_value: {value} }} }}\n'


@dataclass(frozen=True)
class Served:
    """A model as Triton serves it."""

    name: str  # of its folder
    platform: str  # tensorrt_plan or onnxruntime_onnx
    file: str  # name that the platform looks for
    content: bytes
    metadata: Metadata
    config: str  # text of config.pbtxt
    batches: str  # number of tiles at a time, for people
    needs: str = ""  # options that the server must be started with


def served_graph(artifact: Artifact, instances: int = 1) -> Served:
    """Serve an exported graph by Triton's ONNX Runtime back end: tiles of any size and number."""
    metadata = artifact.metadata
    name = artifact.path.stem if artifact.path else metadata.model
    platform = "onnxruntime_onnx"
    # The kind is the CPU where a server has no GPU.
    group = f"count: {instances} kind: KIND_AUTO"
    config = _config(name, platform, artifact, (metadata.channels, -1, -1), ANY_BATCH, group)
    config += "dynamic_batching { }\n"
    batches = f"up to {ANY_BATCH} tiles, of requests that Triton joins"
    return Served(name, platform, "model.onnx", artifact.onnx, metadata, config, batches)


def served_plan(path: Path, instances: int = 1) -> Served:
    """Serve a plan by Triton's TensorRT back end: tiles of one size.

    Args:
        path: Path of the TensorRT plan. Its metadata (.json) and source ONNX file must be in the
            same folder.
        instances: Number on every GPU; two hide the copies of one behind the other's work.

    Raises:
        ArtifactError: One of these is missing, or is not what the plan was built from.
        EngineError: Triton does not run such a plan.
    """
    metadata, content = read_plan(path)
    network, settings = metadata.network, metadata.settings
    if metadata.library == "tensorrt-rtx":
        raise EngineError(
            f"{path} is of TensorRT-RTX, which Triton does not run; build it on the server with "
            f"edgecar build {quoted(metadata.onnx)} --library tensorrt, or serve "
            f"{metadata.onnx} itself"
        )
    artifact = read_artifact(path.with_name(metadata.onnx))
    if onnx_sha256(artifact) != metadata.onnx_sha256:
        raise ArtifactError(
            f"{artifact.path} is not what {path.name} was built from; build the plan again with "
            f"edgecar build {quoted(path)} --rebuild"
        )
    name, platform, batch = path.stem, "tensorrt_plan", settings.batch
    group = f"count: {instances} kind: KIND_GPU"
    if settings.dla_core is not None:
        group += f" secondary_devices [ {{ kind: KIND_NVDLA device_id: {settings.dla_core} }} ]"
    dims = (network.channels, *settings.tile)
    if settings.any_batch:
        config = _config(name, platform, artifact, dims, batch, group)
        config += f"dynamic_batching {{ preferred_batch_size: [ {batch} ] }}\n"
        batches = f"up to {batch} tiles, of requests that Triton joins"
    else:
        config = _config(name, platform, artifact, (batch, *dims), 0, group)
        batches = f"always {batch} tiles"
    compatible = "--backend-config=tensorrt,version-compatible=true"
    needs = compatible if settings.version_compatible else ""
    return Served(name, platform, "model.plan", content, network, config, batches, needs)


def _config(
    name: str,
    platform: str,
    artifact: Artifact,
    dims: tuple[int, ...],
    max_batch: int,
    group: str,
) -> str:
    """Return a ``ModelConfig``; with a largest batch, the batch is not among the dimensions."""
    import onnx

    graph = onnx.load_model_from_string(artifact.onnx).graph
    kinds = {onnx.TensorProto.FLOAT: "TYPE_FP32", onnx.TensorProto.FLOAT16: "TYPE_FP16"}
    ends = []
    for value in (*graph.input, graph.output[0]):
        kind = value.type.tensor_type.elem_type
        if kind not in kinds:
            raise ArtifactError(
                f"{value.name} is of {onnx.TensorProto.DataType.Name(kind)}, need FLOAT or "
                "FLOAT16; export it again"
            )
        shown = str([*dims])
        if value.name == QUANTISER:
            shown = NO_DIMENSIONS if max_batch else str([*dims[:1]])
        ends.append(TENSOR.format(name=json.dumps(value.name), kind=kinds[kind], dims=shown))
    config = CONFIG.format(
        name=json.dumps(name),
        platform=json.dumps(platform),
        max_batch=max_batch,
        input=", ".join(ends[:-1]),
        output=ends[-1],
        group=group,
    )
    for key in TOLD:
        value = json.dumps(str(getattr(artifact.metadata, key)))
        config += PARAMETER.format(key=key, value=value)
    return config


def write_repository(model: Served, folder: Path) -> Path:
    """Put a model into a repository: the next version, if another is there.

    A server that polls the repository never sees half a version.

    Returns:
        The model's file; that of the newest version if its bytes are these already.

    Raises:
        ArtifactError: A model of that name is there with another configuration.
    """
    home = folder / model.name
    config = home / "config.pbtxt"
    with writing(home):
        if config.exists() and config.read_text() != model.config:
            raise ArtifactError(
                f"{config} is of another model, or has other settings; remove {home}, or name "
                "another folder"
            )
        home.mkdir(parents=True, exist_ok=True)
        versions = [int(path.name) for path in home.iterdir() if path.name.isdigit()]
        newest = max(versions, default=0)
        last = home / str(newest) / model.file
        if last.is_file() and last.read_bytes() == model.content:
            return last
        with atomic_write(config) as whole:
            whole.write_text(model.config)
        version = home / str(newest + 1)
        # Not by mkdtemp, whose folders are private: the server is another user.
        temporary = home / f".version.{secrets.token_hex(4)}"
        try:
            temporary.mkdir()
            (temporary / model.file).write_bytes(model.content)
            temporary.rename(version)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        return version / model.file
