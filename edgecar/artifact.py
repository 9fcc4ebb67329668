"""Artifacts: exported ONNX files with the metadata that travel inside them.

An artifact is a plain ONNX file that any runtime loads; what a tiled runtime must know besides is
in its ``metadata_props`` under ``edgecar.*``. This module reads, writes and checks them; it knows
neither engines nor networks.
"""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from edgecar.compact import widen
from edgecar.errors import ArtifactError
from edgecar.files import WEIGHTS, is_bare_name
from edgecar.known_answer import KnownAnswer, answer_from_table
from edgecar.spec import CODERS, Coder, Context, Precision

if TYPE_CHECKING:
    from onnx import ModelProto

PREFIX = "edgecar."
FORMAT = "1"
QUALITY = "quality"  # FP32 artifacts do without
ANSWER = "known_answer"  # older artifacts do without
OPTIONAL = (QUALITY, ANSWER)


@dataclass(frozen=True)
class Quality:
    """Loss of a lower precision, as the gate measured it against FP32.

    Attributes:
        loss_db: PSNR lost on average over the pictures; negative if some was gained.
        worst_db: PSNR lost on the picture that lost most.
        shift_codes: Largest change of a picture's mean, in 8-bit codes.
        budget_db: Average loss that was allowed.
        budget_worst_db: Loss on one picture that was allowed.
        pictures: How many were measured on; none of them was calibrated on.
        data: Description of the pictures.
        data_sha256: Hash of those pictures and the ones calibrated on.
        method: How ranges of activations were found; empty where none are needed.
        layers: Convolutions in the network.
        kept: Those in higher precision, by name.
        engines: Those that the form of the graph is made for.
        fp32_sha256: Hash of the FP32 graph it was compared with.
        by_engine: PSNR lost on average by each engine that judged; the losses above are the worst
            of them. Empty in files of earlier versions.
    """

    loss_db: float
    worst_db: float
    shift_codes: float
    budget_db: float
    budget_worst_db: float
    pictures: int
    data: str
    data_sha256: str
    method: str
    layers: int
    kept: tuple[str, ...]
    engines: tuple[str, ...]
    fp32_sha256: str
    by_engine: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class Metadata:
    """Metadata that a runtime needs of an artifact.

    Attributes:
        model: Name of the network.
        channels: 1 (luma) or 3 (RGB); values are float32 in [0, 1] = 8-bit code / 255.
        halo_px: Pixels around a tile that its kept output depends on; a multiple of ``align_px``.
        align_px: Tiles start and end at multiples of this.
        context: ``local``: exact with that halo. ``windowed``: global pooling besides.
        bytes_per_px: Activations alive at one time, per pixel of a tile, in float32.
        precision: Arithmetic the graph asks for.
        trained_on: Degradation the weights were trained to undo: coder, scale and range (``jpeg
            10-40``, ``h264 crf 29-47``, ``hevc qp 22-37``), or free words; empty if unknown.
        weights_sha256: Hash of the checkpoint file.
        parity_max_error: Largest difference to the torch network on real crops, of 1.0.
        parity_budget: Difference that was allowed.
        quality: Loss of a lower precision; None for FP32.
        known_answer: Picture and output with which an engine is checked when it opens the artifact.
    """

    model: str
    channels: int
    halo_px: int
    align_px: int
    context: Context
    bytes_per_px: int
    precision: Precision
    trained_on: str
    weights_sha256: str
    parity_max_error: float
    parity_budget: float
    quality: Quality | None = None
    known_answer: KnownAnswer | None = None

    @property
    def coder(self) -> Coder | None:
        """Coder that ``trained_on`` begins with; None if it names none."""
        return coder_of(self.trained_on)

    @property
    def finest(self) -> int | None:
        """Finest setting of the coder that the weights were trained for; None if unknown.

        The highest quality of JPEG, the lowest CRF of H.264, the lowest QP of HEVC.
        """
        if self.coder is None:
            return None
        words = self.trained_on.split()
        low, _, high = words[-1].partition("-")
        if not (len(words) in (2, 3) and low.isdecimal() and (high or low).isdecimal()):
            return None
        settings = int(low), int(high or low)
        return max(settings) if self.coder == "jpeg" else min(settings)


