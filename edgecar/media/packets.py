"""Coded packets into decoded pictures, past whatever damage there is."""

from collections import Counter, deque
from collections.abc import Generator
from fractions import Fraction

import av
from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from edgecar.errors import MediaError
from edgecar.media.sources import Source, reason_of

READ_RETRIES = 8
"""Failed reads in a row after which the rest of a damaged file is given up."""

ONE_PICTURE_A_PACKET = ("h264", "hevc")
"""Codings where a packet without a picture is a loss, not a rule (VP9 has hidden frames)."""

MISSING_TOLERANCE_FRAMES = 2
"""The end of the last frame is known only roughly where its duration is not stored."""

MAX_HELD_PICTURES = 256
"""More than any decoder holds: 16 to put them in order and one a thread."""

MICROSECOND = Fraction(1, 1_000_000)


class VideoPackets:
    """Reads and decodes one video stream.

    Args:
        container: Where it is.
        stream: The stream.
        source: Where it comes from, for messages.
        warnings: Receives a count for everything that was damaged or missing.
    """

    def __init__(
        self,
        container: InputContainer,
        stream: VideoStream,
        source: Source,
        warnings: Counter[str],
    ) -> None:
        self._container, self._stream, self._source = container, stream, source
        self._warnings = warnings
        self._read = self._sent = self._decoded = self._refused = 0
        self._end_ticks = 0
        self._interlaced = False
        self._states_order = False
        self.decoding_times: deque[int] = deque(maxlen=MAX_HELD_PICTURES)
        """When the latest packets are to be decoded, in ticks."""

    @property
    def lacks_display_times(self) -> bool:
        """Whether the decoder reorders pictures, but the container does not say so."""
        if self._container.format.name == "avi":
            return True
        depth = self._stream.codec_context.reorder_depth
        return 0 < depth < len(self.decoding_times) and not self._states_order

    def pictures(self) -> Generator[av.VideoFrame, None, None]:
        """Every picture that can be decoded, in the order they are shown.

        Raises:
            MediaError: A camera or network stream broke off. Damage in files is skipped.
        """
        for packet in self._packets():
            yield from self._pictures_of(packet)
        yield from self._pictures_of(None)
        if self._source.kind == "file":
            self._count_losses()

    def expected_frames(self, rate: Fraction) -> int | None:
        """How many frames the container promises; None where it promises nothing."""
        if self._source.live:
            return None
        if self._stream.frames:
            return self._stream.frames
        seconds = self._stated_seconds()
        if seconds is None and self._container.duration is not None:
            seconds = self._container.duration * MICROSECOND
        return None if seconds is None else round(seconds * rate)

    def _packets(self) -> "Generator[Packet[VideoStream], None, None]":
        suspect: Packet[VideoStream] | None = None
        failures = 0
        while failures <= READ_RETRIES:
            try:
                for packet in self._container.demux(self._stream):
                    failures = 0
                    # An empty packet (the end, or a dropped frame in AVI) would shut the decoder.
                    if not packet.size:
                        continue
                    self._note(packet)
                    if suspect is not None:
                        yield suspect
                    suspect = packet if packet.is_corrupt else None
                    if suspect is None:
                        yield packet
                break
            except av.FFmpegError as error:
                self._unreadable(error)
                failures += 1
        # The packet at a cut gives no picture, and PyAV loses those still in a threaded decoder
        # when the last one fails: so it never gets there.
        if suspect is not None:
            self._refused += 1
            self._warnings["damaged packets skipped"] += 1

    def _note(self, packet: "Packet[VideoStream]") -> None:
        self._read += 1
        if not packet.is_discard:
            self._sent += 1
        if packet.dts is not None:
            self.decoding_times.append(packet.dts)
        if packet.pts != packet.dts:
            self._states_order = True
        if packet.pts is not None:
            self._end_ticks = max(self._end_ticks, packet.pts + (packet.duration or 0))

    def _unreadable(self, error: av.FFmpegError) -> None:
        if self._source.kind == "file":
            self._warnings["unreadable places in the file skipped"] += 1
            return
        message = f"{self._source.shown} broke off ({reason_of(error)}); connect again"
        # Without the cause, which shows the URL and its password.
        raise MediaError(message) from None

    def _pictures_of(self, packet: "Packet[VideoStream] | None") -> list[av.VideoFrame]:
        try:
            pictures = self._stream.decode(packet)
        except av.FFmpegError:
            self._refused += 1
            self._warnings["damaged packets skipped"] += 1
            return []
        self._decoded += len(pictures)
        for picture in pictures:
            if picture.is_corrupt:
                self._warnings["damaged frames concealed by the decoder"] += 1
            if picture.interlaced_frame:
                self._interlaced = True
                self._warnings["interlaced frames treated as progressive"] += 1
        return pictures

    def _count_losses(self) -> None:
        silent = self._sent - self._decoded - self._refused
        # Each field of an interlaced picture may have a packet of its own.
        if silent > 0 and not self._interlaced and self._stream.name in ONE_PICTURE_A_PACKET:
            self._warnings["packets without a picture"] += silent
        missing = self._missing_at_end()
        if missing > 0:
            self._warnings["frames missing from the file"] += missing

    def _missing_at_end(self) -> int:
        if self._stream.frames:
            return self._stream.frames - self._read
        seconds, rate = self._stated_seconds(), self._stream.average_rate
        if seconds is None or not rate or self._stream.time_base is None:
            return 0
        missing = (seconds - self._end_ticks * self._stream.time_base) * rate
        return round(missing) if missing >= MISSING_TOLERANCE_FRAMES else 0

    def _stated_seconds(self) -> Fraction | None:
        """Length that Matroska notes for the stream when the recording is finished."""
        stated = self._stream.metadata.get("DURATION", "")
        try:
            hours, minutes, seconds = stated.split(":")
            return int(hours) * 3600 + int(minutes) * 60 + Fraction(seconds)
        except ValueError:
            return None
