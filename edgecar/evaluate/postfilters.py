"""FFmpeg's deblocking post-filters, which a network must beat, through the ``ffmpeg`` command."""

import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from edgecar.errors import MediaError
from edgecar.evaluate.study import Coded, Coding
from edgecar.media.frame import Frame, chroma_size
from edgecar.media.video_codec import CodedClip, VideoCoding

QUALITY = 4
"""Shifts that are averaged: 2^4 in spp; fspp has 4 and 5."""
COMMAND = ("ffmpeg", "-hide_banner", "-loglevel", "error", "-nostdin")

# Strength ``qp`` by quantiser, for quality 4: for each the whole number with the highest mean PSNR
# over the study set, which is kind to the filters (+0.17, +0.17, +0.14, +0.08 dB of spp at CRF 29,
# 35, 41, 47). It has to be given: spp and fspp find no QP table of H.264 or HEVC and return every
# frame as it was. Their scale is that of MPEG-2: the coder's own QP blurs everything.
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

    def frames(self, coded: Coded, indices: Sequence[int]) -> Iterator[Frame]:
        """Yield the filtered frames with these indices, chroma included."""
        filtered = ffmpeg_frames(coded.clip, self.setting(coded.coding))
        return (filtered[index] for index in indices)

    def setting(self, coding: Coding) -> str:
        """Return the value of ffmpeg's option ``-vf``."""
        assert isinstance(coding, VideoCoding)
        return f"{self.name}={QUALITY}:qp={strength_for(self.name, coding)}"


def ffmpeg_frames(coded: CodedClip, video_filter: str | None = None) -> list[Frame]:
    """Return every frame as the ``ffmpeg`` command decodes and filters (``-vf``) it.

    Samples stay in the range they are coded in: no pixel format is asked for, as FFmpeg would
    convert full-range pictures to limited range on the way.

    Raises:
        MediaError: FFmpeg fails, or gives another number of frames or size.
    """
    filtering = ("-vf", video_filter) if video_filter else ()
    command = [*COMMAND, "-i", "pipe:0", *filtering, "-f", "rawvideo", "pipe:1"]
    try:
        done = subprocess.run(command, input=coded.bitstream, capture_output=True, check=False)
    except OSError as error:
        raise MediaError(f"ffmpeg does not start ({error.strerror}); install it again") from error
    if done.returncode:
        words = done.stderr.decode(errors="replace").strip().splitlines() or ["no message"]
        raise MediaError(f"ffmpeg {video_filter} failed ({words[0]}); try another build of ffmpeg")
    count, luma = len(coded.frames), coded.frames[0].size
    chroma = chroma_size(luma)
    ends = luma[0] * luma[1], luma[0] * luma[1] + chroma[0] * chroma[1]
    frame_bytes = 2 * ends[1] - ends[0]
    if len(done.stdout) != count * frame_bytes:
        raise MediaError(
            f"ffmpeg gave {len(done.stdout)} bytes for {count} frames of {frame_bytes}; "
            "try another build of ffmpeg"
        )
    pictures = np.frombuffer(done.stdout, np.uint8).reshape(count, frame_bytes)
    return [
        replace(frame, y=y.reshape(luma), u=u.reshape(chroma), v=v.reshape(chroma))
        for frame, (y, u, v) in zip(
            coded.frames, (np.split(picture, ends) for picture in pictures), strict=True
        )
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
