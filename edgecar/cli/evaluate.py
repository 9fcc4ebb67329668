"""``edgecar eval``: picture quality, measured like the papers."""

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
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
from edgecar.spec import Precision, WeightsFor

if TYPE_CHECKING:
    from edgecar.evaluate.clips import Clip
    from edgecar.evaluate.sample_frames import SampleFrames
    from edgecar.evaluate.study import Method, NetworkMethod, Row

app = typer.Typer(help="Measure picture quality like the papers.", no_args_is_help=True)
QUALITIES = [10, 20, 30, 40]
QUANTISERS: dict[VideoCodec, list[int]] = {"h264": [29, 35, 41, 47], "hevc": [22, 27, 32, 37]}
FRAMES = 150  # two and a half GOPs
LEFT_OUT_SHOWN = 3
NEXT = "edgecar bench --res 1080p"

# Options take one value each; numbers after the first arrive as arguments.
More = Annotated[list[int] | None, typer.Argument(hidden=True)]
VideoNetworks = Annotated[
    list[str] | None,
    typer.Option(
        "--network", help="Shipped network or .onnx file; repeat for several; default: all shipped."
    ),
]
Baselines = Annotated[
    list[str] | None,
    typer.Option("--baseline", help="FFmpeg's spp or fspp beside the networks; repeat for both."),
]
FrameLimit = Annotated[int, typer.Option("--frames", min=1, help="Take the first N of each clip.")]
Every = Annotated[int, typer.Option(min=1, help="Measure every Nth frame.")]
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
    network: Annotated[
        list[str] | None, typer.Option(help="Shipped network or .onnx file; repeat for several.")
    ] = None,
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
    from edgecar.evaluate.clips import load_pictures
    from edgecar.evaluate.quality import evaluate_jpeg

    outputs = Outputs("jpeg", save, report, as_json)
    outputs.check(data, *(network or []))
    pictures = load_pictures(data)
    qualities = [*(quality or []), *(more or [])] or QUALITIES
    with ExitStack() as stack:
        methods = opened(stack, network or ["edgecar-s"], engine, precision, weights_for)
        samples = outputs.sample_frames(len(methods))
        rows = outputs.measured(
            evaluate_jpeg(pictures, data.name, qualities, methods, samples),
            len(qualities) * len(methods),
        )
    outputs.show(rows, samples, NEXT)


def _video_command(codec: VideoCodec, coder: str, option: str) -> Callable[..., None]:
    """Make the command of one coder; only names and defaults differ."""
    example = f"--{option} {' '.join(map(str, QUANTISERS[codec]))}"

    def command(
        data: Annotated[
            Path,
            typer.Option(
                "--data", help="Video, folder of clips, or folder with the suite's files."
            ),
        ],
        quantisers: Annotated[
            list[int] | None,
            typer.Option(f"--{option}", help=f"{coder} {option.upper()}: {example}."),
        ] = None,
        more: More = None,
        suite: Annotated[
            str | None,
            typer.Option(help="Suite of clips: video (the shipped study) or a .toml file."),
        ] = None,
        network: VideoNetworks = None,
        baseline: Baselines = None,
        engine: EngineName = "auto",
        precision: PrecisionName = None,
        weights_for: Codec = codec,
        frames: FrameLimit = FRAMES,
        every: Every = 1,
        variants: Annotated[
            bool,
            typer.Option(
                "--variants", help="All settings of the paper, with PSNR-B, flicker, BD-rate."
            ),
        ] = False,
        save: Save = None,
        report: ReportPath = None,
        as_json: Json = False,
    ) -> None:
        from edgecar.evaluate.clips import load_clips
        from edgecar.evaluate.postfilters import Postfilter
        from edgecar.evaluate.quality import evaluate_video

        outputs = Outputs("variants" if variants else "video", save, report, as_json)
        outputs.check(data, suite, *(network or []))
        asked = list(dict.fromkeys([*(quantisers or []), *(more or [])])) or QUANTISERS[codec]
        clips = load_clips(data, suite, frames)
        filters = [Postfilter(name) for name in dict.fromkeys(baseline or [])]
        stderr.print(f"clips     {len(clips.clips)} of {clips.name}")
        if clips.left_out:
            shown = ", ".join((*clips.left_out[:LEFT_OUT_SHOWN], "…")[: len(clips.left_out)])
            stderr.print(f"left out  {len(clips.left_out)} file(s) that are no clips: {shown}")
        with ExitStack() as stack:
            networks = opened(stack, network, engine, precision, weights_for)
            methods: list[Method] = [*networks, *filters]
            if not methods:
                raise SettingsError(
                    f"no {weights_for} weights ship; give --network FILE.onnx, or --for jpeg for "
                    "those trained on JPEG"
                )
            study = clips.clips, codec, asked, methods, every
            if variants:
                _variants_study(study, outputs)
                return
            samples = outputs.sample_frames(len(methods))
            expected = len(clips.clips) * len(asked) * len(methods)
            rows = outputs.measured(evaluate_video(*study, samples), expected)
        outputs.show(rows, samples, NEXT)

    return command


