"""FFmpeg's deblocking post-filters, which a network must beat, through the ``ffmpeg`` command."""

import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from edgecar.errors import MediaError
from edgecar.evaluate.metrics import Luma
from edgecar.media.frame import Frame, Plane, chroma_size
from edgecar.media.video_codec import CodedClip, VideoCoding
from edgecar.spec import Size

QUALITY = 4
"""Shifts that are averaged: 2^4 in spp; fspp has 4 and 5."""


COMMAND = ("ffmpeg", "-hide_banner", "-loglevel", "error", "-nostdin")

# Strength ``qp`` by quantiser, for quality 4: for each the whole number with the highest mean PSNR,
# against the sources, over the study set (first 24 to 45 frames; HEVC on five of the clips), which
# is kind to the filters. It has to be given: without, spp and fspp find no QP table of H.264 or
# HEVC and return every frame as it was, and with the decoder's table (-export_side_data
# venc_params) FFmpeg 5.1 stops with "Function not implemented", as that is for MPEG-2 only. Its
# scale is that of MPEG-2, too: the coder's own QP blurs everything. Mean gain of spp in dB at CRF
# 29, 35, 41, 47:
#
#     qp of this table        +0.17  +0.17  +0.14  +0.08
#     mean QP / 4 (8 to 12)   -0.55  -0.07  +0.09  +0.08
#     qp = CRF, at 35: -3.4 on the one clip tried
#
# The best qp of every single clip, which nobody knows without the source, would give +0.20, +0.20,
# +0.16, +0.09. HEVC's own filters leave less to do: at QP 22 nothing gains.
STRENGTHS = {
    ("spp", "h264"): {29: 3, 35: 5, 41: 8, 47: 12},
    ("fspp", "h264"): {29: 2, 35: 3, 41: 4, 47: 5},
    ("spp", "hevc"): {22: 1, 27: 1, 32: 2, 37: 3},
    ("fspp", "hevc"): {22: 1, 27: 1, 32: 1, 37: 2},
}
POSTFILTERS = tuple(dict.fromkeys(name for name, _ in STRENGTHS))
"""Names of the filters."""


class Postfilter:
    """One of FFmpeg's post-filters at its best strength.

    Args:
        name: ``spp`` or ``fspp``.

    Raises:
        MediaError: Another name, or no ``ffmpeg`` with this filter is installed.
    """

    def __init__(self, name: str) -> None:
        if name not in POSTFILTERS:
            raise MediaError(f"no baseline is called {name!r}; use {' or '.join(POSTFILTERS)}")
        check_installed(name)
        self.name = name

    def restored(self, coded: CodedClip, coding: VideoCoding, indices: Sequence[int]) -> list[Luma]:
        """Luma of the filtered frames with these indices, ``(H, W)`` each.

        Raises:
            MediaError: FFmpeg fails or gives another number of frames.
        """
        planes = ffmpeg_luma(coded, self.setting(coding))
        return [planes[index] for index in indices]

    def frames(
        self, coded: CodedClip, coding: VideoCoding, indices: Sequence[int]
    ) -> Iterator[Frame]:
        """The filtered frames with these indices, chroma included.

        Raises:
            MediaError: FFmpeg fails or gives another number of frames.
        """
        planes = _ffmpeg_planes(coded, self.setting(coding))
        for index in indices:
            y, u, v = planes[index]
            yield replace(coded.frames[index], y=y, u=u, v=v)

    def setting(self, coding: VideoCoding) -> str:
        """Return the value of ffmpeg's option ``-vf``."""
        return f"{self.name}={QUALITY}:qp={strength_for(self.name, coding)}"


def ffmpeg_luma(coded: CodedClip, video_filter: str | None = None) -> list[Luma]:
    """Every frame as the ``ffmpeg`` command decodes and filters it.

    Samples stay in the range they are coded in: no pixel format is asked for, as FFmpeg would
    convert full-range pictures to limited range on the way.

    Args:
        coded: Clip to decode; its frames give size and number.
        video_filter: For ``-vf``; None: only decode.

    Returns:
        ``(H, W)`` of each frame, in the order of display.

    Raises:
        MediaError: FFmpeg fails, or gives another number of frames or size.
    """
    return [planes[0] for planes in _ffmpeg_planes(coded, video_filter)]


def _ffmpeg_planes(coded: CodedClip, video_filter: str | None) -> list[tuple[Plane, Plane, Plane]]:
    """The three planes of every frame."""
    filtering = ("-vf", video_filter) if video_filter else ()
    command = [*COMMAND, "-i", "pipe:0", *filtering, "-f", "rawvideo", "pipe:1"]
    try:
        done = subprocess.run(command, input=coded.bitstream, capture_output=True, check=False)
    except OSError as error:
        raise MediaError(f"ffmpeg does not start ({error.strerror}); install it again") from error
    if done.returncode:
        words = done.stderr.decode(errors="replace").strip().splitlines() or ["no message"]
        raise MediaError(f"ffmpeg {video_filter} failed ({words[0]}); try another build of ffmpeg")
    return _planes(done.stdout, coded.frames[0].size, len(coded.frames))


def _planes(raw: bytes, size: Size, count: int) -> list[tuple[Plane, Plane, Plane]]:
    """``count`` planar 4:2:0 pictures."""
    luma, chroma = size, chroma_size(size)
    luma_bytes, chroma_bytes = luma[0] * luma[1], chroma[0] * chroma[1]
    picture_bytes = luma_bytes + 2 * chroma_bytes
    if len(raw) != count * picture_bytes:
        raise MediaError(
            f"ffmpeg gave {len(raw)} bytes for {count} frames of {picture_bytes}; "
            "try another build of ffmpeg"
        )
    pictures = np.frombuffer(raw, np.uint8).reshape(count, picture_bytes)
    ends = [luma_bytes, luma_bytes + chroma_bytes]
    return [
        (y.reshape(luma), u.reshape(chroma), v.reshape(chroma))
        for y, u, v in (np.split(picture, ends) for picture in pictures)
    ]


def strength_for(name: str, coding: VideoCoding) -> int:
    """Return the filter's ``qp``, at least 1 (0 would filter nothing).

    Between the quantisers of the study it is interpolated, beyond them it stays.

    Example:
        >>> [strength_for("spp", VideoCoding("h264", crf)) for crf in (20, 29, 38, 51)]
        [3, 3, 6, 12]
    """
    measured = STRENGTHS[name, coding.codec]
    between = np.interp(coding.quantiser, list(measured), list(measured.values()))
    return max(1, round(float(between)))


def check_installed(name: str) -> None:
    """Check that the ``ffmpeg`` command has a filter.

    Raises:
        MediaError: There is no command, or it was built without the filter.
    """
    remedy = "install one (Debian, Ubuntu: apt install ffmpeg) or leave this baseline out"
    if shutil.which(COMMAND[0]) is None:
        raise MediaError(f"no ffmpeg command is here; baseline {name} needs one: {remedy}")
    listed = subprocess.run([*COMMAND, "-filters"], capture_output=True, text=True, check=False)
    if not any(line.split()[1:2] == [name] for line in listed.stdout.splitlines()):
        raise MediaError(
            f"this ffmpeg has no filter {name}, which needs a build under the GPL: {remedy}"
        )
