"""``edgecar run``: restore a picture, a folder, a clip or a camera."""

import json
import math
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgecar.cli.output import (
    AskedQuantiser,
    EngineName,
    Json,
    PrecisionName,
    engine_line,
    next_step,
    print_json,
    progress_bar,
    size_named,
    stderr,
    stdout,
    warn_if_slow,
)
from edgecar.files import atomic_write
from edgecar.media.color import Layout
from edgecar.media.writer import Codec as OutputCodec
from edgecar.spec import Policy, WeightsFor

if TYPE_CHECKING:
    from edgecar.runtime.cameras import Report
    from edgecar.runtime.restorer import Restorer
    from edgecar.runtime.stats import Stats


def command(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT...",
            help="Picture, folder, video, URL, camera number or - (stdin); videos share an engine.",
        ),
    ],
    output: Annotated[
        str, typer.Option("-o", "--output", help="File, folder for a folder, or null for nothing.")
    ],
    network: Annotated[
        str, typer.Option(help="A network that ships with weights, or an exported .onnx file.")
    ] = "edgecar-s",
    engine: EngineName = "auto",
    precision: PrecisionName = None,
    codec: Annotated[
        OutputCodec, typer.Option(help="Codec of the output video; ffv1 is lossless.")
    ] = "h264",
    compare: Annotated[
        bool, typer.Option("--compare", help="Also write before and after in one picture.")
    ] = False,
    layout: Annotated[
        Layout, typer.Option(help="Layout of the comparison: both whole, or a half of each.")
    ] = "side",
    frames: Annotated[
        int | None, typer.Option(min=1, help="Stop after this many frames in all.")
    ] = None,
    tile: Annotated[
        str | None,
        typer.Option(help="Size of equal tiles, WIDTHxHEIGHT; default: free rectangles."),
    ] = None,
    reuse: Annotated[
        bool, typer.Option(help="Compute only what a change can reach; same bytes out.")
    ] = True,
    verify_reuse: Annotated[
        int, typer.Option(min=0, metavar="N", help="Compare every Nth frame with a full one.")
    ] = 0,
    reuse_tolerance: Annotated[
        int,
        typer.Option(min=0, max=255, metavar="CODES", help="Ignore changes up to this (LOSSY)."),
    ] = 0,
    weights_for: Annotated[
        WeightsFor | None,
        typer.Option("--for", help="Take shipped weights for this; default: what INPUT is."),
    ] = None,
    policy: Annotated[
        Policy | None,
        typer.Option(
            help="Restore all (block) or drop overtaken frames (newest). Default: by INPUT."
        ),
    ] = None,
    max_latency_ms: Annotated[
        float | None, typer.Option(min=1, help="Frames older than this pass as they are.")
    ] = None,
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
    metrics_port: Annotated[
        str | None,
        typer.Option(metavar="[HOST:]PORT", help="Serve Prometheus metrics while videos run."),
    ] = None,
    stats_json: Annotated[
        Path | None, typer.Option(help="Also write counters and latencies to this file.")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; default: all.")] = None,
    as_json: Json = False,
) -> None:
    """Restore INPUT, or several videos and cameras side by side.

    Shipped weights are chosen by what INPUT is coded with. What is coded otherwise, or finer than
    they were trained for, passes as it is and is counted. Timestamps, audio, frame rate and colour
    metadata of a video pass through untouched. Cameras and streams that
    break off are connected again.

    Example: edgecar run clip.mp4 -o clean.mp4 --compare
    """
    from edgecar.media.inputs import Input, check_pipes, open_input
    from edgecar.runtime.camera import PipelineSettings
    from edgecar.runtime.cameras import Job
    from edgecar.runtime.choice import choose_weights, shared_codec
    from edgecar.runtime.job import check_job, run_opened
    from edgecar.runtime.restorer import Restorer
    from edgecar.runtime.stream_cache import Reuse

    settings = PipelineSettings(
        policy=policy,
        max_latency_ms=max_latency_ms,
        skip_below_qp=skip_below_qp,
        skip_above_quality=skip_above_quality,
        quantiser=quantiser,
    )
    layout_asked = layout if compare else None
    job = Job(sources[0], output, codec, layout_asked, frames, settings, metrics_port)
    window = size_named(tile) if tile else None
    check_job(job, sources, [stats_json] if stats_json else [], [network])
    check_pipes(sources)
    with ExitStack() as stack:
        inputs: list[Input] = []
        for source in sources:
            inputs.append(open_input(source, read_coding=settings.reads_coding()))
            stack.enter_context(inputs[-1])
        codecs = [each.codec for each in inputs]
        codec_in = codecs[0] if weights_for else shared_codec(codecs)
        choice = choose_weights(network, codec_in, weights_for)
        kept = Reuse(reuse_tolerance, verify_reuse) if reuse else False
        with Restorer(
            choice.artifact,
            engine,
            precision,
            reuse=kept,
            tile=window,
            threads=threads,
            limits=choice.limits,
            quantiser=quantiser,
        ) as restorer:
            if not as_json:
                stderr.print(f"network   {choice.reason}")
                stderr.print(f"engine    {engine_line(restorer.engine.info)}")
            warn_if_slow(restorer.metadata, restorer.engine.info)
            if choice.note:
                stderr.print(f"note      {choice.note}")
            with progress_bar("restoring") as progress:
                report = run_opened(job, inputs, restorer, progress)
    if stats_json and report.stats:
        with atomic_write(stats_json) as temporary:
            temporary.write_text(json.dumps(report.stats_table(), indent=2) + "\n")
    if as_json:
        print_json({**report.table(), "shipped": choice.artifact.shipped})
        return
    _print_report(report, shown=None if len(sources) > 1 else 2)
    if reuse and reuse_tolerance:
        stdout.print(f"lossy     {tolerance_cost(reuse_tolerance, restorer.stats)}")
    next_step(f"edgecar bench --networks {restorer.metadata.model}")


