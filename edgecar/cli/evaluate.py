"""``edgecar eval``: picture quality, measured like the papers."""

from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgecar.cli.output import (
    Codec,
    EngineName,
    Json,
    PrecisionName,
    ReportPath,
    check_files,
    check_report,
    engine_line,
    next_step,
    own_command,
    print_json,
    progress_bar,
    save_report,
    stderr,
    stdout,
    warn_if_slow,
)
from edgecar.errors import SettingsError
from edgecar.media.video_codec import VideoCodec
from edgecar.spec import Coder, Precision

if TYPE_CHECKING:
    from edgecar.evaluate.clips import ClipSet
    from edgecar.evaluate.sample_frames import SampleFrames
    from edgecar.evaluate.video import Method, NetworkMethod, VideoRow

app = typer.Typer(help="Measure picture quality like the papers.", no_args_is_help=True)
QUALITIES = [10, 20, 30, 40]
QUANTISERS: dict[VideoCodec, list[int]] = {"h264": [29, 35, 41, 47], "hevc": [22, 27, 32, 37]}
FRAMES = 150  # two and a half GOPs
LEFT_OUT_SHOWN = 3

# Options take one value each; numbers after the first arrive as arguments.
More = Annotated[list[int] | None, typer.Argument(hidden=True)]
Networks = Annotated[
    list[str] | None, typer.Option(help="Shipped network or .onnx file; repeat for several.")
]
VideoNetworks = Annotated[
    list[str] | None,
    typer.Option("--network", help="Shipped or .onnx; repeat for several; default: all shipped."),
]
Clips = Annotated[
    Path, typer.Option("--data", help="Video, folder of clips, or folder of the suite's files.")
]
Suite = Annotated[
    str | None, typer.Option(help="Which clips: video (the shipped study) or a .toml file.")
]
Baselines = Annotated[
    list[str] | None,
    typer.Option("--baseline", help="FFmpeg's spp or fspp beside the networks; repeat for both."),
]
FrameLimit = Annotated[int, typer.Option("--frames", min=1, help="Take the first N of each clip.")]
Every = Annotated[int, typer.Option(min=1, help="Measure every Nth frame.")]
Variants = Annotated[
    bool,
    typer.Option("--variants", help="All settings of the paper, with PSNR-B, flicker, BD-rate."),
]
Save = Annotated[Path | None, typer.Option(help="Write a result file (JSON) there.")]


@app.callback()
def studies() -> None:
    """Measure picture quality like the papers."""


@app.command("jpeg")
def jpeg(
    data: Annotated[Path, typer.Option(help="Folder of lossless pictures, e.g. classic5.")],
    quality: Annotated[
        list[int] | None, typer.Option(help="JPEG qualities: --quality 10 20 30 40.")
    ] = None,
    more: More = None,
    network: Networks = None,
    engine: EngineName = "auto",
    precision: PrecisionName = None,
    weights_for: Codec = "jpeg",
    save: Save = None,
    report: ReportPath = None,
    as_json: Json = False,
) -> None:
    """Code pictures as JPEG, restore them, and print PSNR, SSIM and PSNR-B before and after.

    Published rows of the same set stand beside ours.

    Example: edgecar eval jpeg --data classic5 --quality 10 20 30 40
    """
    from edgecar.bench.results import new_results, write_results
    from edgecar.bench.tables import jpeg_table
    from edgecar.evaluate.sample_frames import SampleFrames
    from edgecar.evaluate.stills import evaluate_jpeg, load_pictures
    from edgecar.runtime.restorer import Restorer

    check_files((save, report), (data, *(network or [])))
    check_report(report)
    pictures = load_pictures(data)
    qualities = [*(quality or []), *(more or [])] or QUALITIES
    rows = []
    with progress_bar("measuring") as progress:
        names = network or ["edgecar-s"]
        sample_frames = SampleFrames(len(names)) if report else None
        for done, name in enumerate(names):
            progress(done, len(names))
            with Restorer(name, engine, precision, codec=weights_for) as restorer:
                used = engine_line(restorer.engine.info)
                stderr.print(f"engine    {restorer.metadata.model}: {used}")
                warn_if_slow(restorer.metadata, restorer.engine.info)
                rows += evaluate_jpeg(
                    restorer.luma,
                    pictures,
                    qualities,
                    network=restorer.metadata.model,
                    set_name=data.name,
                    sample_frames=sample_frames,
                )
    if save or report:
        results = new_results("jpeg", rows, command=own_command())
        if save:
            write_results(save, results)
        save_report(report, results, sample_frames)
    if as_json:
        print_json({"rows": rows})
        return
    stdout.print(jpeg_table(rows))
    if save:
        stdout.print(f"wrote     {save}")
    next_step("edgecar bench --res 1080p")


