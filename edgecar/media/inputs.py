"""Inputs of a run: a picture, a folder of pictures, or a video."""

import os
import stat
from collections.abc import Iterable
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from edgecar.errors import MediaError
from edgecar.media.coding import picture_coding
from edgecar.media.live import LiveReader
from edgecar.media.pictures import is_picture, list_pictures, picture_format
from edgecar.media.reader import Reader
from edgecar.media.sources import LIVE_DEFAULTS, LiveSettings, source_from


@dataclass(frozen=True)
class Pictures(AbstractContextManager["Pictures"]):
    """Pictures to be read one by one."""

    paths: list[Path]
    folder: Path | None = None
    """Folder they were found in; None for a single picture."""
    kept: "TemporaryDirectory[str] | None" = None
    """Temporary folder of a picture that came through a pipe or address; removed when closed."""

    @property
    def codec(self) -> str:
        """Format of the pictures: ``jpeg`` if any is JPEG, else the format of the first.

        The first bytes of each file decide; a suffix may be wrong.
        """
        formats = (_format(path) for path in self.paths)
        first = next(formats)
        return "jpeg" if first == "jpeg" or "jpeg" in formats else first

    def close(self) -> None:
        """Remove the temporary folder."""
        if self.kept:
            self.kept.cleanup()

    def __exit__(self, *_: object) -> None:
        self.close()


Input = Pictures | Reader | LiveReader
"""All have a ``codec``; close them, or use them as context managers."""


def open_video(
    address: str | int | Path,
    *,
    settings: LiveSettings = LIVE_DEFAULTS,
    read_coding: bool = False,
) -> Reader | LiveReader:
    """Open a file, or connect to a camera or network stream and reconnect when it breaks off."""
    source = source_from(address)
    if source.kind == "file":
        return Reader(source, keep_size=True, read_coding=read_coding)
    return LiveReader(source, settings, read_coding=read_coding)


def open_input(address: str | Path, *, read_coding: bool = False) -> Input:
    """Find the pictures, or open the video and decode its first frame.

    Many cameras allow one connection, so a caller that depends on the codec keeps the input open.

    Args:
        address: A picture, a folder of pictures, a video file, a stream's URL, a camera's number,
            or ``-`` for standard input.
        read_coding: Note in every frame of a video how coarsely it was coded.
    """
    path = source_from(address).path
    if path is not None and path.is_dir():
        return Pictures(list_pictures(path), path)
    if path is not None and is_picture(path) and not path.is_fifo():
        return Pictures([path])
    reader = open_video(address, read_coding=read_coding)
    still = reader.facts.still
    if still is None:
        return reader
    reader.close()
    kept = TemporaryDirectory(prefix="edgecar-")
    path = Path(kept.name) / f"picture{still.suffix}"
    path.write_bytes(still.code)
    return Pictures([path], kept=kept)


def check_pipes(addresses: Iterable[str]) -> None:
    """Raise MediaError for a pipe that is named twice: its bytes can be read only once."""
    seen: set[tuple[int, int]] = set()
    for source in map(source_from, addresses):
        if source.kind != "file" or source.repeatable:
            continue
        with suppress(OSError):  # opening it reports what is missing
            number = source.address.removeprefix("pipe:")
            found = source.path.stat() if source.path else os.fstat(int(number))
            place = found.st_dev, found.st_ino
            if place in seen and not stat.S_ISDIR(found.st_mode):
                raise MediaError(f"{source.shown} is given twice; a pipe can be read only once")
            seen.add(place)


def _format(path: Path) -> str:
    """Return the format of a picture by its first bytes, else by its suffix."""
    with suppress(OSError), path.open("rb") as file:  # reported when it is read
        if codec := picture_coding(file.read(64)).codec:
            return codec
    return picture_format(path)
