"""All clips of an archive, through whatever pool: what comes next, what failed, what is left."""

import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgecar.batch.archive import Clip
from edgecar.batch.cut import Plan, Span
from edgecar.batch.journal import BatchSettings, Finished, Journal, clip_key
from edgecar.batch.part import PartDone, finished_part, part_path
from edgecar.batch.pool import Pool
from edgecar.batch.worker import Failure, Joined, JoinTask, Outcome, PartTask, PlanTask, Task
from edgecar.errors import BatchError, EdgecarError
from edgecar.runtime.choice import Choice, choose_weights

LOSSES = 3
"""Deaths of a worker over one part that do not count as the part's own failures."""

Progress = Callable[[int, int | None], None]


@dataclass
class BatchReport:
    """What became of an archive.

    Attributes:
        clips: How many there are.
        done: Outputs that were made.
        skipped: Sources that were not done again, and why.
        failed: Sources that failed, and why.
        frames: Restored now, without those of parts that were there.
        seconds: From the first task to the last.
        parts_kept: Parts that were there from an earlier run.
        parts_lost: Parts that were begun again because a worker died.
        warnings: What was changed, skipped or missing in the clips, and how often.
    """

    clips: int
    done: list[Path] = field(default_factory=list)
    skipped: dict[Path, str] = field(default_factory=dict)
    failed: dict[Path, str] = field(default_factory=dict)
    frames: int = 0
    seconds: float = 0.0
    parts_kept: int = 0
    parts_lost: int = 0
    warnings: Counter[str] = field(default_factory=Counter)

    @property
    def fps(self) -> float:
        """Frames restored a second."""
        return self.frames / self.seconds if self.seconds else 0.0

    def table(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "clips": self.clips,
            "frames": self.frames,
            "seconds": round(self.seconds, 3),
            "fps": round(self.fps, 3),
            "outputs": [str(path) for path in self.done],
            "skipped": [{"source": str(p), "reason": why} for p, why in self.skipped.items()],
            "failed": [{"source": str(p), "reason": why} for p, why in self.failed.items()],
            "parts_kept": self.parts_kept,
            "parts_lost": self.parts_lost,
            "warnings": dict(self.warnings),
        }


class _State:
    """A clip on its way."""

    def __init__(self, clip: Clip) -> None:
        self.clip = clip
        self.plan: Plan | None = None
        self.choice: Choice | None = None
        self.key = ""
        self.folder = Path()
        self.unfinished: set[int] = set()
        self.failures: Counter[str] = Counter()
        self.losses: Counter[str] = Counter()
        self.failed = False


