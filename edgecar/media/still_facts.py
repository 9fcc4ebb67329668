"""Transparency and metadata of picture files: colour profile, EXIF, XMP, resolution."""

import struct
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgecar.media.color import Bgr
from edgecar.media.frame import Plane

ORIENTATION_TAG, RESOLUTION_TAG, XMP_TAG = 0x0112, 0x011A, 0x02BC
ICC_TAG, EXIF_TAG = 0x8773, 0x8769
"""Numbers of fields in TIFF files and EXIF, which has the same form."""

KIND_NAMES = {
    cv2.IMAGE_METADATA_EXIF: "EXIF",
    cv2.IMAGE_METADATA_XMP: "XMP",
    cv2.IMAGE_METADATA_ICCP: "ICC profile",
    cv2.IMAGE_METADATA_CICP: "colour description (CICP)",
}

STORED = {
    ".jpeg": (cv2.IMAGE_METADATA_EXIF, cv2.IMAGE_METADATA_XMP, cv2.IMAGE_METADATA_ICCP),
    ".png": tuple(KIND_NAMES),
    ".webp": (cv2.IMAGE_METADATA_EXIF, cv2.IMAGE_METADATA_XMP, cv2.IMAGE_METADATA_ICCP),
}
"""Metadata that a format takes, by suffix."""

PNG_BEGINS = b"\x89PNG\r\n\x1a\n"
PNG_HEAD_BYTES = 33
"""The signature of a PNG file and its first chunk, IHDR; small chunks may follow it."""

PNG_CHUNKS = {b"gAMA": "gamma (gAMA)", b"cHRM": "primaries (cHRM)", b"pHYs": "resolution in dpi"}
"""Chunks of PNG files that OpenCV ignores and that are true of the restored picture too."""

XMP_BEGINS = b"http://ns.adobe.com/xap/1.0/\0"
"""Prefix of XMP in a JPEG file; OpenCV neither removes nor adds it."""

XMP_CHUNK = b"XML:com.adobe.xmp\0\0\0\0\0"
"""Prefix of XMP in a chunk iTXt, where readers of PNG files look for it."""

JFIF_BEGINS = b"\xff\xd8\xff\xe0\0\x10JFIF\0"
DENSITY = slice(13, 18)
"""Bytes of a JFIF file that hold the unit and the dots across and down."""

WITH_ALPHA = (".png", ".webp")
ORIENTATIONS = 8


@dataclass(frozen=True)
class StillFacts:
    """Facts of a picture file that are kept beside its restored colours.

    Attributes:
        alpha: Opacity of each pixel, ``(H, W)``; None if all are opaque.
        grey: True if the file has one channel.
        metadata: EXIF, XMP, ICC profile by OpenCV's ``IMAGE_METADATA_…``. Orientation is applied.
        lost: Descriptions of the facts that cannot be kept.
        chunks: Chunks of a PNG file that are in `PNG_CHUNKS`, by their type.
        density: Unit and dots across and down of a JPEG file (JFIF); empty if it states no unit.
    """

    alpha: Plane | None = None
    grey: bool = False
    metadata: dict[int, bytes] = field(default_factory=dict)
    lost: tuple[str, ...] = ()
    chunks: dict[bytes, bytes] = field(default_factory=dict)
    density: bytes = b""

    def storable(self, suffix: str, *, grey: bool) -> tuple[dict[int, bytes], list[str]]:
        """Return the metadata that go into a file, and descriptions of what is lost there.

        Args:
            suffix: Suffix of the file to write, in lower case.
            grey: True if the file gets one channel.
        """
        takes = STORED.get({".jpg": ".jpeg"}.get(suffix, suffix), ())
        kept = {kind: value for kind, value in self.metadata.items() if kind in takes}
        profile = kept.get(cv2.IMAGE_METADATA_ICCP, b"")
        if profile and profile[16:20] != (b"GRAY" if grey else b"RGB "):
            del kept[cv2.IMAGE_METADATA_ICCP]  # of other channels than the file has
        lost = [f"{KIND_NAMES[kind]} lost" for kind in self.metadata if kind not in kept]
        if self.alpha is not None and suffix not in WITH_ALPHA:
            lost.append(f"transparency is not stored in {suffix}")
        if self.grey and not grey:
            lost.append("grey picture became a colour picture")
        xmp = kept.pop(cv2.IMAGE_METADATA_XMP, None)
        if xmp is not None and suffix != ".png":  # where `completed` puts it
            kept[cv2.IMAGE_METADATA_XMP] = (XMP_BEGINS if suffix != ".webp" else b"") + xmp
        if suffix != ".png":
            lost += [f"{PNG_CHUNKS[name]} lost" for name in self.chunks]
        if self.density and suffix not in (".jpg", ".jpeg"):
            lost.append("resolution in dpi lost")
        return kept, [*lost, *self.lost]

    def completed(self, code: bytes) -> bytes:
        """Return a coded picture with the chunks and the density that OpenCV does not write."""
        if code.startswith(PNG_BEGINS):
            chunks = b"".join(self.chunks.values())
            xmp = self.metadata.get(cv2.IMAGE_METADATA_XMP)
            if xmp is not None:
                chunks += _png_chunk(b"iTXt", XMP_CHUNK + xmp)
            return code[:PNG_HEAD_BYTES] + chunks + code[PNG_HEAD_BYTES:]
        if self.density and code.startswith(JFIF_BEGINS):
            return code[: DENSITY.start] + self.density + code[DENSITY.stop :]
        return code


