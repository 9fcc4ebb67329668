"""Flicker and share of pixels computed, with the quantiser told in three ways.

``python -m benchmarks.run.flicker NETWORK --data FOLDER --crf 35 --crf 41`` codes clips with x264
and restores them with the slow quantiser of the runtime, with the QP of each frame, and with the
middle of the range, as a network is told that knows nothing.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Annotated, Literal, get_args

import typer

from benchmarks.run.study import run_study
from edgecar.artifact import find_artifact, read_artifact
from edgecar.evaluate.clips import Clip, load_clips
from edgecar.evaluate.metrics import capped_psnr, flicker
from edgecar.media.frame import Frame
from edgecar.media.quantiser import quantiser_from_qp
from edgecar.media.video_codec import RATE_FPS, CodedClip, VideoCoding, video_coded
from edgecar.runtime.restorer import Restorer
from edgecar.runtime.tuning import Tuning
from edgecar.spec import MIDDLE_QUANTISER

Way = Literal["slow", "frame", "middle"]


@dataclass(frozen=True)
class Row:
    """Effect of one way on one coded clip.

    Attributes:
        flicker_ratio: Mean change of the error from frame to frame where the source stands still
            (`edgecar.evaluate.metrics.flicker`), over that of the coded clip; None if nothing
            stands still.
        computed_share: Pixels that the network read over pixels of the frames.
        moves_a_minute: Times that the quantiser moved.
        gain_db: Mean gain in luma PSNR.
    """

    clip: str
    crf: int
    way: Way
    frames: int
    flicker_ratio: float | None
    computed_share: float
    moves_a_minute: float
    gain_db: float


def main(
    network: Annotated[str, typer.Argument(help="A network that ships, or an exported file.")],
    data: Annotated[Path, typer.Option(help="A video, a folder of clips, or that of the study.")],
    crf: Annotated[list[int], typer.Option(help="Quantisers of x264.")] = [35],  # noqa: B006
    frames: Annotated[int, typer.Option(min=2, help="Frames of a clip, at most.")] = 100,
    only: Annotated[list[str] | None, typer.Option(help="Names of clips; default: all.")] = None,
    halve: Annotated[
        bool, typer.Option("--halve", help="Average 2x2 pixels, which hides earlier coding.")
    ] = False,
    save: Annotated[Path | None, typer.Option(help="Write the rows to this file.")] = None,
) -> None:
    """Measure clips and print a line for each way of telling the quantiser."""
    clips = [clip for clip in load_clips(data).clips if not only or clip.name in only]
    rows = []
    artifact = read_artifact(find_artifact(network, "h264"))
    with Restorer(artifact, tuning=Tuning()) as restorer:
        for clip in clips:
            taken = replace(clip, frames=frames, halve=halve or clip.halve)
            for row in measured(taken, crf, restorer):
                rows.append(asdict(row))
                typer.echo(line(row))
    if save:
        save.write_text(json.dumps(rows, indent=2) + "\n")


def measured(clip: Clip, crfs: Sequence[int], restorer: Restorer) -> Iterator[Row]:
    """Code a clip at every quantiser and restore it in every way that the network knows."""
    source = clip.load()
    ways: Sequence[Way] = get_args(Way) if restorer.metadata.takes_quantiser else ("middle",)
    for crf in crfs:
        coded = video_coded(source, VideoCoding("h264", crf))
        for way in ways:
            yield _row(clip.name, crf, way, source, coded, restorer)


def _row(
    name: str, crf: int, way: Way, source: list[Frame], coded: CodedClip, restorer: Restorer
) -> Row:
    stream, restored = object(), []
    for frame, quantiser in zip(coded.frames, quantisers(coded, way), strict=True):
        told = replace(frame, coding=replace(frame.coding, quantiser=quantiser))
        restored += restorer.restore_all([told], [stream])
    stats = restorer.stats_of(stream)
    restorer.forget(stream)
    before, after = mean_flicker(source, coded.frames), mean_flicker(source, restored)
    gains = (
        capped_psnr(clean.y, new.y) - capped_psnr(clean.y, old.y)
        for clean, old, new in zip(source, coded.frames, restored, strict=True)
    )
    return Row(
        clip=name,
        crf=crf,
        way=way,
        frames=len(source),
        flicker_ratio=after / before if before and after is not None else None,
        computed_share=stats.computed_share,
        moves_a_minute=stats.quantiser_moves / len(source) * float(RATE_FPS) * 60,
        gain_db=fmean(gains),
    )


def quantisers(coded: CodedClip, way: Way) -> list[float]:
    """Quantiser of each frame, told in this way."""
    if way == "slow":
        return coded.quantisers
    qps = (frame.coding.qp if way == "frame" else None for frame in coded.frames)
    return [MIDDLE_QUANTISER if qp is None else quantiser_from_qp(qp) for qp in qps]


def mean_flicker(source: Sequence[Frame], shown: Sequence[Frame]) -> float | None:
    """Mean flicker of all pairs of neighbouring frames in which something stands still."""
    pairs = zip(pairwise(source), pairwise(shown), strict=True)
    changes = [flicker(a.y, b.y, before.y, after.y) for (a, b), (before, after) in pairs]
    known = [change for change in changes if change is not None]
    return fmean(known) if known else None


def line(row: Row) -> str:
    """One line for a terminal."""
    ratio = "–" if row.flicker_ratio is None else f"{row.flicker_ratio:.2f}"
    return (
        f"{row.clip} CRF {row.crf} {row.way:<6} flicker {ratio} of coded, computed "
        f"{row.computed_share:.0%}, {row.moves_a_minute:.1f} moves a minute, {row.gain_db:+.3f} dB"
    )


if __name__ == "__main__":
    run_study(main)
