"""Pictures and clips judged against their source, and what cleaning makes of the judgement."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypedDict

import numpy as np

from edgecar.errors import DataError
from edgecar.evaluate.clips import Clip
from edgecar.evaluate.encodes import Encodes
from edgecar.evaluate.metrics import PSNR_CAP_DB, Luma, psnr, ssim
from edgecar.evaluate.scorer import Scorer
from edgecar.evaluate.stills import published_luma
from edgecar.media.pictures import is_picture, jpeg_coded, list_pictures, read_picture
from edgecar.media.reader import open_reader
from edgecar.media.video_codec import VideoCoding
from edgecar.runtime.restorer import Restorer

Named = tuple[str, Luma]
"""Name of a folder's picture or ``frame 7``, and its luma; a single picture is ``picture``."""

ENDED = object()


class ScoreRow(TypedDict):
    """One picture or frame; PSNR in dB, 100 for equal pictures; SSIM has the Gaussian window."""

    name: str
    score: float
    psnr: float
    ssim: float


class CleaningRow(TypedDict):
    """One picture or frame before and after cleaning, both against the source.

    ``gain`` is positive where cleaning made the score better, whichever way its scale runs.
    """

    name: str
    before: float
    after: float
    gain: float
    psnr_before: float
    psnr_after: float
    ssim_before: float
    ssim_after: float


class Segment(TypedDict):
    """Neighbouring frames, or one picture: means, and frames whose score fell.

    ``hurts``: the mean fell by more than the tolerance.
    """

    name: str
    frames: int
    before: float
    after: float
    gain: float
    psnr_gain_db: float
    worse: list[str]
    hurts: bool


@dataclass(frozen=True)
class Frames:
    """Which frames of a clip count.

    Attributes:
        most: Take the first so many; None: all.
        every: Of those, count one in so many.
    """

    most: int | None = None
    every: int = 1


def kind_of(path: Path) -> str:
    """``picture``, ``folder`` or ``clip``.

    Raises:
        DataError: There is nothing.
    """
    if not path.exists():
        raise DataError(f"{path} does not exist; give a picture, a folder of pictures or a clip")
    if path.is_dir():
        return "folder"
    return "picture" if is_picture(path) else "clip"


def lumas_of(path: Path, frames: Frames) -> Iterator[Named]:
    """Luma of what a path holds, one by one.

    Pictures become the luma of the published tables, frames of a clip are as they were coded.

    Raises:
        DataError: There is nothing.
        MediaError: It cannot be read.
    """
    kind = kind_of(path)
    if kind == "clip":
        with open_reader(path) as reader:
            for number, frame in enumerate(islice(reader, frames.most)):
                if number % frames.every == 0:
                    yield f"frame {number}", frame.y
        return
    if kind == "picture":
        yield "picture", published_luma(read_picture(path))
        return
    for picture in list_pictures(path):
        yield picture.stem, published_luma(read_picture(picture))


def coded_lumas(
    path: Path, frames: Frames, *, quality: int | None = None, coding: VideoCoding | None = None
) -> Iterator[Named]:
    """The same after a coder: JPEG for pictures, H.264 or HEVC for a clip.

    Raises:
        DataError: The coder does not fit what the path holds.
        MediaError: It cannot be read or coded.
    """
    if kind_of(path) == "clip":
        if coding is None:
            raise DataError(f"{path} is a clip; code it with --crf or --qp")
        coded = Encodes(path.name, Clip(path, frames=frames.most).load()).coded(coding).frames
        for number in range(0, len(coded), frames.every):
            yield f"frame {number}", coded[number].y
        return
    if quality is None:
        raise DataError(f"{path} holds pictures; code them with --quality")
    for name, luma in lumas_of(path, frames):
        yield name, jpeg_coded(luma, quality)


def cleaned_lumas(coded: Iterable[Named], restorer: Restorer) -> Iterator[Named]:
    """What a network makes of them."""
    for name, luma in coded:
        yield name, restorer.luma(luma)


def scored(
    reference: Iterable[Named], distorted: Iterable[Named], scorer: Scorer
) -> Iterator[ScoreRow]:
    """Judge pictures or frames in step.

    Raises:
        DataError: There are more on one side, a name differs, or a picture has another size.
    """
    for name, (clean, judged) in _in_step(reference, distorted):
        yield ScoreRow(
            name=name,
            score=scorer.score(clean, judged),
            psnr=min(PSNR_CAP_DB, psnr(clean, judged)),
            ssim=ssim(clean, judged),
        )


def compared(
    reference: Iterable[Named], coded: Iterable[Named], cleaned: Iterable[Named], scorer: Scorer
) -> Iterator[CleaningRow]:
    """Judge pictures or frames before and after cleaning.

    Raises:
        DataError: As of `scored`.
    """
    for name, (clean, before, after) in _in_step(reference, coded, cleaned):
        score_before, score_after = (scorer.score(clean, judged) for judged in (before, after))
        yield CleaningRow(
            name=name,
            before=score_before,
            after=score_after,
            gain=scorer.gain(score_before, score_after),
            psnr_before=min(PSNR_CAP_DB, psnr(clean, before)),
            psnr_after=min(PSNR_CAP_DB, psnr(clean, after)),
            ssim_before=ssim(clean, before),
            ssim_after=ssim(clean, after),
        )


def segments(rows: Sequence[CleaningRow], length: int, tolerance: float) -> list[Segment]:
    """Means over ``length`` neighbours each, and whether cleaning hurts there.

    Args:
        rows: In order.
        length: Rows of a segment, at least 1; the last may be shorter.
        tolerance: By how much a score may fall, in its unit.

    Raises:
        DataError: There is no row.
    """
    if not rows:
        raise DataError("nothing was compared; give a clip or picture that holds something")
    return [
        _segment(rows[first : first + length], tolerance) for first in range(0, len(rows), length)
    ]


def _segment(rows: Sequence[CleaningRow], tolerance: float) -> Segment:
    gain = float(np.mean([row["gain"] for row in rows]))
    first, last = rows[0]["name"], rows[-1]["name"]
    return Segment(
        name=first if first == last else f"{first} to {last.rpartition(' ')[2]}",
        frames=len(rows),
        before=float(np.mean([row["before"] for row in rows])),
        after=float(np.mean([row["after"] for row in rows])),
        gain=gain,
        psnr_gain_db=float(np.mean([row["psnr_after"] - row["psnr_before"] for row in rows])),
        worse=[row["name"] for row in rows if row["gain"] < -tolerance],
        hurts=gain < -tolerance,
    )


def _in_step(*sides: Iterable[Named]) -> Iterator[tuple[str, list[Luma]]]:
    """The next of every side at a time.

    Raises:
        DataError: A side ends before another, or names differ.
    """
    iterators = [iter(side) for side in sides]
    count = 0
    while True:
        each = [next(iterator, ENDED) for iterator in iterators]
        found = [one for one in each if isinstance(one, tuple)]
        if not found:
            return
        if len(found) < len(each):
            raise DataError(
                f"one side ends after {count} frame(s) or picture(s), another goes on; give as "
                "many of each, or --frames"
            )
        names = list(dict.fromkeys(name for name, _ in found))
        if len(names) > 1:
            raise DataError(
                f"{names[0]} stands against {names[1]}; give two pictures, two clips, or two "
                "folders with the same names"
            )
        yield names[0], [luma for _, luma in found]
        count += 1
