"""Source clips of the video studies: files, folders of pictures, and suites that name them."""

from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edgecar.errors import DataError, MediaError, SettingsError
from edgecar.files import shipped, table_from_toml
from edgecar.media.color import Bgr, frame_with_bgr
from edgecar.media.frame import Colour, Frame, Plane, chroma_size
from edgecar.media.pictures import is_picture, list_pictures, read_picture
from edgecar.media.reader import open_reader

STUDY = "video"
"""The shipped suite."""

BT601_LIMITED = Colour(full_range=False, matrix=6)
HALVED_MULTIPLE = 4  # so that chroma, too, halves to whole samples
KINDS = {"file": (str, "text"), "halve": (bool, "true or false"), "frames": (int, "a number")}
"""Keys of a clip in a suite: type, and the type in words."""


@dataclass(frozen=True)
class Clip:
    """A clean clip, not decoded yet.

    Attributes:
        path: A video, or a folder of pictures that are its frames in order of name.
        halve: Average every 2×2 samples of each plane, cutting sides to a multiple of 4 first.
        frames: Take no more than so many; None: all.
    """

    path: Path
    halve: bool = False
    frames: int | None = None

    @property
    def name(self) -> str:
        """Name in the rows."""
        return self.path.stem

    def load(self) -> list[Frame]:
        """Decode the clip.

        Raises:
            MediaError: It is missing, is no video, or its pictures cannot be decoded.
        """
        sized = halved if self.halve else lambda frame: frame
        if self.path.is_dir():
            paths = islice(list_pictures(self.path), self.frames)
            return [sized(frame_from_picture(read_picture(path))) for path in paths]
        with open_reader(self.path) as reader:
            return [sized(frame) for frame in islice(reader, self.frames)]


@dataclass(frozen=True)
class ClipSet:
    """Clips to evaluate.

    Attributes:
        name: Name of the suite, folder or file.
        clips: At least one.
        left_out: Names of the files of a folder that are no videos.
    """

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
    if suite is not None:
        return _present(_clips_of_suite(_find_suite(suite), data, frames))
    if not data.exists():
        raise DataError(f"{data} does not exist; give a video or a folder of clips")
    if not data.is_dir():
        return ClipSet(data.stem, (Clip(data, frames=frames),))
    study = _clips_of_suite(_find_suite(STUDY), data, frames)
    if all(clip.path.exists() for clip in study.clips):
        return study
    paths, left_out = _clips_in_folder(data)
    if not paths:
        raise DataError(
            f"{data} holds no video and no folder of pictures; give a folder of clips, or --suite "
            f"{STUDY} and the folder of its files"
        )
    return ClipSet(data.name, tuple(Clip(path, frames=frames) for path in paths), left_out)


def _clips_in_folder(folder: Path) -> tuple[list[Path], tuple[str, ...]]:
    """Return the clips, and the names of files that are not clips."""
    clips: list[Path] = []
    left_out: list[str] = []
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir():
            clips += [path] if _holds_pictures(path) else []
        elif not is_picture(path) and _opens(path):
            clips.append(path)
        else:
            left_out.append(path.name)
    if not clips and _holds_pictures(folder):
        return [folder], tuple(name for name in left_out if not is_picture(name))
    return clips, tuple(left_out)


def _holds_pictures(folder: Path) -> bool:
    return any(is_picture(path) for path in folder.iterdir())


def _opens(path: Path) -> bool:
    try:
        open_reader(path).close()
    except MediaError:
        return False
    return True


def _present(suite: ClipSet) -> ClipSet:
    """Return the suite if all its clips exist.

    Raises:
        DataError: A clip is missing.
    """
    missing = [clip.path for clip in suite.clips if not clip.path.exists()]
    if missing:
        raise DataError(
            f"{missing[0]} of suite {suite.name} does not exist; give the folder that the suite's "
            "files are relative to"
        )
    return suite


def _find_suite(name_or_path: str) -> Path:
    path, folder = Path(name_or_path), shipped("benchmarks", "suites")
    if path.suffix == ".toml":
        return path
    found = folder / f"{name_or_path}.toml"
    if not found.exists():
        raise SettingsError(f"no suite is called {name_or_path!r}; use a .toml file or {STUDY}")
    return found


def _clips_of_suite(suite: Path, data: Path, frames: int | None) -> ClipSet:
    try:
        table = table_from_toml(suite)
    except (OSError, ValueError) as error:  # not TOML, or not even text
        raise SettingsError(f"cannot read suite {suite}: {error}") from error
    _check_keys(table, ["clips"], f"{suite}")
    entries = table.get("clips")
    if not isinstance(entries, list) or not entries:
        raise SettingsError(f"{suite}: no clip is named; add a [[clips]] table with a file")
    clips = tuple(
        _clip_from_table(entry, data, frames, f"{suite}: clip {number}")
        for number, entry in enumerate(entries, 1)
    )
    return ClipSet(suite.stem, clips)


def _clip_from_table(entry: Any, data: Path, frames: int | None, place: str) -> Clip:
    if not isinstance(entry, dict):
        raise SettingsError(f"{place} is {entry!r}; need a table with a file")
    _check_keys(entry, list(KINDS), place)
    if "file" not in entry:
        raise SettingsError(f"{place}: key 'file' is missing; name a video or folder of pictures")
    for key, value in entry.items():
        kind, words = KINDS[key]
        if type(value) is not kind:
            raise SettingsError(f"{place}: {key} is {value!r}; need {words}")
    limits = [limit for limit in (entry.get("frames"), frames) if limit is not None]
    if limits and min(limits) < 1:
        raise SettingsError(f"{place}: frames is {min(limits)}; need at least 1")
    return Clip(data / entry["file"], entry.get("halve", False), min(limits, default=None))


def _check_keys(table: dict[str, Any], known: list[str], place: str) -> None:
    unknown = sorted(set(table) - set(known))
    if unknown:
        raise SettingsError(f"{place}: unknown key {unknown[0]!r}; known are {', '.join(known)}")


def frame_from_picture(bgr: Bgr) -> Frame:
    """Convert a picture to limited-range BT.601, as CIF sequences are stored.

    Args:
        bgr: ``(H, W, 3)`` in 0..255.
    """
    height, width = bgr.shape[:2]
    chroma = np.zeros(chroma_size((height, width)), np.uint8)
    blank = Frame(np.zeros((height, width), np.uint8), chroma, chroma, colour=BT601_LIMITED)
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
    chroma_height, chroma_width = height // 2, width // 2
    return Frame(
        _quartered(frame.y[:height, :width]),
        _quartered(frame.u[:chroma_height, :chroma_width]),
        _quartered(frame.v[:chroma_height, :chroma_width]),
        frame.pts,
        frame.time_base,
        frame.colour,
    )


def _quartered(plane: Plane) -> Plane:
    """Average every 2×2 samples of a plane with even sides."""
    size = plane.shape[1] // 2, plane.shape[0] // 2
    return np.asarray(cv2.resize(plane, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