@app.command("h264")
def h264(
    data: Clips,
    crf: Annotated[list[int] | None, typer.Option(help="x264 CRF: --crf 29 35 41 47.")] = None,
    more: More = None,
    suite: Suite = None,
    network: VideoNetworks = None,
    baseline: Baselines = None,
    engine: EngineName = "auto",
    precision: PrecisionName = None,
    weights_for: Codec = "h264",
    frames: FrameLimit = FRAMES,
    every: Every = 1,
    variants: Variants = False,
    save: Save = None,
    report: ReportPath = None,
    as_json: Json = False,
) -> None:
    """Code clips as H.264, restore them, and print what is gained in luma PSNR.

    x264, preset medium, key frames at most 60 apart. A folder of clips of yours will do.
    --variants takes each CRF under the three limits of the CAR-CNN paper; given --save, it goes on
    from the rows of that file.

    Example: edgecar eval h264 --data clips --crf 29 35 --baseline spp
    """
    quantisers = [*(crf or []), *(more or [])]
    study = VideoStudy("h264", data, suite, quantisers, frames, every, network, baseline or [])
    outputs = Outputs(save, report, as_json)
    check_files((save, report), (data, suite, *(network or [])))
    (show_variants if variants else show_video)(study, engine, precision, weights_for, outputs)


@app.command("hevc")
def hevc(
    data: Clips,
    qp: Annotated[list[int] | None, typer.Option(help="x265 QP: --qp 22 27 32 37.")] = None,
    more: More = None,
    suite: Suite = None,
    network: VideoNetworks = None,
    baseline: Baselines = None,
    engine: EngineName = "auto",
    precision: PrecisionName = None,
    weights_for: Codec = "hevc",
    frames: FrameLimit = FRAMES,
    every: Every = 1,
    variants: Variants = False,
    save: Save = None,
    report: ReportPath = None,
    as_json: Json = False,
) -> None:
    """Code clips as HEVC, restore them, and print what is gained in luma PSNR.

    x265, preset medium, constant QP, key frames at most 60 apart. A folder of clips will do.
    --variants codes all-intra, low-delay and random-access, with x265's filters and without, and
    prints BD-rates; given --save, it goes on from the rows of that file.

    Example: edgecar eval hevc --data clips --qp 32 37
    """
    quantisers = [*(qp or []), *(more or [])]
    study = VideoStudy("hevc", data, suite, quantisers, frames, every, network, baseline or [])
    outputs = Outputs(save, report, as_json)
    check_files((save, report), (data, suite, *(network or [])))
    (show_variants if variants else show_video)(study, engine, precision, weights_for, outputs)


@dataclass(frozen=True)
class VideoStudy:
    """What `edgecar eval h264` and `hevc` were asked for; no quantisers: those of the papers."""

    codec: VideoCodec
    data: Path
    suite: str | None
    quantisers: list[int]
    frames: int
    every: int
    networks: list[str] | None
    baselines: list[str]


@dataclass(frozen=True)
class Outputs:
    """Where rows go besides the terminal: result file, report, and JSON in place of tables."""

    save: Path | None
    report: Path | None
    as_json: bool


def show_variants(
    study: VideoStudy,
    engine: str,
    precision: Precision | None,
    weights_for: Coder,
    outputs: Outputs,
) -> None:
    """Measure the paper's variants, row by row into the result file, and print them.

    Raises:
        EdgecarError: Of the clips, the networks, the baselines or the report.
    """
    from edgecar.bench.results import new_results, resumed, write_results
    from edgecar.bench.tables import variants_report
    from edgecar.evaluate.sample_frames import SampleFrames
    from edgecar.evaluate.tables import limits_lines
    from edgecar.evaluate.variants import VARIANTS, evaluate_variants, extremes, row_key

    check_report(outputs.report)
    save = outputs.save
    rows, commands = resumed(save, own_command()) if save else ([], own_command())
    with opened_study(study, engine, precision, weights_for) as (found, quantisers, methods):
        # The number of variants does not depend on the size.
        each = len(VARIANTS[study.codec]((2, 2), quantisers)) * len(methods)
        done = {row_key(row) for row in rows}
        sample_frames = SampleFrames(len(methods)) if outputs.report else None
        asked = found.clips, study.codec, quantisers, methods, study.every
        with progress_bar("measuring") as progress:
            progress(len(rows), each * len(found.clips))
            for row in evaluate_variants(*asked, done, sample_frames):
                rows.append(row)
                progress(len(rows), each * len(found.clips))
                if save:
                    write_results(save, new_results("variants", rows, commands))
        own = [row for row in rows if row["codec"] == study.codec]  # a file may hold both
        again = extremes(own) & done
        if sample_frames and again:  # rows that were there already have no pictures
            others = {row_key(row) for row in rows} - again
            deque(evaluate_variants(*asked, others, sample_frames), maxlen=0)
        save_report(outputs.report, new_results("variants", own, commands), sample_frames)
    for line in limits_lines(rows):
        stderr.print(f"limits    {line}")
    if outputs.as_json:
        print_json({"rows": rows})
        return
    for table in variants_report(rows):
        stdout.print(table)
    if save:
        stdout.print(f"wrote     {save}")
    next_step("edgecar bench --res 1080p")


