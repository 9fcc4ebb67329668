"""``edgecar eval detect``: what a detector still finds in coded and restored clips."""

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.measure import Measurement

from edgecar.cli.evaluate import (
    FRAMES,
    QUANTISERS,
    Baselines,
    Every,
    FrameLimit,
    Networks,
    Outputs,
    Save,
    VideoNetworks,
    counted,
)
from edgecar.cli.output import (
    EngineName,
    Json,
    PrecisionName,
    ReportPath,
    check_files,
    check_report,
    size_named,
    stderr,
    stdout,
)
from edgecar.errors import MediaError, SettingsError
from edgecar.files import quoted
from edgecar.media.video_codec import VideoCodec, VideoCoding
from edgecar.spec import Coder

if TYPE_CHECKING:
    from edgecar.evaluate.postfilters import Postfilter

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
    from edgecar.bench.tables import detection_tables
    from edgecar.evaluate.clips import Clip
    from edgecar.evaluate.detection import Cleaner, Study, evaluate_detection
    from edgecar.evaluate.detector import Detector

    if crf and qp:
        raise SettingsError("got --crf and --qp; give one: CRF is of H.264, QP of HEVC")
    outputs = Outputs(save, report, as_json)
    check_files((save, report), (detector, *clips, *(network or [])))
    check_report(report)
    names, numbers = _apart(clips)
    codec: VideoCodec = "hevc" if qp else "h264"
    quantisers = list(dict.fromkeys([*(crf or qp or []), *numbers])) or QUANTISERS[codec]
    opened = Detector(detector, size_named(detector_size) if detector_size else None)
    height, width = opened.size
    stderr.print(f"detector  {opened.name}: {opened.head.name} at {width}x{height}, ONNX Runtime")
    study = Study(opened, confidence, least_boxes, every)
    codings = [VideoCoding(codec, quantiser) for quantiser in quantisers]
    networks = Networks(network, engine, precision, weights_for or codec)
    filters = _postfilters(baseline)
    with ExitStack() as stack:
        cleaners: list[Cleaner] = [*filters, *networks.opened(stack)]
        samples = outputs.sample_frames(len(cleaners))
        sources = [Clip(Path(name), halve, frames) for name in names]
        rows = counted(
            evaluate_detection(sources, codings, cleaners, study, samples),
            len(sources) * len(codings) * (1 + len(cleaners)),
            "detecting",
        )
    outputs.write("detection", rows, samples)
    wide = detection_tables(rows)
    room = stdout.options.update(max_width=1000)
    columns = max(Measurement.get(stdout, room, table).maximum for table in wide)
    tables = detection_tables(rows, narrow=True) if columns > stdout.width else wide
    outputs.show(rows, tables, f"edgecar run {quoted(names[0])} -o clean.mp4 --compare")


def _apart(words: list[str]) -> tuple[list[str], list[int]]:
    """Separate clips from the numbers after ``--crf 41``, which arrive among them."""
    numbers = [word for word in words if word.isdigit() and not Path(word).exists()]
    names = [word for word in words if word not in numbers]
    if not names:
        raise SettingsError("no clip is named; give a video or a folder of pictures")
    return names, list(map(int, numbers))


def _postfilters(asked: list[str] | None) -> "list[Postfilter]":
    """Open the filters asked for, spp first; without any, spp if ffmpeg is installed."""
    from edgecar.evaluate.postfilters import Postfilter

    if asked:
        return [Postfilter(name) for name in sorted(set(asked), key=lambda name: name != SPP)]
    try:
        return [Postfilter(SPP)]
    except MediaError as error:
        stderr.print(f"left out  {error}")
        return []
