"""Sources of the studies: clips, folders of pictures, and suites that name clips."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edgecar.errors import DataError, MediaError, SettingsError
from edgecar.evaluate.metrics import Luma
from edgecar.files import shipped, table_from_toml
from edgecar.media.color import Bgr, frame_with_bgr, paper_luma_from_bgr
from edgecar.media.frame import Colour, Frame, Plane, chroma_size
from edgecar.media.pictures import is_grey, is_picture, list_pictures, read_picture
from edgecar.media.reader import open_reader

STUDY = "video"
"""The shipped suite."""

BT601_LIMITED = Colour(full_range=False, matrix=6)
BT601_FULL = Colour(full_range=True, matrix=6)  # of JPEG
RUN_FRAMES = 60
"""Frames of a run of a clip that is spread: a GOP, so that its predicted frames are typical."""
GREY = 128  # chroma code of no colour
HALVED_MULTIPLE = 4  # so that chroma, too, halves to whole samples
KEYS = {"file": (str, "text"), "halve": (bool, "true or false"), "frames": (int, "a number")}
"""Keys of a clip in a suite: type, and the type in words."""

Pictures = Sequence[tuple[str, Luma]]
"""Name and luma of each picture of a set."""


@dataclass(frozen=True)
class Clip:
    """A clean clip, not decoded yet.

    Attributes:
        path: A video, or a folder of pictures that are its frames in order of name.
        halve: Average every 2×2 samples of each plane, cutting sides to a multiple of 4 first.
        frames: Take no more than so many; None: all.
        in_runs: Take them in runs of 60 that are spread evenly over the clip, not the first ones.
    """

    path: Path
    halve: bool = False
    frames: int | None = None
    in_runs: bool = False

    @property
    def name(self) -> str:
        """Name in the rows."""
        return self.path.stem

    def load(self) -> list[Frame]:
        """Decode the clip, or raise `MediaError`."""
        return self.numbered()[1]

    def numbered(self) -> tuple[list[int], list[Frame]]:
        """Decode the clip; return the numbers of the frames in the file, from 0, and the frames.

        Raises:
            MediaError: The clip cannot be decoded.
        """
        if self.path.is_dir():
            paths = list_pictures(self.path)
            numbers = self._numbers(len(paths))
            frames = [frame_from_picture(read_picture(paths[number])) for number in numbers]
        else:
            with open_reader(self.path) as reader:
                frames = list(islice(reader, self.frames))
                more = sum(1 for _ in reader) if self.in_runs else 0
            numbers = self._numbers(len(frames) + more)
            if more:
                wanted = set(numbers)
                with open_reader(self.path) as reader:
                    frames = [frame for number, frame in enumerate(reader) if number in wanted]
        return numbers, [halved(frame) for frame in frames] if self.halve else frames

    def _numbers(self, count: int) -> list[int]:
        """Choose frames of a clip of so many."""
        most = count if self.frames is None else min(self.frames, count)
        if not self.in_runs or most == count:
            return list(range(most))
        length = min(RUN_FRAMES, most)
        starts = np.linspace(0, count - length, max(1, most // length)).astype(int)
        return sorted({start + place for start in starts.tolist() for place in range(length)})


def spread(count: int, most: int) -> list[int]:
    """Choose at most so many of a number of frames, spread evenly from the first to the last.

    Example:
        >>> spread(9, 3)
        [0, 4, 8]
    """
    indices: list[int] = np.linspace(0, count - 1, min(most, count)).round().astype(int).tolist()
    return indices


@dataclass(frozen=True)
class ClipSet:
    """Clips to evaluate, at least one; ``left_out`` are files of a folder that are no videos."""

    name: str
    clips: tuple[Clip, ...]
    left_out: tuple[str, ...] = ()


def load_clips(data: Path, suite: str | None = None, frames: int | None = None) -> ClipSet:
    """Find the clips at a path, without decoding them.

    Without a suite, a folder that has every file of the shipped study where the study says means
    the study. Any other folder means every video in it and every folder of pictures in it, or, if
    there are none, its own pictures as one clip.

    Args:
        data: A video, a folder of clips, or the folder that a suite's files are relative to.
        suite: The name of a shipped suite or the path of a TOML file.
        frames: Take no more than so many of each clip, from 1; None: all, or what a suite says.

    Raises:
        SettingsError: The suite is unknown, is not TOML, or has an unknown or missing key.
        DataError: ``data`` or a clip of the suite is missing, or there is no clip in ``data``.
    """
    if suite is None and not data.exists():
        raise DataError(f"{data} does not exist; give a video or a folder of clips")
    if suite is None and not data.is_dir():
        return ClipSet(data.stem, (Clip(data, frames=frames),))
    named = _read_suite(suite or STUDY, data, frames)
    missing = [clip.path for clip in named.clips if not clip.path.exists()]
    if not missing:
        return named
    if suite is not None:
        raise DataError(
            f"{missing[0]} of suite {named.name} does not exist; give the folder that the suite's "
            "files are relative to"
        )
    paths, left_out = _clips_in_folder(data)
    if not paths:
        raise DataError(
            f"{data} holds no video and no folder of pictures; give a folder of clips, or --suite "
            f"{STUDY} and the folder of its files"
        )
    return ClipSet(data.name, tuple(Clip(path, frames=frames) for path in paths), left_out)


def _clips_in_folder(folder: Path) -> tuple[list[Path], tuple[str, ...]]:
    """Return the clips, and the names of files that are not clips."""

    def is_clip(path: Path) -> bool:
        if path.is_dir():
            return any(is_picture(file) for file in path.iterdir())
        try:
            if not is_picture(path):
                open_reader(path).close()
        except MediaError:
            return False
        return not is_picture(path)

    seen = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    clips = [path for path in seen if is_clip(path)]
    left_out = [path for path in seen if path.is_file() and path not in clips]
    if not clips and is_clip(folder):
        clips, left_out = [folder], [path for path in left_out if not is_picture(path)]
    return clips, tuple(path.name for path in left_out)


def _read_suite(suite: str, data: Path, frames: int | None) -> ClipSet:
    path = Path(suite)
    if path.suffix != ".toml":
        path = shipped("benchmarks", "suites") / f"{suite}.toml"
        if not path.exists():
            raise SettingsError(f"no suite is called {suite!r}; use a .toml file or {STUDY}")
    try:
        table = table_from_toml(path)
    except (OSError, ValueError) as error:  # not TOML, or not even text
        raise SettingsError(f"cannot read suite {path}: {error}") from error
    entries = table.pop("clips", None)
    if table:
        raise SettingsError(f"{path}: unknown key {min(table)!r}; known is clips")
    if not isinstance(entries, list) or not entries:
        raise SettingsError(f"{path}: no clip is named; add a [[clips]] table with a file")
    clips: list[Clip] = []
    for number, entry in enumerate(entries, 1):
        place = f"{path}: clip {number}"
        if not isinstance(entry, dict) or "file" not in entry:
            raise SettingsError(f"{place} is {entry!r}; need a table with a file")
        for key, value in entry.items():
            if key not in KEYS:
                raise SettingsError(f"{place}: unknown key {key!r}; known are {', '.join(KEYS)}")
            kind, words = KEYS[key]
            if type(value) is not kind:
                raise SettingsError(f"{place}: {key} is {value!r}; need {words}")
        limits = [limit for limit in (entry.get("frames"), frames) if limit is not None]
        if limits and min(limits) < 1:
            raise SettingsError(f"{place}: frames is {min(limits)}; need at least 1")
        limit = min(limits, default=None)
        clips.append(Clip(data / entry["file"], entry.get("halve", False), limit))
    return ClipSet(path.stem, tuple(clips))


def load_pictures(folder: Path) -> list[tuple[str, Luma]]:
    """Read name and luma of every picture in ``folder``, sorted by name.

    Raises:
        MediaError: The folder holds no picture, or one that cannot be decoded.
    """
    return [(path.stem, published_luma(read_picture(path))) for path in list_pictures(folder)]


def published_luma(bgr: NDArray[np.uint8]) -> Luma:
    """Return the luma that the published tables measure, ``(H, W)``.

    A grey picture is its own luma, also where its file repeats it in three equal channels; colour
    becomes limited-range luma (`edgecar.media.color.paper_luma_from_bgr`).
    """
    return np.ascontiguousarray(bgr[:, :, 0]) if is_grey(bgr) else paper_luma_from_bgr(bgr)


def frame_of_luma(luma: Luma) -> Frame:
    """Return a grey picture, ``(H, W)`` of full range, as a frame."""
    chroma = np.full(chroma_size((luma.shape[0], luma.shape[1])), GREY, np.uint8)
    return Frame(luma, chroma, chroma, colour=Colour(full_range=True))


def load_colour_pictures(folder: Path, most: int | None = None) -> tuple[list[Path], list[Frame]]:
    """Read every picture in ``folder``, or the first so many, sorted by name, as JPEG codes it.

    Raises:
        MediaError: The folder holds no picture, or one that cannot be decoded.
    """
    paths = list_pictures(folder)[:most]
    return paths, [frame_from_picture(read_picture(path), BT601_FULL) for path in paths]


def frame_from_picture(bgr: Bgr, colour: Colour = BT601_LIMITED) -> Frame:
    """Convert a picture, ``(H, W, 3)``; by default as CIF sequences are stored."""
    height, width = bgr.shape[:2]
    chroma = np.zeros(chroma_size((height, width)), np.uint8)
    blank = Frame(np.zeros((height, width), np.uint8), chroma, chroma, colour=colour)
    return frame_with_bgr(blank, bgr)


def halved(frame: Frame) -> Frame:
    """Halve height and width; every sample is the rounded mean of four.

    Rows and columns beyond a multiple of 4 are left out, so that the result has even sides.

    Raises:
        DataError: A side is shorter than 4 px.
    """
    height, width = (side // HALVED_MULTIPLE * HALVED_MULTIPLE for side in frame.size)
    if not height or not width:
        raise DataError(
            f"frame is {frame.size[1]}x{frame.size[0]}; halving needs {HALVED_MULTIPLE} px each "
            "way: take the clip at its size"
        )

    def quartered(plane: Plane, rows: int, columns: int) -> Plane:
        size = columns // 2, rows // 2
        averaged = cv2.resize(plane[:rows, :columns], size, interpolation=cv2.INTER_AREA)
        return np.asarray(averaged, dtype=np.uint8)

    return Frame(
        quartered(frame.y, height, width),
        quartered(frame.u, height // 2, width // 2),
        quartered(frame.v, height // 2, width // 2),
        frame.pts,
        frame.time_base,
        frame.colour,
    )
