"""Parts of a clip: each is read, restored and encoded by itself; then all are joined."""

import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
from av.packet import Packet
from av.video.stream import VideoStream

from edgecar.batch.cut import SUFFIXES, Plan, Span
from edgecar.errors import BatchError, MediaError
from edgecar.files import atomic_write
from edgecar.media.audio import Sound, SoundOfFile
from edgecar.media.container import stored_time_base
from edgecar.media.facts import NO_NOTES
from edgecar.media.frame import Frame
from edgecar.media.reader import Reader
from edgecar.media.sources import source_from
from edgecar.media.timing import Timeline
from edgecar.media.writer import Codec, open_writer
from edgecar.runtime.camera import PipelineSettings
from edgecar.runtime.pipeline import Pipeline
from edgecar.runtime.restorer import Restorer

SEAM_FRAMES = 4
"""Frames behind a cut that are decoded from both sides and compared."""


class SeamError(BatchError):
    """Frames decoded from a cut on are not those decoded without it: the clip must stay whole."""


@dataclass(frozen=True)
class PartDone:
    """Facts of a finished part, kept in a file beside it.

    Attributes:
        frames: Number of frames.
        first_ticks: Time of its first frame in ticks of the output; its own times start at zero.
        hold_ticks: Duration of its last frame, if that is longer than others; else 0.
        begins: Digests of its first frames, as decoded.
        goes_on: Digests of the first frames of the next part, as decoded without a cut.
        engine: Engine that computed it, in words.
        size_bytes: Size of its file.
        warnings: Counts of what was changed, skipped or missing.
        lost: Number of workers that died over it.
    """

    frames: int
    first_ticks: int
    hold_ticks: int
    begins: list[str]
    goes_on: list[str]
    engine: str
    size_bytes: int
    warnings: dict[str, int]
    lost: int = 0


def part_path(folder: Path, number: int, codec: Codec) -> Path:
    """Return the path of a part."""
    return folder / f"part-{number:05}{SUFFIXES[codec]}"


def finished_part(path: Path) -> PartDone | None:
    """Return the facts of a part if it is finished; None if it must be made."""
    try:
        done = PartDone(**json.loads(path.with_suffix(".json").read_text(encoding="utf-8")))
        return done if path.stat().st_size == done.size_bytes else None
    except (OSError, ValueError, TypeError):  # not there, or of another version
        return None


class SpanFrames:
    """The frames of one part of a clip, decoded on one thread; a source for a pipeline.

    Raises:
        MediaError: The clip cannot be opened, or the part holds no frame.
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
        self.warnings = self._reader.warnings
        self.begins: list[str] = []
        """Digests of the first frames."""
        self.goes_on: list[str] = []
        """Digests of the first frames behind the end, once all were read."""

    def __iter__(self) -> Iterator[Frame]:
        for frame in self._reader:
            if self._end is not None and frame.pts is not None and frame.pts >= self._end:
                self.goes_on.append(_digest(frame))
                self.goes_on += map(_digest, itertools.islice(self._reader, SEAM_FRAMES - 1))
                return
            if len(self.begins) < SEAM_FRAMES:
                self.begins.append(_digest(frame))
            yield frame

    def close(self) -> None:
        """Stop reading."""
        self._reader.close()


def make_part(
    source: Path,
    plan: Plan,
    span: Span,
    restorer: Restorer,
    path: Path,
    codec: Codec,
    count: Callable[[], None],
    lost: int = 0,
) -> PartDone:
    """Restore and encode one part; its file and its facts appear whole.

    Args:
        source: Path of the clip.
        plan: Plan of the clip.
        span: One of its parts.
        restorer: Network and engine; stays the caller's to close.
        path: File to write.
        codec: Codec to encode with.
        count: Function that is called after every frame.
        lost: Number of workers that died over this part, to note.

    Raises:
        MediaError: The clip is unreadable there, or the part cannot be written.
        EngineError: The engine failed.
    """
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
            count()
    if first_ticks is None:
        raise MediaError(f"no frame in part {span.number} of {source}; copy or record it again")
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
        lost=lost,
    )
    with atomic_write(path.with_suffix(".json")) as temporary:
        temporary.write_text(json.dumps(asdict(done)), encoding="utf-8")
    return done


def check_seams(source: Path, parts: Sequence[PartDone]) -> None:
    """Compare what was decoded on both sides of every cut.

    Raises:
        SeamError: It differs.
        BatchError: Parts were computed by different engines.
    """
    engines = {part.engine for part in parts}
    if len(engines) > 1:
        raise BatchError(
            f"parts of {source} were computed by {' and by '.join(sorted(engines))}, which give "
            "other bytes; choose --engine and --precision so that all workers do the same"
        )
    for number, (before, after) in enumerate(itertools.pairwise(parts), 1):
        pairs = zip(before.goes_on, after.begins, strict=False)
        if not before.goes_on or any(left != right for left, right in pairs):
            raise SeamError(f"part {number} decodes to other frames than without a cut")


def join_parts(plan: Plan, parts: Sequence[PartDone], folder: Path, codec: Codec) -> Counter[str]:
    """Copy the packets of all parts into ``whole`` in their folder, with the sound of the source.

    Returns counts of what had to change or be left out.

    Raises:
        BatchError: The parts do not fit together.
        MediaError: The file cannot be written.
    """
    facts, suffix = plan.facts, SUFFIXES[codec]
    tick = stored_time_base(suffix, facts)
    paths = [part_path(folder, number, codec) for number in range(len(parts))]
    coded = [packet.pts or 0 for packet in _packets(paths, parts, tick)]
    decoded = _decoding_times(coded)
    sound_warnings: Counter[str] = Counter()
    with ExitStack() as resources:
        sound = SoundOfFile(facts.audio_from, sound_warnings) if facts.audio_from else None
        if sound:
            resources.callback(sound.close)
        like = replace(facts, sound=cast("Sound | None", sound))
        writer = resources.enter_context(
            open_writer(folder / f"whole{suffix}", like=like, codec=codec, same_bytes=True)
        )
        packets = _packets(paths, parts, tick, decoded)
        first_seconds = parts[0].first_ticks * tick
        writer.copy(packets, first_seconds, max(coded), parts[-1].hold_ticks)
    return sound_warnings + writer.warnings


def _decoding_times(coded: Sequence[int]) -> list[int]:
    """Return when each packet is decoded, as x264 does it for a whole clip.

    The parts' own times of decoding would overlap at the cuts.

    Raises:
        BatchError: Two frames have one time.
    """
    shown = sorted(coded)
    place = {ticks: number for number, ticks in enumerate(shown)}
    if len(place) < len(shown):
        raise BatchError("two frames share a time; give a larger --part-seconds than the clip")
    depth = max(number - place[ticks] for number, ticks in enumerate(coded))
    lead = max(shown[min(depth, len(shown) - 1)] - shown[0], depth)
    return [ticks - lead for ticks in shown[:depth]] + shown[: len(shown) - depth]


def _packets(
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


def _digest(frame: Frame) -> str:
    digest = hashlib.blake2b(digest_size=16)
    digest.update(repr((frame.pts, frame.size)).encode())
    for plane in (frame.y, frame.u, frame.v):
        digest.update(plane.data)
    return digest.hexdigest()
