"""Which clips and codings the real-time benchmark measures, read from TOML."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice, product
from pathlib import Path
from typing import Any

from edgecar.errors import DataError, EdgecarError, SettingsError
from edgecar.files import shipped, table_from_toml
from edgecar.media.frame import Frame
from edgecar.media.reader import open_reader
from edgecar.media.scene import photo_scene
from edgecar.media.video_codec import VideoCoding
from edgecar.spec import Size

SCENE_FRAMES = 50
GRID_KEYS = ("preset", "crf", "b_frames", "gop")
CLIP_KEYS = ("file", "scene", "frames", "grids")


@dataclass(frozen=True)
class RealtimeClip:
    """A source, and how it is coded.

    Attributes:
        name: What rows call it.
        source: A video, or the size of a scene made of photographs.
        frames: Take no more than so many; None: all there are.
        codings: Every one is a case.
    """

    name: str
    source: Path | Size
    frames: int | None
    codings: tuple[VideoCoding, ...]

    def load(self) -> list[Frame]:
        """Decode it.

        Raises:
            MediaError: It is no video.
            DataError: It has less than two frames, so that nothing can change.
        """
        if isinstance(self.source, Path):
            with open_reader(self.source) as reader:
                frames = list(islice(reader, self.frames))
        else:
            frames = list(photo_scene(self.source, self.frames or SCENE_FRAMES))
        if len(frames) < 2:
            raise DataError(f"{self.name} has {len(frames)} frame; need at least 2: give more")
        return frames


def load_suite(
    path: Path,
    data: Path,
    *,
    only: str | None = None,
    grid: str | None = None,
    frames: int | None = None,
) -> list[RealtimeClip]:
    """The clips of a suite, none of them decoded yet.

    Args:
        path: TOML with tables ``grids.NAME`` and ``[[clips]]``.
        data: The folder that files are relative to.
        only: Take only clips whose name contains this.
        grid: Take this grid for all clips.
        frames: Take no more than so many of each clip.

    Raises:
        SettingsError: The suite is no TOML, or a key or value in it is not understood.
        DataError: A file is missing, or ``only`` names none.
    """
    try:
        table = table_from_toml(path)
    except (OSError, ValueError) as error:  # not TOML, or not even text
        raise SettingsError(f"cannot read suite {path}: {error}") from error
    try:
        _check_keys(table, ("grids", "clips"), "suite")
        grids = {name: _codings(name, each) for name, each in table["grids"].items()}
        clips = [
            _clip(number, entry, grids, data, grid, frames)
            for number, entry in enumerate(table["clips"], 1)
        ]
    except KeyError as error:
        raise SettingsError(f"{path}: {error} is missing; add it") from error
    except (AttributeError, TypeError) as error:  # a value where a table or list should be
        raise SettingsError(f"{path}: {error}; need [grids.NAME] and [[clips]]") from error
    except EdgecarError as error:
        raise SettingsError(f"{path}: {error}") from error
    chosen = [clip for clip in clips if only is None or only in clip.name]
    if not chosen:
        names = ", ".join(clip.name for clip in clips)
        raise DataError(f"no clip of {path} is called {only!r}; choose among {names}")
    missing = [c.source for c in chosen if isinstance(c.source, Path) and not c.source.exists()]
    if missing:
        raise DataError(f"{missing[0]} does not exist; give the folder of the suite's files")
    return chosen


def find_suite(name_or_path: str) -> Path:
    """The file of a shipped suite, or the path itself if it is one of a TOML file."""
    path = Path(name_or_path)
    return path if path.suffix == ".toml" else shipped("benchmarks", "suites") / f"{path}.toml"


def _codings(name: str, grid: dict[str, Any]) -> tuple[VideoCoding, ...]:
    """Every combination of a grid's values."""
    _check_keys(grid, GRID_KEYS, f"grid {name}")
    for key in GRID_KEYS:
        kind, word = (str, "text") if key == "preset" else (int, "whole numbers")
        values = grid[key]
        if not isinstance(values, list) or not values or any(type(v) is not kind for v in values):
            raise SettingsError(f"grid {name}: {key} is {values!r}; need a list of {word}")
    return tuple(
        VideoCoding("h264", crf, preset, gop, b_frames)
        for preset, crf, b_frames, gop in product(*(grid[key] for key in GRID_KEYS))
    )


def _clip(
    number: int,
    entry: dict[str, Any],
    grids: dict[str, tuple[VideoCoding, ...]],
    data: Path,
    grid: str | None,
    frames: int | None,
) -> RealtimeClip:
    place = f"clip {number}"
    _check_keys(entry, CLIP_KEYS, place)
    source = _source(entry, data, place)
    limits = [limit for limit in (entry.get("frames"), frames) if limit is not None]
    if any(type(limit) is not int or limit < 2 for limit in limits):
        raise SettingsError(f"{place}: frames is {limits[0]!r}; need a number of at least 2")
    names = entry["grids"] if grid is None else [grid]
    unknown = [name for name in names if name not in grids]
    if unknown:
        raise SettingsError(f"{place}: no grid {unknown[0]!r}; known are {', '.join(grids)}")
    codings = dict.fromkeys(coding for name in names for coding in grids[name])
    name = source.stem if isinstance(source, Path) else f"photographs_{source[1]}x{source[0]}"
    return RealtimeClip(name, source, min(limits, default=None), tuple(codings))


def _source(entry: dict[str, Any], data: Path, place: str) -> Path | Size:
    match entry.get("file"), entry.get("scene"):
        case str(file), None:
            return data / file
        case None, [int(height), int(width)] if height > 0 and width > 0:
            return height, width
    raise SettingsError(f"{place}: need either file = 'PATH' or scene = [HEIGHT, WIDTH]")


def _check_keys(table: dict[str, Any], known: Sequence[str], place: str) -> None:
    unknown = sorted(set(table) - set(known))
    if unknown:
        raise SettingsError(f"{place}: unknown key {unknown[0]!r}; known are {', '.join(known)}")
