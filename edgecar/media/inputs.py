"""What a person gives to restore: a picture, a folder of pictures, or a video."""

from dataclasses import dataclass
from pathlib import Path

from edgecar.closing import Closing
from edgecar.media.pictures import is_picture, list_pictures, picture_format
from edgecar.media.reader import Reader, open_reader


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


Input = Pictures | Reader
"""Both know their ``codec``; close them, or use them as context managers."""


def open_input(source: str) -> Input:
    """Find the pictures, or open the video and decode its first frame.

    Many cameras allow one connection, so what depends on the coding is decided with the input open.

    Args:
        source: A picture, a folder of pictures, a video file, a stream's URL or a camera's number.

    Raises:
        MediaError: A folder holds no picture, or a video cannot be opened.
    """
    path = Path(source)
    if path.is_dir():
        return Pictures(list_pictures(path), path)
    return Pictures([path]) if is_picture(path) else open_reader(source)
