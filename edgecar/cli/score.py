"""``edgecar score``: a picture or clip judged beside its source, and what cleaning did to it."""

from contextlib import ExitStack
from dataclasses import asdict, dataclass
from itertools import tee
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table

from edgecar.cli.output import (
    EngineName,
    Json,
    engine_line,
    next_step,
    print_json,
    progress_bar,
    stderr,
    stdout,
)
from edgecar.cli.streams import one_line
from edgecar.errors import SettingsError
from edgecar.files import quoted
from edgecar.spec import Coder

if TYPE_CHECKING:
    from edgecar.evaluate.score import CleaningRow, Frames, ScoreRow, Segment
    from edgecar.evaluate.scorer import Scorer
    from edgecar.media.video_codec import VideoCoding

HURTS_EXIT = 3  # the check ran and the answer is no
WORSE_SHOWN = 4
TOLERANCE = 0.01  # of the range of scores


def command(
    reference: Annotated[Path, typer.Argument(metavar="REF", help="The source.")],
    distorted: Annotated[
        list[Path] | None,
        typer.Argument(metavar="DIST", help="What to judge: pictures, folders or clips like REF."),
    ] = None,
    cleaned: Annotated[
        Path | None, typer.Option(help="Flag where this is worse than DIST, which it was made of.")
    ] = None,
    network: Annotated[
        str | None, typer.Option(help="The same for what a shipped network or .onnx makes of DIST.")
    ] = None,
    crf: Annotated[int | None, typer.Option(help="No DIST: code the clip REF by x264.")] = None,
    qp: Annotated[int | None, typer.Option(help="No DIST: code the clip REF by x265.")] = None,
    quality: Annotated[int | None, typer.Option(help="No DIST: code pictures as JPEG.")] = None,
    weights_for: Annotated[
        Coder | None, typer.Option("--for", help="Shipped weights; default: those of the coder.")
    ] = None,
    segment: Annotated[int, typer.Option(min=1, help="Frames of a clip judged together.")] = 25,
    tolerance: Annotated[
        float | None,
        typer.Option(min=0, help="Points a score may fall unflagged; default: 1 % of its range."),
    ] = None,
    scorer: Annotated[
        Path | None, typer.Option(help="An .onnx file of edgecar train-scorer; default: shipped.")
    ] = None,
    engine: EngineName = "auto",
    frames: Annotated[int | None, typer.Option(min=1, help="First N frames of a clip.")] = None,
    every: Annotated[int, typer.Option(min=1, help="Judge every Nth frame.")] = 1,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; default: all.")] = None,
    as_json: Json = False,
) -> None:
    """Judge DIST against REF by deep multi-scale IQA, with PSNR and SSIM beside it.

    The scorer that ships learned a full-reference proxy, 100 for equal pictures: no opinions of
    people are at hand. Train one on yours: edgecar train-scorer --scores study.csv. With --cleaned
    or --network, before and after are compared; exit code 3 if a picture or segment got worse.

    Example: edgecar score clip.mp4 --crf 41 --network edgecar-s --frames 50
    """
    from edgecar.evaluate.score import Frames
    from edgecar.evaluate.scorer import SHIPPED, Scorer

    asked = Cleaning(cleaned, network, crf, qp, quality, weights_for)
    given = distorted or []
    asked.check(given)
    counted = Frames(frames, every)
    with Scorer(scorer or SHIPPED, engine, threads) as opened:
        if not as_json:
            stderr.print(f"scorer    {opened.metadata.target} ({opened.metadata.trained_on})")
            stderr.print(f"engine    {engine_line(opened.engine.info)}")
        if not asked.wanted:
            _show_scores(reference, given, counted, opened, as_json)
            return
        rows = cleaning_rows(reference, given, asked, counted, opened)
        metadata = opened.metadata
    allowed = TOLERANCE * (metadata.high - metadata.low) if tolerance is None else tolerance
    _show_cleaning(reference, rows, segment, allowed, metadata.target, as_json)


@dataclass(frozen=True)
class Cleaning:
    """What the command was asked to compare with, if with anything."""

    cleaned: Path | None
    network: str | None
    crf: int | None
    qp: int | None
    quality: int | None
    weights_for: Coder | None

    @property
    def wanted(self) -> bool:
        """Whether before and after are compared at all."""
        return bool(self.cleaned or self.network)

    @property
    def coders(self) -> list[Coder]:
        """Those that REF is to be coded with."""
        named: list[tuple[Coder, int | None]] = [
            *(("h264", self.crf), ("hevc", self.qp), ("jpeg", self.quality))
        ]
        return [coder for coder, value in named if value is not None]

    def check(self, given: list[Path]) -> None:
        """Whether the options go together.

        Raises:
            SettingsError: They do not.
        """
        if self.cleaned and self.network:
            raise SettingsError("got --cleaned and --network; give one: a file, or what makes it")
        if len(self.coders) > 1:
            raise SettingsError("got several of --crf, --qp and --quality; give one")
        if self.coders and (given or not self.network):
            raise SettingsError(
                f"got {len(given)} DIST, a coder and "
                f"{'a network' if self.network else 'no network'}; a coder makes DIST of REF for "
                "--network to clean: leave DIST out, and give both"
            )
        if not given and not self.coders:
            raise SettingsError("no DIST is given; name one, or make one with --crf or --quality")
        if self.wanted and len(given) > 1:
            raise SettingsError(f"got {len(given)} DIST; cleaning is compared with one")

    @property
    def coding(self) -> "VideoCoding | None":
        """Of a clip."""
        from edgecar.media.video_codec import VideoCoding

        if self.crf is not None:
            return VideoCoding("h264", self.crf)
        return None if self.qp is None else VideoCoding("hevc", self.qp)


