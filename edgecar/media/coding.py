"""How coarsely a picture was coded, as far as its stream tells."""

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

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

START, TABLES, SCAN, FILL = 0xD8, 0xDB, 0xDA, 0xFF
"""Second bytes of JPEG markers (ITU-T T.81, table B.1)."""

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


def ask_for_qp(stream: VideoStream) -> None:
    """Have the decoder of ``stream`` export QPs; call before anything is decoded.

    Changes nothing unless the stream is H.264, the only coding whose QPs are used. Decodes on one
    thread: with frame threads FFmpeg 8 hands out B-frames' QPs before they are decoded, and with
    slice threads it does not notice damage.
    """
    if stream.codec_context.codec.canonical_name == "h264":
        stream.thread_count = 1
        stream.codec_context.options = {"export_side_data": "venc_params"}


def coding_of(picture: av.VideoFrame, packet: "Packet[VideoStream] | None") -> Coding:
    """What is known about a decoded picture.

    Args:
        picture: As it left a decoder that `ask_for_qp` was called for.
        packet: The one that was decoded last; of Motion JPEG, it is the picture's.
    """
    codec = packet.stream.codec_context.codec.canonical_name if packet is not None else ""
    if packet is not None and codec == "mjpeg":
        return Coding(jpeg_quality=jpeg_quality(memoryview(packet)), codec=codec)
    return Coding(mean_qp(picture), codec=codec)


def picture_coding(code: bytes) -> Coding:
    """Return the format that a picture file begins like, and the quality of a JPEG.

    Args:
        code: The file, whatever its name.
    """
    found = (name for begins, name in BEGINNINGS if re.match(begins, code[:32], re.DOTALL))
    codec = next(found, "")
    return Coding(jpeg_quality=jpeg_quality(code) if codec == "jpeg" else None, codec=codec)


def mean_qp(picture: av.VideoFrame) -> float | None:
    """Mean luma QP of an H.264 picture's macroblocks; None if not exported, or not of them all."""
    # `picture.side_data` would keep picture and side data alive in a circle, megabytes each, until
    # Python looks for such circles.
    every_kind = SideDataContainer(picture)  # type: ignore[call-arg]
    exported: Any = every_kind.get(Type.VIDEO_ENC_PARAMS)
    if exported is None or exported.codec_type != VideoEncParamsType.H264:
        return None
    if picture.is_corrupt or not exported.nb_blocks:  # concealed macroblocks have none
        return None
    # PyAV's `qp_map` takes milliseconds. All blocks are 16x16: no weights are needed.
    deltas = np.ndarray(
        exported.nb_blocks,
        np.int32,
        exported,
        exported.blocks_offset + DELTA_QP_OFFSET,
        (exported.block_size,),
    )
    extra_bits = picture.format.components[0].bits - 8
    return float(exported.qp + deltas.sum() / deltas.size - QP_PER_BIT * extra_bits)


def jpeg_quality(code: bytes | memoryview) -> int | None:
    """The quality setting that explains a JPEG's luma table best; None if it has none.

    Exact for the coders built on the Independent JPEG Group's library (OpenCV, Pillow, most
    cameras). For tables of another shape it is the quality of the nearest one, step by step in
    ratio.

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
    """Precision and number in one byte, and the steps, of each table before the first scan."""
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
    """Luma tables of qualities 1 to 100, ``(100, 64)`` (``jpeg_set_quality`` of libjpeg)."""
    quality = np.arange(1, 101)[:, None]
    percent = np.where(quality < 50, 5000 // quality, 200 - 2 * quality)
    tables: np.ndarray[tuple[int, int], np.dtype[np.int64]] = np.clip(
        (LUMA_AT_50 * percent + 50) // 100, 1, 255
    )
    return tables
