"""Whatever a person gives, from one end to the other; pictures here, videos in `cameras`."""

import logging
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from edgecar.errors import MediaError
from edgecar.files import check_outputs
from edgecar.media.coding import picture_coding
from edgecar.media.color import compared_pictures
from edgecar.media.inputs import Input, Pictures, open_input
from edgecar.media.pictures import (
    PICTURE_FORMATS,
    copy_picture,
    is_picture,
    list_pictures,
    read_still,
    write_picture,
)
from edgecar.media.sources import source_from
from edgecar.runtime.cameras import NULL, Job, Progress, Report, camera_names, job_of, run_cameras
from edgecar.runtime.restorer import Restorer

_log = logging.getLogger(__name__)


def run_job(job: Job, restorer: Restorer, progress: Progress) -> Report:
    """Restore whatever ``job.source`` is; every output appears whole or not at all.

    Raises:
        MediaError: The source is unreadable or the output cannot be written.
        EngineError: The engine failed.
    """
    check_job(job, [job.source])
    read_coding = job.settings.reads_coding(restorer.metadata.takes_quantiser)
    with open_input(job.source, read_coding=read_coding) as source:
        return run_opened(job, [source], restorer, progress)


def check_job(
    job: Job, sources: Sequence[str], outputs: Sequence[Path] = (), inputs: Sequence[str] = ()
) -> None:
    """Refuse a job whose outputs would replace what is read, before anything is opened.

    Args:
        job: Source, output and settings.
        sources: All that is restored together.
        outputs: Other files that will be written.
        inputs: Other files that will be read.

    Raises:
        OutputError: An output is an input or another output, or cannot be written.
        MediaError: A folder holds no picture.
    """
    read = [Path(name) for name in inputs]
    path = source_from(sources[0]).path
    if len(sources) == 1 and path is not None and (path.is_dir() or is_picture(path)):
        pictures = Pictures(list_pictures(path), path) if path.is_dir() else Pictures([path])
        read += pictures.paths
        planned = [output for output in _picture_outputs(job, pictures).values() if output]
    else:
        places = [source_from(source) for source in sources]
        read += [place.path for place in places if place.path]
        names = camera_names(place.address for place in places)
        videos = [job_of(job, name, len(names)) for name in names]
        planned = [Path(video.output) for video in videos if video.output != NULL]
    if job.compare:
        planned += [job.compare_path(output) for output in planned]
    check_outputs([*outputs, *planned], read)


def run_opened(
    job: Job, sources: Sequence[Input], restorer: Restorer, progress: Progress
) -> Report:
    """`run_job` where inputs are open already, so that the restorer could be chosen to fit them.

    Args:
        job: Its sources are not opened again.
        sources: Read to their end; videos are closed then. Several must be videos.
        restorer: Stays the caller's to close.
        progress: Called after every frame.
    """
    if len(sources) == 1 and isinstance(sources[0], Pictures):
        return _run_pictures(job, sources[0], restorer, progress)
    videos = [each for each in sources if not isinstance(each, Pictures)]
    if len(videos) < len(sources):
        raise MediaError("pictures are among several inputs; give one folder, or videos alone")
    names = camera_names(reader.source.address for reader in videos)
    return run_cameras(job, dict(zip(names, videos, strict=True)), restorer, progress)


def _run_pictures(job: Job, pictures: Pictures, restorer: Restorer, progress: Progress) -> Report:
    report, began = Report(restorer, pictures.codec), time.perf_counter()
    settings = job.settings
    limits = restorer.limits.but(settings.skip_below_qp, settings.skip_above_quality)
    outputs = _picture_outputs(job, pictures)
    for number, (path, output) in enumerate(outputs.items(), 1):
        try:
            before, facts = read_still(path)
        except MediaError:
            if pictures.folder is None:
                raise
            report.warnings["pictures that cannot be decoded, skipped"] += 1
            continue
        coding = picture_coding(path.read_bytes())
        reason = limits.reason_to_pass(coding)
        after = before if reason else restorer(before, coding=coding)
        report.frames += 1
        if reason:
            report.passed_because[reason] += 1
            if report.passed_because[reason] == 1:
                _log.warning("%s: %s", path, limits.in_words(reason, coding))
        if output is not None:
            if reason and PICTURE_FORMATS.get(output.suffix.lower()) == coding.codec:
                copy_picture(path, output)  # coded again it would be worse
            else:
                report.warnings.update(write_picture(output, after, facts=facts))
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
    """Return the output path of each picture, no two alike but for case; None for no output."""
    paths = pictures.paths[: job.frames]
    if job.output == NULL:
        return dict.fromkeys(paths)
    if pictures.folder is None:
        return {paths[0]: Path(job.output)}
    stems = Counter(path.stem.casefold() for path in paths)
    outputs: dict[Path, Path | None] = {}
    taken: set[str] = set()
    for path in paths:
        name = wanted = path.stem if stems[path.stem.casefold()] == 1 else path.name
        number = 1
        while name.casefold() in taken:
            number += 1
            name = f"{wanted}-{number}"
        taken.add(name.casefold())
        # PNG: coding the result as JPEG again would bring the artifacts back.
        outputs[path] = Path(job.output) / f"{name}.png"
    return outputs