app.command(
    "h264",
    help="""Code clips as H.264, restore them, and print what is gained in luma PSNR.

    x264, preset medium, key frames at most 60 apart. A folder of clips of yours will do.
    --variants takes each CRF under the three limits of the CAR-CNN paper; given --save, it goes on
    from the rows of that file.

    Example: edgecar eval h264 --data clips --crf 29 35 --baseline spp
    """,
)(_video_command("h264", "x264", "crf"))
app.command(
    "hevc",
    help="""Code clips as HEVC, restore them, and print what is gained in luma PSNR.

    x265, preset medium, constant QP, key frames at most 60 apart. A folder of clips will do.
    --variants codes all-intra, low-delay and random-access, with x265's filters and without, and
    prints BD-rates; given --save, it goes on from the rows of that file.

    Example: edgecar eval hevc --data clips --qp 32 37
    """,
)(_video_command("hevc", "x265", "qp"))


def _variants_study(
    study: "tuple[Sequence[Clip], VideoCodec, list[int], Sequence[Method], int]",
    outputs: "Outputs",
) -> None:
    """Measure the papers' variants, row by row into the result file, and print them."""
    from edgecar.bench.results import resumed
    from edgecar.evaluate.quality import evaluate_variants, extremes
    from edgecar.evaluate.study import row_key
    from edgecar.evaluate.tables import limits_lines
    from edgecar.evaluate.variants import variants

    clips, codec, quantisers, methods, _ = study
    there: Sequence[Mapping[str, Any]] = []
    if outputs.save:
        there, outputs.command = resumed(outputs.save, outputs.command)
    done = {row_key(row) for row in there}
    samples = outputs.sample_frames(len(methods))
    # The number of variants does not depend on the size.
    expected = len(variants(codec, (2, 2), quantisers)) * len(methods) * len(clips)
    rows = outputs.measured(evaluate_variants(*study, done, samples), expected, there)
    own = [row for row in rows if row["codec"] == codec]  # a file may hold both coders
    again = extremes(own) & done
    if samples and again:  # rows from the file have no pictures
        others = {row_key(row) for row in own} - again
        deque(evaluate_variants(*study, others, samples), maxlen=0)
    for line in limits_lines(own):
        stderr.print(f"limits    {line}")
    outputs.show(own, samples, NEXT)


def opened(
    stack: ExitStack,
    names: list[str] | None,
    engine: str,
    precision: Precision | None,
    weights_for: WeightsFor,
) -> "list[NetworkMethod]":
    """Open networks (None: all that ship), to be closed with ``stack``, and say so on stderr."""
    from edgecar.artifact import shipped_names
    from edgecar.evaluate.study import NetworkMethod
    from edgecar.runtime.restorer import Restorer

    names = list(dict.fromkeys(names or shipped_names(weights_for)))
    restorers = [
        stack.enter_context(Restorer(name, engine, precision, codec=weights_for)) for name in names
    ]
    models = [restorer.metadata.model for restorer in restorers]
    methods: list[NetworkMethod] = []
    for name, model, restorer in zip(names, models, restorers, strict=True):
        # Two artifacts of one network are told apart by their files.
        shown = model if models.count(model) == 1 else Path(name).name
        stderr.print(f"engine    {shown}: {engine_line(restorer.engine.info)}")
        warn_if_slow(restorer.metadata, restorer.engine.info)
        methods.append(NetworkMethod(restorer, shown))
    return methods


@dataclass
class Outputs:
    """Outputs of a study of some kind: result file, report, and tables or JSON on stdout."""

    kind: str
    save: Path | None
    report: Path | None
    as_json: bool
    command: str = field(default_factory=own_command)

    def check(self, *inputs: str | Path | None) -> None:
        """Refuse outputs that cannot be written or would replace an input."""
        check_files((self.save, self.report), inputs)
        check_report(self.report)

    def sample_frames(self, networks: int) -> "SampleFrames | None":
        """Return a collection of sample frames if a report will show them."""
        from edgecar.evaluate.sample_frames import SampleFrames

        return SampleFrames(networks) if self.report else None

    def measured(
        self, rows: "Iterable[Row]", expected: int, there: "Sequence[Any]" = ()
    ) -> list[Any]:
        """Collect rows after those of the file, with a bar on stderr, and write the file.

        A study that can go on from its file writes it after each row.
        """
        import edgecar.bench.machine  # noqa: F401  # reads the commit now: it may change on the way

        collected = list(there)
        with progress_bar("measuring") as progress:
            progress(len(collected), expected)
            for row in rows:
                collected.append(row)
                progress(len(collected), expected)
                if self.kind == "variants":
                    self.write(collected)
        if len(collected) > len(there):
            self.write(collected)
        return collected

    def write(self, rows: "Sequence[Row]") -> None:
        """Write the result file, if one is asked for."""
        from edgecar.bench.results import new_results, write_results

        if self.save:
            write_results(self.save, new_results(self.kind, rows, self.command))

    def show(self, rows: "Sequence[Row]", samples: "SampleFrames | None", following: str) -> None:
        """Write the report, and print rows as JSON or as tables with the command to run next."""
        from edgecar.bench.results import new_results
        from edgecar.evaluate.table import printed
        from edgecar.evaluate.tables import study_tables

        if self.report:
            save_report(self.report, new_results(self.kind, rows, self.command), samples)
        if self.as_json:
            print_json({"rows": rows})
            return
        for table in study_tables(self.kind, rows):
            stdout.print(printed(table))
        if self.save:
            stdout.print(f"wrote     {self.save}")
        next_step(following)
