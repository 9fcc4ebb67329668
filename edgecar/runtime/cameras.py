"""Videos and cameras, one or several at a time, into files."""

import math
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

from edgecar.errors import MediaError
from edgecar.media.color import Layout, compared, compared_facts
from edgecar.media.live import LiveReader
from edgecar.media.reader import Reader
from edgecar.media.sources import is_url, source_from
from edgecar.media.writer import Codec, Writer, open_writer
from edgecar.redaction import redacted
from edgecar.runtime.camera import PipelineSettings
from edgecar.runtime.pipeline import Pipeline
from edgecar.runtime.prometheus import listening_address, serve_metrics
from edgecar.runtime.restorer import Restorer
from edgecar.runtime.stats import Snapshot

NULL = "null"  # an output that writes nothing


@dataclass
class Report:
    """Outcome of a job; `table` has the keys of ``edgecar run --json``."""

    restorer: Restorer
    input_codec: str
    frames: int = 0
    """Written: restored ones, and those that passed as they were."""
    passed_because: Counter[str] = field(default_factory=Counter)
    """Frames that passed as they were, by `edgecar.runtime.stats.PassReason`."""
    seconds: float = 0.0
    warnings: Counter[str] = field(default_factory=Counter)
    outputs: list[Path] = field(default_factory=list)
    stats: dict[str, Snapshot] = field(default_factory=dict)

    @property
    def fps(self) -> float:
        """Frames per second from the first frame read to the last one written."""
        return self.frames / self.seconds if self.seconds else 0.0

    def table(self) -> dict[str, Any]:
        """The report as plain values."""
        info, stats = self.restorer.engine.info, self.restorer.stats
        metadata, exact = self.restorer.metadata, stats.psnr_to_exact
        return {
            "frames": self.frames,
            "restored": self.frames - self.passed_because.total(),
            "passed": self.passed_because.total(),
            "passed_because": dict(self.passed_because),
            "fps": round(self.fps, 3),
            "seconds": round(self.seconds, 3),
            "quantiser": stats.quantiser,
            "quantiser_moves": stats.quantiser_moves,
            "quantiser_unknown_frames": stats.quantiser_unknown_frames,
            "windows_run": stats.windows_run,
            "computed_share": round(stats.computed_share, 4),
            "frames_compared": stats.frames_compared,
            "psnr_to_exact_db": None if exact is None or math.isinf(exact) else round(exact, 2),
            "engine": info.name,
            "provider": info.provider,
            "precision": info.precision,
            "engine_note": info.note,
            "input_codec": self.input_codec,
            "weights_for": None
            if self.passed_because["other_coder"] == self.frames
            else metadata.weights_for,
            "trained_on": metadata.trained_on,
            "warnings": dict(self.warnings),
            **({"stats": self.stats_table()} if self.stats else {}),
        }

    def stats_table(self) -> dict[str, Any]:
        """Counters and latencies: of the one camera, or of each by name."""
        tables = {name: snapshot.table() for name, snapshot in self.stats.items()}
        return next(iter(tables.values())) if len(tables) == 1 else tables


Progress = Callable[[int, int | None], None]
"""Called with frames done and frames in all (None if unknown)."""


@dataclass(frozen=True)
class Job:
    """Input to restore, and place of the output.

    Attributes:
        source: A picture, a folder of pictures, a video file, a stream's URL or a camera's index.
        output: A file of the same kind, a folder for a folder, or ``null`` for nothing.
        codec: Codec of the output, for videos: ``h264`` or ``ffv1``.
        compare: Also write ``<output>.compare`` with before and after in one picture.
        frames: Stop after so many, of all videos together; None restores all.
        settings: Which frames of a video are restored, left out, or pass as they are.
        metrics: ``[HOST:]PORT`` to serve counters at while videos run.

    Raises:
        MediaError: The output is an address, or a comparison is asked for and there is no output
            to stand beside.
    """

    source: str
    output: str
    codec: Codec = "h264"
    compare: Layout | None = None
    frames: int | None = None
    settings: PipelineSettings = field(default_factory=PipelineSettings)
    metrics: str | None = None

    def __post_init__(self) -> None:
        if is_url(self.output):
            raise MediaError(
                f"output {self.output} is an address, and this writes files; give -o FILE, or send "
                "the video on with edgecar serve"
            )
        if self.compare and self.output == NULL:
            raise MediaError(
                "--compare needs an output file to stand beside; give -o FILE, not null"
            )

    def compare_path(self, output: Path) -> Path:
        """Where the comparison for one output goes."""
        return output.with_name(f"{output.stem}.compare{output.suffix}")


Readers = Mapping[str, Reader | LiveReader]
"""Open videos by the names of their cameras."""

