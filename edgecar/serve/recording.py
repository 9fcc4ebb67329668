"""A camera's recording: files of some length, playable up to the last fragment whatever happens."""

import re
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

import av
from av.container import OutputContainer

from edgecar.errors import MediaError
from edgecar.media.sources import reason_of
from edgecar.serve.coding import CLOCK, PACKETS_DEPTH, Coded, PacketOutput
from edgecar.serve.settings import Record

FRAGMENTS = {
    # The index at the head, then a fragment from keyframe to keyframe: no end has to be written.
    "mp4": {"movflags": "frag_keyframe+empty_moov+default_base_moof", "flush_packets": "1"},
    "mkv": {"cluster_time_limit": "1000", "flush_packets": "1"},
}

NAME = re.compile(r"\d{8}T\d{6}\.\d{3}Z\.(mp4|mkv)")
"""Of files that are ours to remove."""

HOUR_SECONDS = 3600
GIB = 1 << 30


class Recorder(PacketOutput):
    """Writes segments ``FOLDER/CAMERA/20261126T144925.120Z.mp4``, named by when they begin (UTC).

    Each begins with a keyframe and plays by itself. A process that is killed leaves a file that
    plays to its last whole fragment (``.mp4``: from one keyframe to the next; ``.mkv``: a second).

    Args:
        camera: Name of the folder.
        record: Where, how long, and what to keep.
        clock: Seconds since 1970; for tests.
    """

    def __init__(self, camera: str, record: Record, clock: Callable[[], float] = time.time) -> None:
        self._folder = record.folder / camera
        super().__init__("record", str(self._folder), PACKETS_DEPTH)
        self._record, self._clock = record, clock

    def _is_over(self, item: Coded) -> bool:
        long_enough = (item.ticks - self._began_ticks) * CLOCK >= self._record.segment_seconds
        return super()._is_over(item) or (item.keyframe and long_enough)

    def _opened(self, item: Coded) -> OutputContainer:  # noqa: ARG002  # named by the clock
        self._folder.mkdir(parents=True, exist_ok=True)
        self._remove_old()
        return av.open(
            f"file:{self._free_path()}",
            "w",
            format="matroska" if self._record.format == "mkv" else "mp4",
            container_options=FRAGMENTS[self._record.format],
        )

    def _explained(self, error: Exception) -> MediaError:
        return MediaError(f"{self._folder} cannot be written ({reason_of(error)}); see to the disk")

    def _free_path(self) -> Path:
        """Named by when it begins, so that names sort by time; no file is written over."""
        seconds = self._clock()
        while True:
            began = datetime.fromtimestamp(seconds, timezone.utc)
            stem = f"{began:%Y%m%dT%H%M%S}.{began.microsecond // 1000:03d}Z"
            path = self._folder / f"{stem}.{self._record.format}"
            if not path.exists():
                return path
            seconds += 0.001

    def _remove_old(self) -> None:
        files = sorted(path for path in self._folder.iterdir() if NAME.fullmatch(path.name))
        sizes = {path: path.stat() for path in files}
        total = sum(each.st_size for each in sizes.values())
        hours, gib = self._record.keep_hours, self._record.keep_gib
        for path, stat in sizes.items():
            old = hours is not None and self._clock() - stat.st_mtime > hours * HOUR_SECONDS
            if old or (gib is not None and total > gib * GIB):
                path.unlink(missing_ok=True)
                total -= stat.st_size