def coder_of(trained_on: str) -> Coder | None:
    """Return the coder that the description of a degradation begins with, if any."""
    first = trained_on.partition(" ")[0]
    return next((coder for coder in CODERS if coder == first), None)


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


def write_metadata(model: "ModelProto", metadata: Metadata) -> None:
    """Store ``metadata`` in ``model``, replacing earlier ones."""
    others = [p for p in model.metadata_props if not p.key.startswith(PREFIX)]
    del model.metadata_props[:]
    model.metadata_props.extend(others)
    table = {"format": FORMAT, **asdict(metadata)}
    for key in OPTIONAL:
        stored = table.pop(key)
        if stored:
            table[key] = json.dumps(stored)
    for key, value in table.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = f"{PREFIX}{key}", str(value)


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


def read_metadata(model: "ModelProto", path: Path | str = "model") -> Metadata:
    """Return the metadata of ``model``.

    Raises:
        ArtifactError: A field is missing or has an impossible value.
    """
    table = {
        prop.key.removeprefix(PREFIX): prop.value
        for prop in model.metadata_props
        if prop.key.startswith(PREFIX)
    }
    if not table:
        raise ArtifactError(
            f"{path}: an ONNX file without edgecar's metadata (halo, range); export the checkpoint "
            "with: edgecar export CHECKPOINT"
        )
    if table.get("format") != FORMAT:
        raise ArtifactError(
            f"{path}: artifact format {table.get('format')}, this edgecar reads {FORMAT}; "
            "export it again"
        )
    needed = [field for field in fields(Metadata) if field.name not in OPTIONAL]
    missing = [field.name for field in needed if field.name not in table]
    if missing:
        raise ArtifactError(f"{path}: fact {missing[0]!r} is missing; export it again")
    try:
        metadata = Metadata(
            **{field.name: _parsed(field.type, table[field.name]) for field in needed},
            quality=quality_from_table(json.loads(table[QUALITY])) if QUALITY in table else None,
            known_answer=_answer(table[ANSWER]) if ANSWER in table else None,
        )
    except ValueError as error:
        raise ArtifactError(f"{path}: {error}; export it again") from error
    if metadata.channels not in (1, 3) or metadata.bytes_per_px < 1 or metadata.align_px < 1:
        raise ArtifactError(
            f"{path}: {metadata.channels} channels, {metadata.bytes_per_px} bytes per px, "
            f"alignment {metadata.align_px} px; need 1 or 3 channels and positive sizes; "
            "export again"
        )
    if metadata.known_answer:
        channels, *sides = metadata.known_answer.shape
        if channels != metadata.channels or any(side % metadata.align_px for side in sides):
            raise ArtifactError(f"{path}: its known answer is of another network; export it again")
    if metadata.halo_px < 0 or metadata.halo_px % metadata.align_px:
        raise ArtifactError(
            f"{path}: halo {metadata.halo_px} px, need a multiple of {metadata.align_px}; "
            "export again"
        )
    return metadata


def _parsed(kind: Any, text: str) -> Any:
    if kind is int or kind is float:
        return kind(text)
    allowed = get_args(kind)
    if allowed and text not in allowed:
        raise ValueError(f"{text!r} is none of {', '.join(allowed)}")
    return text


def quality_from_table(table: dict[str, Any]) -> Quality:
    """Read what `dataclasses.asdict` made of a `Quality`.

    Raises:
        ValueError: An attribute is missing or unknown.
    """
    try:
        lists = {key: tuple(table[key]) for key in ("kept", "engines")}
        judged = tuple((str(name), float(loss)) for name, loss in table.get("by_engine", ()))
        return Quality(**{**table, **lists, "by_engine": judged})
    except (KeyError, TypeError) as error:
        raise ValueError(f"its quality is not understood ({error})") from error


def _answer(text: str) -> KnownAnswer:
    """Raises ValueError if the text is not what `write_metadata` stores."""
    table = json.loads(text)
    if not isinstance(table, dict):
        raise ValueError("its known answer is damaged (no table)")
    return answer_from_table(table)


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
