"""Parts of a clip: where it is cut, how each is restored by itself, and how all are joined.

A part is a run of whole groups of pictures. Its frames are those shown from its keyframe on and
before the next part's. With open groups, pictures behind a keyframe in the file are shown before
it and refer to pictures before it: they belong to the part before.
"""

import hashlib
import itertools
import json
import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, nullcontext
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
from av.packet import Packet
from av.video.stream import VideoStream

from edgecar.errors import BatchError, MediaError
from edgecar.files import atomic_write
from edgecar.media.audio import Sound, SoundOfFile
from edgecar.media.container import REORDERED_FRAMES, longest_ticks, stored_time_base
from edgecar.media.facts import NO_NOTES, StreamFacts
from edgecar.media.frame import Frame
from edgecar.media.packets import Start
from edgecar.media.reader import Reader
from edgecar.media.sources import main_video, opened, source_from
from edgecar.media.timing import REORDER_LIMIT_SECONDS, Timeline
from edgecar.media.writer import Codec, open_writer
from edgecar.runtime.camera import PipelineSettings
from edgecar.runtime.pipeline import Pipeline
from edgecar.runtime.restorer import Restorer

SUFFIXES: dict[Codec, str] = {"h264": ".mp4", "ffv1": ".mkv"}

INDEXED = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm")
"""Formats that find a keyframe again by its time. Others are read from their beginning."""

CUT_CODINGS = ("h264", "hevc", "mjpeg")
"""Codings whose keyframes, as formats mark them, begin anew for the decoder."""

SEAM_FRAMES = 4
"""Frames behind a cut that are decoded from both sides and compared."""


@dataclass(frozen=True)
class Span:
    """One part of a clip.

    Attributes:
        start: Keyframe that the part starts at; None: the beginning of the file.
        end: Time of the next part's keyframe, in ticks; None: the part ends with the file.
        frames: Expected number of frames; None if nobody knows.
    """

    start: Start | None
    end: int | None
    frames: int | None


@dataclass(frozen=True)
class Plan:
    """Parts of a clip, FFmpeg's name of its coding, the output's facts, and why it is not cut."""

    codec: str
    facts: StreamFacts
    spans: tuple[Span, ...]
    why_whole: str = ""

    def in_one_part(self, why: str) -> "Plan":
        """Return the plan of the same clip, not cut."""
        frames = None if self.spans[0].frames is None else sum(s.frames or 0 for s in self.spans)
        return replace(self, spans=(Span(None, None, frames),), why_whole=why)


class UncutError(BatchError):
    """Reason why a clip must stay whole."""


def plan_clip(path: Path, codec_out: Codec, part_seconds: float) -> Plan:
    """Cut a clip into parts of at least ``part_seconds``, by its packets alone."""
    with Reader(source_from(path), keep_size=True, threads=1) as reader:
        facts = replace(reader.facts, sound=None)  # read from the file when parts are joined
        plan = Plan(reader.codec, facts, (Span(None, None, reader.frame_count),))
        form, states_times = reader.container_name, reader.states_times
    try:
        if form not in INDEXED:
            raise UncutError(f"{form} has no index of keyframes")
        if plan.codec not in CUT_CODINGS:
            raise UncutError(f"{plan.codec} is not known to begin anew at keyframes")
        if not states_times:
            raise UncutError("packets do not say when they are shown")
        packets, keyframes = _packets_of(path, facts.time_base)
        _check_stored(packets, facts, SUFFIXES[codec_out])
    except UncutError as reason:
        return plan.in_one_part(str(reason))
    return replace(plan, spans=_spans(packets, keyframes, part_seconds / facts.time_base))


def _packets_of(path: Path, tick: Fraction) -> tuple[list[Start], set[int]]:
    """Return packets in order of decoding, and the places of keyframes among them."""
    packets: list[Start] = []
    keyframes: set[int] = set()
    latest = -math.inf
    try:
        with opened(source_from(path)) as container:
            for packet in container.demux(main_video(container)):
                if not packet.size or packet.is_discard:
                    continue
                if packet.is_corrupt:
                    raise UncutError("a file is damaged")
                if packet.pts is None:
                    raise UncutError("packets do not say when they are shown")
                decoded = packet.pts if packet.dts is None else packet.dts
                if abs(packet.pts - decoded) > REORDER_LIMIT_SECONDS / tick:
                    raise UncutError("a file has impossible times")
                if packet.dts is not None and packet.dts < latest:
                    raise UncutError("a file's clock goes back")
                latest = latest if packet.dts is None else packet.dts
                if packet.is_keyframe:
                    keyframes.add(len(packets))
                packets.append(Start(packet.pts, decoded))
    except av.FFmpegError:
        raise UncutError("a file is damaged") from None
    if 0 not in keyframes:
        raise UncutError("a file does not start with a keyframe")
    return packets, keyframes


