"""Frames of one camera or file, for as long as the service runs."""

import logging
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from typing import Literal

from edgecar.errors import EdgecarError, MediaError
from edgecar.media.facts import StreamFacts
from edgecar.media.frame import Frame
from edgecar.media.live import LiveReader, LiveSource, LiveStats
from edgecar.media.reader import Reader
from edgecar.media.sources import RTSP_SOUND, LiveSettings, source_from
from edgecar.media.timing import JoinedTimes
from edgecar.serve.outputs import new_backoff
from edgecar.serve.settings import CameraSettings

State = Literal["connecting", "running", "waiting", "stopped", "ended"]

LATE_SECONDS = 1.0
"""Lag above which this machine cannot decode a file in time; its clock is set again then."""

STILL_SECONDS = 1.0
"""Pause before a source that is one picture is read again."""

TICK = Fraction(1, 90_000)
"""Tick of the one clock of a camera, that of RTSP. Its connections may count in others."""

_log = logging.getLogger(__name__)

Opened = Reader | LiveReader


def open_camera(camera: CameraSettings) -> Opened:
    """Open a file, or connect to a camera."""
    source = source_from(camera.source)
    if source.kind == "file":
        return Reader(source, keep_size=True, read_coding=True)
    settings = LiveSettings(rtsp_transport=camera.rtsp_transport)
    return LiveReader(source, settings, read_coding=True)


class SupervisedSource(LiveSource):
    """Endless frames of one camera: after a failure it is opened again, with growing waits.

    Iterate over it in one thread; everything else is for any thread. Files are played at their own
    pace. The frames of all connections are on one clock.
    """

    live = True

    def __init__(self, camera: CameraSettings) -> None:
        self.facts: StreamFacts | None = None
        """Facts of the latest connection."""
        self.codec = ""
        """FFmpeg's short name of the stream's codec."""
        self.restarts = 0
        """Number of times the source was opened again after a failure."""
        self._camera = camera
        self._closing = threading.Event()
        self._backoff = new_backoff()
        self._inner: Opened | None = None
        self._ended = False
        self._error: str | None = None
        self._counted = LiveStats()  # of readers that are closed
        self._times = JoinedTimes(TICK)

    @property
    def state(self) -> State:
        """State of the source."""
        inner = self._inner
        if self._closing.is_set():
            return "stopped"
        if self._ended:
            return "ended"
        if inner is None or (isinstance(inner, LiveReader) and inner.stats.state != "streaming"):
            return "waiting" if self.error else "connecting"
        return "running"

    @property
    def error(self) -> str | None:
        """Why the source is waiting, without passwords."""
        inner = self._inner
        if self._closing.is_set():
            return None
        if isinstance(inner, LiveReader) and inner.stats.state != "streaming":
            return inner.stats.last_error
        return self._error

    @property
    def stats(self) -> LiveStats:
        inner = self._inner
        return _sum(self._counted, inner.stats) if isinstance(inner, LiveReader) else self._counted

    def __iter__(self) -> Iterator[Frame]:
        while not self._closing.is_set() and not self._ended:
            began = time.monotonic()
            try:
                yield from self._frames_of_one_opening()
            except Exception as error:  # nothing of one camera may end the service
                self._wait_after(error, time.monotonic() - began)

    def close(self) -> None:
        """Stop; the reading thread gets the end at once."""
        self._closing.set()
        inner = self._inner
        if isinstance(inner, LiveReader):
            inner.close()

    def _frames_of_one_opening(self) -> Iterator[Frame]:
        with open_camera(self._camera) as inner:
            self._inner, self._error = inner, None
            first, self.facts, self.codec = self.facts is None, inner.facts, inner.codec
            has_sound = inner.facts.sound is not None or RTSP_SOUND in inner.facts.notes.lost
            if first and has_sound and self._camera.record:
                _log.info("camera %s: recordings have no sound", self._camera.name)
            if self._closing.is_set():  # `close` may have come while it was opened
                return
            try:
                for frame in inner if inner.live else self._paced(inner):
                    yield self._times.place(frame, time.monotonic())
            finally:
                self._counted = self.stats
                self._inner = None
                self._times.restart()
        if inner.live and not self._closing.is_set():
            raise MediaError(f"{inner.source.shown} ended; it is opened again")
        self._ended = not self._camera.loop
        if inner.facts.still and not self._ended:
            self._closing.wait(STILL_SECONDS)

    def _paced(self, frames: Opened) -> Iterator[Frame]:
        """Yield a file's frames when they are due."""
        began: float | None = None
        for frame in frames:
            due = _seconds(frame)
            now = time.monotonic()
            if began is None or now - began - due > LATE_SECONDS:
                began = now - due
            if self._closing.wait(max(0.0, began + due - now)):
                return
            yield frame

    def _wait_after(self, error: Exception, success_seconds: float) -> None:
        if self._closing.is_set():
            return
        if not isinstance(error, EdgecarError):
            _log.exception("camera %s: reading failed", self._camera.name)
        self._error = str(error) or type(error).__name__
        self._backoff.succeeded(success_seconds)
        seconds = self._backoff.next_seconds()
        _log.warning("camera %s: %s (again in %.1f s)", self._camera.name, self._error, seconds)
        self._closing.wait(seconds)
        self.restarts += 1


def _seconds(frame: Frame) -> float:
    assert frame.pts is not None  # readers give every frame a time
    assert frame.time_base is not None
    return float(frame.pts * frame.time_base)


def _sum(before: LiveStats, now: LiveStats) -> LiveStats:
    """Add the counters of two readers; state and messages are those of the later one."""
    counters = [name for name in LiveStats.__slots__ if isinstance(getattr(now, name), int)]
    return replace(now, **{name: getattr(before, name) + getattr(now, name) for name in counters})
