"""Clips and codings that the real-time benchmark measures, read from TOML."""

from collections.abc import Iterator
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


class RealtimeClip(BaseModel):
    """A video file, or the height and width of a scene made of photographs, and its codings.

    A file without grids is a camera's own stream: measured as it is, with coding None.
    """

    model_config = ConfigDict(extra="forbid")
    file: str | None = None
    scene: tuple[Side, Side] | None = None
    frames: int | None = Field(None, ge=2)
    grids: list[str]
    codings: list[VideoCoding | None] = Field(default=[], exclude=True)

    @model_validator(mode="after")
    def _one_source(self) -> "RealtimeClip":
        if (self.file is None) == (self.scene is None):
            raise ValueError("need either file = 'PATH' or scene = [HEIGHT, WIDTH]")
        if not self.grids and (self.file is None or self.frames is not None):
            raise ValueError("without grids, a stream is measured whole: need file, and no frames")
        return self

    @property
    def name(self) -> str:
        """Name in the rows."""
        if self.scene is None:
            return Path(self.file or "").stem
        return f"photographs_{self.scene[1]}x{self.scene[0]}"

    def load(self) -> list[Frame]:
        """Decode it.

        Raises:
            DataError: It has less than two frames, so that nothing can change.
        """
        if self.scene is None:
            with open_reader(self.file or "") as reader:
                frames = list(islice(reader, self.frames))
        else:
            frames = list(photo_scene(self.scene, self.frames or SCENE_FRAMES))
        if len(frames) < 2:
            raise DataError(f"{self.name} has {len(frames)} frame; need at least 2: give more")
        return frames


class Suite(BaseModel):
    """The whole file."""

    model_config = ConfigDict(extra="forbid")
    grids: dict[str, Grid]
    clips: list[RealtimeClip]


def load_suite(
    path: Path,
    data: Path,
    *,
    only: str | None = None,
    grid: str | None = None,
    frames: int | None = None,
) -> list[RealtimeClip]:
    """Read the clips of a suite, none of them decoded yet.

    Args:
        path: TOML with tables ``grids.NAME`` and ``[[clips]]``.
        data: Folder that files are relative to.
        only: Take only clips whose name contains this.
        grid: Take this grid for all clips.
        frames: Number of frames of each clip at most.

    Raises:
        SettingsError: The suite is no TOML, or a key or value in it is not understood.
        DataError: A file is missing, or ``only`` names none.
    """
    try:
        suite = Suite.model_validate(table_from_toml(path))
        for clip in suite.clips:
            names = clip.grids if grid is None else [grid]
            unknown = [name for name in names if name not in suite.grids]
            if unknown:
                known = ", ".join(suite.grids)
                raise SettingsError(f"no grid {unknown[0]!r}; known are {known}")
            every = (coding for name in names for coding in suite.grids[name].codings())
            clip.codings = list(dict.fromkeys(every)) or [None]
            limits = [limit for limit in (clip.frames, frames) if limit is not None and names]
            clip.frames = min(limits, default=None)
            clip.file = str(data / clip.file) if clip.file else None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise SettingsError(f"{path}: {place}: {first['msg']}; correct it") from error
    except (OSError, ValueError, EdgecarError) as error:  # not TOML, not even text, no such grid
        raise SettingsError(f"{path}: {error}") from error
    chosen = [clip for clip in suite.clips if only is None or only in clip.name]
    if not chosen:
        names = [clip.name for clip in suite.clips]
        raise DataError(f"no clip of {path} is called {only!r}; choose among {', '.join(names)}")
    missing = [clip.file for clip in chosen if clip.file and not Path(clip.file).exists()]
    if missing:
        raise DataError(f"{missing[0]} does not exist; give the folder of the suite's files")
    return chosen


def find_suite(name_or_path: str) -> Path:
    """The file of a shipped suite, or the path itself if it is one of a TOML file."""
    path = Path(name_or_path)
    return path if path.suffix == ".toml" else shipped("benchmarks", "suites") / f"{path}.toml"