def _check_stored(packets: Sequence[Start], facts: StreamFacts, suffix: str) -> None:
    """Refuse to cut where the output's format would need other frames or times."""
    tick = stored_time_base(suffix, facts)
    stored = sorted({round(packet.shown * facts.time_base / tick) for packet in packets})
    if len(stored) < len(packets):
        raise UncutError("two frames have one time")
    longest = max((now - then for then, now in itertools.pairwise(stored)), default=0)
    if longest * REORDERED_FRAMES > longest_ticks(suffix, tick):  # which a writer may have to fill
        raise UncutError("a gap may be longer than the format stores")


def _spans(packets: Sequence[Start], keyframes: set[int], part_ticks: float) -> tuple[Span, ...]:
    cuts, latest = [packets[0]], packets[0].shown
    for place, packet in enumerate(packets):
        # Everything before it in the file must be shown before it.
        clean = place in keyframes and packet.shown > latest
        if clean and packet.shown - cuts[-1].shown >= part_ticks:
            cuts.append(packet)
        latest = max(latest, packet.shown)
    shown = sorted(packet.shown for packet in packets)
    places = [0, *(bisect_left(shown, cut.shown) for cut in cuts[1:]), len(shown)]
    starts, ends = [None, *cuts[1:]], [*(cut.shown for cut in cuts[1:]), None]
    return tuple(map(Span, starts, ends, (b - a for a, b in itertools.pairwise(places))))


class SpanFrames:
    """Frames of one part, decoded on one thread so that damage looks the same every time.

    Attributes:
        begins: Digests of the first frames.
        goes_on: Digests of the first frames behind the end, once all were read.
    """

    live = False

    def __init__(self, path: Path, plan: Plan, span: Span) -> None:
        self._end = span.end
        self._reader = Reader(
            source_from(path),
            keep_size=True,
            size=plan.facts.size,
            start=span.start,
            threads=1,
            read_coding=True,
        )
        self.warnings, self.close = self._reader.warnings, self._reader.close
        self.begins: list[str] = []
        self.goes_on: list[str] = []

    def __iter__(self) -> Iterator[Frame]:
        for frame in self._reader:
            if self._end is not None and frame.pts is not None and frame.pts >= self._end:
                after = itertools.islice(self._reader, SEAM_FRAMES - 1)
                self.goes_on = [_digest(each) for each in (frame, *after)]
                return
            if len(self.begins) < SEAM_FRAMES:
                self.begins.append(_digest(frame))
            yield frame


def _digest(frame: Frame) -> str:
    digest = hashlib.blake2b(repr((frame.pts, frame.size)).encode(), digest_size=16)
    for plane in (frame.y, frame.u, frame.v):
        digest.update(plane.tobytes())
    return digest.hexdigest()


@dataclass(frozen=True)
class PartDone:
    """Facts of a finished part, kept in a file beside it.

    Attributes:
        first_ticks: Time of its first frame in ticks of the output; its own times start at zero.
        hold_ticks: Duration of its last frame, if that is longer than others; else 0.
        begins: Digests of its first frames, as decoded.
        goes_on: Digests of the first frames of the next part, as decoded without a cut.
        engine: Engine that computed it, in words.
        warnings: Counts of what was changed, skipped or missing.
        key: Hash of all that decides its bytes; see `archive.clip_key`.
        lost: True if a worker died over it.
    """

    frames: int
    first_ticks: int
    hold_ticks: int
    begins: list[str]
    goes_on: list[str]
    engine: str
    size_bytes: int
    warnings: dict[str, int]
    key: str
    lost: bool


def part_path(folder: Path, number: int, codec: Codec) -> Path:
    """Return the path of a part."""
    return folder / f"part-{number:05}{SUFFIXES[codec]}"


def finished_part(path: Path, key: str) -> PartDone | None:
    """Return the facts of a part if it is finished; None if it must be made."""
    try:
        done = PartDone(**json.loads(path.with_suffix(".json").read_text(encoding="utf-8")))
        return done if (path.stat().st_size, key) == (done.size_bytes, done.key) else None
    except (OSError, ValueError, TypeError):  # not there, or of another version
        return None


