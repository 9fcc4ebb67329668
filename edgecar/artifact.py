"""Artifacts: exported ONNX files, which any runtime loads, with the metadata inside them."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgecar.errors import ArtifactError
from edgecar.files import WEIGHTS, is_bare_name
from edgecar.metadata import Metadata, read_metadata
from edgecar.spec import WEIGHTS_FOR, WeightsFor

if TYPE_CHECKING:
    from onnx import ModelProto, TensorProto


@dataclass(frozen=True)
class Artifact:
    """An ONNX file's bytes with its metadata; weights stored beside the file are included."""

    metadata: Metadata
    onnx: bytes
    path: Path | None = None

    @property
    def shipped(self) -> bool:
        """True for weights that ship with edgecar, False for those of the user's."""
        return self.path is not None and self.path.parent == WEIGHTS


def read_artifact(path: Path) -> Artifact:
    """Load an artifact from an ONNX file.

    Raises:
        ArtifactError: The file is missing, is not ONNX, or has no or contradictory metadata.
    """
    model = read_model(path)
    return Artifact(read_metadata(model, path), model.SerializeToString(), path)


def read_model(path: Path) -> "ModelProto":
    """Load an ONNX file with the weights stored beside it, all in float32.

    Raises:
        ArtifactError: The file is missing, is not ONNX, or its weights cannot be read.
    """
    import onnx

    if not path.is_file():
        raise ArtifactError(f"{path}: no such file; make one with: edgecar export CHECKPOINT")
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:  # protobuf's own classes are private to its implementation
        raise ArtifactError(
            f"{path}: not an ONNX file ({type(error).__name__}); export one with: "
            "edgecar export CHECKPOINT"
        ) from error
    try:
        onnx.load_external_data_for_model(model, str(path.parent))
    except (OSError, ValueError, onnx.checker.ValidationError) as error:
        raise ArtifactError(
            f"{path}: its weights cannot be read ({' '.join(str(error).split())}); keep the files "
            "of a model together"
        ) from error
    if not model.graph.node:
        raise ArtifactError(
            f"{path}: no ONNX graph in it; export one with: edgecar export CHECKPOINT"
        )
    widen(model)
    return model


def weights_stem(network: str, codec: WeightsFor) -> str:
    """Return the name, without suffix, of the files of a network's weights.

    Example:
        >>> weights_stem("edgecar-s", "h264:detect")
        'edgecar-s.h264-detect'
    """
    return f"{network}.{codec.replace(':', '-')}"


def shipped_names(codec: WeightsFor = "jpeg") -> list[str]:
    """Return the networks that ship with exported weights for ``codec``."""
    suffix = weights_stem("", codec) + ".onnx"
    return sorted(p.name.removesuffix(suffix) for p in WEIGHTS.glob(f"*{suffix}"))


def shipped_for(network: str) -> list[WeightsFor]:
    """Return the coders, and the purposes, that a network ships exported weights for."""
    return [each for each in WEIGHTS_FOR if network in shipped_names(each)]


def is_artifact_path(name_or_path: str | Path) -> bool:
    """Return True if a name means a file, which need not exist, rather than a shipped network.

    Only a bare name may mean what ships: a mistake in a path must not give other weights.
    """
    path = Path(name_or_path)
    try:
        return path.suffix == ".onnx" or not is_bare_name(name_or_path) or path.is_file()
    except OSError:  # longer than a name can be
        return False


def find_artifact(name_or_path: str | Path, codec: WeightsFor = "jpeg") -> Path:
    """Return the ONNX file meant by a path, or by the name of a network that ships.

    Args:
        name_or_path: An exported file, or a network.
        codec: Coder of the input, with the purpose where it is not to view: ``h264:detect``.

    Raises:
        ArtifactError: Neither a file nor a shipped network; says what there is.
    """
    path = Path(name_or_path)
    if is_artifact_path(name_or_path):  # a Path forgets that "./edgecar-s" names a folder
        return path
    if codec not in WEIGHTS_FOR:
        raise ArtifactError(f"no weights are made for {codec!r}; choose {', '.join(WEIGHTS_FOR)}")
    found = WEIGHTS / f"{weights_stem(str(name_or_path), codec)}.onnx"
    if found.is_file():
        return found
    if path.suffix:
        raise ArtifactError(f"{path}: no such file; export one with: edgecar export CHECKPOINT")
    names = ", ".join(shipped_names(codec)) or "none"
    own = ", ".join(shipped_for(str(name_or_path)))
    raise ArtifactError(
        f"no {codec} weights ship for {str(name_or_path)!r} (there are: {names}"
        f"{f'; it has some for {own}' if own else ''}); give one of those or an exported .onnx file"
    )


# A network ships as a checkpoint and as an ONNX graph. The graph of a compact artifact points into
# the safetensors file (ONNX's external data) and widens what it finds there with Cast nodes, so
# that both together take a third of their room and any runtime still loads the ONNX file. Weights
# that the exporter changed (a normalisation folded in) are in no checkpoint; the graph holds them.

SMALLEST = 256
"""Values; smaller tensors are not worth a Cast node."""
HALF = "/half"


def compact(model: "ModelProto", checkpoint: Path) -> None:
    """Point the weights of ``model`` into ``checkpoint``, in place, and halve those not there.

    Args:
        model: Model with weights in float32, to be written into the folder of ``checkpoint``.
        checkpoint: Safetensors; its tensors in float16 are found by their values.
    """
    from onnx import TensorProto, helper, numpy_helper

    places = _half_tensors(checkpoint)
    casts = []
    for tensor in model.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or np.prod(tensor.dims) < SMALLEST:
            continue
        halves = numpy_helper.to_array(tensor).astype(np.float16)
        if not np.isfinite(halves).all():
            continue
        name = tensor.name
        place = places.get(halves.tobytes())
        tensor.CopyFrom(numpy_helper.from_array(halves, name + HALF))
        if place is not None:
            _point(tensor, checkpoint.name, *place)
        casts.append(helper.make_node("Cast", [name + HALF], [name], to=TensorProto.FLOAT))
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*casts, *nodes])


def widen(model: "ModelProto") -> None:
    """Undo `compact`, in place: weights in float32, as they were exported.

    The model's external data must have been read. A model that is not compact stays as it is.
    """
    from onnx import numpy_helper

    halves = {t.name: t for t in model.graph.initializer if t.name.endswith(HALF)}
    nodes = list(model.graph.node)
    del model.graph.node[:]
    for node in nodes:
        if node.op_type != "Cast" or node.input[0] not in halves:
            model.graph.node.append(node)
            continue
        tensor = halves[node.input[0]]
        values = numpy_helper.to_array(tensor).astype(np.float32)
        tensor.CopyFrom(numpy_helper.from_array(values, node.output[0]))


def _half_tensors(checkpoint: Path) -> dict[bytes, tuple[int, int]]:
    """Offset and length in the file of each float16 tensor, by its bytes.

    The format: https://huggingface.co/docs/safetensors/index#format.
    """
    stored = checkpoint.read_bytes()
    header_end = 8 + int.from_bytes(stored[:8], "little")
    entries = json.loads(stored[8:header_end])
    places = {}
    for entry in entries.values():
        if entry.get("dtype") == "F16":
            start, end = (header_end + offset for offset in entry["data_offsets"])
            places[stored[start:end]] = (start, end - start)
    return places


def _point(tensor: "TensorProto", location: str, offset: int, length: int) -> None:
    from onnx import TensorProto

    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", offset), ("length", length)):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, str(value)
