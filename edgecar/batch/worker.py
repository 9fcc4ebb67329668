"""What a worker process does: plan a clip, make a part, join parts."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgecar.artifact import Artifact
from edgecar.batch.cut import SUFFIXES, Plan, Span, plan_clip
from edgecar.batch.join import SeamError, check_seams, join_parts
from edgecar.batch.part import PartDone, finished_part, make_part, part_path
from edgecar.closing import Closing
from edgecar.errors import BatchError, EdgecarError
from edgecar.media.writer import Codec
from edgecar.runtime.choice import Limits
from edgecar.runtime.restorer import Restorer
from edgecar.spec import Precision


@dataclass(frozen=True)
class PlanTask:
    """Look through a clip and cut it. Gives a `Plan`."""

    source: Path
    codec_out: Codec
    part_seconds: float
    whole: str = ""

    def __str__(self) -> str:
        return "planning"


@dataclass(frozen=True)
class PartTask:
    """Restore and encode one part. Gives a `PartDone`.

    Attributes:
        source: The clip.
        plan: Of the clip.
        span: Which part.
        path: What to write.
        codec_out: How to encode.
        limits: Frames that pass as they are.
    """

    source: Path
    plan: Plan
    span: Span
    path: Path
    codec_out: Codec
    limits: Limits

    def __str__(self) -> str:
        return f"part {self.span.number + 1} of {len(self.plan.spans)}"


@dataclass(frozen=True)
class JoinTask:
    """Join the parts of a clip. Gives a `Joined`.

    Attributes:
        source: The clip.
        plan: Of the clip.
        folder: Where its parts are, and where the clip is written.
        codec_out: How parts are encoded.
    """

    source: Path
    plan: Plan
    folder: Path
    codec_out: Codec

    def __str__(self) -> str:
        return "joining"


Task = PlanTask | PartTask | JoinTask


@dataclass(frozen=True)
class Joined:
    """A clip whose parts were joined."""

    path: Path
    frames: int
    size_bytes: int
    warnings: Counter[str]


@dataclass(frozen=True)
class Failure:
    """Why a task failed.

    Attributes:
        reason: One line: what was got, what is needed, what to do.
        seam: The clip must not be cut.
        lost: The worker itself died, which says little about the clip.
    """

    reason: str
    seam: bool = False
    lost: bool = False


Outcome = Plan | PartDone | Joined | Failure


class Worker(Closing):
    """Does one task at a time; keeps an engine open for each artifact it has met.

    Args:
        engine: See `edgecar.engines.select.NAMES`.
        precision: Arithmetic; None leaves the choice to the engine.
        threads: CPU threads; None: all.
        watch: Called after every frame, with how many of the part in hand are done.
    """

    def __init__(
        self,
        engine: str,
        precision: Precision | None,
        threads: int | None,
        watch: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._engine, self._precision, self._threads = engine, precision, threads
        self._watch = watch
        self._restorers: dict[str, Restorer] = {}
        self.frames = 0
        """How many frames of the part in hand are done; may be read by other threads."""

    def do(self, task: Task, artifact: Artifact | None, digest: str = "") -> Outcome:
        """Do a task; whatever goes wrong comes back as a `Failure`.

        Args:
            task: What to do.
            artifact: Weights for a `PartTask`.
            digest: What tells artifacts apart.
        """
        self.frames = 0
        try:
            if isinstance(task, PlanTask):
                return plan_clip(task.source, task.codec_out, task.part_seconds, whole=task.whole)
            if isinstance(task, JoinTask):
                return join_clip(task)
            assert artifact is not None
            return finished_part(task.path) or self._part(task, artifact, digest)
        except SeamError as error:
            return Failure(str(error), seam=True)
        except EdgecarError as error:
            return Failure(str(error))
        except Exception as error:  # one clip must not end the others
            words = " ".join(str(error).split()) or "no message"
            return Failure(
                f"{task} failed ({type(error).__name__}: {words}); run again, and report this with "
                "the clip if it stays"
            )

    def close(self) -> None:
        """Close all engines."""
        for restorer in self._restorers.values():
            restorer.close()
        self._restorers.clear()

    def _part(self, task: PartTask, artifact: Artifact, digest: str) -> PartDone:
        if digest not in self._restorers:
            self._restorers[digest] = Restorer(
                artifact, self._engine, self._precision, threads=self._threads
            )
        self._restorers[digest].limits = task.limits
        return make_part(
            task.source,
            task.plan,
            task.span,
            self._restorers[digest],
            task.path,
            task.codec_out,
            self._count,
        )

    def _count(self) -> None:
        self.frames += 1
        self._watch(self.frames)


def join_clip(task: JoinTask) -> Joined:
    """Join the parts of a clip in their folder.

    Raises:
        BatchError: A part is missing, or they do not fit together.
        MediaError: The clip cannot be written.
    """
    paths = [part_path(task.folder, span.number, task.codec_out) for span in task.plan.spans]
    parts = _all_finished(task.source, paths)
    check_seams(task.source, parts)
    target = task.folder / f"whole{SUFFIXES[task.codec_out]}"
    warnings: Counter[str] = Counter()
    for part in parts:
        warnings.update(part.warnings)
    warnings.update(join_parts(paths, parts, task.plan.facts, target))
    frames = sum(part.frames for part in parts)
    silent = sum(span.frames or 0 for span in task.plan.spans) - frames
    if len(parts) > 1 and silent > 0:  # who reads a clip in one go counts that by itself
        warnings["packets without a picture"] += silent
    return Joined(target, frames, target.stat().st_size, warnings)


def _all_finished(source: Path, paths: Sequence[Path]) -> list[PartDone]:
    parts: list[PartDone] = []
    for path in paths:
        part = finished_part(path)
        if part is None:
            raise BatchError(f"{path}, a part of {source}, is gone or damaged; run again")
        parts.append(part)
    return parts
