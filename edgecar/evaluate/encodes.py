"""A clip in several codings: kept on disk, and the next one made while one is being used."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
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
SUFFIX = ".mkv"


class Encodes:
    """Codings of one clip.

    Coded clips are stored and read again: an interrupted study resumes faster, and a study that is
    repeated with another network sees the same bits, which x264 under a limit does not promise.

    Args:
        name: Name of the clip in messages.
        frames: Frames of the clip.
        folder: Folder of stored clips; None: the cache.
    """

    def __init__(self, name: str, frames: Sequence[Frame], folder: Path | None = None) -> None:
        self._name, self._frames = name, frames
        self._folder = folder or cache_folder("encodes")

    def coded(self, coding: VideoCoding) -> CodedClip:
        """Return the coded clip, as `edgecar.media.video_codec.video_coded` does.

        Raises:
            MediaError: It cannot be coded.
        """
        path = self._folder / f"{self._key(coding)}{SUFFIX}"
        try:
            clip = decoded_clip(path.read_bytes())
            path.touch()  # used just now
        except (OSError, MediaError):  # absent or damaged: coded again
            return self._made(coding, path)
        return clip if len(clip.frames) == len(self._frames) else self._made(coding, path)

    def ahead(self, codings: Iterable[VideoCoding]) -> Iterator[CodedClip]:
        """Yield the clip in each coding; the next one is coded on a thread meanwhile.

        Raises:
            MediaError: It cannot be coded.
        """
        with ThreadPoolExecutor(1) as pool:
            before: Future[CodedClip] | None = None
            for coding in codings:
                begun = pool.submit(self.coded, coding)
                if before:
                    yield before.result()
                before = begun
            if before:
                yield before.result()

    @cached_property
    def _source(self) -> str:
        return frames_sha256(self._frames)

    def _key(self, coding: VideoCoding) -> str:
        libraries = repr(sorted(av.library_versions.items()))
        words = (FORMAT, self._source, repr(coding), repr(coding.options()), libraries)
        return hashlib.sha256("\n".join(words).encode()).hexdigest()

    def _made(self, coding: VideoCoding, path: Path) -> CodedClip:
        try:
            clip = video_coded(self._frames, coding)
        except MediaError as error:
            raise MediaError(f"{self._name}: {error}") from error
        with suppress(OSError):  # it is coded again without
            with atomic_write(path) as temporary:
                temporary.write_bytes(clip.bitstream)
            _make_room(self._folder)
        return clip


def frames_sha256(frames: Iterable[Frame]) -> str:
    """Hash all samples, sizes and colour metadata in order, but not timestamps."""
    digest = hashlib.sha256()
    for frame in frames:
        digest.update(repr((frame.size, frame.colour)).encode())
        for plane in (frame.y, frame.u, frame.v):
            digest.update(plane.tobytes())
    return digest.hexdigest()


def _make_room(folder: Path) -> None:
    """Delete the least recently used clips until the rest is small enough."""
    kept = 0
    stored = [(path, path.stat()) for path in folder.glob(f"*{SUFFIX}")]
    for path, metadata in sorted(stored, key=lambda entry: entry[1].st_mtime, reverse=True):
        kept += metadata.st_size
        if kept > MOST_BYTES:
            path.unlink(missing_ok=True)  # another study may have deleted it
