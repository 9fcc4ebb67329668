"""Restored frames coded once, and the packets given to whoever writes them."""

from abc import abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import cast

import av
from av.container import OutputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from edgecar.errors import MediaError
from edgecar.media.color import frame_in
from edgecar.media.convert import picture_from_frame, range_code
from edgecar.media.frame import COLOUR_NOT_STATED, Frame
from edgecar.media.sources import reason_of
from edgecar.media.timing import Timeline
from edgecar.serve.outputs import Kind, Output
from edgecar.serve.settings import Video

CODER_DEPTH = 8  # frames that wait to be coded: cameras that come back send some at once
PACKETS_DEPTH = 500  # twenty seconds at 25 frames a second: a stall of the disk, not of a network

CLOCK = Fraction(1, 90_000)  # ticks of coded times: RTSP's, and fine enough for any rate
ASSUMED_RATE = Fraction(25)
CODER_THREADS = 1  # a service has more cameras than cores


@dataclass(frozen=True)
class Coded:
    """One coded picture.

    Attributes:
        stream: The coder's, which a container copies its metadata from; another one after each
            start.
        data: The bytes.
        ticks: When it is shown and decoded (there are no B-frames), in ticks of `CLOCK`.
        keyframe: Whether decoding may begin here.
    """

    stream: VideoStream
    data: bytes
    ticks: int
    keyframe: bool

    def packet_for(self, stream: VideoStream, from_ticks: int) -> "Packet[VideoStream]":
        """The same for a container, whose clock begins at ``from_ticks``."""
        packet = cast("Packet[VideoStream]", Packet(self.data))
        packet.stream = stream
        packet.time_base = CLOCK
        packet.pts = packet.dts = self.ticks - from_ticks
        packet.is_keyframe = self.keyframe
        return packet


class PacketOutput(Output[Coded]):
    """An output of coded pictures; after any loss it goes on with the next keyframe.

    Args:
        kind: What it does.
        target: Where to, for messages.
        depth: Pictures that may wait.
    """

    def __init__(self, kind: Kind, target: str, depth: int) -> None:
        super().__init__(kind, target, depth)
        self._container: OutputContainer | None = None
        self._stream: VideoStream | None = None
        self._of: VideoStream | None = None  # the coder's, whose metadata the container has
        self._began_ticks = 0
        self._synchronised = False

    @abstractmethod
    def _opened(self, item: Coded) -> OutputContainer:
        """A container that begins with a picture, a keyframe."""

    @abstractmethod
    def _explained(self, error: Exception) -> MediaError:
        """What went wrong, for whoever looks."""

    def _is_over(self, item: Coded) -> bool:
        """Whether another container must begin with a picture."""
        return item.stream is not self._of

    def _make_room(self) -> None:
        # Each picture needs the one before: the rest up to a keyframe is of no use.
        self._dropped += len(self._items)
        self._items.clear()
        self._synchronised = False

    def _write(self, item: Coded) -> bool:
        if not self._synchronised and not item.keyframe:
            return False
        self._synchronised = False  # unless this works
        try:
            if self._container is None or self._stream is None or self._is_over(item):
                self._reset()
                self._container = self._opened(item)
                self._stream = self._container.add_stream_from_template(item.stream)
                self._of, self._began_ticks = item.stream, item.ticks
            self._container.mux(item.packet_for(self._stream, self._began_ticks))
        except (av.FFmpegError, OSError, ValueError) as error:
            raise self._explained(error) from error
        self._synchronised = True
        return True

    def _reset(self) -> None:
        container, self._container = self._container, None
        if container is not None:
            container.close()


class Coder(Output[Frame]):
    """Codes frames and hands the packets on.

    Args:
        camera: Name, for messages.
        video: How.
        targets: Who gets the packets; started and closed with the coder.
    """

    def __init__(self, camera: str, video: Video, targets: Sequence[PacketOutput]) -> None:
        super().__init__("code", camera, CODER_DEPTH)
        self.targets = targets
        self._video = video
        self._container: OutputContainer | None = None
        self._stream: VideoStream | None = None
        self._timeline = self._new_timeline()
        self._last_keyframe: int | None = None
        self._colour = COLOUR_NOT_STATED  # of the frame that the coder was opened for

    def start(self) -> None:
        super().start()
        for target in self.targets:
            target.start()

    def close(self) -> None:
        super().close()
        for target in self.targets:
            target.close()

    def _write(self, item: Frame) -> bool:
        stream = self._stream
        height, width = item.size[0] + item.size[0] % 2, item.size[1] + item.size[1] % 2
        if stream is None or (stream.height, stream.width) != (height, width):
            self._reset()
            stream = self._open(item, (height, width))
        if item.colour != self._colour:  # as a camera that was set up anew
            item = frame_in(item, self._colour)
        picture = picture_from_frame(item, even=True)
        picture.pts, picture.time_base = self._timeline.place(item), CLOCK
        if self._is_due(picture.pts):
            picture.pict_type = av.video.frame.PictureType.I
            self._last_keyframe = picture.pts
        try:
            packets = stream.encode(picture)
        except (av.FFmpegError, ValueError) as error:
            raise MediaError(
                f"frames of {self.target} cannot be coded ({reason_of(error)})"
            ) from error
        self._hand_on(packets)
        return True

    def _is_due(self, ticks: int) -> bool:
        """Keyframes go by time, not by frames: cameras stutter, and drop frames under load."""
        last = self._last_keyframe
        return last is None or (ticks - last) * CLOCK >= self._video.keyframe_seconds

    def _open(self, first: Frame, size: tuple[int, int]) -> VideoStream:
        self._container = av.open("/dev/null", "w", format="null")
        # One slice and no look-ahead: a picture comes out for each that goes in.
        options = {"preset": self._video.preset, "crf": str(self._video.crf), "tune": "zerolatency"}
        options |= {
            "x264-params": "sliced-threads=0:scenecut=0:keyint=infinite",
            "flags": "+global_header",
        }
        stream = self._container.add_stream("libx264", rate=ASSUMED_RATE, options=options)
        stream.height, stream.width = size
        context = stream.codec_context
        context.pix_fmt, context.time_base = "yuv420p", CLOCK
        context.thread_count = CODER_THREADS
        context.color_range = range_code(first.colour)
        context.colorspace = first.colour.matrix
        context.color_primaries = first.colour.primaries
        context.color_trc = first.colour.transfer
        try:
            self._container.start_encoding()
        except av.FFmpegError as error:
            raise MediaError(
                f"frames of {self.target} cannot be coded ({reason_of(error)})"
            ) from error
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
        self._timeline = self._new_timeline()

    def _new_timeline(self) -> Timeline:
        return Timeline(CLOCK, ASSUMED_RATE, from_zero=False, warnings=Counter())
