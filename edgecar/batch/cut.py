"""Where a clip can be cut so that its parts decode to the frames of the whole.

A part is a run of whole groups of pictures. Its frames are those shown from its keyframe on and
before the next part's. With open groups, pictures behind a keyframe in the file are shown before
it and refer to pictures before it: they belong to the part before.
"""

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av

from edgecar.media.container import REORDERED_FRAMES, longest_ticks, stored_time_base
from edgecar.media.facts import StreamFacts
from edgecar.media.packets import Start
from edgecar.media.reader import Reader
from edgecar.media.sources import main_video, opened, source_from
from edgecar.media.timing import REORDER_LIMIT_SECONDS
from edgecar.media.writer import Codec

SUFFIXES: dict[Codec, str] = {"h264": ".mp4", "ffv1": ".mkv"}
"""Suffixes of outputs."""

INDEXED = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm")
"""Formats that find a keyframe again by its time. Others are read from their beginning."""

CUT_CODINGS = ("h264", "hevc", "mjpeg")
"""Codings whose keyframes, as formats mark them, begin anew for the decoder."""

WHOLE_TIMES = "packets do not say when they are shown"
WHOLE_DAMAGE = "a file is damaged"


@dataclass(frozen=True)
class Span:
    """One part of a clip.

    Attributes:
        number: Place among the parts, from 0.
        start: Keyframe that the part starts at; None: the beginning of the file.
        end: Time of the next part's keyframe, in ticks; None: the part ends with the file.
        frames: Expected number of frames; None if nobody knows.
    """

    number: int
    start: Start | None
    end: int | None
    frames: int | None


@dataclass(frozen=True)
class Plan:
    """Parts of a clip.

    Attributes:
        codec: FFmpeg's short name of the clip's coding.
        facts: Properties of the output.
        spans: At least one, in order.
        why_whole: Reason why a clip of any length is one part; empty if it may be cut.
    """

    codec: str
    facts: StreamFacts
    spans: tuple[Span, ...]
    why_whole: str = ""


def plan_clip(path: Path, codec_out: Codec, part_seconds: float, whole: str = "") -> Plan:
    """Look through a clip's packets, without decoding them, and cut it.

    Args:
        path: Path of the clip.
        codec_out: Codec of the output, whose format may count coarser times.
        part_seconds: Duration of the shortest part, except the last one.
        whole: Reason why it must not be cut; empty: it may be.

    Raises:
        MediaError: It cannot be opened or holds no frame that can be decoded.
    """
    with Reader(source_from(path), keep_size=True, threads=1) as reader:
        facts = replace(reader.facts, sound=None)  # read from the file when parts are joined
        codec, count = reader.codec, reader.frame_count
        why = whole or _why_not(reader)
    packets: Sequence[Start] = []
    keyframes: set[int] = set()
    if not why:
        packets, keyframes, why = _packets(path, facts.time_base)
    if not why:
        why = _why_not_stored(packets, facts, SUFFIXES[codec_out])
    if why:
        return Plan(codec, facts, (Span(0, None, None, count),), why)
    return Plan(codec, facts, tuple(_spans(packets, keyframes, part_seconds / facts.time_base)))


def _why_not(reader: Reader) -> str:
    if reader.container_name not in INDEXED:
        return f"{reader.container_name} has no index of keyframes"
    if reader.codec not in CUT_CODINGS:
        return f"{reader.codec} is not known to begin anew at keyframes"
    return "" if reader.states_times else WHOLE_TIMES


def _packets(path: Path, tick: Fraction) -> tuple[list[Start], set[int], str]:
    """Return packets in order of decoding, the places of keyframes, and a reason not to cut."""
    packets: list[Start] = []
    keyframes: set[int] = set()
    limit = REORDER_LIMIT_SECONDS / tick
    latest: float = -math.inf
    try:
        with opened(source_from(path)) as container:
            for packet in container.demux(main_video(container)):
                if not packet.size or packet.is_discard:
                    continue
                if packet.pts is None or packet.is_corrupt:
                    return [], set(), WHOLE_TIMES if packet.pts is None else WHOLE_DAMAGE
                decoded = packet.pts if packet.dts is None else packet.dts
                if abs(packet.pts - decoded) > limit:
                    return [], set(), "a file has impossible times"
                if packet.dts is not None:
                    if packet.dts < latest:
                        return [], set(), "a file's clock goes back"
                    latest = packet.dts
                if packet.is_keyframe:
                    keyframes.add(len(packets))
                packets.append(Start(packet.pts, decoded))
    except av.FFmpegError:
        return [], set(), WHOLE_DAMAGE
    return packets, keyframes, "" if 0 in keyframes else "a file does not start with a keyframe"


def _why_not_stored(packets: Sequence[Start], facts: StreamFacts, suffix: str) -> str:
    """Return why the output's format would need other frames or times; empty if it does not."""
    tick = stored_time_base(suffix, facts)
    stored = sorted({round(packet.shown * facts.time_base / tick) for packet in packets})
    if len(stored) < len(packets):
        return "two frames have one time"
    # A writer fills gaps so; it looks at frames that may be coded together.
    before = [stored[0]] * REORDERED_FRAMES + stored
    longest = max(now - then for then, now in zip(before, stored, strict=False))
    if longest > longest_ticks(suffix, tick):
        return "a gap is longer than the format stores, so that frames are shown again in it"
    return ""


def _spans(packets: Sequence[Start], keyframes: set[int], part_ticks: float) -> list[Span]:
    """Return parts of at least ``part_ticks`` ticks, each of which starts at a keyframe."""
    cuts, latest = [packets[0]], packets[0].shown
    for place, packet in enumerate(packets):
        # Everything before it in the file must be shown before it.
        clean = place in keyframes and packet.shown > latest
        if clean and packet.shown - cuts[-1].shown >= part_ticks:
            cuts.append(packet)
        latest = max(latest, packet.shown)
    shown = sorted(packet.shown for packet in packets)
    places = [0, *(bisect_left(shown, cut.shown) for cut in cuts[1:]), len(shown)]
    return [
        Span(
            number,
            start if number else None,
            cuts[number + 1].shown if number + 1 < len(cuts) else None,
            places[number + 1] - places[number],
        )
        for number, start in enumerate(cuts)
    ]
