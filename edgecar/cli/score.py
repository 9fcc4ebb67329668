"""``edgecar score``: a picture or clip judged against its source, before and after cleaning."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict
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
from edgecar.cli.process import one_line
from edgecar.errors import SettingsError
from edgecar.files import quoted
from edgecar.spec import Coder, WeightsFor

if TYPE_CHECKING:
    from edgecar.evaluate.score import Frames, Named, Row
    from edgecar.evaluate.scorer import Scorer
    from edgecar.runtime.restorer import Restorer

HURTS_EXIT = 3  # the check ran and the answer is no
WORSE_SHOWN = 4
TOLERANCE = 0.01  # share of the range of scores


def command(
    reference: Annotated[Path, typer.Argument(metavar="REF", help="Source to compare with.")],
    distorted: Annotated[
        list[Path] | None,
        typer.Argument(metavar="DIST", help="Pictures, folders or clips to judge."),
    ] = None,
    cleaned: Annotated[
        Path | None, typer.Option(help="Cleaned DIST; flags where it is worse than DIST.")
    ] = None,
    network: Annotated[
        str | None,
        typer.Option(help="Network or .onnx that cleans DIST; flags where it hurts."),
    ] = None,
    crf: Annotated[int | None, typer.Option(help="Code the clip REF by x264 as DIST.")] = None,
    qp: Annotated[int | None, typer.Option(help="Code the clip REF by x265 as DIST.")] = None,
    quality: Annotated[int | None, typer.Option(help="Code pictures as JPEG as DIST.")] = None,
    weights_for: Annotated[
        WeightsFor | None,
        typer.Option("--for", help="Shipped weights; default: those of the coder."),
    ] = None,
    segment: Annotated[int, typer.Option(min=1, help="Frames of a clip judged together.")] = 25,
    tolerance: Annotated[
        float | None,
        typer.Option(min=0, help="Points a score may fall unflagged; default: 1 % of its range."),
    ] = None,
    scorer: Annotated[
        Path | None, typer.Option(help="Scorer (.onnx) of edgecar train-scorer; default: shipped.")
    ] = None,
    engine: EngineName = "auto",
    frames: Annotated[int | None, typer.Option(min=1, help="Number of frames of a clip.")] = None,
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

    given = distorted or []
    coder, step = _coder(crf, qp, quality)
    _check(given, cleaned, network, coder)
    counted = Frames(frames, every)
    with Scorer(scorer or SHIPPED, engine, threads) as opened, ExitStack() as stack:
        metadata = opened.metadata
        if not as_json:
            stderr.print(f"scorer    {metadata.target} ({metadata.trained_on})")
            stderr.print(f"engine    {engine_line(opened.engine.info)}")
        if not (cleaned or network):
            _show_scores(reference, given, counted, opened, as_json)
            return
        restorer = None
        if network:
            restorer = stack.enter_context(_restorer(network, given, coder, weights_for))
        before = _coded(reference, given, counted, coder, step)
        rows = _compared(reference, before, cleaned, restorer, counted, opened)
    allowed = TOLERANCE * (metadata.high - metadata.low) if tolerance is None else tolerance
    _show_cleaning(reference, rows, segment, allowed, metadata.target, as_json)


def _coder(crf: int | None, qp: int | None, quality: int | None) -> tuple[Coder | None, int]:
    """Return the coder that REF is to be coded with, if any, and its setting.

    Raises:
        SettingsError: Several are given.
    """
    named: list[tuple[Coder, int | None]] = [("h264", crf), ("hevc", qp), ("jpeg", quality)]
    coders = [(coder, value) for coder, value in named if value is not None]
    if len(coders) > 1:
        raise SettingsError("got several of --crf, --qp and --quality; give one")
    return coders[0] if coders else (None, 0)


def _check(
    given: list[Path], cleaned: Path | None, network: str | None, coder: Coder | None
) -> None:
    """Check that the options go together.

    Raises:
        SettingsError: They do not.
    """
    if cleaned and network:
        raise SettingsError("got --cleaned and --network; give one: a file, or what makes it")
    if coder and (given or not network):
        raise SettingsError(
            f"got {len(given)} DIST, a coder and {'a network' if network else 'no network'}; a "
            "coder makes DIST of REF for --network to clean: leave DIST out, and give both"
        )
    if not given and not coder:
        raise SettingsError("no DIST is given; name one, or make one with --crf or --quality")
    if (cleaned or network) and len(given) > 1:
        raise SettingsError(f"got {len(given)} DIST; cleaning is compared with one")


def _coded(
    reference: Path, given: list[Path], frames: "Frames", coder: Coder | None, step: int
) -> "Iterator[Named]":
    from edgecar.evaluate.score import coded_lumas, lumas_of
    from edgecar.media.video_codec import VideoCoding

    if given:
        return lumas_of(given[0], frames)
    if coder is None or coder == "jpeg":
        return coded_lumas(reference, frames, quality=step)
    return coded_lumas(reference, frames, coding=VideoCoding(coder, step))


def _compared(
    reference: Path,
    before: "Iterator[Named]",
    cleaned: Path | None,
    restorer: "Restorer | None",
    frames: "Frames",
    scorer: "Scorer",
) -> "list[Row]":
    """Judge before and after cleaning, by a file or by a network."""
    from edgecar.evaluate.score import compared, lumas_of

    if restorer:
        before, coded = tee(before)  # in step: one frame waits at most
        after: Iterator[Named] = (
            (name, restorer.luma(luma, coding=coding), coding) for name, luma, coding in coded
        )
    else:
        assert cleaned is not None
        after = lumas_of(cleaned, frames)
    return _counted(compared(lumas_of(reference, frames), before, after, scorer))


def _counted(rows: "Iterator[Row]") -> "list[Row]":
    """Collect rows under a progress bar."""
    found = []
    with progress_bar("judging") as progress:
        for row in rows:
            found.append(row)
            progress(len(found), None)
    return found


def _restorer(
    network: str, given: list[Path], codec: str | None, weights_for: WeightsFor | None
) -> "Restorer":
    from edgecar.media.inputs import open_input
    from edgecar.runtime.choice import choose_weights
    from edgecar.runtime.restorer import Restorer

    if given:
        with open_input(given[0]) as opened:
            codec = opened.codec
    choice = choose_weights(network, codec or "", weights_for)
    stderr.print(f"network   {choice.reason}")
    if choice.note:
        stderr.print(f"note      {choice.note}")
    return Restorer(choice.artifact)


def _show_scores(
    reference: Path, given: list[Path], frames: "Frames", scorer: "Scorer", as_json: bool
) -> None:
    from edgecar.evaluate.score import lumas_of, scored

    inputs: list[dict[str, Any]] = []
    for path in given:
        rows = _counted(scored(lumas_of(reference, frames), lumas_of(path, frames), scorer))
        mean = {key: fmean(row[key] for row in rows) for key in ("score", "psnr", "ssim")}
        inputs.append({"path": str(path), "mean": mean, "rows": rows})
    if as_json:
        print_json(
            {"scorer": asdict(scorer.metadata), "reference": str(reference), "inputs": inputs}
        )
        return
    names = ("Judged", "Pictures", "Score", "PSNR dB", "SSIM", "Worst score", "At")
    table = _table(names, ("Judged", "At"), scorer.metadata.target)
    for judged in inputs:
        mean = judged["mean"]
        worst = min(judged["rows"], key=lambda row: scorer.gain(0, row["score"]))
        table.add_row(
            one_line(judged["path"]),
            str(len(judged["rows"])),
            *(f"{mean['score']:.2f}", f"{mean['psnr']:.2f}", f"{mean['ssim']:.4f}"),
            f"{worst['score']:.2f}",
            one_line(worst["name"]),
        )
    stdout.print(table)
    next_step(f"edgecar score {quoted(reference)} {quoted(given[0])} --network edgecar-s")


def _show_cleaning(
    reference: Path,
    rows: "list[Row]",
    length: int,
    tolerance: float,
    target: str,
    as_json: bool,
) -> None:
    """Print the segments.

    Raises:
        typer.Exit: Code 3, where cleaning hurts.
    """
    from edgecar.evaluate.score import is_clip, segments

    clip = is_clip(reference)
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
        names = ("Where", "Before", "After", "Gain", "PSNR gain dB", "Got worse", "Cleaning")
        words = ("Where", "Got worse", "Cleaning")
        table = _table(names, words, f"{target}; tolerance {tolerance:g}")
        for each in found:
            more = len(each["worse"]) - WORSE_SHOWN
            shown = [*each["worse"][:WORSE_SHOWN], *([f"{more} more"] if more > 0 else [])]
            table.add_row(
                one_line(each["name"]),
                *(f"{each['before']:.2f}", f"{each['after']:.2f}", f"{each['gain']:+.2f}"),
                f"{each['psnr_gain_db']:+.2f}",
                one_line(", ".join(shown)),
                "hurts" if each["hurts"] else "",
            )
        stdout.print(table)
        worse = sum(len(each["worse"]) for each in found)
        where = f"hurts in {len(hurt)} of {len(found)} place(s)" if hurt else "hurts nowhere"
        stdout.print(f"cleaning  {where}; {worse} of {len(rows)} picture(s) or frame(s) got worse")
        clean = "clean.mp4" if clip else f"clean{reference.suffix}"
        next_step(f"edgecar run {quoted(reference)} -o {quoted(clean)} --compare")
    if hurt:
        raise typer.Exit(HURTS_EXIT)


def _table(names: tuple[str, ...], words: tuple[str, ...], caption: str) -> Table:
    """Return an empty table; columns of words are left-aligned, those of figures right-aligned."""
    table = Table(box=SIMPLE_HEAD, caption=caption, caption_justify="left")
    for name in names:
        table.add_column(name, justify="left" if name in words else "right")
    return table
