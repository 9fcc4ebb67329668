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

EXIF, XMP = cv2.IMAGE_METADATA_EXIF, cv2.IMAGE_METADATA_XMP
ICC, CICP = cv2.IMAGE_METADATA_ICCP, cv2.IMAGE_METADATA_CICP
KIND_NAMES = {EXIF: "EXIF", XMP: "XMP", ICC: "ICC profile", CICP: "colour description (CICP)"}
STORED = {".jpeg": (EXIF, XMP, ICC), ".jpg": (EXIF, XMP, ICC), ".webp": (EXIF, XMP, ICC)} | {
    ".png": tuple(KIND_NAMES)
}
"""Metadata that a format takes, by suffix."""

ORIENTATION_TAG, RESOLUTION_TAG, XMP_TAG, ICC_TAG, EXIF_TAG = 0x0112, 0x011A, 0x02BC, 0x8773, 0x8769
"""Numbers of fields in TIFF files and EXIF, which has the same form."""

PNG_BEGINS = b"\x89PNG\r\n\x1a\n"
PNG_HEAD_BYTES = 33  # the signature and the first chunk, IHDR; small chunks may follow it

PNG_CHUNKS = {b"gAMA": "gamma (gAMA)", b"cHRM": "primaries (cHRM)", b"pHYs": "resolution in dpi"}
"""Chunks of PNG files that OpenCV ignores and that are true of the restored picture too."""

XMP_BEGINS = b"http://ns.adobe.com/xap/1.0/\0"
"""Prefix of XMP in a JPEG file; OpenCV neither removes nor adds it."""

XMP_CHUNK = b"XML:com.adobe.xmp\0\0\0\0\0"
"""Prefix of XMP in a chunk iTXt, where readers of PNG files look for it."""

JFIF_BEGINS = b"\xff\xd8\xff\xe0\0\x10JFIF\0"
DENSITY = slice(13, 18)  # bytes of a JFIF file with the unit and the dots across and down

WITH_ALPHA = (".png", ".webp")
ORIENTATIONS = 8


@dataclass(frozen=True)
class StillFacts:
    """Facts of a picture file that are kept beside its restored colours."""

    alpha: Plane | None = None  # opacity of each pixel, (H, W); None if all are opaque
    grey: bool = False  # True if the file has one channel
    metadata: dict[int, bytes] = field(default_factory=dict)  # by OpenCV's number, turned upright
    lost: tuple[str, ...] = ()  # descriptions of what cannot be kept
    chunks: dict[bytes, bytes] = field(default_factory=dict)  # whole, of `PNG_CHUNKS`, by type
    density: bytes = b""  # JFIF's unit and dots across and down; empty if it states no unit

    def storable(self, suffix: str, *, grey: bool) -> tuple[dict[int, bytes], list[str]]:
        """Return the metadata that go into a file of one or three channels, and what is lost."""
        takes = STORED.get(suffix, ())
        kept = {kind: value for kind, value in self.metadata.items() if kind in takes}
        profile = kept.get(ICC, b"")
        if profile and profile[16:20] != (b"GRAY" if grey else b"RGB "):
            del kept[ICC]  # of other channels than the file has
        lost = [f"{KIND_NAMES[kind]} lost" for kind in self.metadata if kind not in kept]
        if self.alpha is not None and suffix not in WITH_ALPHA:
            lost.append(f"transparency is not stored in {suffix}")
        if self.grey and not grey:
            lost.append("grey picture became a colour picture")
        xmp = kept.pop(XMP, None)
        if xmp is not None and suffix != ".png":  # where `completed` puts it
            kept[XMP] = xmp if suffix == ".webp" else XMP_BEGINS + xmp
        if suffix != ".png":
            lost += [f"{PNG_CHUNKS[name]} lost" for name in self.chunks]
        if self.density and suffix not in (".jpg", ".jpeg"):
            lost.append("resolution in dpi lost")
        return kept, [*lost, *self.lost]

    def completed(self, code: bytes) -> bytes:
        """Return a coded picture with the chunks and the density that OpenCV does not write."""
        if code.startswith(PNG_BEGINS):
            chunks, xmp = b"".join(self.chunks.values()), self.metadata.get(XMP)
            if xmp is not None:
                words = b"iTXt" + XMP_CHUNK + xmp
                chunks += struct.pack(">I", len(words) - 4) + words
                chunks += struct.pack(">I", zlib.crc32(words))
            return code[:PNG_HEAD_BYTES] + chunks + code[PNG_HEAD_BYTES:]
        if self.density and code.startswith(JFIF_BEGINS):
            return code[: DENSITY.start] + self.density + code[DENSITY.stop :]
        return code


