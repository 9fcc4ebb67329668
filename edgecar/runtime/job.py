"""Whatever a person gives, from one end to the other; pictures here, videos in `cameras`."""

import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from edgecar.errors import MediaError
from edgecar.media.compare import compared_pictures
from edgecar.media.inputs import Input, Pictures, open_input
from edgecar.media.pictures import read_still, write_picture
from edgecar.runtime.cameras import camera_names, run_cameras
from edgecar.runtime.report import NULL, Job, Progress, Report
from edgecar.runtime.restorer import Restorer


def run_job(job: Job, restorer: Restorer, progress: Progress) -> Report:
    """Restore whatever ``job.source`` is.

    Every output appears whole or not at all.

    Raises:
        MediaError: The source is unreadable or the output cannot be written.
        EngineError: The engine failed.
    """
    with open_input(job.source) as source:
        return run_opened(job, source, restorer, progress)


def run_opened(
    job: Job, sources: Input | Sequence[Input], restorer: Restorer, progress: Progress
) -> Report:
    """`run_job` where inputs are open already, so that the restorer could be chosen to fit them.

    Args:
        job: Its sources are not opened again.
        sources: Read to their end; videos are closed then. Several must be videos.
        restorer: Stays the caller's to close.
        progress: Called after every frame.
    """
    inputs = [sources] if isinstance(sources, Input) else list(sources)
    if isinstance(inputs[0], Pictures) and len(inputs) == 1:
        return _run_pictures(job, inputs[0], restorer, progress)
    videos = [each for each in inputs if not isinstance(each, Pictures)]
    if len(videos) < len(inputs):
        raise MediaError("pictures are among several inputs; give one folder, or videos alone")
    names = camera_names(reader.source.address for reader in videos)
    return run_cameras(job, dict(zip(names, videos, strict=True)), restorer, progress)


def _run_pictures(job: Job, pictures: Pictures, restorer: Restorer, progress: Progress) -> Report:
    report, began = Report(restorer, pictures.codec), time.perf_counter()
    outputs = _picture_outputs(job, pictures)
    for number, (path, output) in enumerate(outputs.items(), 1):
        try:
            before, facts = read_still(path)
        except MediaError:
            if pictures.folder is None:
                raise
            report.warnings["pictures that cannot be decoded, skipped"] += 1
            continue
        after = restorer(before)
        report.frames += 1
        if output is not None:
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