def cleaning_rows(
    reference: Path, given: list[Path], asked: Cleaning, frames: "Frames", scorer: "Scorer"
) -> "list[CleaningRow]":
    """Judge before and after.

    Raises:
        EdgecarError: Of the inputs, the network or the coder.
    """
    from edgecar.evaluate.score import cleaned_lumas, coded_lumas, compared, lumas_of

    before = (
        lumas_of(given[0], frames)
        if given
        else coded_lumas(reference, frames, quality=asked.quality, coding=asked.coding)
    )
    with ExitStack() as stack, progress_bar("judging") as progress:
        if asked.cleaned:
            after = lumas_of(asked.cleaned, frames)
        else:
            before, coded = tee(before)  # in step: one frame waits at most
            after = cleaned_lumas(coded, stack.enter_context(_restorer(asked, given)))
        rows = []
        for row in compared(lumas_of(reference, frames), before, after, scorer):
            rows.append(row)
            progress(len(rows), None)
    return rows


def _restorer(asked: Cleaning, given: list[Path]) -> Any:
    from edgecar.media.inputs import open_input
    from edgecar.runtime.choice import choose_weights
    from edgecar.runtime.restorer import Restorer

    if given:
        with open_input(given[0]) as opened:
            codec = opened.codec
    else:
        codec = asked.coders[0]
    choice = choose_weights(asked.network or "", codec, asked.weights_for)
    stderr.print(f"network   {choice.reason}")
    if choice.note:
        stderr.print(f"note      {choice.note}")
    return Restorer(choice.artifact)


def _show_scores(
    reference: Path, given: list[Path], frames: "Frames", scorer: "Scorer", as_json: bool
) -> None:
    from edgecar.evaluate.score import lumas_of, scored

    found: dict[str, list[ScoreRow]] = {}
    with progress_bar("judging") as progress:
        for path in given:
            rows = found[str(path)] = []
            for row in scored(lumas_of(reference, frames), lumas_of(path, frames), scorer):
                rows.append(row)
                progress(len(rows), None)
    if as_json:
        inputs = [
            {"path": judged, "mean": _means(rows), "rows": rows} for judged, rows in found.items()
        ]
        print_json(
            {"scorer": asdict(scorer.metadata), "reference": str(reference), "inputs": inputs}
        )
        return
    table = Table(box=SIMPLE_HEAD, caption=scorer.metadata.target, caption_justify="left")
    for name in ("Judged", "Pictures", "Score", "PSNR dB", "SSIM", "Worst score", "At"):
        table.add_column(name, justify="left" if name in ("Judged", "At") else "right")
    for judged, rows in found.items():
        means, worst = _means(rows), min(rows, key=lambda row: scorer.gain(0, row["score"]))
        table.add_row(
            one_line(judged),
            str(len(rows)),
            *(f"{means['score']:.2f}", f"{means['psnr']:.2f}", f"{means['ssim']:.4f}"),
            f"{worst['score']:.2f}",
            one_line(worst["name"]),
        )
    stdout.print(table)
    next_step(f"edgecar score {quoted(reference)} {quoted(given[0])} --network edgecar-s")


def _means(rows: "list[ScoreRow]") -> dict[str, float]:
    return {
        "score": fmean(row["score"] for row in rows),
        "psnr": fmean(row["psnr"] for row in rows),
        "ssim": fmean(row["ssim"] for row in rows),
    }


def _show_cleaning(
    reference: Path,
    rows: "list[CleaningRow]",
    length: int,
    tolerance: float,
    target: str,
    as_json: bool,
) -> None:
    """Print the segments.

    Raises:
        typer.Exit: With code 3, where cleaning hurts.
    """
    from edgecar.evaluate.score import kind_of, segments

    clip = kind_of(reference) == "clip"
    found = segments(rows, length if clip else 1, tolerance)
    hurt = [each for each in found if each["hurts"]]
    if as_json:
        print_json(
            {
                "target": target,
                "tolerance": tolerance,
                "hurts": bool(hurt),
                "segments": found,
                "rows": rows,
            }
        )
    else:
        stdout.print(_cleaning_table(found, f"{target}; tolerance {tolerance:g}"))
        worse = sum(len(each["worse"]) for each in found)
        where = f"hurts in {len(hurt)} of {len(found)} place(s)" if hurt else "hurts nowhere"
        stdout.print(f"cleaning  {where}; {worse} of {len(rows)} picture(s) or frame(s) got worse")
        clean = "clean.mp4" if clip else f"clean{reference.suffix}"
        next_step(f"edgecar run {quoted(reference)} -o {quoted(clean)} --compare")
    if hurt:
        raise typer.Exit(HURTS_EXIT)


def _cleaning_table(found: "list[Segment]", caption: str) -> Table:
    table = Table(box=SIMPLE_HEAD, caption=caption, caption_justify="left")
    words = ("Where", "Got worse", "Cleaning")
    for name in ("Where", "Before", "After", "Gain", "PSNR gain dB", "Got worse", "Cleaning"):
        table.add_column(name, justify="left" if name in words else "right")
    for each in found:
        shown = ", ".join(each["worse"][:WORSE_SHOWN])
        more = len(each["worse"]) - WORSE_SHOWN
        table.add_row(
            one_line(each["name"]),
            *(f"{each['before']:.2f}", f"{each['after']:.2f}", f"{each['gain']:+.2f}"),
            f"{each['psnr_gain_db']:+.2f}",
            one_line(f"{shown}, {more} more" if more > 0 else shown),
            "hurts" if each["hurts"] else "",
        )
    return table
