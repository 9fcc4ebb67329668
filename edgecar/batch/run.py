"""All clips of an archive: each is cut, its parts are restored by workers and joined again."""

import json
import shutil
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from edgecar.artifact import Artifact
from edgecar.batch.archive import BatchSettings, Clip, clip_key
from edgecar.batch.parts import (
    SUFFIXES,
    PartDone,
    Plan,
    UncutError,
    check_seams,
    finished_part,
    join_parts,
    part_path,
    plan_clip,
)
from edgecar.batch.workers import Workers, restore_part
from edgecar.errors import BatchError, EdgecarError
from edgecar.files import atomic_write
from edgecar.runtime.choice import Choice, choose_weights


@dataclass
class BatchReport:
    """Outcome of an archive, as ``--json`` prints it.

    ``frames`` are those restored now, ``parts_kept`` were there from an earlier run, and
    ``parts_lost`` were begun again because a worker died.
    """

    clips: int
    frames: int = 0
    seconds: float = 0.0
    fps: float = 0.0
    outputs: list[str] = field(default_factory=list)
    skipped: list[dict[str, str]] = field(default_factory=list)
    failed: list[dict[str, str]] = field(default_factory=list)
    parts_kept: int = 0
    parts_lost: int = 0
    warnings: Counter[str] = field(default_factory=Counter)


@dataclass
class _Work:
    """A clip under way, with the parts of it that are done."""

    clip: Clip
    plan: Plan
    key: str
    folder: Path
    parts: dict[int, PartDone] = field(default_factory=dict)
    failed: bool = False


