"""How verbs speak: results to stdout, progress and remarks to stderr."""

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from edgecar.cli.process import one_line
from edgecar.engines.base import EngineInfo
from edgecar.engines.select import NAMES
from edgecar.errors import SettingsError
from edgecar.files import check_outputs
from edgecar.media.pictures import is_picture
from edgecar.metadata import Metadata, Quality
from edgecar.redaction import text_redacted
from edgecar.spec import Precision, Size, WeightsFor

if TYPE_CHECKING:
    from edgecar.bench.results import Results
    from edgecar.evaluate.sample_frames import SampleFrames

# Tables in a file or a pipe must not be squeezed into the columns of an unknown terminal.
WIDTH = None if sys.stdout and sys.stdout.isatty() else 1000


class Lines(Console):
    """A console that prints a string as one line, just as it is.

    Names of files may look like markup or emoji, and may hold line breaks.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(highlight=False, soft_wrap=True, markup=False, emoji=False, **settings)

    def print(self, *objects: Any, **settings: Any) -> None:
        """Print strings on one line each, and tables as they are."""
        lines = (one_line(each) if isinstance(each, str) else each for each in objects)
        super().print(*lines, **settings)


stdout = Lines(width=WIDTH)
stderr = Lines(stderr=True)

RESOLUTIONS: dict[str, Size] = {
    "480p": (480, 720),
    "720p": (720, 1280),
    "1080p": (1080, 1920),
    "4k": (2160, 3840),
}

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]
EngineName = Annotated[str, typer.Option("--engine", help=f"One of: {', '.join(NAMES)}.")]
PrecisionName = Annotated[
    Precision | None,
    typer.Option("--precision", help="Arithmetic; default: the engine's choice, which is printed."),
]
AskedQuantiser = Annotated[
    float | None,
    typer.Option(
        "--quantiser",
        metavar="N",
        help="Tell the network this: QP 0 to 51 for video, quality 1 to 100 for weights for JPEG. "
        "Default: what INPUT states; the middle of the range where it states none.",
    ),
]
Codec = Annotated[
    WeightsFor,
    typer.Option(
        "--for",
        help="Coding of the input, which chooses shipped weights; :detect: for detectors.",
    ),
]

ReportPath = Annotated[
    Path | None,
    typer.Option("--report", help="Write a page there: .html with pictures, .md or .json."),
]


def check_report(path: Path | None) -> None:
    """Refuse a report that could not be written, before anything is measured for it.

    Raises:
        SettingsError: The suffix is not known, or the folder cannot be written to.
    """
    if path:
        from edgecar.report.write import check_path

        check_path(path)


def save_report(
    path: Path | None, results: "Results", sample_frames: "SampleFrames | None"
) -> None:
    """Write a report, if one is wanted.

    Raises:
        EdgecarError: It cannot be written.
    """
    if path:
        from edgecar.report.content import report_of
        from edgecar.report.write import write_report

        write_report(path, report_of(results, sample_frames))
        stderr.print(f"report    {path}")


def check_files(outputs: Iterable[Path | None], inputs: Iterable[str | Path | None]) -> None:
    """Refuse outputs that would replace an input or each other, before anything is opened.

    Args:
        outputs: Files that will be written; None for those that were not asked for.
        inputs: Files that will be read, and folders of pictures and clips.

    Raises:
        OutputError: An output is an input or another output, or cannot be written.
    """
    written = [path for path in outputs if path is not None]
    read = [Path(path) for path in inputs if path is not None]
    if any(is_picture(path) for path in written):
        read += [file for path in read if path.is_dir() for file in path.rglob("*")]
    check_outputs(written, read)


def print_json(value: Any) -> None:
    """One JSON document on stdout, with no password of an address in it."""
    json.dump(_shown(value), sys.stdout, indent=2)
    sys.stdout.write("\n")


def _shown(value: Any) -> Any:
    if isinstance(value, str):
        return text_redacted(value)
    if isinstance(value, dict):
        return {_shown(key): _shown(each) for key, each in value.items()}
    return [_shown(each) for each in value] if isinstance(value, list | tuple) else value


def own_command() -> str:
    """Return the command line of this process, without passwords, for files of results."""
    return text_redacted(" ".join(["edgecar", *sys.argv[1:]]))


def next_step(command: str) -> None:
    """Tell what to type next, on stderr, so that piped results stay clean."""
    stderr.print(f"next      {text_redacted(command)}", style="dim")


def engine_line(info: EngineInfo) -> str:
    """Return one line that names the engine, its provider, precision and device."""
    note = f"; {info.note}" if info.note else ""
    return f"{info.name} ({info.provider}), {info.precision}, on {info.device}{note}"


def warn_if_slow(metadata: Metadata, info: EngineInfo) -> None:
    """Say on stderr where INT8 was written down for other engines, and is no gain on this one."""
    quality = metadata.quality
    # The provider for CPUs has no suffix.
    if info.name != "onnxruntime" or info.precision != "int8" or not quality:
        return
    if info.name not in quality.engines:
        stderr.print(
            f"warning   got INT8 made for {' and '.join(quality.engines)}; {info.provider} runs "
            "that form slower than FP32, and needs another: edgecar export … --precision int8 "
            "--for-engine onnxruntime, or run this one with --engine openvino"
        )


def quality_line(quality: Quality) -> str:
    """Return one line with the measured loss of a lower precision, its budget and its method."""
    how = f", ranges by {quality.method}" if quality.method else ""
    judges = ", ".join(f"{name} {loss_db:.3f} dB" for name, loss_db in quality.by_engine)
    how += f"; by engine: {judges}" if judges else ""
    return (
        f"{_loss(quality.loss_db)} on average (allowed {quality.budget_db:g}), "
        f"{_loss(quality.worst_db)} on the worst of {quality.pictures} pictures (allowed "
        f"{quality.budget_worst_db:g}), means move by {quality.shift_codes:.2f} codes at most; "
        f"{len(quality.kept)} of {quality.layers} layers in higher precision{how}"
    )


def _loss(loss_db: float) -> str:
    return f"{'loses' if loss_db >= 0 else 'gains'} {abs(loss_db):.3f} dB"


def size_named(text: str) -> Size:
    """``1080p`` or ``WIDTHxHEIGHT`` as ``(height, width)``.

    Raises:
        SettingsError: Neither a known name nor two positive numbers.
    """
    if text.lower() in RESOLUTIONS:
        return RESOLUTIONS[text.lower()]
    width, cross, height = text.lower().partition("x")
    if cross and width.isdigit() and height.isdigit() and int(width) and int(height):
        return int(height), int(width)
    raise SettingsError(
        f"size {text!r} is not understood; use {', '.join(RESOLUTIONS)} or WIDTHxHEIGHT"
    )


class RateColumn(ProgressColumn):
    """Items a second."""

    def render(self, task: Task) -> Text:
        """The rate over the last half minute."""
        return Text(f"{task.speed:.1f}/s" if task.speed else "–/s")


@contextmanager
def status_line(label: str) -> Iterator[Callable[[str], None]]:
    """A line on stderr while something takes long; yields a function that takes what it is."""
    with stderr.status(Text(label)) as status:
        yield lambda what: status.update(Text(one_line(f"{label}: {what}")))


@contextmanager
def progress_bar(label: str) -> Iterator[Any]:
    """A bar on stderr; yields a function that takes how many are done and how many there are."""
    columns = (
        TextColumn(label, markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        RateColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=stderr, transient=True) as progress:
        task = progress.add_task(label, total=None)

        def update(done: int, total: int | None) -> None:
            progress.update(task, completed=done, total=total)

        yield update