SUFFIXES = {"h264": ".mp4", "ffv1": ".mkv"}


def camera_name(address: str) -> str:
    """A short name without secrets, fit for a file and a label.

    Example:
        >>> camera_name("rtsp://admin:secret@10.0.0.5:554/main"), camera_name("clips/gate.mp4")
        ('10.0.0.5_main', 'gate')
    """
    source = source_from(address)
    if source.path is not None:
        return source.path.stem
    if source.kind == "camera":
        return f"camera{address}" if address.isdecimal() else Path(address).name
    if source.kind == "file":
        return source.address.replace(":", "")
    _, _, place = redacted(address).replace("***@", "").partition("://")
    place, _, _ = place.partition("?")
    host, slash, path = place.partition("/")
    named = re.sub(r":\d*$", "", host).lower() + slash + path
    return re.sub(r"[^A-Za-z0-9.]+", "_", named).strip("_")


def camera_names(addresses: Iterable[str]) -> dict[str, str]:
    """Addresses by name; cameras of one name are numbered.

    Example:
        >>> camera_names(["a/x.mp4", "b/x.mp4"])
        {'x': 'a/x.mp4', 'x-2': 'b/x.mp4'}
    """
    names: dict[str, str] = {}
    taken: set[str] = set()  # some file systems take names that differ in case for one
    for address in addresses:
        name = wanted = camera_name(address)
        number = 1
        while name.casefold() in taken:
            number += 1
            name = f"{wanted}-{number}"
        taken.add(name.casefold())
        names[name] = address
    return names


def run_cameras(job: Job, readers: Readers, restorer: Restorer, progress: Progress) -> Report:
    """Restore videos side by side with one engine.

    Args:
        job: Job to do. Its output, for several videos, is a folder with a file for each camera.
        readers: Closed at the end.
        restorer: Stays the caller's to close.
        progress: Called after every frame.

    Raises:
        MediaError: A source broke off, or an output cannot be written.
        EngineError: The engine failed.
    """
    report = Report(restorer, ", ".join(sorted({reader.codec for reader in readers.values()})))
    counts = [r.frame_count if isinstance(r, Reader) else None for r in readers.values()]
    expected = job.frames or (None if None in counts else sum(filter(None, counts)))
    writers: dict[str, list[Writer]] = {}
    with ExitStack() as stack:
        for name, reader in readers.items():
            writers[name] = _writers(job_of(job, name, len(readers)), reader, report, stack)
        address = listening_address(job.metrics) if job.metrics else None
        began = time.perf_counter()
        with Pipeline(readers, restorer, job.settings) as pipeline:
            counted = {n: camera.stats.snapshot for n, camera in pipeline.cameras.items()}
            if address:
                host, port = address
                stack.enter_context(serve_metrics(port, counted, host))
            try:
                for frame in islice(pipeline, job.frames):
                    pictures = [frame.frame]
                    if job.compare:
                        pictures.append(compared(frame.before, frame.frame, job.compare))
                    for writer, picture in zip(writers[frame.camera], pictures, strict=False):
                        writer.write(picture)
                    report.frames += 1
                    if frame.passed_because:
                        report.passed_because[frame.passed_because] += 1
                    progress(report.frames, expected)
            except KeyboardInterrupt:
                # How a camera's recording ends; a file's is cut short and thrown away.
                if not all(reader.live for reader in readers.values()):
                    raise
        report.seconds = time.perf_counter() - began
        report.stats = {name: snapshot() for name, snapshot in counted.items()}
    for name, reader in readers.items():
        report.warnings.update(reader.warnings)
        for writer in writers[name][:1]:
            report.warnings.update(writer.warnings)
    return report


def job_of(job: Job, name: str, cameras: int) -> Job:
    """The part of a job that concerns one camera.

    Raises:
        MediaError: The output is no folder where there must be one.
    """
    if cameras == 1 or job.output == NULL:
        return job
    folder = Path(job.output)
    if folder.suffix and not folder.is_dir():
        raise MediaError(f"{folder} is one file for {cameras} videos; give a folder, or null")
    return replace(job, output=str(folder / f"{name}{SUFFIXES[job.codec]}"))


def _writers(
    job: Job, reader: Reader | LiveReader, report: Report, stack: ExitStack
) -> list[Writer]:
    """Open the output of a camera, if there is one, and its comparison, if one is asked for."""
    if job.output == NULL:
        return []
    output = Path(job.output)
    like = {output: reader if isinstance(reader, Reader) else reader.facts}
    if job.compare:
        like[job.compare_path(output)] = compared_facts(reader.facts, job.compare)
    report.outputs += like
    return [
        stack.enter_context(open_writer(path, like=facts, codec=job.codec))
        for path, facts in like.items()
    ]
