"""Folders of training data: photographs and real clips, each with its source and its licence.

A folder may hold a table, in its ``README.md`` (Markdown) or a ``.tsv`` file, with the columns
``file``, ``licence``, ``repository`` (the source, up to " : ") and, for clips, ``s``: the factor by
which a clip is made smaller to become clean. What the table does not list is not used. A folder
without a table holds photographs.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edgecar.errors import DataError
from edgecar.evaluate.clips import frame_from_picture
from edgecar.files import sha256_of
from edgecar.media.color import Bgr
from edgecar.media.frame import Frame, Plane
from edgecar.media.pictures import is_picture, list_pictures, read_picture
from edgecar.media.reader import open_reader

SPLITS = ("train", "test")  # of BSDS500; ``val`` is held out
KNOWN_LICENCES = {"bsds500": "research use (BSDS500, UC Berkeley)"}
"""Licences of published sets that have no table, by the name of their folder."""
NOT_STATED = ("", "-", "–", "none", "unknown")
MOST_FRAMES = 96  # of a real clip


@dataclass(frozen=True)
class Original:
    """A photograph, or a real clip.

    Attributes:
        path: A picture, a video, or a folder of pictures that are the frames of a clip.
        source: Repository or data set.
        licence: Licence as the table states it; empty: it states none.
        factor: Factor by which both sides of a clip are made smaller.
    """

    path: Path
    source: str
    licence: str = ""
    factor: int = 1

    @property
    def is_clip(self) -> bool:
        """True for clips."""
        return not is_picture(self.path)

    @property
    def sha256(self) -> str:
        """Hash of the file, or of all files of a folder."""
        if not self.path.is_dir():
            return sha256_of(self.path)
        return sha256("".join(map(sha256_of, list_pictures(self.path))).encode()).hexdigest()

    def frames(self) -> list[Frame]:
        """Return the first frames of a clip, smaller by its factor.

        Raises:
            MediaError: It cannot be decoded.
        """
        if self.path.is_dir():
            pictures = (read_picture(path) for path in list_pictures(self.path))
            return [
                smaller(frame_from_picture(p), self.factor) for p in islice(pictures, MOST_FRAMES)
            ]
        with open_reader(self.path) as reader:
            return [smaller(frame, self.factor) for frame in islice(reader, MOST_FRAMES)]


def smaller(frame: Frame, factor: int) -> Frame:
    """Average squares of ``factor`` samples of each plane; what is left over at an edge is cut.

    Both sides of the result are even.
    """
    y, u, v = (_averaged(plane, factor) for plane in (frame.y, frame.u, frame.v))
    rows, columns = (min(luma // 2, c) for luma, c in zip(y.shape, u.shape, strict=True))
    return Frame(
        np.ascontiguousarray(y[: 2 * rows, : 2 * columns]),
        np.ascontiguousarray(u[:rows, :columns]),
        np.ascontiguousarray(v[:rows, :columns]),
        colour=frame.colour,
    )


def _averaged(plane: Plane, factor: int) -> Plane:
    height, width = (side // factor for side in plane.shape)
    whole = plane[: height * factor, : width * factor]
    if factor == 1:
        return whole
    return np.asarray(cv2.resize(whole, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def photo_folders(data: Sequence[Path], held_out: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Return the folders to train on and those to validate on.

    A data set with the folders ``train``, ``test`` and ``val`` may be given by its own folder.

    Raises:
        DataError: A folder is missing, or none is left to validate on.
    """
    folders: list[Path] = []
    validation = list(held_out)
    for folder in data:
        if not folder.is_dir():
            raise DataError(f"{folder} is not a folder; give one of photographs with --data")
        splits = [folder / split for split in SPLITS if (folder / split).is_dir()]
        folders += splits or [folder]
        if splits and not held_out and (folder / "val").is_dir():
            validation = [folder / "val"]
    if not validation:
        raise DataError(f"{data[0]} has no folder 'val'; give photographs held out with --val")
    for folder in validation:
        if folder in folders:
            raise DataError(f"{folder} is trained on and held out; give --val another folder")
    return folders, validation


