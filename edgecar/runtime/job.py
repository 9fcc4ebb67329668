"""A picture, a folder of pictures or a clip, from one end to the other."""

import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from edgecar.errors import MediaError
from edgecar.media.compare import Layout, compared, compared_facts, compared_pictures
from edgecar.media.inputs import Input, Pictures, open_input
from edgecar.media.live import LiveReader
from edgecar.media.pictures import read_picture, write_picture
from edgecar.media.reader import Reader
from edgecar.media.writer import Codec, NullWriter, Writer, open_writer
from edgecar.runtime.pipeline import Pipeline, PipelineSettings
from edgecar.runtime.restorer import Restorer
from edgecar.runtime.stats import Snapshot

NULL = "null"  # an output that writes nothing


@dataclass
class Report:
    """What a job did; `table` has the keys of ``edgecar run --json``."""

    restorer: Restorer
    input_codec: str
    frames: int = 0
    seconds: float = 0.0
    warnings: Counter[str] = field(default_factory=Counter)
    outputs: list[Path] = field(default_factory=list)
    stats: Snapshot | None = None

    @property
    def fps(self) -> float:
        """Frames per second from the first frame read to the last one written."""
        return self.frames / self.seconds if self.seconds else 0.0

    def table(self) -> dict[str, Any]:
        """The report as plain values."""
        info, stats = self.restorer.engine.info, self.restorer.stats
        facts = self.restorer.facts
        return {
            "frames": self.frames,
            "fps": round(self.fps, 3),
            "seconds": round(self.seconds, 3),
            "windows_run": stats.windows_run,
            "computed_share": round(stats.computed_share, 4),
            "engine": info.name,
            "provider": info.provider,
            "precision": info.precision,
            "input_codec": self.input_codec,
            "weights_for": facts.coder,
            "trained_on": facts.trained_on,
            "warnings": dict(self.warnings),
            **({"stats": self.stats.table()} if self.stats else {}),
        }


Progress = Callable[[int, int | None], None]
"""Called with frames done and frames in all (None if unknown)."""


@dataclass(frozen=True)
class Job:
    """What to restore and where to put it.

    Attributes:
        source: A picture, a folder of pictures, a video file, a stream's URL or a camera's index.
        output: A file of the same kind, a folder for a folder, or ``null`` for nothing.
        codec: Of the output, for videos: ``h264`` or ``ffv1``.
        compare: Also write ``<output>.compare`` with before and after in one picture.
        frames: Stop after so many; None restores all.
        settings: Which frames of a video are restored, left out, or pass as they are.

    Raises:
        MediaError: A comparison is asked for and there is no output to stand beside.
    """

    source: str
    output: str
    codec: Codec = "h264"
    compare: Layout | None = None
    frames: int | None = None
    settings: PipelineSettings = field(default_factory=PipelineSettings)

    def __post_init__(self) -> None:
        if self.compare and self.output == NULL:
            raise MediaError(
                "--compare needs an output file to stand beside; give -o FILE, not null"
            )

    def compare_path(self, output: Path) -> Path:
        """Where the comparison for one output goes."""
        return output.with_name(f"{output.stem}.compare{output.suffix}")


def run_job(job: Job, restorer: Restorer, progress: Progress) -> Report:
    """Restore whatever ``job.source`` is.

    Every output appears whole or not at all.

    Raises:
        MediaError: The source is unreadable or the output cannot be written.
        EngineError: The engine failed.
    """
    with open_input(job.source) as source:
        return run_opened(job, source, restorer, progress)


def run_opened(job: Job, source: Input, restorer: Restorer, progress: Progress) -> Report:
    """`run_job` where the input is open already, so that the restorer could be chosen to fit it.

    Args:
        job: Its ``source`` is not opened again.
        source: Read to its end; stays the caller's to close.
        restorer: Stays the caller's to close.
        progress: Called after every frame.
    """
    if isinstance(source, Pictures):
        return _run_pictures(job, source, restorer, progress)
    return _run_video(job, source, restorer, progress)


def _run_pictures(job: Job, pictures: Pictures, restorer: Restorer, progress: Progress) -> Report:
    report, began = Report(restorer, pictures.codec), time.perf_counter()
    outputs = _picture_outputs(job, pictures)
    for number, (path, output) in enumerate(outputs.items(), 1):
        try:
            before = read_picture(path)
        except MediaError:
            if pictures.folder is None:
                raise
            report.warnings["pictures that cannot be decoded, skipped"] += 1
            continue
        after = restorer(before)
        report.frames += 1
        if output is not None:
            write_picture(output, after)
            report.outputs.append(output)
            if job.compare:
                both = compared_pictures(before, after, job.compare)
                write_picture(job.compare_path(output), both)
                report.outputs.append(job.compare_path(output))
        progress(number, len(outputs))
    if not report.frames:
        raise MediaError(f"{job.source}: no picture could be decoded; give JPEG or PNG files")
    report.seconds = time.perf_counter() - began
    return report


def _picture_outputs(job: Job, pictures: Pictures) -> dict[Path, Path | None]:
    """Where each restored picture goes; never over a picture that is read.

    Raises:
        MediaError: An output would take the place of an input.
    """
    paths = pictures.paths[: job.frames]
    if job.output == NULL:
        return dict.fromkeys(paths)
    if pictures.folder is None:
        outputs = {paths[0]: Path(job.output)}
    else:
        stems = Counter(path.stem for path in paths)
        # PNG: coding the result as JPEG again would bring the artifacts back.
        names = {p: f"{p.stem if stems[p.stem] == 1 else p.name}.png" for p in paths}
        outputs = {path: Path(job.output) / name for path, name in names.items()}
    inputs = {path.resolve() for path in pictures.paths}
    for path in outputs.values():
        if path.resolve() in inputs:
            raise MediaError(f"{path} is an input and would be lost; write somewhere else")
    return dict(outputs)


def _run_video(
    job: Job, reader: Reader | LiveReader, restorer: Restorer, progress: Progress
) -> Report:
    report = Report(restorer, reader.codec)
    expected = job.frames or (reader.frame_count if isinstance(reader, Reader) else None)
    with ExitStack() as stack:
        writer, comparison = _writers(job, reader, report, stack)
        began = time.perf_counter()
        with Pipeline({job.source: reader}, restorer, job.settings) as pipeline:
            try:
                for item in islice(pipeline, job.frames):
                    writer.write(item.frame)
                    if comparison is not None and job.compare is not None:
                        comparison.write(compared(item.before, item.frame, job.compare))
                    report.frames += 1
                    progress(report.frames, expected)
            except KeyboardInterrupt:
                # How a camera's recording ends; a file's is cut short and thrown away.
                if not reader.live:
                    raise
        report.seconds = time.perf_counter() - began
        report.stats = pipeline.cameras[job.source].stats.snapshot()
    report.warnings.update(reader.warnings)
    report.warnings.update(writer.warnings)
    return report


def _writers(
    job: Job, reader: Reader | LiveReader, report: Report, stack: ExitStack
) -> tuple[Writer | NullWriter, Writer | None]:
    if job.output == NULL:
        return NullWriter(), None
    output = Path(job.output)
    like = reader if isinstance(reader, Reader) else reader.facts
    writer = stack.enter_context(open_writer(output, like=like, codec=job.codec))
    report.outputs.append(output)
    if not job.compare:
        return writer, None
    path = job.compare_path(output)
    facts = compared_facts(reader.facts, job.compare)
    report.outputs.append(path)
    return writer, stack.enter_context(open_writer(path, like=facts, codec=job.codec))
