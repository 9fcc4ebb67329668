"""``edgecar eval detect``: what a detector still finds in coded and restored clips."""

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgecar.cli.evaluate import (
    FRAMES,
    QUANTISERS,
    Baselines,
    Every,
    FrameLimit,
    Outputs,
    Save,
    VideoNetworks,
    opened,
)
from edgecar.cli.output import EngineName, Json, PrecisionName, ReportPath, size_named, stderr
from edgecar.errors import MediaError, SettingsError
from edgecar.files import quoted
from edgecar.media.video_codec import VideoCodec, VideoCoding
from edgecar.spec import Coder

if TYPE_CHECKING:
    from edgecar.evaluate.study import Method

SPP = "spp"


def command(
    clips: Annotated[list[str], typer.Argument(help="Clean videos or folders of pictures.")],
    detector: Annotated[Path, typer.Option(help="ONNX file: YOLOX, YOLOv5, YOLOv8, YOLO11, ….")],
    crf: Annotated[list[int] | None, typer.Option(help="x264 CRF: --crf 41 47.")] = None,
    qp: Annotated[
        list[int] | None, typer.Option(help="x265 QP instead of H.264: --qp 32 37.")
    ] = None,
    network: VideoNetworks = None,
    baseline: Baselines = None,
    confidence: Annotated[
        float, typer.Option(help="Score from which a detection on the source is an object.")
    ] = 0.25,
    least_boxes: Annotated[
        int, typer.Option(min=1, help="Leave out classes with fewer objects on the source.")
    ] = 10,
    detector_size: Annotated[
        str | None, typer.Option(help="Input size as WIDTHxHEIGHT, if the graph leaves it open.")
    ] = None,
    halve: Annotated[
        bool, typer.Option("--halve", help="Halve clips, which takes coding noise away, first.")
    ] = False,
    engine: EngineName = "auto",
    precision: PrecisionName = None,
    weights_for: Annotated[
        Coder | None, typer.Option("--for", help="Shipped weights; default: those of the coder.")
    ] = None,
    frames: FrameLimit = FRAMES,
    every: Every = 3,
    save: Save = None,
    report: ReportPath = None,
    as_json: Json = False,
) -> None:
    """Compare what a detector finds in coded and restored clips with what it finds in the source.

    mAP at IoU 0.50 and over 0.50 to 0.95 of the coded clip, FFmpeg's spp and networks, each with
    its gain and a 95 % interval. Detections are stored: run it again to go on after Ctrl-C.

    Example: edgecar eval detect clip.mp4 --detector yolox_nano.onnx --crf 41 47 --network edgecar-m
    """
    from edgecar.evaluate.clips import Clip
    from edgecar.evaluate.detection import Study, evaluate_detection
    from edgecar.evaluate.detector import Detector
    from edgecar.evaluate.tables import narrow_tables

    if crf and qp:
        raise SettingsError("got --crf and --qp; give one: CRF is of H.264, QP of HEVC")
    outputs = Outputs("detection", save, report, as_json)
    outputs.check(detector, *clips, *(network or []))
    # Numbers after ``--crf 41`` arrive among the clips.
    numbers = [word for word in clips if word.isdigit() and not Path(word).exists()]
    names = [word for word in clips if word not in numbers]
    if not names:
        raise SettingsError("no clip is named; give a video or a folder of pictures")
    codec: VideoCodec = "hevc" if qp else "h264"
    asked = [*(crf or qp or []), *map(int, numbers)]
    codings = [VideoCoding(codec, each) for each in dict.fromkeys(asked or QUANTISERS[codec])]
    loaded = Detector(detector, size_named(detector_size) if detector_size else None)
    height, width = loaded.size
    stderr.print(f"detector  {loaded.name}: {loaded.head.name} at {width}x{height}, ONNX Runtime")
    study = Study(loaded, confidence, least_boxes, every)
    methods = _postfilters(baseline)
    with ExitStack() as stack:
        methods += opened(stack, network, engine, precision, weights_for or codec)
        samples = outputs.sample_frames(len(methods))
        sources = [Clip(Path(name), halve, frames) for name in names]
        rows = outputs.measured(
            evaluate_detection(sources, codings, methods, study, samples),
            len(sources) * len(codings) * (1 + len(methods)),
        )
    following = f"edgecar run {quoted(names[0])} -o clean.mp4 --compare"
    outputs.show(rows, samples, following, tables=narrow_tables(rows))


def _postfilters(asked: list[str] | None) -> "list[Method]":
    """Open the filters asked for, spp first; without any, spp if ffmpeg is installed."""
    from edgecar.evaluate.postfilters import Postfilter

    if asked:
        return [Postfilter(name) for name in sorted(set(asked), key=lambda name: name != SPP)]
    try:
        return [Postfilter(SPP)]
    except MediaError as error:
        stderr.print(f"left out  {error}")
        return []