def originals_in(folder: Path) -> list[Original]:
    """Return everything in a folder, by its table if it has one.

    Raises:
        DataError: A factor is no whole number above 0.
        MediaError: The folder is missing, or has neither a table nor a picture.
    """
    rows = list(_rows(folder))
    if not rows:
        name = "/".join(folder.resolve().parts[-2:])
        return [Original(path, name, licence_of(name)) for path in list_pictures(folder)]
    return [
        _original(folder, row) for row in rows if row["file"] and (folder / row["file"]).exists()
    ]


def licence_of(name: str) -> str:
    """Return the licence of a published set by the name of its folder; empty for others."""
    return next((KNOWN_LICENCES[part] for part in name.split("/") if part in KNOWN_LICENCES), "")


def _original(folder: Path, row: dict[str, str]) -> Original:
    source = next((cell for name, cell in row.items() if name.startswith("repository")), "")
    original = Original(
        folder / row["file"], source.partition(" : ")[0] or folder.name, row.get("licence", "")
    )
    factor = row.get("s", "") or "1"
    if not original.is_clip:
        return original  # pictures are stored as they are used
    if not factor.isdecimal() or int(factor) < 1:
        raise DataError(
            f"{original.path} has factor s = {factor!r}; write a whole number from 1 into the table"
        )
    return Original(original.path, original.source, original.licence, int(factor))


def _rows(folder: Path) -> Iterator[dict[str, str]]:
    """Yield the rows of the first table with a column ``file``."""
    for path in sorted([*folder.glob("*.tsv"), *folder.glob("README.md")]):
        split = "\t" if path.suffix == ".tsv" else "|"
        lines = [
            line.strip("| \n") for line in path.read_text("utf-8").splitlines() if split in line
        ]
        cells = [[cell.strip() for cell in line.split(split)] for line in lines]
        heads = [number for number, row in enumerate(cells) if row[0] == "file"]
        if heads:
            head, *rows = cells[heads[0] :]
            yield from (dict(zip(head, row, strict=False)) for row in rows)
            return


def training_originals(
    folders: Sequence[Path], held_out: Sequence[Original], licence: str = ""
) -> list[Original]:
    """Return what may be trained on: everything whose source is not held out.

    Args:
        folders: Folders to train on.
        held_out: Pictures and clips to validate on.
        licence: Licence of what states none.

    Raises:
        DataError: Something states no licence, or nothing is left.
    """
    sources = {original.source for original in held_out}
    found = [o for folder in folders for o in originals_in(folder) if o.source not in sources]
    licensed = [
        Original(o.path, o.source, licence, o.factor)
        if licence and o.licence.lower() in NOT_STATED
        else o
        for o in found
    ]
    for original in licensed:
        if original.licence.lower() in NOT_STATED:
            raise DataError(
                f"{original.path} states no licence, and weights name those of all they learned "
                "from; give it with --licence, or a table (export/README.md)"
            )
    if not licensed:
        raise DataError(f"all of {folders[0]} is held out by its source; give other --data")
    return licensed


def sources_of(originals: Iterable[Original]) -> list[dict[str, Any]]:
    """Return each source with its licence and its number of files, as weights' metadata has it."""
    counts = Counter((original.source, original.licence) for original in originals)
    return [
        {"source": source, "licence": licence, "files": files}
        for (source, licence), files in sorted(counts.items())
    ]


def load_photos(folders: Sequence[Path]) -> list[Bgr]:
    """Read every picture in ``folders``, by name, ``(H, W, 3)`` BGR.

    Raises:
        MediaError: A folder is missing, holds no picture, or a picture cannot be decoded.
    """
    return [read_picture(path) for folder in folders for path in list_pictures(folder)]
