"""``edgecar eval``: picture quality, measured like the papers."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
    from rich.table import Table

    from edgecar.evaluate.clips import ClipSet
    from edgecar.evaluate.sample_frames import SampleFrames
    from edgecar.evaluate.video import Method, NetworkMethod

app = typer.Typer(help="Measure picture quality like the papers.", no_args_is_help=True)
QUALITIES = [10, 20, 30, 40]
QUANTISERS: dict[VideoCodec, list[int]] = {"h264": [29, 35, 41, 47], "hevc": [22, 27, 32, 37]}
FRAMES = 150  # two and a half GOPs
LEFT_OUT_SHOWN = 3
NEXT = "edgecar bench --res 1080p"

# Options take one value each; numbers after the first arrive as arguments.
More = Annotated[list[int] | None, typer.Argument(hidden=True)]
PictureNetworks = Annotated[
    list[str] | None, typer.Option(help="Shipped network or .onnx file; repeat for several.")
]
VideoNetworks = Annotated[
    list[str] | None,
    typer.Option(
        "--network", help="Shipped network or .onnx file; repeat for several; default: all shipped."
    ),
]
Clips = Annotated[
    Path, typer.Option("--data", help="Video, folder of clips, or folder with the suite's files.")
]
Suite = Annotated[
    str | None, typer.Option(help="Suite of clips: video (the shipped study) or a .toml file.")
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
    network: PictureNetworks = None,
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
    from edgecar.bench.tables import jpeg_table
    from edgecar.evaluate.stills import evaluate_jpeg, load_pictures

    outputs = Outputs(save, report, as_json)
    check_files((save, report), (data, *(network or [])))
    check_report(report)
    pictures = load_pictures(data)
    qualities = [*(quality or []), *(more or [])] or QUALITIES
    names = network or ["edgecar-s"]
    samples = outputs.sample_frames(len(names))
    rows = []
    with progress_bar("measuring") as progress:
        for done, name in enumerate(names):
            progress(done, len(names))
            with ExitStack() as stack:
                (method,) = Networks([name], engine, precision, weights_for).opened(stack)
                rows += evaluate_jpeg(
                    method.luma,
                    pictures,
                    qualities,
                    network=method.name,
                    set_name=data.name,
                    sample_frames=samples,
                )
    outputs.write("jpeg", rows, samples)
    outputs.show(rows, [jpeg_table(rows)], NEXT)


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
    networks = Networks(network, engine, precision, weights_for)
    outputs = Outputs(save, report, as_json)
    clips = ClipChoice(data, suite, frames)
    _video_study("h264", clips, quantisers, networks, baseline or [], every, variants, outputs)


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
    networks = Networks(network, engine, precision, weights_for)
    outputs = Outputs(save, report, as_json)
    clips = ClipChoice(data, suite, frames)
    _video_study("hevc", clips, quantisers, networks, baseline or [], every, variants, outputs)


@dataclass(frozen=True)
class Networks:
    """Networks that a verb was asked to measure, and how to run them.

    Attributes:
        names: Shipped names or files; None: all that ship.
        engine: Name of the engine.
        precision: Precision; None: the fastest that the artifact was proven in.
        weights_for: Coder that shipped weights were trained on.
    """

    names: list[str] | None
    engine: str
    precision: Precision | None
    weights_for: Coder

    def opened(self, stack: ExitStack) -> "list[NetworkMethod]":
        """Open the networks, to be closed with ``stack``, and say so on stderr."""
        from edgecar.artifact import shipped_names
        from edgecar.evaluate.video import NetworkMethod
        from edgecar.runtime.restorer import Restorer

        names = list(dict.fromkeys(self.names or shipped_names(self.weights_for)))
        restorers = [
            stack.enter_context(Restorer(name, self.engine, self.precision, codec=self.weights_for))
            for name in names
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


@dataclass(frozen=True)
class Outputs:
    """Outputs besides the terminal: result file, report, and JSON in place of tables."""

    save: Path | None
    report: Path | None
    as_json: bool

    def sample_frames(self, networks: int) -> "SampleFrames | None":
        """Return a collection of sample frames if a report will show them."""
        from edgecar.evaluate.sample_frames import SampleFrames

        return SampleFrames(networks) if self.report else None

    def write(
        self, kind: str, rows: Sequence[Any], sample_frames: "SampleFrames | None" = None
    ) -> None:
        """Write the result file and the report that were asked for.

        Raises:
            EdgecarError: A file cannot be written.
        """
        from edgecar.bench.results import new_results, write_results

        if self.save or self.report:
            results = new_results(kind, rows, command=own_command())
            if self.save:
                write_results(self.save, results)
            save_report(self.report, results, sample_frames)

    def show(self, rows: Sequence[Any], tables: "Iterable[Table]", following: str) -> None:
        """Print rows as JSON, or as tables with the command to run next."""
        if self.as_json:
            print_json({"rows": rows})
            return
        for table in tables:
            stdout.print(table)
        if self.save:
            stdout.print(f"wrote     {self.save}")
        next_step(following)


def counted(rows: Iterable[Any], expected: int, label: str = "measuring") -> list[Any]:
    """Collect the rows of a study, with a bar on stderr."""
    collected: list[Any] = []
    with progress_bar(label) as progress:
        progress(0, expected)
        for row in rows:
            collected.append(row)
            progress(len(collected), expected)
    return collected


@dataclass(frozen=True)
class ClipChoice:
    """Clips that a verb was asked to measure: folder, suite, and most frames of each."""

    data: Path
    suite: str | None
    frames: int


def _video_study(
    codec: VideoCodec,
    clips: ClipChoice,
    quantisers: list[int],
    networks: Networks,
    baselines: list[str],
    every: int,
    variants: bool,
    outputs: Outputs,
) -> None:
    """Measure ``edgecar eval h264`` or ``hevc`` and print it."""
    from edgecar.bench.tables import video_table
    from edgecar.evaluate.video import evaluate_video

    check_files((outputs.save, outputs.report), (clips.data, clips.suite, *(networks.names or [])))
    check_report(outputs.report)
    quantisers = list(dict.fromkeys(quantisers)) or QUANTISERS[codec]
    with _opened(clips, networks, baselines) as (found, methods):
        if variants:
            _show_variants(codec, found, quantisers, methods, every, outputs)
            return
        samples = outputs.sample_frames(len(methods))
        rows = counted(
            evaluate_video(found.clips, codec, quantisers, methods, every, samples),
            len(found.clips) * len(quantisers) * len(methods),
        )
    outputs.write("video", rows, samples)
    outputs.show(rows, [video_table(rows, codec)], NEXT)


def _show_variants(
    codec: VideoCodec,
    found: "ClipSet",
    quantisers: list[int],
    methods: "list[Method]",
    every: int,
    outputs: Outputs,
) -> None:
    """Measure the papers' variants, row by row into the result file, and print them."""
    from edgecar.bench.results import new_results, resumed, write_results
    from edgecar.bench.tables import variants_report
    from edgecar.evaluate.tables import limits_lines
    from edgecar.evaluate.variants import VARIANTS
    from edgecar.evaluate.video import evaluate_variants, extremes, row_key

    save = outputs.save
    rows, commands = resumed(save, own_command()) if save else ([], own_command())
    # The number of variants does not depend on the size.
    expected = len(VARIANTS[codec]((2, 2), quantisers)) * len(methods) * len(found.clips)
    done = {row_key(row) for row in rows}
    samples = outputs.sample_frames(len(methods))
    asked = found.clips, codec, quantisers, methods, every
    with progress_bar("measuring") as progress:
        progress(len(rows), expected)
        for row in evaluate_variants(*asked, done, samples):
            rows.append(row)
            progress(len(rows), expected)
            if save:
                write_results(save, new_results("variants", rows, commands))
    own = [row for row in rows if row["codec"] == codec]  # a file may hold both coders
    again = extremes(own) & done
    if samples and again:  # rows from the file have no pictures
        others = {row_key(row) for row in rows} - again
        deque(evaluate_variants(*asked, others, samples), maxlen=0)
    save_report(outputs.report, new_results("variants", own, commands), samples)
    for line in limits_lines(rows):
        stderr.print(f"limits    {line}")
    outputs.show(rows, variants_report(rows), NEXT)


@contextmanager
def _opened(
    clips: ClipChoice, networks: Networks, names: list[str]
) -> "Iterator[tuple[ClipSet, list[Method]]]":
    """Find the clips and open networks and filters, which are closed on the way out."""
    from edgecar.evaluate.clips import load_clips
    from edgecar.evaluate.postfilters import Postfilter

    found = load_clips(clips.data, clips.suite, clips.frames)
    baselines = [Postfilter(name) for name in dict.fromkeys(names)]
    stderr.print(f"clips     {len(found.clips)} of {found.name}")
    if found.left_out:
        shown = ", ".join(found.left_out[:LEFT_OUT_SHOWN])
        more = ", …" if len(found.left_out) > LEFT_OUT_SHOWN else ""
        stderr.print(f"left out  {len(found.left_out)} file(s) that are no clips: {shown}{more}")
    with ExitStack() as stack:
        methods: list[Method] = [*networks.opened(stack), *baselines]
        if not methods:
            coder = networks.weights_for
            raise SettingsError(
                f"no {coder} weights ship; give --network FILE.onnx, or --for jpeg for those "
                "trained on JPEG"
            )
        yield found, methods
