"""A crop that a container states and decoders pass over: MP4's clap, Matroska's PixelCrop."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

MP4_FOLDERS = (b"moov", b"trak", b"mdia", b"minf", b"stbl")
VISUAL_ENTRY_BYTES = 86  # of MP4's description of a coding, before what is nested in it
MASTERS = (b"\x18\x53\x80\x67", b"\x16\x54\xae\x6b", b"\xae", b"\xe0")  # down to a track's Video
CROPS = (b"\x54\xaa", b"\x54\xbb", b"\x54\xcc", b"\x54\xdd")
CLUSTER = b"\x1f\x43\xb6\x75"


def states_crop(path: Path) -> bool:
    """Return True if an MP4, MOV or Matroska file states that edges of its pictures are hidden."""
    with suppress(OSError, ValueError, IndexError), path.open("rb") as file:
        size = path.stat().st_size
        head = file.read(12)
        if head[4:8] == b"ftyp":
            return any(name == b"clap" for name in _boxes(file, 0, size))
        if head[:4] == b"\x1a\x45\xdf\xa3":
            return any(_crops(file, 0, size))
    return False


def _boxes(file: BinaryIO, start: int, end: int) -> Iterator[bytes]:
    """Names of all boxes that lead to the descriptions of codings, and of those in them."""
    while start + 8 <= end:
        file.seek(start)
        head = file.read(16)
        size, name, used = int.from_bytes(head[:4], "big"), head[4:8], 8
        if size == 1:
            size, used = int.from_bytes(head[8:16], "big"), 16
        size = size or end - start
        yield name
        if name in MP4_FOLDERS:
            yield from _boxes(file, start + used, start + size)
        elif name == b"stsd":
            file.seek(start + 16)
            entry = int.from_bytes(file.read(4), "big")
            yield from _boxes(file, start + 16 + VISUAL_ENTRY_BYTES, start + 16 + entry)
        start += max(size, 8)


def _crops(file: BinaryIO, start: int, end: int) -> Iterator[bool]:
    """Yield for every stated crop of an edge True if it is above zero, else False."""
    while start < end:
        file.seek(start)
        head = file.read(12)
        id_bytes = 9 - head[0].bit_length()
        size_bytes = 9 - head[id_bytes].bit_length()
        name, at = head[:id_bytes], start + id_bytes + size_bytes
        ones = (1 << 7 * size_bytes) - 1
        size = int.from_bytes(head[id_bytes : id_bytes + size_bytes], "big") & ones
        size = end - at if size == ones else size
        if name == CLUSTER:  # tracks come before the pictures
            return
        if name in MASTERS:
            yield from _crops(file, at, at + size)
        elif name in CROPS:
            file.seek(at)
            yield int.from_bytes(file.read(size), "big") > 0
        start = at + size
