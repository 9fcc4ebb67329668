"""Where a clip can be cut so that its parts decode to the frames of the whole.

A part is a run of whole groups of pictures. Its frames are those shown from its keyframe on and
before the next part's. With open groups, pictures behind a keyframe in the file are shown before
it and lean on pictures before it: they belong to the part before.
"""

import math
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
"""What outputs end in."""

INDEXED = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm")
"""Formats that find a keyframe again by its time. Others are read from their beginning."""

CUT_CODINGS = ("h264", "hevc", "mjpeg")
"""Codings whose keyframes, as formats mark them, begin anew for the decoder."""

_WHOLE_TIMES = "packets do not say when they are shown"
_WHOLE_DAMAGE = "a file is damaged"


@dataclass(frozen=True)
class Span:
    """One part of a clip.

    Attributes:
        number: From 0.
        start: Its keyframe; None begins where the file does.
        end: When the next part's keyframe is shown, in ticks; None: to the last frame.
        frames: How many to expect; None if nobody knows.
    """

    number: int
    start: Start | None
    end: int | None
    frames: int | None


@dataclass(frozen=True)
class Plan:
    """What there is to do for a clip.

    Attributes:
        codec: How it is coded, FFmpeg's short name.
        facts: For the output.
        spans: At least one, in order.
        why_whole: Why it is one part although it is longer; empty if it is not.
    """

    codec: str
    facts: StreamFacts
    spans: tuple[Span, ...]
    why_whole: str = ""


@dataclass(frozen=True)
class _Packet:
    shown: int
    decoded: int
    keyframe: bool


def plan_clip(path: Path, codec_out: Codec, part_seconds: float, *, whole: str = "") -> Plan:
    """Look through a clip's packets, without decoding them, and cut it.

    Args:
        path: The clip.
        codec_out: Of the output, whose format may count coarser times.
        part_seconds: How long parts are at least, but for the last one.
        whole: Why it must not be cut; empty: it may be.

    Raises:
        MediaError: It cannot be opened or holds no frame that can be decoded.
    """
    with Reader(source_from(path), keep_size=True, threads=1) as reader:
        facts = replace(reader.facts, sound=None)  # who joins the parts reads it from the file
        codec, count = reader.codec, reader.frame_count
        why = whole or _why_not(reader)
    packets: Sequence[_Packet] = []
    if not why:
        tick = facts.time_base
        packets, why = _packets(path, tick)
        stored = sorted({round(p.shown * tick / _stored(facts, codec_out)) for p in packets})
        longest = longest_ticks(SUFFIXES[codec_out], _stored(facts, codec_out))
        if not why and len(stored) < len(packets):
            why = "two frames have one time"
        elif not why and _longest(stored) > longest:
            why = "a gap is longer than the format stores, so that frames are shown again in it"
    if why:
        return Plan(codec, facts, (Span(0, None, None, count),), why)
    return Plan(codec, facts, tuple(_spans(packets, part_seconds / facts.time_base)))


def _stored(facts: StreamFacts, codec_out: Codec) -> Fraction:
    return stored_time_base(SUFFIXES[codec_out], facts)


def _longest(shown: Sequence[int]) -> int:
    """Longest time between frames that may be coded together; as a writer sees it."""
    before = [shown[0]] * REORDERED_FRAMES + list(shown)
    return max(now - then for then, now in zip(before, shown, strict=False))


def _why_not(reader: Reader) -> str:
    if reader.container_name not in INDEXED:
        return f"{reader.container_name} has no index of keyframes"
    if reader.codec not in CUT_CODINGS:
        return f"{reader.codec} is not known to begin anew at keyframes"
    return "" if reader.states_times else _WHOLE_TIMES


def _packets(path: Path, tick: Fraction) -> tuple[list[_Packet], str]:
    """Packets in the order of decoding, or why the clip must be read in one go."""
    packets: list[_Packet] = []
    limit = REORDER_LIMIT_SECONDS / tick
    latest: float = -math.inf
    try:
        with opened(source_from(path)) as container:
            stream = main_video(container)
            for packet in container.demux(stream):
                if not packet.size or packet.is_discard:
                    continue
                if packet.pts is None or packet.is_corrupt:
                    return [], _WHOLE_TIMES if packet.pts is None else _WHOLE_DAMAGE
                decoded = packet.pts if packet.dts is None else packet.dts
                if abs(packet.pts - decoded) > limit:
                    return [], "a file has impossible times"
                if packet.dts is not None:
                    if packet.dts < latest:
                        return [], "a file's clock goes back"
                    latest = packet.dts
                packets.append(_Packet(packet.pts, decoded, packet.is_keyframe))
    except av.FFmpegError:
        return [], _WHOLE_DAMAGE
    if not packets or not packets[0].keyframe:
        return [], "a file does not start with a keyframe"
    return packets, ""


def _spans(packets: Sequence[_Packet], part_ticks: Fraction | float) -> list[Span]:
    """Parts of at least so many ticks that start at a keyframe each."""
    cuts = [Start(packets[0].shown, packets[0].decoded)]
    latest = packets[0].shown
    for packet in packets[1:]:
        # All that comes before it in the file must be shown before it.
        clean = packet.keyframe and packet.shown > latest
        if clean and packet.shown - cuts[-1].shown >= part_ticks:
            cuts.append(Start(packet.shown, packet.decoded))
        latest = max(latest, packet.shown)
    shown = sorted(packet.shown for packet in packets)
    spans: list[Span] = []
    position = 0
    for number, start in enumerate(cuts):
        last = number + 1 == len(cuts)
        end = None if last else cuts[number + 1].shown
        after = len(shown) if end is None else shown.index(end, position)
        spans.append(Span(number, start if number else None, end, after - position))
        position = after
    return spans
