"""Outputs of a camera, each with its own queue and thread; frames are coded once for all."""

import logging
import random
import threading
import time
from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Sequence
from fractions import Fraction
from typing import Generic, Literal, NamedTuple, TypeVar, cast

import av
from av.container import OutputContainer
from av.packet import Packet
from av.video.stream import VideoStream
from pydantic import BaseModel

from edgecar.errors import EdgecarError, MediaError
from edgecar.media.color import frame_in, picture_from_frame, state_colour
from edgecar.media.frame import COLOUR_NOT_STATED, Frame
from edgecar.media.sources import Backoff, reason_of
from edgecar.media.timing import Timeline
from edgecar.serve.settings import Video

Kind = Literal["code", "record", "push", "publish"]
Item = TypeVar("Item")

FIRST_BACKOFF_SECONDS = 0.5
LONGEST_BACKOFF_SECONDS = 30.0
JITTER = 0.2
DRAIN_SECONDS = 2.0
"""Time to write what is queued when an output is closed; a service has 5 s for everything."""

CODER_DEPTH = 8
"""Frames that may wait to be coded: cameras that come back send several at once."""

CLOCK = Fraction(1, 90_000)
"""Tick of coded times: that of RTSP, and fine enough for any frame rate."""

ASSUMED_RATE = Fraction(25)
CODER_THREADS = 1  # a service has more cameras than cores

_log = logging.getLogger(__name__)


def new_backoff() -> Backoff:
    """Return the waits of a source or an output that failed."""
    return Backoff(FIRST_BACKOFF_SECONDS, LONGEST_BACKOFF_SECONDS, JITTER, random.Random())


class OutputStatus(BaseModel):
    """State and counters of an output, as the API answers them."""

    kind: Kind
    target: str
    """Address or folder, without passwords."""
    state: Literal["connecting", "running", "waiting", "stopped"] = "connecting"
    error: str | None = None
    """Why it waits."""
    frames: int = 0
    """Frames written so far."""
    dropped: int = 0
    """Frames left out because the output was not ready or too slow."""


