"""Videos and cameras, one or several at a time, into files."""

import re
import time
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from edgecar.errors import MediaError
from edgecar.media.compare import compared, compared_facts
from edgecar.media.live import LiveReader
from edgecar.media.reader import Reader
from edgecar.media.sources import source_from
from edgecar.media.writer import NullWriter, Writer, open_writer
from edgecar.redaction import redacted
from edgecar.runtime.metrics import listening_address, serve_metrics
from edgecar.runtime.pipeline import Pipeline
from edgecar.runtime.report import NULL, Job, Progress, Report
from edgecar.runtime.restorer import Restorer
from edgecar.runtime.stream_frame import StreamFrame

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
        job: With several videos, its output is a folder that gets a file of each camera's name.
        readers: Closed at the end.
        restorer: Stays the caller's to close.
        progress: Called after every frame.

    Raises:
        MediaError: A source broke off, or an output cannot be written.
        EngineError: The engine failed.
    """
    report = Report(restorer, ", ".join(sorted({reader.codec for reader in readers.values()})))
    outputs: dict[str, _Output] = {}
    with ExitStack() as stack:
        for name, reader in readers.items():
            outputs[name] = _output(job_of(job, name, len(readers)), reader, report, stack)
        address = listening_address(job.metrics) if job.metrics else None
        began = time.perf_counter()
        with Pipeline(readers, restorer, job.settings) as pipeline:
            counted = {n: camera.stats.snapshot for n, camera in pipeline.cameras.items()}
            if address:
                host, port = address
                stack.enter_context(serve_metrics(port, counted, host))
            try:
                for frame in islice(pipeline, job.frames):
                    outputs[frame.camera].write(frame)
                    report.frames += 1
                    if frame.passed_because:
                        report.passed_because[frame.passed_because] += 1
                    progress(report.frames, _expected(job, readers))
            except KeyboardInterrupt:
                # How a camera's recording ends; a file's is cut short and thrown away.
                if not all(reader.live for reader in readers.values()):
                    raise
        report.seconds = time.perf_counter() - began
        report.stats = {name: snapshot() for name, snapshot in counted.items()}
    for name, reader in readers.items():
        report.warnings.update(reader.warnings)
        report.warnings.update(outputs[name].writer.warnings)
    return report


@dataclass
class _Output:
    """Where the frames of one camera go."""

    job: Job
    writer: Writer | NullWriter
    comparison: Writer | None = None

    def write(self, frame: StreamFrame) -> None:
        self.writer.write(frame.frame)
        if self.comparison is not None and self.job.compare is not None:
            self.comparison.write(compared(frame.before, frame.frame, self.job.compare))


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


def _output(job: Job, reader: Reader | LiveReader, report: Report, stack: ExitStack) -> _Output:
    if job.output == NULL:
        return _Output(job, NullWriter())
    output = Path(job.output)
    like = reader if isinstance(reader, Reader) else reader.facts
    writer = stack.enter_context(open_writer(output, like=like, codec=job.codec))
    report.outputs.append(output)
    if not job.compare:
        return _Output(job, writer)
    path = job.compare_path(output)
    facts = compared_facts(reader.facts, job.compare)
    report.outputs.append(path)
    return _Output(job, writer, stack.enter_context(open_writer(path, like=facts, codec=job.codec)))


def _expected(job: Job, readers: Readers) -> int | None:
    """How many frames there will be in all; None if nobody knows."""
    counts = [r.frame_count if isinstance(r, Reader) else None for r in readers.values()]
    if job.frames:
        return job.frames
    return None if None in counts else sum(count for count in counts if count)
