"""Artifacts: exported ONNX files, which any runtime loads, with the metadata inside them."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgecar.compact import widen
from edgecar.errors import ArtifactError
from edgecar.files import WEIGHTS, is_bare_name
from edgecar.metadata import Metadata, read_metadata
from edgecar.spec import CODERS, Coder

if TYPE_CHECKING:
    from onnx import ModelProto


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


def shipped_names(codec: Coder = "jpeg") -> list[str]:
    """Return the networks that ship with exported weights for inputs coded with ``codec``."""
    suffix = f".{codec}.onnx"
    return sorted(p.name.removesuffix(suffix) for p in WEIGHTS.glob(f"*{suffix}"))


def shipped_coders(network: str) -> list[Coder]:
    """Return the coders that a network ships exported weights for."""
    return [coder for coder in CODERS if network in shipped_names(coder)]


def is_artifact_path(name_or_path: str | Path) -> bool:
    """Return True if a name means a file, which need not exist, rather than a shipped network.

    Only a bare name may mean what ships: a mistake in a path must not give other weights.
    """
    path = Path(name_or_path)
    try:
        return path.suffix == ".onnx" or not is_bare_name(name_or_path) or path.is_file()
    except OSError:  # longer than a name can be
        return False


def find_artifact(name_or_path: str | Path, codec: Coder = "jpeg") -> Path:
    """Return the ONNX file meant by a path, or by the name of a network that ships.

    Raises:
        ArtifactError: Neither a file nor a shipped network; says what there is.
    """
    path = Path(name_or_path)
    if is_artifact_path(name_or_path):  # a Path forgets that "./edgecar-s" names a folder
        return path
    if codec not in CODERS:
        raise ArtifactError(f"no weights are made for {codec!r}; choose {', '.join(CODERS)}")
    found = WEIGHTS / f"{name_or_path}.{codec}.onnx"
    if found.is_file():
        return found
    if path.suffix:
        raise ArtifactError(f"{path}: no such file; export one with: edgecar export CHECKPOINT")
    names = ", ".join(shipped_names(codec)) or "none"
    raise ArtifactError(
        f"no {codec} weights ship for {str(name_or_path)!r} (there are: {names}); "
        "give one of those or an exported .onnx file"
    )
