"""Clips and codings that the real-time benchmark measures, read from TOML."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, product
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from edgecar.errors import DataError, EdgecarError, SettingsError
from edgecar.files import shipped, table_from_toml
from edgecar.media.frame import Frame
from edgecar.media.reader import open_reader
from edgecar.media.scene import photo_scene
from edgecar.media.video_codec import VideoCoding
from edgecar.spec import Size

SCENE_FRAMES = 50
Side = Annotated[int, Field(gt=0)]


class Grid(BaseModel):
    """Values of a coder's settings; every combination is measured."""

    model_config = ConfigDict(extra="forbid", strict=True)
    preset: list[str] = Field(min_length=1)
    crf: list[int] = Field(min_length=1)
    b_frames: list[int] = Field(min_length=1)
    gop: list[int] = Field(min_length=1)

    def codings(self) -> Iterator[VideoCoding]:
        """Every combination."""
        for preset, crf, b_frames, gop in product(self.preset, self.crf, self.b_frames, self.gop):
            yield VideoCoding("h264", crf, preset, gop, b_frames)


class ClipEntry(BaseModel):
    """A video file, or the height and width of a scene made of photographs."""

    model_config = ConfigDict(extra="forbid")
    file: str | None = None
    scene: tuple[Side, Side] | None = None
    frames: int | None = Field(None, ge=2)
    grids: list[str]

    @model_validator(mode="after")
    def _one_source(self) -> "ClipEntry":
        if (self.file is None) == (self.scene is None):
            raise ValueError("need either file = 'PATH' or scene = [HEIGHT, WIDTH]")
        return self


class Suite(BaseModel):
    """The whole file."""

    model_config = ConfigDict(extra="forbid")
    grids: dict[str, Grid]
    clips: list[ClipEntry]


@dataclass(frozen=True)
class RealtimeClip:
    """A source, and how it is coded.

    Attributes:
        name: Name in the rows.
        source: A video, or the size of a scene made of photographs.
        frames: Number of frames at most; None takes all.
        codings: Settings of the coder; each is a case.
    """

    name: str
    source: Path | Size
    frames: int | None
    codings: tuple[VideoCoding, ...]

    def load(self) -> list[Frame]:
        """Decode it."""
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
    """Read the clips of a suite, none of them decoded yet."""
    try:
        suite = Suite.model_validate(table_from_toml(path))
        clips = [_clip(entry, suite.grids, data, grid, frames) for entry in suite.clips]
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise SettingsError(f"{path}: {place}: {first['msg']}; correct it") from error
    except (OSError, ValueError, EdgecarError) as error:  # not TOML, not even text, no such grid
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


def _clip(
    entry: ClipEntry, grids: dict[str, Grid], data: Path, grid: str | None, frames: int | None
) -> RealtimeClip:
    names = entry.grids if grid is None else [grid]
    unknown = [name for name in names if name not in grids]
    if unknown:
        raise SettingsError(f"no grid {unknown[0]!r}; known are {', '.join(grids)}")
    codings = dict.fromkeys(coding for name in names for coding in grids[name].codings())
    most = min((limit for limit in (entry.frames, frames) if limit is not None), default=None)
    if entry.file is not None:
        return RealtimeClip(Path(entry.file).stem, data / entry.file, most, tuple(codings))
    height, width = entry.scene or (0, 0)
    return RealtimeClip(f"photographs_{width}x{height}", (height, width), most, tuple(codings))