def _print_report(report: "Report", shown: int | None) -> None:
    """Print what was done, with at most so many of the outputs."""
    restorer = report.restorer
    for size, tuning in restorer.tunings.loaded.items():
        stderr.print(f"tuning    {tuning}, for {size[1]}x{size[0]} (edgecar tune)")
    warnings = [f"{warning}: {count}" for warning, count in report.warnings.items()]
    for warning in [*restorer.tunings.warnings, *warnings]:
        stderr.print(f"warning   {warning}")
    passed = report.passed_because.total()
    stdout.print(
        f"restored  {report.frames - passed} frame(s) in {report.seconds:.2f} s, "
        f"{report.fps:.2f} frames/s; {restorer.stats.windows_run} window(s), "
        f"{restorer.stats.computed_share:.0%} of the pixels"
    )
    if told := quantiser_line(restorer):
        stdout.print(f"quantiser {told}")
    if passed:
        why = ", ".join(f"{reason} {count}" for reason, count in report.passed_because.items())
        stdout.print(f"passed    {passed} frame(s) as they are: {why}")
    for path in report.outputs[-shown:] if shown else report.outputs:
        stdout.print(f"wrote     {path}")


def quantiser_line(restorer: "Restorer") -> str:
    """Return what the network was told of how coarsely frames were coded; empty if nothing."""
    stats = restorer.stats
    if stats.quantiser is None:
        return ""
    unit = "quality" if restorer.metadata.coder == "jpeg" else "QP"
    told = f"{unit} {stats.quantiser:g} at the end, moved {stats.quantiser_moves} time(s)"
    if not stats.quantiser_unknown_frames:
        return told
    unknown = f"; not stated for {stats.quantiser_unknown_frames} frame(s), which got the middle"
    return f"{told}{unknown} of the range: tell it with --quantiser"


def tolerance_cost(codes: int, stats: "Stats") -> str:
    """Return what ignoring small changes did to the output, as far as frames were compared."""
    from edgecar.runtime.stream_cache import LOSS_EVERY

    ignored = f"changes of up to {codes} code(s) ignored; against the exact output "
    psnr = stats.psnr_to_exact
    if psnr is None:
        return ignored + f"not measured, for want of {LOSS_EVERY} frames (see --verify-reuse)"
    figure = "the same bytes" if math.isinf(psnr) else f"{psnr:.2f} dB"
    return ignored + f"{figure}, on {stats.frames_compared} frame(s)"
