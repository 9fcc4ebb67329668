"""Metadata of an artifact: what a runtime must know besides the graph.

They lie in the ``metadata_props`` of the ONNX file under ``edgecar.*``. The known answer among them
is a small picture and its restored output, with which engines are checked.
"""

import base64
import json
import math
import zlib
from dataclasses import asdict, astuple, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
from numpy.typing import NDArray

from edgecar.errors import ArtifactError
from edgecar.spec import (
    CODERS,
    Coder,
    Context,
    Precision,
    Purpose,
    WeightsFor,
    weights_for_purpose,
)

if TYPE_CHECKING:
    from onnx import ModelProto

PREFIX = "edgecar."
FORMAT = "1"
QUALITY = "quality"  # FP32 artifacts do without
ANSWER = "known_answer"  # older artifacts do without
TAKES_QUANTISER = "takes_quantiser"  # those without that input do without
PURPOSE = "purpose"  # those to view do without
OPTIONAL = (QUALITY, ANSWER, TAKES_QUANTISER, PURPOSE)
STEPS = 256  # of a code, in which the output is stored


@dataclass(frozen=True)
class KnownAnswer:
    """A small coded picture with the network's output in float32, to check engines against.

    Both are stored as text (`packed`): zlib, then base 85. Make one with `packed_answer`.

    Attributes:
        shape: ``(channels, height, width)`` of the picture.
        input: The picture's 8-bit codes.
        output: Difference of the output to those codes in 1/256 code, modulo 2**16: first the high
            bytes, then the low ones. Outputs were clipped to 0..255 codes.
        error_codes2: Mean squared error of the output against the picture before it was coded, in
            codes squared. A loss in dB refers to it.
        allowed_db: Loss allowed in a precision below FP32; 0 in an FP32 artifact.
        tile: ``(height, width)`` to which the picture is mirrored before the network runs; None if
            it runs on the picture alone.
        crc32: Checksum of the other attributes.
        quantiser: Quantiser of the picture, 0 to 1; None if the network has no such input.
    """

    shape: tuple[int, int, int]
    input: str
    output: str
    error_codes2: float
    allowed_db: float = 0.0
    tile: tuple[int, int] | None = None
    crc32: int = 0
    quantiser: float | None = None

    def checksum(self) -> int:
        """CRC-32 of all attributes but `crc32`."""
        *others, quantiser = astuple(replace(self, crc32=0))
        given = (*others,) if quantiser is None else (*others, quantiser)
        return zlib.crc32(repr(given).encode())

    def codes(self) -> NDArray[np.uint8]:
        """The picture, ``(channels, height, width)``."""
        return np.frombuffer(_unpacked(self.input), np.uint8).reshape(self.shape)

    def expected_codes(self) -> NDArray[np.float64]:
        """The output in codes, ``(channels, height, width)``, exact to 1/512 of a code."""
        high, low = np.frombuffer(_unpacked(self.output), np.uint8).reshape(2, *self.shape)
        change = high.astype(np.uint16) << 8 | low
        stored: NDArray[np.uint16] = self.codes().astype(np.uint16) * STEPS + change
        return stored / STEPS


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
        takes_quantiser: True if the graph has a second input, the quantiser of each picture,
            ``(N,)`` float32 from 0 (lossless) to 1 (the coarsest that the coder has).
        purpose: Use that the weights were trained for.
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
    takes_quantiser: bool = False
    purpose: Purpose = "view"

    @property
    def coder(self) -> Coder | None:
        """Coder that ``trained_on`` begins with; None if it names none."""
        return coder_of(self.trained_on)

    @property
    def weights_for(self) -> WeightsFor | None:
        """The coder, with the purpose if it is not to view; None if no coder is known."""
        return weights_for_purpose(self.coder, self.purpose) if self.coder else None

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


def write_metadata(model: "ModelProto", metadata: Metadata) -> None:
    """Store ``metadata`` in ``model``, replacing earlier ones."""
    others = [p for p in model.metadata_props if not p.key.startswith(PREFIX)]
    del model.metadata_props[:]
    model.metadata_props.extend(others)
    table = {"format": FORMAT, **asdict(metadata)}
    for key in OPTIONAL:
        stored = table.pop(key)
        if stored != getattr(Metadata, key):  # its default
            table[key] = json.dumps(stored)
    for key, value in table.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = f"{PREFIX}{key}", str(value)


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
            takes_quantiser=table.get(TAKES_QUANTISER) == "true",
            purpose=_parsed(Purpose, json.loads(table.get(PURPOSE, '"view"'))),
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


def packed_answer(
    codes: NDArray[np.uint8],
    output_codes: NDArray[np.floating[Any]],
    error_codes2: float,
    allowed_db: float = 0.0,
    tile: tuple[int, int] | None = None,
    quantiser: float | None = None,
) -> KnownAnswer:
    """Pack a picture and the network's output, in codes, into a `KnownAnswer`."""
    stored = np.rint(np.clip(output_codes, 0, 255) * STEPS).astype(np.uint16)
    change = stored - codes.astype(np.uint16) * STEPS
    both = np.stack([change >> 8, change & 255]).astype(np.uint8)
    shape = (codes.shape[0], codes.shape[1], codes.shape[2])
    made = KnownAnswer(
        shape,
        _packed(codes.tobytes()),
        _packed(both.tobytes()),
        float(error_codes2),
        float(allowed_db),
        tile,
        quantiser=None if quantiser is None else float(quantiser),
    )
    return replace(made, crc32=made.checksum())


def answer_from_table(table: dict[str, Any]) -> KnownAnswer:
    """Read a known answer from what `dataclasses.asdict` made of it.

    Raises:
        ValueError: It is damaged.
    """
    try:
        tile = table["tile"]
        answer = KnownAnswer(
            **{**table, "shape": tuple(table["shape"]), "tile": tuple(tile) if tile else None}
        )
        sound = answer.crc32 == answer.checksum() and np.isfinite(answer.expected_codes()).all()
        numbers = answer.error_codes2, answer.allowed_db
        if not sound or not all(0 <= number < math.inf for number in numbers):
            raise ValueError("other bytes than its checksum says")
    except (KeyError, TypeError, ValueError, AttributeError, zlib.error) as error:
        raise ValueError(f"its known answer is damaged ({error})") from error
    return answer


def _packed(content: bytes) -> str:
    return base64.b85encode(zlib.compress(content, 9)).decode("ascii")


def _unpacked(text: str) -> bytes:
    return zlib.decompress(base64.b85decode(text))