def make_part(
    source: Path, plan: Plan, span: Span, restorer: Restorer, path: Path, codec: Codec, key: str
) -> PartDone:
    """Restore and encode one part; its file and its facts appear whole."""
    lost = any(path.parent.glob(f".{path.stem}.*"))  # what a worker that died left half-written
    facts = replace(plan.facts, audio_from=None, notes=NO_NOTES)
    tick = stored_time_base(path.suffix, facts)
    warnings: Counter[str] = Counter()
    timeline = Timeline(tick, facts.rate, from_zero=False, warnings=warnings)
    first_ticks, hold_ticks = None, 0
    frames = SpanFrames(source, plan, span)
    with (
        Pipeline({"part": frames}, restorer, PipelineSettings(policy="block")) as restored,
        open_writer(
            path, like=replace(facts, time_base=tick), codec=codec, same_bytes=True
        ) as writer,
    ):
        for each in restored:
            frame, ticks = each.frame, timeline.place(each.frame)
            first_ticks = ticks if first_ticks is None else first_ticks
            if frame.duration and frame.time_base:
                hold_ticks = round(frame.duration * frame.time_base / tick)
            shown = ticks - first_ticks
            writer.write(replace(frame, pts=shown, time_base=tick, duration=hold_ticks or None))
            if each.passed_because:
                warnings[f"frames passed as they are ({each.passed_because})"] += 1
    if first_ticks is None:
        raise MediaError(f"no frame in {path.stem} of {source}; copy or record it again")
    info = restorer.engine.info
    done = PartDone(
        frames=writer.frames,
        first_ticks=first_ticks,
        hold_ticks=hold_ticks,
        begins=frames.begins,
        goes_on=frames.goes_on,
        engine=f"{info.name} ({info.provider}), {info.precision}",
        size_bytes=path.stat().st_size,
        warnings=dict(frames.warnings + warnings + writer.warnings),
        key=key,
        lost=lost,
    )
    with atomic_write(path.with_suffix(".json")) as temporary:
        temporary.write_text(json.dumps(asdict(done)), encoding="utf-8")
    return done


def check_seams(source: Path, parts: Sequence[PartDone]) -> None:
    """Compare what was decoded on both sides of every cut, and who computed the parts."""
    engines = {part.engine for part in parts}
    if len(engines) > 1:
        raise BatchError(
            f"parts of {source} were computed by {' and by '.join(sorted(engines))}, which give "
            "other bytes; choose --engine and --precision so that all workers do the same"
        )
    for number, (before, after) in enumerate(itertools.pairwise(parts), 1):
        pairs = zip(before.goes_on, after.begins, strict=False)
        if not before.goes_on or any(left != right for left, right in pairs):
            raise UncutError(f"part {number} decodes to other frames than without a cut")


def join_parts(plan: Plan, parts: Sequence[PartDone], folder: Path, codec: Codec) -> dict[str, int]:
    """Copy the packets of all parts into ``whole`` in their folder, with the sound of the source.

    Returns counts of what had to change or be left out.
    """
    facts, suffix = plan.facts, SUFFIXES[codec]
    tick = stored_time_base(suffix, facts)
    paths = [part_path(folder, number, codec) for number in range(len(parts))]
    coded = [packet.pts or 0 for packet in _coded_packets(paths, parts, tick)]
    decoded = _decoding_times(coded)
    warnings: Counter[str] = Counter()
    audio = facts.audio_from
    with closing(SoundOfFile(audio, warnings)) if audio else nullcontext() as sound:
        like = replace(facts, sound=cast("Sound | None", sound))
        whole = folder / f"whole{suffix}"
        with open_writer(whole, like=like, codec=codec, same_bytes=True) as writer:
            packets = _coded_packets(paths, parts, tick, decoded)
            writer.copy(packets, parts[0].first_ticks * tick, max(coded), parts[-1].hold_ticks)
    return dict(warnings + writer.warnings)


def _decoding_times(coded: Sequence[int]) -> list[int]:
    """Return when each packet is decoded, as x264 does it for a whole clip.

    The parts' own times of decoding would overlap at the cuts.
    """
    shown = sorted(coded)
    place = {ticks: number for number, ticks in enumerate(shown)}
    if len(place) < len(shown):
        raise BatchError("two frames share a time; give a larger --part-seconds than the clip")
    depth = max(number - place[ticks] for number, ticks in enumerate(coded))
    lead = max(shown[min(depth, len(shown) - 1)] - shown[0], depth)
    return [ticks - lead for ticks in shown[:depth]] + shown[: len(shown) - depth]


def _coded_packets(
    paths: Sequence[Path], parts: Sequence[PartDone], tick: Fraction, decoded: Sequence[int] = ()
) -> "Iterator[Packet[VideoStream]]":
    """Yield the packets of all parts in order, with times in ticks of the output."""
    times = iter(decoded)
    for path, part in zip(paths, parts, strict=True):
        with av.open(f"file:{path}") as container:
            for packet in container.demux(container.streams.video[0]):
                if packet.size and packet.pts is not None:
                    shown = round(packet.pts * packet.time_base / tick)
                    packet.pts = shown + part.first_ticks - parts[0].first_ticks
                    packet.dts, packet.time_base = next(times, None), tick
                    packet.duration = 0  # as encoders leave it: formats count it out to the next
                    yield packet
