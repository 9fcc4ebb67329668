"""Facts that a coded stream states and decoders do not pass on: QP, JPEG quality, hidden edges."""

import re
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.packet import Packet
from av.sidedata.encparams import VideoEncParamsType
from av.sidedata.sidedata import SideDataContainer, Type
from av.video.stream import VideoStream
from numpy.typing import NDArray

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

MP4_CROP = re.compile(rb"\0\0\0\x28clap")
MKV_HEAD_BYTES = 1 << 20  # the description of tracks lies before the pictures
MKV_TRACKS, MKV_CLUSTER = b"\x16\x54\xae\x6b", b"\x1f\x43\xb6\x75"
MKV_CROP = re.compile(rb"\x54[\xaa\xbb\xcc\xdd](?:\x81[^\0]|\x82(?!\0\0))")
"""PixelCrop of an edge: its size in bytes and a value above zero."""


def ask_for_qp(stream: VideoStream) -> None:
    """Make the decoder of ``stream`` export QPs, if it is H.264; call before anything is decoded.

    Decodes on one thread: with frame threads FFmpeg 8 returns B-frames' QPs before they are
    decoded, and with slice threads it does not notice damage.
    """
    if stream.codec_context.codec.canonical_name == "h264":
        stream.thread_count = 1
        stream.codec_context.options = {"export_side_data": "venc_params"}


def coding_of(picture: av.VideoFrame, packet: "Packet[VideoStream] | None") -> Coding:
    """Return the QP or JPEG quality of a picture, decoded after `ask_for_qp`.

    ``packet`` was decoded last; in Motion JPEG it is the picture's own.
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
    cameras). For other tables it is the quality of the nearest one, step by step in ratio. Only the
    head of a file or of a packet of Motion JPEG is looked at.

    Example:
        >>> import cv2
        >>> grey, flag = np.zeros((8, 8), np.uint8), cv2.IMWRITE_JPEG_QUALITY
        >>> _, code = cv2.imencode(".jpg", grey, [flag, 35])
        >>> jpeg_quality(code.tobytes())
        35
    """
    if bytes(code[:2]) != bytes((FILL, START)):
        return None
    at = 2
    while at + 4 <= len(code) and code[at] == FILL and code[at + 1] != SCAN:
        if code[at + 1] == FILL:
            at += 1
            continue
        start, end = at + 4, at + 2 + int.from_bytes(code[at + 2 : at + 4], "big")
        while code[at + 1] == TABLES and start < end <= len(code):
            precision_and_number, length = code[start], 128 if code[start] > 0xF else 64
            steps = bytes(code[start + 1 : min(end, start + 1 + length)])
            # All coders use table 0 for luma.
            if precision_and_number & 0xF == 0 and len(steps) == length:
                return _nearest_quality(steps)
            start += 1 + length
        at = end
    return None


@lru_cache(maxsize=16)  # a camera keeps its table for many frames
def _nearest_quality(steps: bytes) -> int:
    table = np.maximum(np.frombuffer(steps, ">u2" if len(steps) > LUMA_AT_50.size else "u1"), 1)
    tables = np.stack([luma_table(quality) for quality in range(1, 101)])
    return 1 + int(np.abs(np.log(tables) - np.log(table)).sum(axis=1).argmin())


def luma_table(quality: int) -> NDArray[np.int64]:
    """Return the luma table of a quality, 1 to 100, in zigzag order (libjpeg's jpeg_set_quality).

    Example:
        >>> luma_table(50)[:3]
        array([16, 11, 12])
    """
    percent = 5000 // quality if quality < 50 else 200 - 2 * quality
    table: NDArray[np.int64] = np.clip((LUMA_AT_50 * percent + 50) // 100, 1, 255)
    return table


def states_crop(path: Path) -> bool:
    """Return True if an MP4 (clap) or Matroska file (PixelCrop) hides edges, as no decoder does."""
    with suppress(OSError, OverflowError), path.open("rb") as file:
        head = file.read(16)
        if head[:4] == b"\x1a\x45\xdf\xa3":
            tracks = file.read(MKV_HEAD_BYTES).partition(MKV_TRACKS)[2]
            return MKV_CROP.search(tracks.partition(MKV_CLUSTER)[0]) is not None
        place = 0
        while head[4:8] == b"ftyp" or (place and len(head) == 16 and head[4:8] != b"moov"):
            short, long = int.from_bytes(head[:4], "big"), int.from_bytes(head[8:], "big")
            place += max(8, {0: path.stat().st_size, 1: long}.get(short, short))
            file.seek(place)
            head = file.read(16)
        index = file.read(int.from_bytes(head[:4], "big")) if place else b""
        return MP4_CROP.search(index) is not None
    return False
