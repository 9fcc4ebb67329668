"""Pictures with the scores that a network is to predict, and patches drawn from them."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgecar.errors import DataError
from edgecar.evaluate.clips import published_luma
from edgecar.evaluate.metrics import Luma
from edgecar.evaluate.scorer import PATCH_PX, PLANES, planes_of
from edgecar.media.pictures import read_picture

NONE = -1
COLUMNS = ("reference", "distorted", "mos")


@dataclass(frozen=True)
class Rated:
    """A distorted picture and its score.

    Attributes:
        reference: Number of the reference in the set.
        picture: Luma, ``(H, W)``.
        score: Opinion score or proxy, in the unit of the set.
        before: Number of the picture in the set that was cleaned to make this one; -1: none.
    """

    reference: int
    picture: Luma
    score: float
    before: int = NONE


@dataclass(frozen=True)
class RatedSet:
    """Distorted pictures of several references.

    Attributes:
        references: Luma of the clean pictures, ``(H, W)`` each.
        pictures: Distorted pictures.
    """

    references: list[Luma]
    pictures: list[Rated]

    def patches(self) -> int:
        """Number of patches that fit side by side into the pictures: those of an epoch."""
        sides = (self.references[rated.reference].shape for rated in self.pictures)
        return sum((height // PATCH_PX) * (width // PATCH_PX) for height, width in sides)

    def of_references(self, chosen: set[int]) -> "RatedSet":
        """Return the pictures made of some of the references, with ``before`` renumbered."""
        kept = [n for n, rated in enumerate(self.pictures) if rated.reference in chosen]
        place = {old: new for new, old in enumerate(kept)}
        pictures = [self.pictures[number] for number in kept]
        return RatedSet(
            self.references, [replace(p, before=place.get(p.before, NONE)) for p in pictures]
        )


def rated_from_csv(path: Path) -> RatedSet:
    """Read the opinion scores of a subjective study.

    Args:
        path: Comma-separated, with a header that names ``reference``, ``distorted`` and ``mos``;
            pictures are found relative to its folder. Other columns are ignored.

    Raises:
        DataError: The file or a column is missing, there is no row, a score is no number, or a
            distorted picture has another size than its reference or a side below 128 px.
        MediaError: A picture cannot be read.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            missing = sorted(set(COLUMNS) - set(reader.fieldnames or ()))
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"cannot read scores {path}: {error}; give a CSV file") from error
    if missing or not rows:
        what = f"no column {missing[0]!r}" if missing else "no row"
        raise DataError(f"{path} has {what}; need the columns {', '.join(COLUMNS)} and a row each")
    names = list(dict.fromkeys(row["reference"] for row in rows))
    references = [published_luma(read_picture(path.parent / name)) for name in names]
    pictures: list[Rated] = []
    for line, row in enumerate(rows, 2):
        number = names.index(row["reference"])
        picture = published_luma(read_picture(path.parent / row["distorted"]))
        try:
            planes_of(references[number], picture)
            score = float(row["mos"])
        except (TypeError, ValueError, DataError) as error:
            raise DataError(f"{path}, line {line}: {error}") from error
        if not np.isfinite(score):
            raise DataError(f"{path}, line {line}: mos is {score}; need a number")
        pictures.append(Rated(number, picture, score))
    return RatedSet(references, pictures)


def split_by_reference(rated: RatedSet, share: float, seed: int) -> tuple[RatedSet, RatedSet]:
    """Split into pictures to train on and to test on, without a common reference (section III-B).

    ``share`` is that of the references to train on; 0.8 in the paper.
    """
    used = sorted({picture.reference for picture in rated.pictures})
    if len(used) < 2:
        raise DataError(f"got {len(used)} reference; a split needs at least two")
    order = np.random.default_rng(seed).permutation(used).tolist()
    count = min(max(round(share * len(used)), 1), len(used) - 1)
    return rated.of_references(set(order[:count])), rated.of_references(set(order[count:]))


def patch_draws(
    rated: RatedSet, batch: int, seed: int, first: int = 0
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.float32]]]:
    """Yield endless batches of patches at random places; half of them mirrored.

    Batch ``n`` depends on the seed and ``n`` alone, so that a run can go on exactly from ``first``.

    Yields:
        Planes ``(N, 2, 128, 128)``, distorted luma and residual map, and scores ``(N,)``: a patch
        has the score of its picture (section II-A).
    """
    number = first
    while True:
        rng = np.random.default_rng((seed, number))
        planes = np.empty((batch, PLANES, PATCH_PX, PATCH_PX), np.uint8)
        scores = np.empty(batch, np.float32)
        for index in range(batch):
            drawn = rated.pictures[rng.integers(len(rated.pictures))]
            clean = rated.references[drawn.reference]
            top, left = (int(rng.integers(side - PATCH_PX + 1)) for side in clean.shape)
            tile = np.s_[top : top + PATCH_PX, left : left + PATCH_PX]
            both = planes_of(clean[tile], drawn.picture[tile])
            planes[index] = both[:, :, ::-1] if rng.integers(2) else both
            scores[index] = drawn.score
        yield planes, scores
        number += 1