def facts_of(
    path: Path, code: Plane, upright: Bgr, found: dict[int, bytes], deep: bool
) -> StillFacts:
    """Read the facts of a file, given its bytes, its colours as they are shown, OpenCV's metadata.

    ``deep`` is True if the file has more than 8 bits a sample.
    """
    lost = ["16-bit samples rounded to 8 bits"] if deep else []
    whole = code.tobytes()
    stored = np.asarray(cv2.imdecode(code, cv2.IMREAD_UNCHANGED))
    codes = np.asarray(np.rint(stored / 257) if stored.dtype == np.uint16 else stored, np.uint8)
    laid = _laying(codes, upright)
    alpha = None
    if codes.ndim == 3 and codes.shape[2] == 4:
        if laid is None:
            lost.append("transparency could not be laid on the picture")
        else:
            alpha = np.ascontiguousarray(_laid(codes[..., 3], laid))
    metadata = dict(found)
    fields = _fields(whole)
    for tag, kind in ((ICC_TAG, ICC), (XMP_TAG, XMP)):
        _, length, offset = fields.get(tag, (0, 0, 0))
        if value := whole[offset : offset + length]:
            metadata[kind] = value
    words = {EXIF_TAG: "EXIF lost", RESOLUTION_TAG: "resolution in dpi lost"}
    lost += [said for tag, said in words.items() if tag in fields]
    exif = metadata.pop(EXIF, None)
    if exif is not None:
        turned = exif if laid == 0 else _upright_exif(exif)
        if turned:
            metadata[EXIF] = turned
        else:
            lost.append("EXIF lost")
    if XMP in metadata:
        metadata[XMP] = metadata[XMP].removeprefix(XMP_BEGINS).rstrip(b"\0")
    pictures = _pictures_in(path, code)
    if pictures > 1:
        lost.append(f"only the first of {pictures} pictures in a file restored")
    density = whole[DENSITY] if whole.startswith(JFIF_BEGINS) and whole[DENSITY.start] else b""
    if laid is not None and laid >= ORIENTATIONS // 2:  # rows became columns
        density = density[:1] + density[3:] + density[1:3]
    return StillFacts(alpha, stored.ndim == 2, metadata, tuple(lost), _png_chunks(whole), density)


def _png_chunks(code: bytes) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    place, name = len(PNG_BEGINS), b""
    while code.startswith(PNG_BEGINS) and place + 8 <= len(code) and name != b"IDAT":
        length, name = struct.unpack_from(">I4s", code, place)
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


def _laid(stored: NDArray[np.uint8], number: int) -> NDArray[np.uint8]:
    """Lay a stored picture by EXIF's orientation ``number`` + 1."""
    stored = stored.swapaxes(0, 1) if number >= ORIENTATIONS // 2 else stored
    rows, columns = ((1, 1), (1, -1), (-1, -1), (-1, 1))[number % 4]
    return stored[::rows, ::columns]


def _laying(codes: NDArray[np.uint8], upright: Bgr) -> int | None:
    """Return the number that `_laid` needs to turn a stored picture upright; None if none does."""
    colours: Any = cv2.cvtColor(codes, cv2.COLOR_GRAY2BGR) if codes.ndim == 2 else codes[..., :3]
    orders = range(ORIENTATIONS)
    return next((n for n in orders if np.array_equal(_laid(colours, n), upright)), None)


def _upright_exif(exif: bytes) -> bytes:
    """Return EXIF of a picture whose orientation was applied; nothing if it is damaged.

    The preview is removed: it shows the picture before it was turned and restored.
    """
    fields, changed = _fields(exif), bytearray(exif)
    if not fields:
        return b""
    order = "<" if exif[:2] == b"II" else ">"
    if ORIENTATION_TAG in fields:
        struct.pack_into(order + "H", changed, fields[ORIENTATION_TAG][0] + 8, 1)
    (first,) = struct.unpack_from(order + "I", exif, 4)
    end = first + 2 + 12 * struct.unpack_from(order + "H", exif, first)[0]
    changed[end : end + 4] = bytes(len(changed[end : end + 4]))
    return bytes(changed)


def _fields(code: bytes) -> dict[int, tuple[int, int, int]]:
    """Return place, length and value of the fields in the first list of a TIFF file or EXIF."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(code[:4])
    try:
        if order is None:
            return {}
        (first,) = struct.unpack_from(order + "I", code, 4)
        (count,) = struct.unpack_from(order + "H", code, first)
        places = range(first + 2, first + 2 + 12 * count, 12)
        entries = [(place, *struct.unpack_from(order + "HHII", code, place)) for place in places]
    except struct.error:
        return {}
    return {tag: (place, length, value) for place, tag, _, length, value in entries}