class Batch:
    """Restores the clips of an archive.

    Args:
        clips: The clips.
        settings: Settings for all of them.
        workers: Stay the caller's to close.
        state: Folder of what is done; see `locked_state`.
        progress: Called with the frames done and, as far as is known, those of all clips.
        tell: Called with a line for the user: label and text.
    """

    def __init__(
        self,
        clips: Sequence[Clip],
        settings: BatchSettings,
        workers: Workers,
        state: Path,
        progress: Callable[[int, int | None], None],
        tell: Callable[[str, str], None],
    ) -> None:
        self.report = BatchReport(len(clips))
        self._clips, self._settings, self._workers = clips, settings, workers
        self._state, self._progress, self._tell = state, progress, tell
        self._todo: deque[tuple[_Work, int]] = deque()
        self._choices: dict[str, Choice] = {}
        self._told: set[str] = set()
        self._bytes = sum(clip.size_bytes for clip in clips)
        self._planned_bytes = self._planned_frames = 0

    def run(self) -> BatchReport:
        """Do everything that is not done; failed clips are in the report."""
        began, report = time.perf_counter(), self.report
        # The largest first: else one worker does the last long part while the others wait.
        clips = iter(sorted(self._clips, key=lambda clip: -clip.size_bytes))
        begun: dict[Any, tuple[_Work, int]] = {}
        tries: Counter[tuple[Path, int]] = Counter()
        while True:
            while len(begun) < self._workers.begun_at_most and self._find_todo(clips):
                work, number = self._todo.popleft()
                begun[self._workers.submit(self._call(work, number))] = work, number
            if not begun:
                break
            handle, outcome = self._workers.wait(list(begun))
            work, number = begun.pop(handle)
            tries[work.folder, number] += 1
            if isinstance(outcome, PartDone):
                self._take(work, number, outcome)
            elif not work.failed and tries[work.folder, number] <= self._workers.retries:
                self._todo.appendleft((work, number))
            elif not work.failed:
                work.failed = True
                self._todo = deque(each for each in self._todo if each[0] is not work)
                with self._failures_of(work.clip):
                    raise outcome
        report.outputs.sort()
        for entries in (report.skipped, report.failed):
            entries.sort(key=lambda entry: entry["source"])
        report.seconds = round(time.perf_counter() - began, 3)
        report.fps = round(report.frames / report.seconds, 3) if report.seconds else 0.0
        return report

    @contextmanager
    def _failures_of(self, clip: Clip) -> Iterator[None]:
        """Note why a clip failed; the others go on, and its finished parts stay for next time."""
        try:
            yield
        except Exception as error:
            reason = " ".join(str(error).split()) or "no message"
            if isinstance(error, OSError) and not isinstance(error, EdgecarError):
                reason = f"{error.strerror or reason}; check {clip.output.parent}"
            elif not isinstance(error, EdgecarError):
                reason = (
                    f"a part failed ({type(error).__name__}: {reason}); run again, and report this "
                    "with the clip if it stays"
                )
            named = reason if str(clip.source) in reason else f"{clip.source}: {reason}"
            self.report.failed.append({"source": str(clip.source), "reason": named})

    def _find_todo(self, clips: Iterator[Clip]) -> bool:
        """Begin further clips until there is a part to do. Returns False if none is left."""
        while not self._todo:
            clip = next(clips, None)
            if clip is None:
                return False
            with self._failures_of(clip):
                self._begin(clip)
        return True

    def _begin(self, clip: Clip) -> None:
        frames = self._frames_of(clip)
        if frames is not None:
            reason = f"done before: {clip.output}, {frames} frame(s)"
            self.report.skipped.append({"source": str(clip.source), "reason": reason})
            self._bytes -= clip.size_bytes
            return
        settings = self._settings
        plan = plan_clip(clip.source, settings.codec, settings.part_seconds)
        choice = self._choice(plan.codec)
        self._tell_once("network", choice.reason)
        self._tell_once("note", choice.note)
        self._planned_bytes += clip.size_bytes
        key = clip_key(clip, settings, choice)
        self._find_parts(_Work(clip, plan, key, self._state / "parts" / clip.name))

    def _find_parts(self, work: _Work) -> None:
        """Take the parts that are there; the others are to be done."""
        for number, span in enumerate(work.plan.spans):
            done = finished_part(part_path(work.folder, number, self._settings.codec), work.key)
            if done is None:
                self._todo.append((work, number))
                self._planned_frames += span.frames or 0
            else:
                work.parts[number] = done
        self.report.parts_kept += len(work.parts)
        if len(work.parts) == len(work.plan.spans):
            self._finish(work)

    def _call(self, work: _Work, number: int) -> Callable[[], PartDone]:
        settings, choice = self._settings, self._choice(work.plan.codec)
        return partial(
            restore_part,
            work.clip.source,
            work.plan,
            work.plan.spans[number],
            part_path(work.folder, number, settings.codec),
            work.key,
            settings,
            Artifact(choice.artifact.metadata, choice.artifact.onnx),
            choice.limits.but(settings.skip_below_qp, settings.skip_above_quality),
            self._workers.threads,
        )

    def _take(self, work: _Work, number: int, part: PartDone) -> None:
        report = self.report
        report.frames += part.frames
        report.parts_lost += part.lost
        self._tell_once("engine", part.engine)
        total = self._planned_frames * max(1, self._bytes / max(1, self._planned_bytes))
        self._progress(report.frames, round(total) or None)
        work.parts[number] = part
        if len(work.parts) == len(work.plan.spans):
            with self._failures_of(work.clip):
                self._finish(work)

    def _finish(self, work: _Work) -> None:
        """Join the parts of a clip, unless they turn out not to fit: then it is done whole."""
        clip, plan, folder, codec = work.clip, work.plan, work.folder, self._settings.codec
        parts = [part for _, part in sorted(work.parts.items())]
        try:
            check_seams(clip.source, parts)
        except UncutError as reason:
            self._tell("whole", f"{clip.source}: {reason}; it is done in one part")
            shutil.rmtree(folder)
            work.plan, work.parts = plan.in_one_part(str(reason)), {}
            self._find_parts(work)
            return
        warnings = join_parts(plan, parts, folder, codec)
        if not clip.unchanged:
            raise BatchError(f"{clip.source} was changed while it was read; run again")
        clip.output.parent.mkdir(parents=True, exist_ok=True)
        (folder / f"whole{SUFFIXES[codec]}").replace(clip.output)
        frames, size = sum(part.frames for part in parts), clip.output.stat().st_size
        with atomic_write(self._note(clip)) as temporary:
            note = {"key": work.key, "codec": plan.codec, "frames": frames, "bytes": size}
            temporary.write_text(json.dumps(note), encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        self.report.outputs.append(str(clip.output))
        for counts in (warnings, *(part.warnings for part in parts)):
            self.report.warnings.update(counts)
        silent = sum(span.frames or 0 for span in plan.spans) - frames
        if len(parts) > 1 and silent > 0:  # a clip that is read in one go counts them itself
            self.report.warnings["packets without a picture"] += silent
        if plan.why_whole:
            self.report.warnings[f"clips done in one part, as {plan.why_whole}"] += 1

    def _note(self, clip: Clip) -> Path:
        return self._state / "done" / f"{clip.name}.json"

    def _frames_of(self, clip: Clip) -> int | None:
        """Return the number of frames of a clip that was done and is still there, else None."""
        try:
            done = json.loads(self._note(clip).read_text(encoding="utf-8"))
            key = clip_key(clip, self._settings, self._choice(done["codec"]))
            same = (done["key"], done["bytes"]) == (key, clip.output.stat().st_size)
            return int(done["frames"]) if same else None
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def _choice(self, codec: str) -> Choice:
        if codec not in self._choices:
            settings = self._settings
            self._choices[codec] = choose_weights(settings.network, codec, settings.weights_for)
        return self._choices[codec]

    def _tell_once(self, label: str, text: str) -> None:
        if text and text not in self._told:
            self._told.add(text)
            self._tell(label, text)
