"""One part of a clip: read, restored and encoded by itself."""

import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path

from edgecar.batch.cut import SUFFIXES, Plan, Span
from edgecar.errors import MediaError
from edgecar.files import atomic_write
from edgecar.media.container import stored_time_base
from edgecar.media.facts import NO_NOTES, StreamFacts
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

CAMERA = "part"
EVERY_FRAME = PipelineSettings(policy="block")


@dataclass(frozen=True)
class PartDone:
    """What is known of a finished part; kept in a file beside it.

    Attributes:
        frames: How many it has.
        first_ticks: When its first frame is shown, in ticks of the output; the part's own times
            start at zero.
        begins: Digests of its first frames, as decoded.
        goes_on: Digests of the first frames of the next part, as decoded without a cut.
        engine: What computed it, in words.
        size_bytes: Of its file.
        seconds: How long it took.
        warnings: What was changed, skipped or missing, and how often.
        hold_ticks: How long its last frame is shown, in ticks of the output; 0: as long as others.
    """

    frames: int
    first_ticks: int
    begins: tuple[str, ...]
    goes_on: tuple[str, ...]
    engine: str
    size_bytes: int
    seconds: float
    warnings: dict[str, int] = field(default_factory=dict)
    hold_ticks: int = 0


def part_path(folder: Path, number: int, codec: Codec) -> Path:
    """Where a part is kept."""
    return folder / f"part-{number:05}{SUFFIXES[codec]}"


def finished_part(path: Path) -> PartDone | None:
    """What is known of a part if it is finished; None if it must be made."""
    try:
        table = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        done = PartDone(**{**table, "begins": (*table["begins"],), "goes_on": (*table["goes_on"],)})
        return done if path.stat().st_size == done.size_bytes else None
    except (OSError, ValueError, TypeError, KeyError):  # not there, or of another version
        return None


class SpanFrames:
    """The frames of one part, decoded on one thread; a source for a pipeline.

    Args:
        path: The clip.
        facts: Of the whole clip.
        span: Which part.

    Raises:
        MediaError: The clip cannot be opened, or the part holds no frame.
    """

    live = False

    def __init__(self, path: Path, facts: StreamFacts, span: Span) -> None:
        self._end = span.end
        self._reader = Reader(
            source_from(path),
            keep_size=True,
            size=facts.size,
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
                self.goes_on += map(_digest, islice(self._reader, SEAM_FRAMES - 1))
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
) -> PartDone:
    """Restore and encode one part; its file and what is known of it appear whole.

    Args:
        source: The clip.
        plan: Of the clip.
        span: One of the plan's.
        restorer: Stays the caller's to close.
        path: What to write.
        codec: How to encode.
        count: Called after every frame.

    Raises:
        MediaError: The clip is unreadable there, or the part cannot be written.
        EngineError: The engine failed.
    """
    began = time.perf_counter()
    facts = replace(plan.facts, audio_from=None, notes=NO_NOTES)
    tick = stored_time_base(path.suffix, facts)
    warnings: Counter[str] = Counter()
    timeline = Timeline(tick, facts.rate, from_zero=False, warnings=warnings)
    first_ticks: int | None = None
    hold_ticks = 0
    frames = SpanFrames(source, facts, span)
    with (
        Pipeline({CAMERA: frames}, restorer, EVERY_FRAME) as restored,
        open_writer(
            path, like=replace(facts, time_base=tick), codec=codec, same_bytes=True
        ) as writer,
    ):
        for each in restored:
            ticks = timeline.place(each.frame)
            first_ticks = ticks if first_ticks is None else first_ticks
            if each.frame.duration and each.frame.time_base:
                hold_ticks = round(each.frame.duration * each.frame.time_base / tick)
            writer.write(
                replace(
                    each.frame, pts=ticks - first_ticks, time_base=tick, duration=hold_ticks or None
                )
            )
            if each.passed_because:
                warnings[f"frames passed as they are ({each.passed_because})"] += 1
            count()
    if first_ticks is None:
        raise MediaError(f"no frame in part {span.number} of {source}; copy or record it again")
    info = restorer.engine.info
    done = PartDone(
        frames=writer.frames,
        first_ticks=first_ticks,
        begins=tuple(frames.begins),
        goes_on=tuple(frames.goes_on),
        engine=f"{info.name} ({info.provider}), {info.precision}",
        size_bytes=path.stat().st_size,
        seconds=round(time.perf_counter() - began, 3),
        warnings=dict(frames.warnings + warnings + writer.warnings),
        hold_ticks=hold_ticks,
    )
    with atomic_write(path.with_suffix(".json")) as temporary:
        temporary.write_text(json.dumps(asdict(done)), encoding="utf-8")
    return done


def _digest(frame: Frame) -> str:
    digest = hashlib.blake2b(digest_size=16)
    digest.update(repr((frame.pts, frame.size)).encode())
    for plane in (frame.y, frame.u, frame.v):
        digest.update(plane.data)
    return digest.hexdigest()