class Output(ABC, Generic[Item]):
    """Queue of items and a thread that writes them; a failure is tried again after a pause.

    The oldest item is dropped when more than ``depth`` wait.
    """

    def __init__(self, kind: Kind, target: str, depth: int) -> None:
        self.status = OutputStatus(kind=kind, target=target)
        self._depth = depth
        self._items: deque[Item] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._backoff = new_backoff()
        self._thread = threading.Thread(target=self._run, name=f"edgecar-{kind}", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def offer(self, item: Item) -> None:
        """Queue an item; returns at once, in any thread."""
        with self._changed:
            if self._closing:
                return
            if len(self._items) >= self._depth:
                self._make_room()
            self._items.append(item)
            self._changed.notify_all()

    def close(self) -> None:
        """Write what is queued, for at most `DRAIN_SECONDS`; a second call does nothing more."""
        with self._changed:
            first, self._closing = not self._closing, True
            self._changed.notify_all()
        self._thread.join(DRAIN_SECONDS)
        if first:
            now = self.status
            now.state, lost = "stopped", now.dropped + len(self._items)
            _log.info("%s %s: %d written, %d dropped", now.kind, now.target, now.frames, lost)

    @abstractmethod
    def _write(self, item: Item) -> bool:
        """Write one item, opening what is needed; returns False if it had to be left out.

        After an exception `_reset` is called, and the next item tries again.
        """

    @abstractmethod
    def _reset(self) -> None:
        """Close what is open; finish it where that is possible."""

    def _make_room(self) -> None:
        """Drop the oldest item, or more where items depend on those before them."""
        self._items.popleft()
        self.status.dropped += 1

    def _run(self) -> None:
        while (item := self._next()) is not None:
            began = time.monotonic()
            try:
                written = self._write(item)
            except Exception as error:  # no output may end another one
                self._wait_after(error, time.monotonic() - began)
                continue
            with self._changed:
                self.status.frames += written
                self.status.dropped += not written
                self.status.state, self.status.error = "running", None
        self._reset_quietly()

    def _next(self) -> Item | None:
        with self._changed:
            self._changed.wait_for(lambda: self._items or self._closing)
            return self._items.popleft() if self._items else None

    def _wait_after(self, error: Exception, success_seconds: float) -> None:
        now, reason = self.status, str(error) or type(error).__name__
        if not isinstance(error, EdgecarError):
            _log.exception("%s %s failed", now.kind, now.target)
        self._reset_quietly()
        self._backoff.succeeded(success_seconds)
        seconds = self._backoff.next_seconds()
        _log.warning("%s %s: %s (again in %.1f s)", now.kind, now.target, reason, seconds)
        until = time.monotonic() + seconds
        with self._changed:
            now.state, now.error = "waiting", reason
            now.dropped += 1
            while not self._closing and (left := until - time.monotonic()) > 0:
                now.dropped += len(self._items)
                self._items.clear()
                self._changed.wait(left)

    def _reset_quietly(self) -> None:
        try:
            self._reset()
        except Exception as error:
            _log.warning("%s %s: %s", self.status.kind, self.status.target, error)


class Coded(NamedTuple):
    """One coded picture. Its time is that of display and of decoding: there are no B-frames."""

    stream: VideoStream
    """The coder's stream, which containers copy; another one after each start."""
    data: bytes
    ticks: int
    keyframe: bool


class PacketOutput(Output[Coded]):
    """Output of coded pictures to a container; after any loss it goes on at the next keyframe."""

    def __init__(self, kind: Kind, target: str, depth: int) -> None:
        super().__init__(kind, target, depth)
        self._container: OutputContainer | None = None
        self._stream: VideoStream | None = None
        self._coder_stream: VideoStream | None = None  # the one that the container was made for
        self._began_ticks = 0
        self._synchronised = False

    @abstractmethod
    def _opened(self) -> OutputContainer:
        """Open a container that begins with a keyframe."""

    @abstractmethod
    def _explained(self, error: Exception) -> MediaError:
        """Return the error to show for a failure of FFmpeg or the system."""

    def _is_over(self, item: Coded) -> bool:
        """Return True if this picture must begin another container."""
        return item.stream is not self._coder_stream

    def _make_room(self) -> None:
        # Each picture needs the one before it: the rest up to a keyframe is useless.
        self.status.dropped += len(self._items)
        self._items.clear()
        self._synchronised = False

    def _write(self, item: Coded) -> bool:
        if not self._synchronised and not item.keyframe:
            return False
        self._synchronised = False  # unless this works
        try:
            if self._container is None or self._stream is None or self._is_over(item):
                self._reset()
                self._container = self._opened()
                self._stream = self._container.add_stream_from_template(item.stream)
                self._coder_stream, self._began_ticks = item.stream, item.ticks
            packet = cast("Packet[VideoStream]", Packet(item.data))
            packet.stream, packet.time_base = self._stream, CLOCK
            packet.pts = packet.dts = item.ticks - self._began_ticks
            packet.is_keyframe = item.keyframe
            self._container.mux(packet)
        except (av.FFmpegError, OSError, ValueError) as error:
            raise self._explained(error) from error
        self._synchronised = True
        return True

    def _reset(self) -> None:
        container, self._container = self._container, None
        if container is not None:
            container.close()


class Coder(Output[Frame]):
    """Codes a camera's frames (H.264) for all targets, which start and close with it."""

    def __init__(self, camera: str, video: Video, targets: Sequence[PacketOutput]) -> None:
        super().__init__("code", camera, CODER_DEPTH)
        self.targets = targets
        self._video = video
        self._container: OutputContainer | None = None
        self._stream: VideoStream | None = None
        self._colour = COLOUR_NOT_STATED  # that of the frame the coder was opened for
        self._last_keyframe: int | None = None

    def start(self) -> None:
        super().start()
        for target in self.targets:
            target.start()

    def close(self) -> None:
        super().close()
        for target in self.targets:
            target.close()

    def _write(self, item: Frame) -> bool:
        height, width = item.size[0] + item.size[0] % 2, item.size[1] + item.size[1] % 2
        try:
            stream = self._stream
            if stream is None or (stream.height, stream.width) != (height, width):
                self._reset()
                stream = self._open(item, (height, width))
            if item.colour != self._colour:  # as after a change of the camera's settings
                item = frame_in(item, self._colour)
            picture = picture_from_frame(item, even=True)
            picture.pts = ticks = self._timeline.place(item)
            picture.time_base, last = CLOCK, self._last_keyframe
            # By time, not by number of frames: cameras stutter, and frames are dropped.
            if last is None or (ticks - last) * CLOCK >= self._video.keyframe_seconds:
                picture.pict_type = av.video.frame.PictureType.I
                self._last_keyframe = ticks
            self._hand_on(stream.encode(picture))
        except (av.FFmpegError, ValueError) as error:
            raise MediaError(
                f"frames of {self.status.target} cannot be coded ({reason_of(error)})"
            ) from error
        return True

    def _open(self, first: Frame, size: tuple[int, int]) -> VideoStream:
        self._container = av.open("/dev/null", "w", format="null")
        options = {
            "preset": self._video.preset,
            "crf": str(self._video.crf),
            # One slice and no look-ahead: each frame that goes in gives a picture at once.
            "tune": "zerolatency",
            "x264-params": "sliced-threads=0:scenecut=0:keyint=infinite",
            "flags": "+global_header",
        }
        stream = self._container.add_stream("libx264", rate=ASSUMED_RATE, options=options)
        stream.height, stream.width = size
        context = stream.codec_context
        context.pix_fmt, context.time_base = "yuv420p", CLOCK
        context.thread_count = CODER_THREADS
        state_colour(context, first.colour)
        self._container.start_encoding()
        self._timeline = Timeline(CLOCK, ASSUMED_RATE, from_zero=False, warnings=Counter())
        self._stream, self._last_keyframe, self._colour = stream, None, first.colour
        return stream

    def _hand_on(self, packets: "Sequence[Packet[VideoStream]]") -> None:
        assert self._stream is not None
        for packet in packets:
            assert packet.pts is not None
            coded = Coded(self._stream, bytes(packet), packet.pts, packet.is_keyframe)
            for target in self.targets:
                target.offer(coded)

    def _reset(self) -> None:
        if self._container is not None and self._stream is not None:
            self._hand_on(self._stream.encode(None))
            self._container.close()
        self._container = self._stream = None