class Batch:
    """Restores the clips of an archive.

    Args:
        clips: Which.
        settings: For all of them.
        pool: Who does the work; stays the caller's to close.
        journal: What is done already; stays the caller's to close.
        progress: Takes the frames done and, as far as is known, those of all clips.
        tell: Takes a line for the user: label and text.
    """

    def __init__(
        self,
        clips: Sequence[Clip],
        settings: BatchSettings,
        pool: Pool,
        journal: Journal,
        progress: Progress,
        tell: Callable[[str, str], None],
    ) -> None:
        self.report = BatchReport(len(clips))
        self._settings, self._pool, self._journal = settings, pool, journal
        self._progress, self._tell = progress, tell
        self._unplanned = deque(clips)
        self._ready: deque[tuple[_State, Task]] = deque()
        self._begun: dict[int, tuple[_State, Task]] = {}
        self._tickets = 0
        self._choices: dict[str, Choice] = {}
        self._told: set[str] = set()
        self._all_bytes = sum(clip.size_bytes for clip in clips)
        self._planned_bytes = 0
        self._planned_frames = 0

    def run(self) -> BatchReport:
        """Do everything that is not done; failed clips are in the report.

        Raises:
            BatchError: No worker is left.
            ArtifactError: There are no weights of that name.
        """
        began = time.perf_counter()
        try:
            while True:
                while self._pool.free > 0 and (following := self._next()) is not None:
                    self._begin(*following)
                if not (self._begun or self._ready or self._unplanned):
                    return self.report
                for ticket, outcome in self._pool.wait(self._watch):
                    self._take(*self._begun.pop(ticket), outcome)
                self._watch(0)
        finally:
            self.report.seconds = time.perf_counter() - began

    def _next(self) -> tuple[_State, Task] | None:
        """Parts first, so that clips are finished one after the other."""
        if self._ready:
            return self._ready.popleft()
        while self._unplanned:
            state = _State(self._unplanned.popleft())
            if not self._is_finished(state.clip):
                return state, self._plan_task(state)
        return None

    def _plan_task(self, state: _State, whole: str = "") -> PlanTask:
        settings = self._settings
        return PlanTask(state.clip.source, settings.codec, settings.part_seconds, whole)

    def _is_finished(self, clip: Clip) -> bool:
        done = self._journal.finished(clip)
        if done is None:
            return False
        try:
            choice = self._choice_for(done.codec, silent=True)
        except EdgecarError:  # said when the clip is planned
            return False
        if done.key != clip_key(clip, self._settings, choice):
            return False
        self.report.skipped[clip.source] = f"done before: {clip.output}, {done.frames} frame(s)"
        self._all_bytes -= clip.size_bytes
        return True

    def _begin(self, state: _State, task: Task) -> None:
        self._tickets += 1
        self._begun[self._tickets] = state, task
        artifact = state.choice.artifact if state.choice and isinstance(task, PartTask) else None
        self._pool.submit(self._tickets, task, artifact)

    def _take(self, state: _State, task: Task, outcome: Outcome) -> None:
        """Go on with what a task gave."""
        if isinstance(outcome, PartDone):  # of use later even if another part failed
            self.report.frames += outcome.frames
            self._tell_once("engine", outcome.engine)
        if state.failed:
            return
        try:
            if isinstance(outcome, Failure):
                self._take_failure(state, task, outcome)
            elif isinstance(outcome, Plan):
                self._take_plan(state, outcome)
            elif isinstance(outcome, PartDone):
                assert isinstance(task, PartTask)
                state.unfinished.discard(task.span.number)
                if not state.unfinished:
                    self._ready.append((state, self._join_task(state)))
            else:
                self._take_joined(state, outcome)
        except EdgecarError as error:  # this clip's alone: no weights for its coding, disk full
            self._fail(state, str(error))
        except OSError as error:
            self._fail(state, f"{error.strerror or error}; check {state.clip.output.parent}")

    def _take_plan(self, state: _State, plan: Plan) -> None:
        first = state.plan is None
        state.plan = plan
        if state.choice is None:
            state.choice = self._choice_for(plan.codec)
            state.key = clip_key(state.clip, self._settings, state.choice)
            state.folder = self._journal.parts_folder(state.clip, state.key)
        why = self._journal.must_be_whole(state.folder)
        if why and len(plan.spans) > 1:
            self._ready.appendleft((state, self._plan_task(state, why)))
            return
        if first:
            self._planned_bytes += state.clip.size_bytes
        self._queue_parts(state)
        if first:
            self.report.parts_kept += len(plan.spans) - len(state.unfinished)

    def _queue_parts(self, state: _State) -> None:
        """Queue what is not there yet."""
        assert state.plan is not None
        spans = state.plan.spans
        missing = [s for s in spans if finished_part(self._path_of(state, s)) is None]
        self._planned_frames += sum(span.frames or 0 for span in missing)
        state.unfinished = {span.number for span in missing}
        for span in missing:
            self._ready.append((state, self._part_task(state, span)))
        if not missing:
            self._ready.append((state, self._join_task(state)))

    def _take_joined(self, state: _State, joined: Joined) -> None:
        clip, plan = state.clip, state.plan
        assert plan is not None
        status = clip.source.stat()
        if (status.st_size, status.st_mtime_ns) != (clip.size_bytes, clip.changed_ns):
            raise BatchError(f"{clip.source} was changed while it was read; run again")
        done = Finished(
            key=state.key,
            source=str(clip.source),
            source_bytes=clip.size_bytes,
            source_ns=clip.changed_ns,
            codec=plan.codec,
            frames=joined.frames,
            output_bytes=joined.size_bytes,
            warnings=dict(joined.warnings),  # asdict would turn a Counter inside out
        )
        self._journal.finish(clip, joined.path, done)
        self.report.done.append(clip.output)
        self.report.warnings.update(joined.warnings)
        if plan.why_whole:
            self.report.warnings[f"clips done in one part, as {plan.why_whole}"] += 1

    def _take_failure(self, state: _State, task: Task, failure: Failure) -> None:
        """Try again, if it was not tried often enough."""
        if failure.seam:
            self._tell("whole", f"{state.clip.source}: {failure.reason}; it is done in one part")
            self._journal.keep_whole(state.folder, failure.reason)
            self._ready.append((state, self._plan_task(state, failure.reason)))
            return
        counts, limit = state.failures, self._settings.retries
        if failure.lost:
            counts, limit = state.losses, limit + LOSSES
            self.report.parts_lost += 1
        counts[str(task)] += 1
        if counts[str(task)] > limit:
            self._fail(state, self._reason(task, failure, counts[str(task)]))
        elif isinstance(task, JoinTask):
            self._queue_parts(state)
        else:
            self._ready.appendleft((state, task))

    def _reason(self, task: Task, failure: Failure, times: int) -> str:
        if not failure.lost:
            return failure.reason
        return (
            f"{task}: {failure.reason}, {times} times; give each worker more memory (fewer "
            "--workers), or leave this clip out"
        )

    def _fail(self, state: _State, reason: str) -> None:
        """Give a clip up; its finished parts stay for the next time."""
        state.failed = True
        source = str(state.clip.source)
        self.report.failed[state.clip.source] = (
            reason if source in reason else f"{source}: {reason}"
        )
        dropped = [task for other, task in self._ready if other is state]
        self._ready = deque(entry for entry in self._ready if entry[0] is not state)
        self._planned_frames -= sum(_frames_of(task) for task in dropped)
        if state.plan is None:
            self._all_bytes -= state.clip.size_bytes

    def _choice_for(self, codec: str, *, silent: bool = False) -> Choice:
        """Weights for clips of one coding, told when they are first put to use."""
        if codec not in self._choices:
            settings = self._settings
            self._choices[codec] = choose_weights(settings.network, codec, settings.weights_for)
        choice = self._choices[codec]
        if not silent:
            self._tell_once("network", choice.reason)
            self._tell_once("note", choice.note)
        return choice

    def _tell_once(self, label: str, text: str) -> None:
        if text and text not in self._told:
            self._told.add(text)
            self._tell(label, text)

    def _path_of(self, state: _State, span: Span) -> Path:
        return part_path(state.folder, span.number, self._settings.codec)

    def _part_task(self, state: _State, span: Span) -> PartTask:
        assert state.plan is not None
        assert state.choice is not None
        settings = self._settings
        path = self._path_of(state, span)
        limits = state.choice.limits.but(settings.skip_below_qp, settings.skip_above_quality)
        return PartTask(state.clip.source, state.plan, span, path, settings.codec, limits)

    def _join_task(self, state: _State) -> JoinTask:
        assert state.plan is not None
        return JoinTask(state.clip.source, state.plan, state.folder, self._settings.codec)

    def _watch(self, in_hand: int) -> None:
        """Show how far all is; clips that were not looked at count by the size of their files."""
        total = None
        if self._planned_frames and self._planned_bytes:
            unknown = max(0, self._all_bytes - self._planned_bytes)
            total = round(self._planned_frames * (1 + unknown / self._planned_bytes))
        self._progress(self.report.frames + in_hand, total)


def _frames_of(task: Task) -> int:
    return (task.span.frames or 0) if isinstance(task, PartTask) else 0
