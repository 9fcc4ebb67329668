"""``edgecar eval detect``: what detectors still find in coded and restored pictures."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgecar.cli.evaluate import QUANTISERS, Baselines, Outputs, Save, VideoNetworks, opened
from edgecar.cli.output import (
    EngineName,
    Json,
    PrecisionName,
    ReportPath,
    progress_bar,
    size_named,
    stderr,
    stdout,
)
from edgecar.errors import MediaError, SettingsError
from edgecar.files import quoted
from edgecar.media.video_codec import VideoCodec, VideoCoding
from edgecar.spec import Coder, WeightsFor

if TYPE_CHECKING:
    from edgecar.evaluate.detector import Detector
    from edgecar.evaluate.study import Coding, Method, Row

SPP = "spp"
FEWEST_FRAMES, FEWEST_CLIPS = 300, 6
FRAMES = 600  # ten GOPs; all of them are coded and, by spp, filtered


def command(
    clips: Annotated[
        list[str], typer.Argument(help="Clean videos or folders of pictures, six scenes or more.")
    ],
    detector: Annotated[
        list[Path],
        typer.Option(help="ONNX file: YOLOX, YOLOv5, YOLOv8, FastestDet, …; repeat for several."),
    ],
    crf: Annotated[list[int] | None, typer.Option(help="x264 CRF: --crf 35 47.")] = None,
    qp: Annotated[
        list[int] | None, typer.Option(help="x265 QP instead of H.264: --qp 32 37.")
    ] = None,
    quality: Annotated[
        list[int] | None,
        typer.Option(help="JPEG quality instead: --quality 10 40; folders hold single pictures."),
    ] = None,
    network: VideoNetworks = None,
    baseline: Baselines = None,
    people: Annotated[
        bool | None,
        typer.Option(
            help="Truth: boxes that people marked (YOLO labels, MOT gt.txt), or what a detector "
            "finds on the source; default: people's if all clips have them."
        ),
    ] = None,
    confidence: Annotated[
        float, typer.Option(help="Score from which a detection on the source is an object.")
    ] = 0.25,
    least_boxes: Annotated[
        int, typer.Option(min=1, help="Leave out groups of classes with fewer objects.")
    ] = 10,
    detector_size: Annotated[
        str | None, typer.Option(help="Input size as WIDTHxHEIGHT, where a graph leaves it open.")
    ] = None,
    halve: Annotated[
        bool, typer.Option("--halve", help="Halve clips, which takes coding noise away, first.")
    ] = False,
    engine: EngineName = "auto",
    precision: PrecisionName = None,
    weights_for: Annotated[
        WeightsFor | None,
        typer.Option("--for", help="Shipped weights; default: those of the coder."),
    ] = None,
    frames_per_clip: Annotated[
        int, typer.Option(min=1, help="Detect on so many frames, spread evenly over each clip.")
    ] = 50,
    frames: Annotated[
        int, typer.Option(min=1, help="Code at most so many, in runs of 60 spread over the clip.")
    ] = FRAMES,
    save: Save = None,
    report: ReportPath = None,
    as_json: Json = False,
) -> None:
    """Tell if detectors find more in cleaned pictures than in coded ones: clean, pass or either.

    AP50 over all frames of all clips, of persons and vehicles too, as coded and after FFmpeg's spp
    and networks, with 95 % intervals of the differences. Detections are stored: run it again to go
    on after Ctrl-C.

    Example: edgecar eval detect CLIPS/*.mp4 --detector yolox_nano.onnx --crf 35 47
    """
    from edgecar.evaluate.clips import Clip
    from edgecar.evaluate.detection import Study, evaluate_detection, people_marked
    from edgecar.evaluate.tables import recommendations

    outputs = Outputs("detection", save, report, as_json)
    outputs.check(*detector, *clips, *(network or []))
    # Numbers after ``--crf 41`` arrive among the clips.
    numbers = [word for word in clips if word.isdigit() and not Path(word).exists()]
    names = [word for word in clips if word not in numbers]
    if not names:
        raise SettingsError("no clip is named; give a video or a folder of pictures")
    codings, coder = _codings(crf, qp, quality, list(map(int, numbers)))
    sources = [Clip(Path(name), halve, None if quality else frames, not quality) for name in names]
    marked = [people_marked(clip, bool(quality)) for clip in sources]
    by_people = all(marked) if people is None else people
    loaded = _detectors(detector, detector_size)
    study = Study(loaded, by_people, confidence, least_boxes, frames_per_clip)
    stderr.print(
        f"truth     {'boxes that people marked' if by_people else 'detections on sources'}"
    )
    methods = [] if quality else _postfilters(baseline)
    with ExitStack() as stack:
        methods += opened(stack, network, engine, precision, weights_for or coder)
        samples = outputs.sample_frames(len(methods))
        with progress_bar("detecting") as progress:
            rows = evaluate_detection(sources, codings, methods, study, samples, progress)
    outputs.write(rows)
    _say_if_few(rows[0])
    for line in () if as_json else recommendations(rows):
        stdout.print(line)
    outputs.show(rows, samples, f"edgecar run {quoted(names[0])} -o clean.mp4 --compare")


def _codings(
    crf: list[int] | None, qp: list[int] | None, quality: list[int] | None, more: list[int]
) -> "tuple[list[Coding], Coder]":
    """Return the codings asked for, and the coder."""
    from edgecar.evaluate.study import JpegCoding

    if sum(map(bool, (crf, qp, quality))) > 1:
        raise SettingsError(
            "got two of --crf, --qp and --quality; give one: they are of H.264, HEVC and JPEG"
        )
    if quality:
        return [JpegCoding(each, colour=True) for each in dict.fromkeys(quality + more)], "jpeg"
    codec: VideoCodec = "hevc" if qp else "h264"
    asked = [*(crf or qp or []), *more] or QUANTISERS[codec]
    return [VideoCoding(codec, each) for each in dict.fromkeys(asked)], codec


def _detectors(paths: Sequence[Path], size: str | None) -> "list[Detector]":
    from edgecar.evaluate.detector import Detector

    loaded = [Detector(path, size_named(size) if size else None) for path in paths]
    for each in loaded:
        height, width = each.size
        stderr.print(
            f"detector  {each.name}: {each.head.name} at {width}x{height}, ONNX Runtime, "
            f"{len(each.class_names)} classes named"
        )
    return loaded


def _postfilters(asked: list[str] | None) -> "list[Method]":
    """Open the filters asked for; without any, spp if ffmpeg is installed."""
    from edgecar.evaluate.postfilters import Postfilter

    if asked:
        return [Postfilter(name) for name in dict.fromkeys(asked)]
    try:
        return [Postfilter(SPP)]
    except MediaError as error:
        stderr.print(f"left out  {error}")
        return []


def _say_if_few(row: "Row") -> None:
    from edgecar.evaluate.tables import measured_on

    varied = row["codec"] == "jpeg" or len(row["clips"]) >= FEWEST_CLIPS
    if row["frames"] < FEWEST_FRAMES or not varied:
        stderr.print(
            f"few       {measured_on(row)}; need {FEWEST_FRAMES} frames of {FEWEST_CLIPS} clips "
            "for a result that holds elsewhere"
        )
