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
from typing import TYPE_CHECKING

from edgecar.artifact import Artifact, read_artifact
from edgecar.engines.plan import library_of, onnx_sha256, read_plan
from edgecar.errors import ArtifactError, EngineError
from edgecar.files import atomic_write, quoted, writing
from edgecar.metadata import Metadata

if TYPE_CHECKING:
    from onnx import ValueInfoProto

ANY_BATCH = 9
"""Most tiles at a time of a graph that takes any number: as many as cover 1080p (`targets`)."""

CONFIG = "config.pbtxt"
TOLD = ("model", "channels", "halo_px", "align_px", "context", "precision", "trained_on")
"""Metadata that are among the parameters, under ``edgecar.*`` as in an artifact."""


@dataclass(frozen=True)
class Tensor:
    """An input or output: its name, Triton's type, and its dimensions after the batch, if any."""

    name: str
    data_type: str
    dims: tuple[int, ...]


@dataclass(frozen=True)
class Served:
    """A model as Triton serves it.

    Attributes:
        name: Name of its folder.
        platform: ``tensorrt_plan`` or ``onnxruntime_onnx``.
        file: Name that the platform looks for.
        content: Bytes of that file.
        metadata: Metadata of the artifact.
        input: Tiles, ``(C, H, W)``, with a fixed batch in front of that; -1 is any size.
        output: The same.
        max_batch: Most tiles of a request, which Triton may join with others; 0: the batch is
            fixed and among the dimensions.
        dla_core: Accelerator that the plan was built for.
        needs: Options that the server must be started with; empty if none.
    """

    name: str
    platform: str
    file: str
    content: bytes
    metadata: Metadata
    input: Tensor
    output: Tensor
    max_batch: int
    dla_core: int | None = None
    needs: str = ""


def served_graph(artifact: Artifact) -> Served:
    """An exported graph, run by Triton's ONNX Runtime back end: tiles of any size and number."""
    picture, restored = _ends(artifact)
    return Served(
        name=artifact.path.stem if artifact.path else artifact.metadata.model,
        platform="onnxruntime_onnx",
        file="model.onnx",
        content=artifact.onnx,
        metadata=artifact.metadata,
        input=_tensor(picture, (artifact.metadata.channels, -1, -1)),
        output=_tensor(restored, (artifact.metadata.channels, -1, -1)),
        max_batch=ANY_BATCH,
    )


def served_plan(path: Path) -> Served:
    """A plan, run by Triton's TensorRT back end: tiles of one size.

    Args:
        path: Path of the TensorRT plan. Its metadata (.json) and source ONNX file must be in the
            same folder.

    Raises:
        ArtifactError: One of these is missing, or is not what the plan was built from.
        EngineError: Triton does not run such a plan.
    """
    plan = read_plan(path)
    metadata, settings = plan.metadata, plan.metadata.settings
    if library_of(metadata) == "tensorrt-rtx":
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
    picture, restored = _ends(artifact)
    batch = () if settings.any_batch else (settings.batch,)
    dims = (*batch, metadata.network.channels, *settings.tile)
    return Served(
        name=path.stem,
        platform="tensorrt_plan",
        file="model.plan",
        content=plan.content,
        metadata=metadata.network,
        input=_tensor(picture, dims),
        output=_tensor(restored, dims),
        max_batch=settings.batch if settings.any_batch else 0,
        dla_core=settings.dla_core,
        needs="--backend-config=tensorrt,version-compatible=true"
        if settings.version_compatible
        else "",
    )


def config_text(model: Served, instances: int = 1) -> str:
    """Return the text of ``config.pbtxt``: a ``ModelConfig`` in protobuf's text format.

    Args:
        model: Model to serve.
        instances: Number on every GPU; two hide the copies of one behind the other's work.
    """
    lines = [
        f"name: {_quoted(model.name)}",
        f"platform: {_quoted(model.platform)}",
        f"max_batch_size: {model.max_batch}",
        f"input [ {_tensor_text(model.input)} ]",
        f"output [ {_tensor_text(model.output)} ]",
        f"instance_group [ {_instance_text(model, instances)} ]",
    ]
    if model.max_batch:
        # A plan is fastest with the batch of its profile; a graph has no such number.
        fixed = model.platform == "tensorrt_plan"
        preferred = f"preferred_batch_size: [ {model.max_batch} ]" if fixed else ""
        lines.append(f"dynamic_batching {{ {preferred} }}")
    for fact in TOLD:
        value = _quoted(str(getattr(model.metadata, fact)))
        lines.append(
            f"parameters {{ key: {_quoted(f'edgecar.{fact}')} value {{ string_value: {value} }} }}"
        )
    return "\n".join(lines) + "\n"


def write_repository(model: Served, folder: Path, instances: int = 1) -> Path:
    """Put a model into a repository: the next version, if another is there.

    A server that polls the repository never sees half a version.

    Returns:
        The model's file; that of the newest version if its bytes are these already.

    Raises:
        ArtifactError: A model of that name is there with another configuration.
    """
    home = folder / model.name
    with writing(home):
        return _written(model, home, config_text(model, instances))


def _written(model: Served, home: Path, text: str) -> Path:
    config = home / CONFIG
    if config.exists() and config.read_text() != text:
        raise ArtifactError(
            f"{config} is of another model, or has other settings; remove {home}, or name another "
            "folder"
        )
    home.mkdir(parents=True, exist_ok=True)
    versions = [int(path.name) for path in home.iterdir() if path.name.isdigit()]
    newest = max(versions, default=0)
    last = home / str(newest) / model.file
    if last.is_file() and last.read_bytes() == model.content:
        return last
    with atomic_write(config) as whole:
        whole.write_text(text)
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


def _ends(artifact: Artifact) -> tuple["ValueInfoProto", "ValueInfoProto"]:
    """The graph's one input and one output."""
    import onnx

    graph = onnx.load_model_from_string(artifact.onnx).graph
    return graph.input[0], graph.output[0]


def _tensor(value: "ValueInfoProto", dims: tuple[int, ...]) -> Tensor:
    from onnx import TensorProto

    kind = value.type.tensor_type.elem_type
    words: dict[int, str] = {TensorProto.FLOAT: "TYPE_FP32", TensorProto.FLOAT16: "TYPE_FP16"}
    if kind not in words:
        raise ArtifactError(
            f"{value.name} is of {TensorProto.DataType.Name(kind)}, need FLOAT or FLOAT16; export "
            "it again"
        )
    return Tensor(value.name, words[kind], dims)


def _tensor_text(tensor: Tensor) -> str:
    dims = ", ".join(map(str, tensor.dims))
    return f"{{ name: {_quoted(tensor.name)} data_type: {tensor.data_type} dims: [ {dims} ] }}"


def _instance_text(model: Served, instances: int) -> str:
    # Plans run on GPUs only; a graph runs on the CPU where a server has none.
    kind = "KIND_GPU" if model.platform == "tensorrt_plan" else "KIND_AUTO"
    dla = ""
    if model.dla_core is not None:
        dla = f" secondary_devices [ {{ kind: KIND_NVDLA device_id: {model.dla_core} }} ]"
    return f"{{ count: {instances} kind: {kind}{dla} }}"


def _quoted(text: str) -> str:
    """As protobuf's text format has it; JSON escapes alike what it escapes in ASCII."""
    return json.dumps(text)
