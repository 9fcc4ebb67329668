"""All clips of an archive: each is cut, its parts are restored by workers and joined again."""

import json
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgecar.artifact import Artifact
from edgecar.batch.archive import BatchSettings, Clip, check_weights, clip_key, parts_folder
from edgecar.batch.cut import SUFFIXES, Plan
from edgecar.batch.part import PartDone, SeamError, check_seams, finished_part, part_path
from edgecar.batch.workers import LOOK_SECONDS, Workers
from edgecar.errors import BatchError, EdgecarError
from edgecar.files import atomic_write
from edgecar.runtime.choice import Choice, choose_weights

WHOLE = "whole.json"
"""Note in a folder of parts: the reason why the clip must not be cut."""


@dataclass
class BatchReport:
    """Outcome of an archive; `table` describes the fields."""

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
        """Return the report for JSON.

        ``frames`` are those restored now, ``parts_kept`` were there from an earlier run, and
        ``parts_lost`` were begun again because a worker died.
        """
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
        check_weights(settings.network)
        self._choices: dict[str, Choice] = {}
        self._told: set[str] = set()
        self._lock = threading.Lock()
        self._bytes = sum(clip.size_bytes for clip in clips)
        self._planned_bytes = self._planned_frames = 0

    def run(self) -> BatchReport:
        """Do everything that is not done; failed clips are in the report."""
        began, over = time.perf_counter(), threading.Event()
        shown = threading.Thread(target=self._show_until, args=(over,), daemon=True)
        shown.start()
        try:
            for _ in self._workers.each(self._attempt, self._clips):
                pass
        finally:
            over.set()
            shown.join()
            self.report.done.sort()
            self.report.seconds = time.perf_counter() - began
        return self.report

    def _attempt(self, clip: Clip) -> None:
        """Do a clip. The finished parts of one that fails stay for the next time."""
        try:
            self._restore(clip)
        except (EdgecarError, OSError) as error:
            reason = str(error)
            if isinstance(error, OSError):
                reason = f"{error.strerror or error}; check {clip.output.parent}"
            named = reason if str(clip.source) in reason else f"{clip.source}: {reason}"
            self.report.failed[clip.source] = named

    def _restore(self, clip: Clip) -> None:
        report, note = self.report, self._state / "done" / f"{clip.name}.json"
        frames = self._frames_of(note, clip)
        if frames is not None:
            with self._lock:
                report.skipped[clip.source] = f"done before: {clip.output}, {frames} frame(s)"
                self._bytes -= clip.size_bytes
            return
        (plan,) = self._workers.results("plan", [(clip.source, "")])
        key = clip_key(clip, self._settings, self._choice(plan.codec))
        folder = parts_folder(self._state, clip, key)
        whole = folder / WHOLE
        if whole.exists():
            (plan,) = self._workers.results("plan", [(clip.source, json.loads(whole.read_text()))])
        with self._lock:
            self._planned_bytes += clip.size_bytes
        try:
            parts = self._parts(clip, plan, folder)
            check_seams(clip.source, parts)
        except SeamError as error:
            self._tell("whole", f"{clip.source}: {error}; it is done in one part")
            for path in folder.glob("part-*"):
                path.unlink()
            _write(whole, str(error))
            (plan,) = self._workers.results("plan", [(clip.source, str(error))])
            parts = self._parts(clip, plan, folder)
        (warnings,) = self._workers.results("join", [(plan, parts, folder)])
        if not clip.unchanged:
            raise BatchError(f"{clip.source} was changed while it was read; run again")
        clip.output.parent.mkdir(parents=True, exist_ok=True)
        (folder / f"whole{SUFFIXES[self._settings.codec]}").replace(clip.output)
        frames = sum(part.frames for part in parts)
        size = clip.output.stat().st_size
        _write(note, {"key": key, "codec": plan.codec, "frames": frames, "bytes": size})
        shutil.rmtree(folder.parent, ignore_errors=True)
        with self._lock:
            report.done.append(clip.output)
            for counts in (warnings, *(part.warnings for part in parts)):
                report.warnings.update(counts)
            silent = sum(span.frames or 0 for span in plan.spans) - frames
            if len(parts) > 1 and silent > 0:  # a clip that is read in one go counts them itself
                report.warnings["packets without a picture"] += silent
            if plan.why_whole:
                report.warnings[f"clips done in one part, as {plan.why_whole}"] += 1

    def _parts(self, clip: Clip, plan: Plan, folder: Path) -> list[PartDone]:
        """Return all parts of a clip; those that are not there are made."""
        settings, report = self._settings, self.report
        choice = self._choice(plan.codec)
        self._tell_once("network", choice.reason)
        self._tell_once("note", choice.note)
        limits = choice.limits.but(settings.skip_below_qp, settings.skip_above_quality)
        artifact = Artifact(choice.artifact.metadata, choice.artifact.onnx)
        kept = [
            finished_part(part_path(folder, span.number, settings.codec)) for span in plan.spans
        ]
        missing = [span for span, part in zip(plan.spans, kept, strict=True) if part is None]
        with self._lock:
            report.parts_kept += len(plan.spans) - len(missing)
            self._planned_frames += sum(span.frames or 0 for span in missing)
        made = self._workers.results(
            "part", ((clip.source, plan, span, folder, artifact, limits) for span in missing)
        )
        for number, done in zip((span.number for span in missing), made, strict=True):
            kept[number] = done
            with self._lock:
                report.frames += done.frames
                report.parts_lost += done.lost
            self._tell_once("engine", done.engine)
        return [part for part in kept if part is not None]

    def _choice(self, codec: str) -> Choice:
        """Return the weights for a coding."""
        if codec not in self._choices:
            settings = self._settings
            self._choices[codec] = choose_weights(settings.network, codec, settings.weights_for)
        return self._choices[codec]

    def _frames_of(self, note: Path, clip: Clip) -> int | None:
        """Return the number of frames of a clip that was done and is still there, else None."""
        try:
            done = json.loads(note.read_text(encoding="utf-8"))
            key = clip_key(clip, self._settings, self._choice(done["codec"]))
            same = (done["key"], done["bytes"]) == (key, clip.output.stat().st_size)
            return int(done["frames"]) if same else None
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def _tell_once(self, label: str, text: str) -> None:
        with self._lock:
            if text and text not in self._told:
                self._told.add(text)
                self._tell(label, text)

    def _show_until(self, over: threading.Event) -> None:
        """Show progress; clips that were not looked at count by the size of their files."""
        while True:
            ended = over.wait(LOOK_SECONDS)
            total = None
            if self._planned_frames and self._planned_bytes:
                total = round(self._planned_frames * max(1, self._bytes / self._planned_bytes))
            self._progress(self._workers.frames, total)
            if ended:
                return


def _write(path: Path, value: Any) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(value), encoding="utf-8")
