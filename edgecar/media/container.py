"""Video files that are written: what each format can store, and failures explained."""

import errno
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
from av.container import OutputContainer

from edgecar.errors import MediaError
from edgecar.media.audio import Sound, is_unusual
from edgecar.media.facts import MILLISECOND, StreamFacts
from edgecar.media.sources import reason_of

FORMATS = {".mp4": "mp4", ".mkv": "matroska", ".mov": "mov", ".avi": "avi"}
"""FFmpeg's names of containers."""

# Frames from the one that is decoded to the one that is shown at that time, at most: ``veryslow``
# puts 8 between two others and decodes 2 ahead.
REORDERED_FRAMES = 12

# MP4 and MOV store the time from decoding a frame to showing it in 32 bits, of which FFmpeg uses
# 31: at 90,000 ticks a second, 6.6 hours. Half of that is for gaps, half for what fills them.
MP4_GAP_TICKS = 2**30

MP4_SCALE = 20_000
AVI_GAP_FRAMES = 50_000  # FFmpeg leaves no more than 60,000 places of AVI empty


def longest_ticks(suffix: str, tick: Fraction) -> int:
    """Return the longest time between frames coded together that a format is trusted to store."""
    if suffix == ".avi":
        return AVI_GAP_FRAMES
    if suffix == ".mkv":
        return sys.maxsize
    scale = max(tick.denominator, MP4_SCALE)  # FFmpeg makes smaller ones larger
    return int(MP4_GAP_TICKS / (tick * scale))


def stored_time_base(suffix: str, facts: StreamFacts) -> Fraction:
    """Return the seconds in a tick that the container can store; the source's own if possible."""
    return {".mkv": MILLISECOND, ".avi": 1 / facts.rate}.get(suffix, facts.time_base)


def container_for(
    path: Path, kind: str, sound: Sound | None, *, same_bytes: bool, live: bool
) -> OutputContainer:
    """Open an empty file for video and ``sound``; ``live``: playable even without its end.

    ``same_bytes`` leaves out the random numbers and names of libraries that formats ask for.
    """
    muxing = {"strict": "experimental"}  # TrueHD in MP4, which players have known for years
    if same_bytes:
        muxing["fflags"] = "+bitexact"
    if kind == "matroska":
        # Matroska would move the video by the silence that coders put before the first sound.
        muxing["avoid_negative_ts"] = "disabled"
    elif live:
        muxing |= {"movflags": "+hybrid_fragmented+frag_keyframe+delay_moov", "flush_packets": "1"}
    if sound and is_unusual(kind, sound):
        options = "".join(f":{name}={value}" for name, value in muxing.items())
        name = re.sub(r"([\\'|\[\]])", r"\\\1", str(path))
        return av.open(f"[f={kind}{options}]file:{name}", "w", format="tee")
    return av.open(f"file:{path}", "w", format=kind, container_options=muxing)


@contextmanager
def explained(path: Path, live: bool = False) -> Iterator[None]:
    """Raise MediaError of one line in place of the libraries' failures to write ``path``.

    Frames of a live recording before the failure are kept where possible.
    """
    try:
        yield
    except (av.FFmpegError, OSError, ValueError) as error:
        cause, remedy = reason_of(error), "choose another folder, codec or suffix"
        code = getattr(error, "errno", None)
        if code == errno.ENOSPC:
            cause, remedy = "the disk is full", "free space or choose another folder"
        elif code in (errno.EACCES, errno.EPERM, errno.EROFS):
            remedy = "choose a folder you may write to"
        rest = "written any further" if live else "written"
        kept = "" if live else ", and nothing of it was kept"
        raise MediaError(f"{path} cannot be {rest} ({cause}){kept}; {remedy}") from error
