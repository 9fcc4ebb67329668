"""A small picture and its restored output, stored in an artifact to check engines with."""

import base64
import math
import zlib
from dataclasses import astuple, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
    """

    shape: tuple[int, int, int]
    input: str
    output: str
    error_codes2: float
    allowed_db: float = 0.0
    tile: tuple[int, int] | None = None
    crc32: int = 0

    def checksum(self) -> int:
        """CRC-32 of all attributes but `crc32`."""
        return zlib.crc32(repr(astuple(replace(self, crc32=0))).encode())

    def codes(self) -> NDArray[np.uint8]:
        """The picture, ``(channels, height, width)``."""
        return np.frombuffer(_unpacked(self.input), np.uint8).reshape(self.shape)

    def expected_codes(self) -> NDArray[np.float64]:
        """The output in codes, ``(channels, height, width)``, exact to 1/512 of a code."""
        high, low = np.frombuffer(_unpacked(self.output), np.uint8).reshape(2, *self.shape)
        change = high.astype(np.uint16) << 8 | low
        stored: NDArray[np.uint16] = self.codes().astype(np.uint16) * STEPS + change
        return stored / STEPS


def packed_answer(
    codes: NDArray[np.uint8],
    output_codes: NDArray[np.floating[Any]],
    error_codes2: float,
    allowed_db: float = 0.0,
    tile: tuple[int, int] | None = None,
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