def facts_of(
    path: Path, code: Plane, upright: Bgr, raw_metadata: dict[int, bytes], deep: bool
) -> StillFacts:
    """Read the facts of a file.

    Args:
        path: The file.
        code: All bytes of the file.
        upright: Colours of the picture, turned as they are shown.
        raw_metadata: Metadata found by OpenCV, by ``IMAGE_METADATA_…``.
        deep: True if the file has more than 8 bits a sample.
    """
    lost = ["16-bit samples rounded to 8 bits"] if deep else []
    stored = np.asarray(cv2.imdecode(code, cv2.IMREAD_UNCHANGED))
    laid = _laying(stored, upright)
    alpha = None
    if stored.ndim == 3 and stored.shape[2] == 4:
        if laid is None:
            lost.append("transparency could not be laid on the picture")
        else:
            scale = 257 if deep else 1
            opacity = np.asarray(np.rint(stored[..., 3] / scale), np.uint8)
            alpha = np.ascontiguousarray(_laid(opacity, laid))
    metadata = dict(raw_metadata)
    if code[:4].tobytes() in (b"II*\0", b"MM\0*"):
        found, words = _tiff_metadata(code.tobytes())
        metadata |= found
        lost += words
    exif = metadata.pop(cv2.IMAGE_METADATA_EXIF, None)
    if exif is not None:
        turned = exif if laid == 0 else _upright_exif(exif)
        if turned is None:
            lost.append("EXIF lost")
        else:
            metadata[cv2.IMAGE_METADATA_EXIF] = turned
    xmp = metadata.get(cv2.IMAGE_METADATA_XMP)
    if xmp is not None:
        metadata[cv2.IMAGE_METADATA_XMP] = xmp.removeprefix(XMP_BEGINS).rstrip(b"\0")
    pictures = _pictures_in(path, code)
    if pictures > 1:
        lost.append(f"only the first of {pictures} pictures in a file restored")
    head = code[: DENSITY.stop].tobytes()
    density = head[DENSITY] if head.startswith(JFIF_BEGINS) and head[DENSITY.start] else b""
    if laid is not None and laid >= ORIENTATIONS // 2:  # rows became columns
        density = density[:1] + density[3:] + density[1:3]
    chunks = _png_chunks(code.tobytes())
    return StillFacts(alpha, stored.ndim == 2, metadata, tuple(lost), chunks, density)


def _png_chunk(name: bytes, content: bytes) -> bytes:
    checked = name + content
    return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))


