"""Facts that a coded stream states and decoders do not pass on: QP, JPEG quality, hidden edges."""

import re
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

import av
import numpy as np
from av.packet import Packet
from av.sidedata.encparams import VideoEncParamsType
from av.sidedata.sidedata import SideDataContainer, Type
from av.video.stream import VideoStream

from edgecar.media.frame import Coding

DELTA_QP_OFFSET = 16
"""Bytes before ``delta_qp`` in FFmpeg's AVVideoBlockParams: four integers of place and size."""

QP_PER_BIT = 6
"""FFmpeg counts from the lowest QP there is, which H.264 lowers so much for each bit above 8."""

START, TABLES, SCAN, FILL = 0xD8, 0xDB, 0xDA, 0xFF  # second bytes of JPEG markers (T.81, B.1)

BEGINNINGS = (
    (rb"\xff\xd8\xff", "jpeg"),
    (rb"\x89PNG\r\n\x1a\n", "png"),
    (rb"GIF8[79]a", "gif"),
    (rb"RIFF....WEBP", "webp"),
    (rb"BM", "bmp"),
    (rb"II\*\0|MM\0\*|II\+\0|MM\0\+", "tiff"),
    (rb"....ftyp(avif|avis|heic|heix|mif1)", "avif"),
    (rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51", "jpeg2000"),
    (rb"P[1-7]\s", "pnm"),
)
"""First bytes of picture files, by format."""

LUMA_AT_50 = np.array(
    [
        [16, 11, 12, 14, 12, 10, 16, 14, 13, 14, 18, 17, 16, 19, 24, 40],
        [26, 24, 22, 22, 24, 49, 35, 37, 29, 40, 58, 51, 61, 60, 57, 51],
        [56, 55, 64, 72, 92, 78, 64, 68, 87, 69, 55, 56, 80, 109, 81, 87],
        [95, 98, 103, 104, 103, 62, 77, 113, 121, 112, 100, 120, 92, 101, 103, 99],
    ]
).ravel()
"""Luma quantisation of JPEG's quality 50, in zigzag order (ITU-T T.81, table K.1)."""

MP4_FOLDERS = (b"moov", b"trak", b"mdia", b"minf", b"stbl")
VISUAL_ENTRY_BYTES = 86  # of MP4's description of a coding, before what is nested in it
MASTERS = (b"\x18\x53\x80\x67", b"\x16\x54\xae\x6b", b"\xae", b"\xe0")  # down to a track's Video
CROPS = (b"\x54\xaa", b"\x54\xbb", b"\x54\xcc", b"\x54\xdd")
CLUSTER = b"\x1f\x43\xb6\x75"


def ask_for_qp(stream: VideoStream) -> None:
    """Make the decoder of ``stream`` export QPs; call before anything is decoded.

    Changes nothing unless the stream is H.264, the only coding whose QPs are used. Decodes on one
    thread: with frame threads FFmpeg 8 returns B-frames' QPs before they are decoded, and with
    slice threads it does not notice damage.
    """
    if stream.codec_context.codec.canonical_name == "h264":
        stream.thread_count = 1
        stream.codec_context.options = {"export_side_data": "venc_params"}


def coding_of(picture: av.VideoFrame, packet: "Packet[VideoStream] | None") -> Coding:
    """Return the QP or JPEG quality of a decoded picture.

    Args:
        picture: Output of a decoder that `ask_for_qp` was called for.
        packet: Packet that was decoded last; in Motion JPEG it is the picture's own.
    """
    codec = packet.stream.codec_context.codec.canonical_name if packet is not None else ""
    if packet is not None and codec == "mjpeg":
        return Coding(jpeg_quality=jpeg_quality(memoryview(packet)), codec=codec)
    return Coding(mean_qp(picture), codec=codec)


def picture_coding(code: bytes) -> Coding:
    """Return the format of a picture file by its first bytes, and the quality of a JPEG."""
    found = (name for begins, name in BEGINNINGS if re.match(begins, code[:32], re.DOTALL))
    codec = next(found, "")
    return Coding(jpeg_quality=jpeg_quality(code) if codec == "jpeg" else None, codec=codec)


def mean_qp(picture: av.VideoFrame) -> float | None:
    """Return the mean luma QP of an H.264 picture; None unless all macroblocks export theirs."""
    # `picture.side_data` would keep picture and side data alive in a circle, megabytes each, until
    # Python looks for such circles.
    every_kind = SideDataContainer(picture)  # type: ignore[call-arg]
    exported: Any = every_kind.get(Type.VIDEO_ENC_PARAMS)
    if exported is None or exported.codec_type != VideoEncParamsType.H264:
        return None
    if picture.is_corrupt or not exported.nb_blocks:  # concealed macroblocks have none
        return None
    # PyAV's `qp_map` takes milliseconds. All blocks are 16x16: no weights are needed.
    place, steps = exported.blocks_offset + DELTA_QP_OFFSET, (exported.block_size,)
    deltas = np.ndarray(exported.nb_blocks, np.int32, exported, place, steps)
    extra_bits = picture.format.components[0].bits - 8
    return float(exported.qp + deltas.sum() / deltas.size - QP_PER_BIT * extra_bits)


def jpeg_quality(code: bytes | memoryview) -> int | None:
    """Return the quality setting that explains a JPEG's luma table best; None without a table.

    Exact for the coders built on the Independent JPEG Group's library (OpenCV, Pillow, most
    cameras). For other tables it is the quality of the nearest one, step by step in ratio.

    Args:
        code: A JPEG file, or one packet of Motion JPEG; only its head is looked at.

    Example:
        >>> import cv2
        >>> grey, flag = np.zeros((8, 8), np.uint8), cv2.IMWRITE_JPEG_QUALITY
        >>> _, code = cv2.imencode(".jpg", grey, [flag, 35])
        >>> jpeg_quality(code.tobytes())
        35
    """
    for precision_and_number, steps in _tables(memoryview(code)):
        if precision_and_number & 0xF == 0:  # all coders use table 0 for luma
            return _nearest_quality(bytes(steps), wide=precision_and_number > 0xF)
    return None


def _tables(code: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Yield each table before the first scan: precision and number in one byte, and the steps."""
    if bytes(code[:2]) != bytes((FILL, START)):
        return
    at = 2
    while at + 4 <= len(code) and code[at] == FILL and code[at + 1] != SCAN:
        if code[at + 1] == FILL:
            at += 1
            continue
        end = at + 2 + int.from_bytes(code[at + 2 : at + 4], "big")
        if code[at + 1] == TABLES:
            start = at + 4
            while start < end <= len(code):
                length = 128 if code[start] > 0xF else 64
                if start + 1 + length <= end:
                    yield code[start], code[start + 1 : start + 1 + length]
                start += 1 + length
        at = end


@lru_cache(maxsize=16)  # a camera keeps its table for many frames
def _nearest_quality(steps: bytes, *, wide: bool) -> int:
    table = np.maximum(np.frombuffer(steps, ">u2" if wide else np.uint8), 1)
    return 1 + int(np.abs(np.log(_ijg_tables()) - np.log(table)).sum(axis=1).argmin())


@lru_cache(maxsize=1)
def _ijg_tables() -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    """Return the luma tables of qualities 1 to 100, ``(100, 64)`` (libjpeg's jpeg_set_quality)."""
    quality = np.arange(1, 101)[:, None]
    percent = np.where(quality < 50, 5000 // quality, 200 - 2 * quality)
    tables: np.ndarray[tuple[int, int], np.dtype[np.int64]] = np.clip(
        (LUMA_AT_50 * percent + 50) // 100, 1, 255
    )
    return tables


def states_crop(path: Path) -> bool:
    """Return True if an MP4 (clap) or Matroska file (PixelCrop) hides edges of its pictures.

    Decoders pass over these crops.
    """
    with suppress(OSError, ValueError, IndexError), path.open("rb") as file:
        size = path.stat().st_size
        head = file.read(12)
        if head[4:8] == b"ftyp":
            return any(name == b"clap" for name in _boxes(file, 0, size))
        if head[:4] == b"\x1a\x45\xdf\xa3":
            return any(_crops(file, 0, size))
    return False


def _boxes(file: BinaryIO, start: int, end: int) -> Iterator[bytes]:
    """Yield the names of the boxes that lead to the codec descriptions, and of those in them."""
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
