"""A restored stream sent to an RTSP or RTMP server, by a process of its own.

PyAV keeps Python's lock while FFmpeg connects to write: a server that takes the call and says
nothing would stop every camera for seconds. So a child process does it, which gets the coded
pictures through a pipe.
"""

import subprocess
import sys
from contextlib import suppress
from typing import IO

import av
from av.container import OutputContainer

from edgecar.errors import MediaError
from edgecar.redaction import redacted
from edgecar.serve import push_child
from edgecar.serve.coding import Coded, PacketOutput
from edgecar.serve.settings import Push

DEPTH = 50  # pictures: two seconds; who is slower gets the next keyframe
END_SECONDS = 1.0


class Pusher(PacketOutput):
    """Sends coded pictures; connects again, with a growing wait, where the server goes away.

    Args:
        push: Where to.
    """

    def __init__(self, push: Push) -> None:
        super().__init__("push", redacted(push.url), DEPTH)
        self._url = push.url
        self._process: subprocess.Popen[bytes] | None = None

    def close(self) -> None:
        super().close()
        process = self._process
        if process is not None:  # it hangs in a call to the server
            process.kill()

    def _opened(self, item: Coded) -> OutputContainer:  # noqa: ARG002  # its metadata come with it
        command = [sys.executable, push_child.__file__]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE)
        assert process.stdin is not None
        self._process = process
        process.stdin.write(self._url.encode() + b"\n")  # where no list of processes shows it
        pipe = _Flushed(process.stdin)
        options = {"flush_packets": "1"}
        return av.open(pipe, "w", format=push_child.PIPE_FORMAT, container_options=options)

    def _explained(self, error: Exception) -> MediaError:
        reason = self._last_words() or str(error)
        return MediaError(f"{self.target} takes no stream ({reason}); check server and address")

    def _reset(self) -> None:
        process, self._process = self._process, None
        with suppress(av.FFmpegError, OSError, ValueError):  # the child may be gone
            super()._reset()
        if process is None:
            return
        with suppress(OSError):
            if process.stdin:
                process.stdin.close()
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stderr:
            process.stderr.close()

    def _last_words(self) -> str:
        """Why the child ended; empty if it has not."""
        process = self._process
        if process is None or process.stderr is None:
            return ""
        with suppress(subprocess.TimeoutExpired):
            process.wait(END_SECONDS)
            lines = process.stderr.read().decode(errors="replace").strip().splitlines()
            return lines[-1].replace(self._url, self.target) if lines else ""
        return ""


class _Flushed:
    """A pipe that keeps nothing back."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self._pipe = pipe

    def write(self, data: bytes) -> int:
        """All of it."""
        self._pipe.write(data)
        self._pipe.flush()
        return len(data)
