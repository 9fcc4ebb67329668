"""A decoded clip and its codings, which are kept on disk."""

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import av

from edgecar.errors import MediaError
from edgecar.files import atomic_write, cache_folder
from edgecar.media.frame import Frame
from edgecar.media.video_codec import CodedClip, VideoCoding, decoded_clip, video_coded

FORMAT = "1"
"""Version of stored clips: raise it when the same frames and settings give other bits."""
MOST_BYTES = 2 << 30  # of all stored clips; those unused for longest make room


@dataclass(frozen=True, eq=False)
class Source:
    """A decoded clip.

    Coded clips are stored and read again: an interrupted study resumes faster, and a study that is
    repeated with another network sees the same bits, which x264 under a limit does not promise.
    """

    name: str
    frames: Sequence[Frame]
    names: Sequence[str] = ()  # of pictures that are no clip

    @cached_property
    def sha256(self) -> str:
        """Hash of all samples, sizes and colour metadata in order, but not of timestamps."""
        digest = hashlib.sha256()
        for frame in self.frames:
            digest.update(repr((frame.size, frame.colour)).encode())
            for plane in (frame.y, frame.u, frame.v):
                digest.update(plane.tobytes())
        return digest.hexdigest()

    def coded(self, coding: VideoCoding) -> CodedClip:
        """Return the coded clip, as `edgecar.media.video_codec.video_coded` does.

        Raises:
            MediaError: It cannot be coded.
        """
        libraries = repr(sorted(av.library_versions.items()))
        words = (FORMAT, self.sha256, repr(coding), repr(coding.options()), libraries)
        key = hashlib.sha256("\n".join(words).encode()).hexdigest()
        path = cache_folder("encodes") / f"{key}.mkv"
        with suppress(OSError, MediaError):  # absent or damaged: coded again
            clip = decoded_clip(path.read_bytes())
            path.touch()  # used just now
            if len(clip.frames) == len(self.frames):
                return clip
        try:
            clip = video_coded(self.frames, coding)
        except MediaError as error:
            raise MediaError(f"{self.name}: {error}") from error
        with suppress(OSError):  # without a copy it is coded again
            with atomic_write(path) as temporary:
                temporary.write_bytes(clip.bitstream)
            _make_room(path.parent)
        return clip


def _make_room(folder: Path) -> None:
    """Delete the least recently used clips until the rest is small enough."""
    kept = 0
    stored = [(path, path.stat()) for path in folder.glob("*.mkv")]
    for path, metadata in sorted(stored, key=lambda entry: entry[1].st_mtime, reverse=True):
        kept += metadata.st_size
        if kept > MOST_BYTES:
            path.unlink(missing_ok=True)  # another study may have deleted it
