"""Judgement of pictures and clips against their source, before and after cleaning."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice, zip_longest
from pathlib import Path
from statistics import fmean
from typing import Any

from edgecar.errors import DataError
from edgecar.evaluate.clips import Clip, published_luma
from edgecar.evaluate.encodes import Source
from edgecar.evaluate.metrics import PSNR_CAP_DB, Luma, psnr, ssim
from edgecar.evaluate.scorer import Scorer
from edgecar.media.coding import picture_coding
from edgecar.media.frame import Coding
from edgecar.media.pictures import is_picture, jpeg_coded, list_pictures, read_picture
from edgecar.media.quantiser import SlowQuantiser, quantiser_from_jpeg_quality
from edgecar.media.reader import open_reader
from edgecar.media.video_codec import VideoCoding

Named = tuple[str, Luma, Coding]
"""Name of a folder's picture or ``frame 7``, its luma, and how coarsely that was coded; a single
picture is ``picture``."""

Row = dict[str, Any]
"""One picture, frame or segment, as ``edgecar score --json`` prints it."""


@dataclass(frozen=True)
class Frames:
    """Selection of the frames of a clip.

    Attributes:
        most: Take the first so many; None: all.
        every: Judge one in so many of those.
    """

    most: int | None = None
    every: int = 1


def is_clip(path: Path) -> bool:
    """Return True for a clip, False for a picture or a folder of pictures.

    Raises:
        DataError: There is nothing.
    """
    if not path.exists():
        raise DataError(f"{path} does not exist; give a picture, a folder of pictures or a clip")
    return not (path.is_dir() or is_picture(path))


def lumas_of(path: Path, frames: Frames) -> Iterator[Named]:
    """Yield the luma of every picture or frame of a path.

    Pictures become the luma of the published tables, frames of a clip are as they were coded.

    Raises:
        DataError: There is nothing.
        MediaError: It cannot be read.
    """
    if is_clip(path):
        slow = SlowQuantiser()  # which has to see every frame
        with open_reader(path, read_coding=True) as reader:
            for number, frame in enumerate(islice(reader, frames.most)):
                coding, told = frame.coding, slow.after(frame.coding.qp)
                if coding.quantiser is None:
                    coding = replace(coding, quantiser=told)
                if number % frames.every == 0:
                    yield f"frame {number}", frame.y, coding
    elif path.is_dir():
        for picture in list_pictures(path):
            yield picture.stem, published_luma(read_picture(picture)), _stated(picture)
    else:
        yield "picture", published_luma(read_picture(path)), _stated(path)


def _stated(path: Path) -> Coding:
    return picture_coding(path.read_bytes())


def coded_lumas(
    path: Path, frames: Frames, *, quality: int | None = None, coding: VideoCoding | None = None
) -> Iterator[Named]:
    """Yield the same after a coder: JPEG for pictures, H.264 or HEVC for a clip.

    Raises:
        DataError: The coder does not fit what the path holds.
        MediaError: It cannot be read or coded.
    """
    if is_clip(path):
        if coding is None:
            raise DataError(f"{path} is a clip; code it with --crf or --qp")
        coded = Source(path.name, Clip(path, frames=frames.most).load()).coded(coding)
        for number in range(0, len(coded.frames), frames.every):
            stated = Coding(quantiser=coded.quantisers[number])
            yield f"frame {number}", coded.frames[number].y, stated
        return
    if quality is None:
        raise DataError(f"{path} holds pictures; code them with --quality")
    stated = Coding(quantiser=quantiser_from_jpeg_quality(quality))
    for name, luma, _ in lumas_of(path, frames):
        yield name, jpeg_coded(luma, quality), stated


def scored(reference: Iterable[Named], distorted: Iterable[Named], scorer: Scorer) -> Iterator[Row]:
    """Judge pictures or frames in step.

    Yields:
        ``name``, ``score``, ``psnr`` in dB, 100 for equal pictures, and ``ssim``, with the Gaussian
        window.

    Raises:
        DataError: There are more on one side, a name differs, or a picture has another size.
    """
    for name, (clean, judged) in _in_step(reference, distorted):
        yield {"name": name, **_judged(clean, judged, scorer)}


def compared(
    reference: Iterable[Named], coded: Iterable[Named], cleaned: Iterable[Named], scorer: Scorer
) -> Iterator[Row]:
    """Judge pictures or frames before and after cleaning; fails as `scored` does.

    Yields:
        ``name``, scores ``before`` and ``after``, ``gain``, which is positive where cleaning made
        the score better whichever way its scale runs, and PSNR and SSIM before and after.
    """
    for name, (clean, *both) in _in_step(reference, coded, cleaned):
        before, after = (_judged(clean, judged, scorer) for judged in both)
        yield {
            "name": name,
            "before": before["score"],
            "after": after["score"],
            "gain": scorer.gain(before["score"], after["score"]),
            "psnr_before": before["psnr"],
            "psnr_after": after["psnr"],
            "ssim_before": before["ssim"],
            "ssim_after": after["ssim"],
        }


def _judged(clean: Luma, judged: Luma, scorer: Scorer) -> Row:
    return {
        "score": scorer.score(clean, judged),
        "psnr": min(PSNR_CAP_DB, psnr(clean, judged)),
        "ssim": ssim(clean, judged),
    }


def segments(rows: Sequence[Row], length: int, tolerance: float) -> list[Row]:
    """Average ``length`` neighbours each, and tell whether cleaning hurts there.

    Args:
        rows: Rows of `compared`, in order.
        length: Rows of a segment, at least 1; the last may be shorter.
        tolerance: Points that a score may fall.

    Returns:
        ``name``, ``frames``, means of the scores and gains, names of the ``worse`` frames, and
        ``hurts``: the mean fell by more than the tolerance.

    Raises:
        DataError: There is no row.
    """
    if not rows:
        raise DataError("nothing was compared; give a clip or picture that holds something")
    found = []
    for at in range(0, len(rows), length):
        own = rows[at : at + length]
        first, last = own[0]["name"], own[-1]["name"]
        gain = fmean(row["gain"] for row in own)
        found.append(
            {
                "name": first if first == last else f"{first} to {last.rpartition(' ')[2]}",
                "frames": len(own),
                "before": fmean(row["before"] for row in own),
                "after": fmean(row["after"] for row in own),
                "gain": gain,
                "psnr_gain_db": fmean(row["psnr_after"] - row["psnr_before"] for row in own),
                "worse": [row["name"] for row in own if row["gain"] < -tolerance],
                "hurts": gain < -tolerance,
            }
        )
    return found


def _in_step(*sides: Iterable[Named]) -> Iterator[tuple[str, list[Luma]]]:
    """Yield the next picture of every side under their common name."""
    for count, each in enumerate(zip_longest(*sides)):
        found = [one for one in each if one is not None]
        if len(found) < len(each):
            raise DataError(
                f"one side ends after {count} frame(s) or picture(s), another goes on; give as "
                "many of each, or --frames"
            )
        names = list(dict.fromkeys(name for name, *_ in found))
        if len(names) > 1:
            raise DataError(
                f"{names[0]} stands against {names[1]}; give two pictures, two clips, or two "
                "folders with the same names"
            )
        yield names[0], [luma for _, luma, _ in found]
