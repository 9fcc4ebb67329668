"""Facts that a coded stream states and decoders do not pass on: QP, JPEG quality, hidden edges."""

import re
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.packet import Packet
from av.sidedata.encparams import VideoEncParamsType
from av.sidedata.sidedata import SideDataContainer, Type
from av.video.stream import VideoStream

from edgecar.media.frame import Coding
from edgecar.media.hevc_qp import KeyFrameQp
from edgecar.media.quantiser import luma_table, quantiser_from_jpeg_steps

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

MP4_CROP = re.compile(rb"\0\0\0\x28clap")
MKV_HEAD_BYTES = 1 << 20  # the description of tracks lies before the pictures
MKV_TRACKS, MKV_CLUSTER = b"\x16\x54\xae\x6b", b"\x1f\x43\xb6\x75"
MKV_CROP = re.compile(rb"\x54[\xaa\xbb\xcc\xdd](?:\x81[^\0]|\x82(?!\0\0))")
"""PixelCrop of an edge: its size in bytes and a value above zero."""


class StreamCoding:
    """How coarsely the pictures of a stream are coded; make it before anything is decoded.

    H.264 decodes on one thread for it: with frame threads FFmpeg 8 returns B-frames' QPs before
    they are decoded, and with slice threads it does not notice damage. Of HEVC the latest key frame
    tells (`KeyFrameQp`).
    """

    def __init__(self, stream: VideoStream) -> None:
        context = stream.codec_context
        self._codec = context.codec.canonical_name
        if self._codec == "h264":
            stream.thread_count = 1
            context.options = {"export_side_data": "venc_params"}
        self._key_frames = KeyFrameQp(context.extradata) if self._codec == "hevc" else None

    def read(self, packet: "Packet[VideoStream]") -> None:
        """Take what a packet says, before it is decoded; give it all of the stream's, in order."""
        if self._key_frames and packet.is_keyframe:
            self._key_frames.read(bytes(packet))

    def of(self, picture: av.VideoFrame, packet: "Packet[VideoStream] | None") -> Coding:
        """Return the QP, or quality and quantiser of JPEG, of a decoded picture.

        ``packet`` was decoded last; in Motion JPEG it is the picture's own.
        """
        if packet is not None and self._codec == "mjpeg":
            return _jpeg_coding(memoryview(packet), self._codec)
        qp = self._key_frames.qp if self._key_frames else mean_qp(picture)
        return Coding(qp, codec=self._codec)


def picture_coding(code: bytes) -> Coding:
    """Return the format of a picture file by its first bytes; of a JPEG, what its tables say."""
    found = (name for begins, name in BEGINNINGS if re.match(begins, code[:32], re.DOTALL))
    codec = next(found, "")
    return _jpeg_coding(code, codec) if codec == "jpeg" else Coding(codec=codec)


def _jpeg_coding(code: bytes | memoryview, codec: str) -> Coding:
    steps = _luma_steps(code)
    return Coding(codec=codec) if steps is None else replace(_coding_of_table(steps), codec=codec)


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

    Example:
        >>> import cv2
        >>> grey, flag = np.zeros((8, 8), np.uint8), cv2.IMWRITE_JPEG_QUALITY
        >>> _, code = cv2.imencode(".jpg", grey, [flag, 35])
        >>> jpeg_quality(code.tobytes())
        35
    """
    steps = _luma_steps(code)
    return None if steps is None else _coding_of_table(steps).jpeg_quality


def _luma_steps(code: bytes | memoryview) -> bytes | None:
    """Return the luma table in the head of a file or packet; 128 bytes are two for each step."""
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
                return steps
            start += 1 + length
        at = end
    return None


@lru_cache(maxsize=16)  # a camera keeps its table for many frames
def _coding_of_table(steps: bytes) -> Coding:
    table = np.maximum(np.frombuffer(steps, ">u2" if len(steps) > 64 else "u1"), 1)
    tables = np.stack([luma_table(quality) for quality in range(1, 101)])
    nearest = np.abs(np.log(tables) - np.log(table)).sum(axis=1).argmin()
    return Coding(jpeg_quality=1 + int(nearest), quantiser=quantiser_from_jpeg_steps(table))


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
