"""What a person gives to restore: a picture, a folder of pictures, or a video."""

from dataclasses import dataclass
from pathlib import Path

from edgecar.closing import Closing
from edgecar.media.live import LIVE_DEFAULTS, LiveReader, LiveSettings
from edgecar.media.pictures import is_picture, list_pictures, picture_format
from edgecar.media.reader import Reader
from edgecar.media.sources import source_from


@dataclass(frozen=True)
class Pictures(Closing):
    """Pictures to be read one by one.

    Attributes:
        paths: At least one.
        folder: The folder they were found in; None for a single picture.
    """

    paths: list[Path]
    folder: Path | None = None

    @property
    def codec(self) -> str:
        """What they are coded with: ``jpeg`` if any is, else the format of the first."""
        formats = [picture_format(path) for path in self.paths]
        return "jpeg" if "jpeg" in formats else formats[0]

    def close(self) -> None:
        """Nothing is open between pictures."""


Input = Pictures | Reader | LiveReader
"""Both know their ``codec``; close them, or use them as context managers."""


def open_video(
    address: str | int | Path,
    *,
    settings: LiveSettings = LIVE_DEFAULTS,
    read_coding: bool = False,
) -> Reader | LiveReader:
    """Open a file, or connect to a camera or network stream in a way that connects again.

    Args:
        address: A file, a camera's number or a URL.
        settings: Timeouts and backoff of what is no file.
        read_coding: Note in every frame how coarsely it was coded.

    Raises:
        MediaError: It cannot be opened.
    """
    source = source_from(address)
    if source.kind == "file":
        return Reader(source, keep_size=True, read_coding=read_coding)
    return LiveReader(source, settings, read_coding=read_coding)


def open_input(source: str, *, read_coding: bool = False) -> Input:
    """Find the pictures, or open the video and decode its first frame.

    Many cameras allow one connection, so what depends on the coding is decided with the input open.

    Args:
        source: A picture, a folder of pictures, a video file, a stream's URL or a camera's number.
        read_coding: Note in every frame of a video how coarsely it was coded.

    Raises:
        MediaError: A folder holds no picture, or a video cannot be opened.
    """
    path = Path(source)
    if path.is_dir():
        return Pictures(list_pictures(path), path)
    return Pictures([path]) if is_picture(path) else open_video(source, read_coding=read_coding)