def show_video(
    study: VideoStudy,
    engine: str,
    precision: Precision | None,
    weights_for: Coder,
    outputs: Outputs,
) -> None:
    """Measure the study and print it.

    Raises:
        EdgecarError: Of the clips, the networks, the baselines or the report.
    """
    from edgecar.bench.results import new_results, write_results
    from edgecar.bench.tables import video_table

    check_report(outputs.report)
    rows, sample_frames = video_rows(study, engine, precision, weights_for, bool(outputs.report))
    if outputs.save or outputs.report:
        results = new_results("video", rows, command=own_command())
        if outputs.save:
            write_results(outputs.save, results)
        save_report(outputs.report, results, sample_frames)
    if outputs.as_json:
        print_json({"rows": rows})
        return
    stdout.print(video_table(rows, study.codec))
    if outputs.save:
        stdout.print(f"wrote     {outputs.save}")
    next_step("edgecar bench --res 1080p")


def video_rows(
    study: VideoStudy,
    engine: str,
    precision: Precision | None,
    weights_for: Coder,
    sampled: bool = False,
) -> "tuple[list[VideoRow], SampleFrames | None]":
    """Open what is asked for, say so on stderr, and measure; frames are kept if they are shown.

    Raises:
        EdgecarError: Of the clips, the networks or the baselines; before anything is measured
            where that can be told.
    """
    from edgecar.evaluate.sample_frames import SampleFrames
    from edgecar.evaluate.video import evaluate_video

    rows: list[VideoRow] = []
    with opened_study(study, engine, precision, weights_for) as (found, quantisers, methods):
        sample_frames = SampleFrames(len(methods)) if sampled else None
        expected = len(found.clips) * len(quantisers) * len(methods)
        with progress_bar("measuring") as progress:
            progress(0, expected)
            for row in evaluate_video(
                found.clips, study.codec, quantisers, methods, study.every, sample_frames
            ):
                rows.append(row)
                progress(len(rows), expected)
    return rows, sample_frames


@contextmanager
def opened_study(
    study: VideoStudy, engine: str, precision: Precision | None, weights_for: Coder
) -> "Iterator[tuple[ClipSet, list[int], list[Method]]]":
    """Clips, quantisers, and the networks and filters, which are closed on the way out.

    Raises:
        EdgecarError: Of the clips, the networks or the baselines.
    """
    from edgecar.evaluate.clips import load_clips
    from edgecar.evaluate.postfilters import Postfilter

    found = load_clips(study.data, study.suite, study.frames)
    quantisers = list(dict.fromkeys(study.quantisers)) or QUANTISERS[study.codec]
    baselines = [Postfilter(name) for name in dict.fromkeys(study.baselines)]
    stderr.print(f"clips     {len(found.clips)} of {found.name}")
    if found.left_out:
        shown = ", ".join(found.left_out[:LEFT_OUT_SHOWN])
        more = ", …" if len(found.left_out) > LEFT_OUT_SHOWN else ""
        stderr.print(f"left out  {len(found.left_out)} file(s) that are no clips: {shown}{more}")
    with ExitStack() as opened:
        networks = opened_networks(study.networks, engine, precision, weights_for, opened)
        if not networks and not baselines:
            raise SettingsError(
                f"no {weights_for} weights ship; give --network FILE.onnx, or --for jpeg for those "
                "trained on JPEG"
            )
        yield found, quantisers, [*networks, *baselines]


def opened_networks(
    networks: list[str] | None,
    engine: str,
    precision: Precision | None,
    weights_for: Coder,
    opened: ExitStack,
) -> "list[NetworkMethod]":
    """Networks, all that ship if none is named, closed with ``opened``; said on stderr."""
    from edgecar.artifact import shipped_names
    from edgecar.evaluate.video import NetworkMethod
    from edgecar.runtime.restorer import Restorer

    names = list(dict.fromkeys(networks or shipped_names(weights_for)))
    restorers = [
        opened.enter_context(Restorer(name, engine, precision, codec=weights_for)) for name in names
    ]
    models = [restorer.metadata.model for restorer in restorers]
    methods: list[NetworkMethod] = []
    for name, restorer in zip(names, restorers, strict=True):
        model = restorer.metadata.model
        # Two artifacts of one network are told apart by their files.
        shown = model if models.count(model) == 1 else Path(name).name
        stderr.print(f"engine    {shown}: {engine_line(restorer.engine.info)}")
        warn_if_slow(restorer.metadata, restorer.engine.info)
        methods.append(NetworkMethod(restorer, shown))
    return methods
