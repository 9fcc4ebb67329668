"""Recordings and pushed streams: the two outputs of coded pictures."""

import re
import subprocess
import sys
import time
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path

import av
from av.container import OutputContainer

from edgecar.errors import MediaError
from edgecar.media.sources import reason_of
from edgecar.redaction import redacted
from edgecar.serve import push_child
from edgecar.serve.outputs import CLOCK, Coded, PacketOutput
from edgecar.serve.settings import Push, Record

RECORD_DEPTH = 500
"""Pictures that may wait for a stalled disk: twenty seconds at 25 frames a second."""

PUSH_DEPTH = 50
"""Pictures that may wait for a network: two seconds. After that the next keyframe is sent."""

FRAGMENTS = {
    # The index at the head, then a fragment per keyframe: no end has to be written.
    "mp4": {"movflags": "frag_keyframe+empty_moov+default_base_moof", "flush_packets": "1"},
    "mkv": {"cluster_time_limit": "1000", "flush_packets": "1"},
}

RECORDING_NAME = re.compile(r"\d{8}T\d{6}\.\d{3}Z\.(mp4|mkv)")
"""Names of files that this program may remove."""

HOUR_SECONDS = 3600
GIB = 1 << 30
END_SECONDS = 1.0
"""Time for the process that pushes to end by itself."""


class Recorder(PacketOutput):
    """Writes files ``FOLDER/CAMERA/20261126T144925.120Z.mp4``, named by when they begin (UTC).

    Each file begins with a keyframe and plays on its own. A process that is killed leaves a file
    that plays to its last whole fragment (MP4: one keyframe interval; Matroska: one second).
    """

    def __init__(self, camera: str, record: Record) -> None:
        self._folder = record.folder / camera
        super().__init__("record", str(self._folder), RECORD_DEPTH)
        self._record = record

    def _is_over(self, item: Coded) -> bool:
        long_enough = (item.ticks - self._began_ticks) * CLOCK >= self._record.segment_seconds
        return super()._is_over(item) or (item.keyframe and long_enough)

    def _opened(self) -> OutputContainer:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._remove_old()
        kind = self._record.format
        options, form = FRAGMENTS[kind], "matroska" if kind == "mkv" else "mp4"
        return av.open(f"file:{self._free_path()}", "w", format=form, container_options=options)

    def _explained(self, error: Exception) -> MediaError:
        return MediaError(f"{self._folder} cannot be written ({reason_of(error)}); check the disk")

    def _free_path(self) -> Path:
        """Return a path whose name sorts by time; no file is overwritten."""
        seconds = time.time()
        while True:
            began = datetime.fromtimestamp(seconds, timezone.utc)
            stem = f"{began:%Y%m%dT%H%M%S}.{began.microsecond // 1000:03d}Z"
            path = self._folder / f"{stem}.{self._record.format}"
            if not path.exists():
                return path
            seconds += 0.001

    def _remove_old(self) -> None:
        paths = [path for path in self._folder.iterdir() if RECORDING_NAME.fullmatch(path.name)]
        files = {path: path.stat() for path in sorted(paths)}
        total = sum(stat.st_size for stat in files.values())
        hours, gib = self._record.keep_hours, self._record.keep_gib
        for path, stat in files.items():
            old = hours is not None and time.time() - stat.st_mtime > hours * HOUR_SECONDS
            if old or (gib is not None and total > gib * GIB):
                path.unlink(missing_ok=True)
                total -= stat.st_size


class Pusher(PacketOutput):
    """Sends the stream to an RTSP or RTMP server, and connects again when the server goes away.

    A child process does the sending. PyAV holds Python's lock while FFmpeg connects to write: a
    server that accepts and then says nothing would stop every camera for seconds.
    """

    def __init__(self, push: Push) -> None:
        super().__init__("push", redacted(push.url), PUSH_DEPTH)
        self._url = push.url
        self._process: subprocess.Popen[bytes] | None = None

    def close(self) -> None:
        super().close()
        if self._process is not None:  # it hangs in a call to the server
            self._process.kill()

    def _opened(self) -> OutputContainer:
        pipe = subprocess.PIPE
        command = [sys.executable, push_child.__file__]
        self._process = subprocess.Popen(command, stdin=pipe, stderr=pipe, bufsize=0)
        stdin = self._process.stdin
        assert stdin is not None
        stdin.write(self._url.encode() + b"\n")  # no list of processes shows it there
        options = {"flush_packets": "1"}
        return av.open(stdin, "w", format=push_child.PIPE_FORMAT, container_options=options)

    def _explained(self, error: Exception) -> MediaError:
        """Say why the child ended, if it has."""
        reason, process = str(error), self._process
        if process is not None and process.stderr is not None:
            with suppress(subprocess.TimeoutExpired):
                process.wait(END_SECONDS)
                lines = process.stderr.read().decode(errors="replace").strip().splitlines()
                reason = lines[-1].replace(self._url, self.status.target) if lines else reason
        return MediaError(
            f"{self.status.target} takes no stream ({reason}); check server and address"
        )

    def _reset(self) -> None:
        process, self._process = self._process, None
        with suppress(av.FFmpegError, OSError, ValueError):  # the child may be gone
            super()._reset()
        if process is None or process.stdin is None or process.stderr is None:
            return
        with suppress(OSError):
            process.stdin.close()
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stderr.close()
