"""``edgecar batch``: restore an archive of clips with many workers."""

import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgecar.cli.output import (
    AskedQuantiser,
    EngineName,
    Json,
    PrecisionName,
    next_step,
    print_json,
    progress_bar,
    stderr,
    stdout,
)
from edgecar.errors import BatchError
from edgecar.files import quoted
from edgecar.media.writer import Codec as OutputCodec
from edgecar.spec import WeightsFor, coder_and_purpose

if TYPE_CHECKING:
    from edgecar.batch.archive import BatchSettings
    from edgecar.batch.workers import Workers


def command(
    sources: Annotated[
        list[Path],
        typer.Argument(metavar="SRC...", help="Clips, and folders to search for clips."),
    ],
    out: Annotated[
        Path, typer.Option("-o", "--out", help="Folder for the outputs; the tree is kept.")
    ],
    ray: Annotated[
        str,
        typer.Option(
            metavar="ADDRESS",
            help="Address of a Ray cluster, whose nodes must all see SRC and DIR under the same "
            "paths (a shared file system) and have the same edgecar. local: processes of this "
            "machine, without Ray; none: this process alone.",
        ),
    ] = "local",
    workers: Annotated[
        int | None, typer.Option(min=1, help="Number of workers; default: one for each core.")
    ] = None,
    network: Annotated[
        str, typer.Option(help="A network that ships with weights, or an exported .onnx file.")
    ] = "edgecar-s",
    weights_for: Annotated[
        WeightsFor | None,
        typer.Option("--for", help="Take shipped weights for this; default: what each clip is."),
    ] = None,
    engine: EngineName = "auto",
    precision: PrecisionName = None,
    codec: Annotated[
        OutputCodec, typer.Option(help="Video out: h264 (.mp4), or ffv1 (.mkv), which is lossless.")
    ] = "h264",
    part_seconds: Annotated[
        float, typer.Option(help="Clips are cut at keyframes into parts of about this length.")
    ] = 30,
    retries: Annotated[
        int, typer.Option(min=0, help="Number of times that what failed is tried again.")
    ] = 2,
    skip_below_qp: Annotated[
        float | None,
        typer.Option(
            metavar="QP",
            help="Frames of H.264, or of HEVC by its last key frame, finer than this pass as they "
            "are; 0: none. Default: by the weights.",
        ),
    ] = None,
    skip_above_quality: Annotated[
        int | None,
        typer.Option(
            metavar="QUALITY",
            help="JPEG finer than this passes as it is; 100: none. Default: by the weights.",
        ),
    ] = None,
    quantiser: AskedQuantiser = None,
    as_json: Json = False,
) -> None:
    """Restore an archive of clips: cut at keyframes, done by many workers, joined again.

    Whatever ends it (Ctrl-C, a full disk, kill -9), the same command goes on where it ended:
    finished parts are kept in DIR/.edgecar-batch until their clip is done, clips that are done are
    skipped. A clip is done again if its file, the weights or the settings changed. A clip that
    fails is reported at the end (exit code 1), and the others go on. The bytes of the outputs do
    not depend on how many workers there are.

    Example: edgecar batch recordings -o clean
    """
    from edgecar.artifact import is_artifact_path, shipped_for
    from edgecar.batch.archive import BatchSettings, find_clips, locked_state
    from edgecar.batch.run import Batch
    from edgecar.engines.select import resolved
    from edgecar.runtime.choice import choose_weights
    from edgecar.runtime.quantisers import quantiser_from_setting

    settings = BatchSettings(
        network,
        weights_for,
        engine,
        precision,
        codec,
        part_seconds,
        retries,
        skip_below_qp,
        skip_above_quality,
        quantiser,
    )
    resolved(engine)
    there = shipped_for(network)
    if is_artifact_path(network) or not there or quantiser is not None:
        # Refuses what would fail with every clip.
        codec_in = coder_and_purpose(there[0])[0] if there and "h264" not in there else "h264"
        choice = choose_weights(network, codec_in, weights_for)
        if quantiser is not None:
            quantiser_from_setting(quantiser, choice.artifact.metadata)
    clips = find_clips(sources, out, codec)
    with (
        locked_state(out) as state,
        closing(_workers(settings, ray, workers)) as pool,
        progress_bar("restoring frames") as progress,
    ):

        def tell(label: str, text: str) -> None:
            if not as_json:
                stderr.print(f"{label:<9} {text}")

        report = Batch(clips, settings, pool, state, progress, tell).run()
    if as_json:
        print_json(vars(report))
    else:
        for entry in report.skipped:
            stdout.print(f"skipped   {entry['source']}: {entry['reason']}")
        for warning, count in report.warnings.items():
            stderr.print(f"warning   {warning}: {count}")
        kept = f"; {report.parts_kept} part(s) kept from before" if report.parts_kept else ""
        lost = f"; {report.parts_lost} begun again as a worker died" if report.parts_lost else ""
        stdout.print(
            f"restored  {len(report.outputs)} of {report.clips} clip(s), {report.frames} frame(s) "
            f"in {report.seconds:.2f} s, {report.fps:.2f} frames/s{kept}{lost}"
        )
        for path in report.outputs:
            stdout.print(f"wrote     {path}")
    if report.failed:
        sys.stderr.write("".join(f"failed    {entry['reason']}\n" for entry in report.failed))
        raise BatchError(
            f"{len(report.failed)} of {report.clips} clip(s) failed; put them right and run the "
            "same command again, which does these alone"
        )
    if not as_json:
        next_step(f"edgecar run {quoted(clips[0].source)} -o look.mp4 --frames 100 --compare")


def _workers(settings: "BatchSettings", ray: str, workers: int | None) -> "Workers":
    from edgecar.batch.workers import LocalWorkers, RayWorkers, ThisProcess

    if ray == "none":
        if workers not in (None, 1):
            raise BatchError(
                f"got --workers {workers} and --ray none, which is one process; leave one out"
            )
        return ThisProcess(settings)
    local = ray == "local"
    made = LocalWorkers(settings, workers) if local else RayWorkers(settings, ray, workers)
    where = "on this machine" if local else f"on the cluster at {ray}"
    stderr.print(f"workers   {made.workers}, {made.threads} thread(s) each, {where}")
    return made