def _png_chunks(code: bytes) -> dict[bytes, bytes]:
    """Return the chunks of a PNG file that are in `PNG_CHUNKS`, whole, by their type."""
    found: dict[bytes, bytes] = {}
    place = len(PNG_BEGINS)
    while code.startswith(PNG_BEGINS) and place + 8 <= len(code):
        length, name = struct.unpack_from(">I4s", code, place)
        if name == b"IDAT":
            break
        if name in PNG_CHUNKS:
            found[name] = code[place : place + length + 12]
        place += length + 12
    return found


def _pictures_in(path: Path, code: Plane) -> int:
    try:
        str(path).encode()
    except UnicodeEncodeError:  # OpenCV crashes on names that are not UTF-8
        return len(cv2.imdecodemulti(code, cv2.IMREAD_UNCHANGED)[1])
    return cv2.imcount(str(path))


def _upright_exif(exif: bytes) -> bytes | None:
    """Return EXIF of a picture whose orientation was applied; None if it is damaged.

    The preview is removed: it shows the picture before it was turned and restored.
    """
    changed = bytearray(exif)
    try:
        order, start, count = _directory(exif)
        for at in range(start, start + 12 * count, 12):
            if struct.unpack_from(order + "H", exif, at)[0] == ORIENTATION_TAG:
                struct.pack_into(order + "H", changed, at + 8, 1)
        struct.pack_into(order + "I", changed, start + 12 * count, 0)
    except (struct.error, KeyError):
        return None
    return bytes(changed)


def _laid(stored: NDArray[np.uint8], number: int) -> NDArray[np.uint8]:
    """Lay a stored picture by EXIF's orientation ``number`` + 1."""
    stored = stored.swapaxes(0, 1) if number >= ORIENTATIONS // 2 else stored
    rows, columns = ((1, 1), (1, -1), (-1, -1), (-1, 1))[number % 4]
    return stored[::rows, ::columns]


def _laying(stored: NDArray[Any], upright: Bgr) -> int | None:
    """Return the number that `_laid` needs to turn a stored picture upright; None if none does."""
    colours = cv2.cvtColor(stored, cv2.COLOR_GRAY2BGR) if stored.ndim == 2 else stored[..., :3]
    if colours.dtype == np.uint16:
        colours = np.rint(colours / 257)
    codes: NDArray[np.uint8] = np.asarray(colours, np.uint8)
    orders = range(ORIENTATIONS)
    return next((n for n in orders if np.array_equal(_laid(codes, n), upright)), None)


def _tiff_metadata(code: bytes) -> tuple[dict[int, bytes], list[str]]:
    """Return the colour profile and XMP of a TIFF file, and descriptions of what is lost."""
    try:
        order, start, count = _directory(code)
        fields = {
            tag: (length, offset)
            for tag, _, length, offset in (
                struct.unpack_from(order + "HHII", code, start + 12 * number)
                for number in range(count)
            )
        }
    except (struct.error, KeyError):
        return {}, []
    found: dict[int, bytes] = {}
    for tag, kind in ((ICC_TAG, cv2.IMAGE_METADATA_ICCP), (XMP_TAG, cv2.IMAGE_METADATA_XMP)):
        length, offset = fields.get(tag, (0, 0))
        if value := code[offset : offset + length]:
            found[kind] = value
    words = {EXIF_TAG: "EXIF lost", RESOLUTION_TAG: "resolution in dpi lost"}
    return found, [lost for tag, lost in words.items() if tag in fields]


def _directory(code: bytes) -> tuple[str, int, int]:
    """Return byte order, place and length of the first list of fields.

    Raises:
        struct.error: It lies behind the end.
        KeyError: The bytes are no TIFF.
    """
    order = {b"II*\0": "<", b"MM\0*": ">"}[bytes(code[:4])]
    (place,) = struct.unpack_from(order + "I", code, 4)
    (count,) = struct.unpack_from(order + "H", code, place)
    return order, place + 2, count
