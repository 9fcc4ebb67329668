"""Coded packets into decoded pictures, past whatever damage there is."""

import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from fractions import Fraction
from typing import NamedTuple, cast

import av
from av.container import InputContainer
from av.error import ExitError
from av.packet import Packet
from av.stream import Stream
from av.video.stream import VideoStream

from edgecar.errors import MediaError, StallError
from edgecar.media.audio import Sound
from edgecar.media.sources import PLAYLIST_FORMATS, LiveSettings, Source, reason_of
from edgecar.media.timing import UnbrokenTimes

READ_RETRIES = 8  # failed reads in a row after which the rest of a damaged file is given up

ONE_PICTURE_A_PACKET = ("h264", "hevc")
"""Codings where a packet without a picture is a loss, not a rule (VP9 has hidden frames)."""

MISSING_TOLERANCE_FRAMES = 2
"""The end of the last frame is known only roughly where its duration is not stored."""

MAX_HELD_PICTURES = 256  # more than any decoder holds: 16 to put them in order and one a thread

SMALLEST_PICTURE_BYTES = 188
"""A picture of a transport stream has at least one of its packets. A clock that jumped in between
promises more pictures than there is room for."""

OUTPUT_CORRUPT = 1 << 3  # FFmpeg's AV_CODEC_FLAG_OUTPUT_CORRUPT, for which PyAV 17 has no name
LONG_FRAMES = 1.1  # intervals after which a last picture counts as shown for longer than others

MISSING_FRAMES = "frames missing from the file"
CORRUPT_FRAMES = "damaged frames concealed by the decoder"
DAMAGED_PACKETS = "damaged packets skipped"
SKIPPED_PACKETS = "packets before the first keyframe skipped"
NO_KEYFRAME = "started without a keyframe"


class Start(NamedTuple):
    """Position of a keyframe in a file, in ticks of its stream."""

    shown: int
    decoded: int


class VideoPackets:
    """Reads and decodes one video stream, and counts in ``warnings`` what is damaged or missing.

    A ``live`` stream is sent as it happens: reading may begin between two keyframes. Decoding of a
    file may begin at the keyframe ``start``; pictures shown before it are left out. Packets of the
    streams that ``sound`` names go there. ``also_read`` sees the packets before they are decoded.
    """

    def __init__(
        self,
        container: InputContainer,
        stream: VideoStream,
        source: Source,
        live: bool,
        settings: LiveSettings,
        warnings: Counter[str],
        start: Start | None = None,
        sound: Sound | None = None,
        also_read: "Callable[[Packet[VideoStream]], None] | None" = None,
    ) -> None:
        self._container, self._stream, self._source = container, stream, source
        self._live, self._settings, self._warnings = live, settings, warnings
        self._start, self._sound, self._also_read = start, sound, also_read
        self._awaits_keyframe, self._awaits_start = live, start is not None
        self._times = UnbrokenTimes(container, stream, warnings)
        self.clock_may_jump = self._times.may_jump
        """True if the format has no time line that could state long gaps."""
        self._since_seconds = time.monotonic()  # the last picture, or when the wait for one began
        self._read = self._sent = self._decoded = self._refused = 0
        self._shown: deque[int] = deque(maxlen=MAX_HELD_PICTURES)  # when, in ticks, as read
        self._first_ticks: int | None = None  # shown
        self._first_dts: int | None = None
        self._last_dts = self._end_ticks = 0
        self._interlaced = self._states_order = False
        self.decoding_times: deque[int] = deque(maxlen=MAX_HELD_PICTURES)
        """Decoding times of the latest packets, in ticks."""
        self.last_decoded: Packet[VideoStream] | None = None
        """Packet that was given to the decoder last; pictures may come from earlier ones."""

    @property
    def lacks_display_times(self) -> bool:
        """True if the decoder reorders pictures, but the container does not state the order."""
        if self._container.format.name == "avi":
            return True
        if self._start is not None:
            return False  # the keyframe it begins at was found by such a time
        depth = self._stream.codec_context.reorder_depth
        return 0 < depth < len(self.decoding_times) and not self._states_order

    def pictures(self) -> Generator[av.VideoFrame, None, None]:
        """Yield every picture that can be decoded, in display order, past the damage in a file.

        Raises:
            MediaError: A camera or network stream broke off.
        """
        for packet in self._packets():
            pictures = self._pictures_of(packet)
            if pictures:
                yield from pictures
                self._since_seconds = time.monotonic()
        yield from self._pictures_of(None)
        if self._source.kind == "file" and self._start is None:
            self._count_losses()

    def shown_until_end(self, last: int | None, rate: Fraction) -> int | None:
        """Return how long the last picture, at ``last`` ticks, is shown; None: as all others."""
        stream, tick = self._stream, self._stream.time_base
        if last is None or tick is None or self.clock_may_jump or self._warnings[MISSING_FRAMES]:
            return None
        seconds = self._stated_seconds()
        if seconds is not None:
            end = seconds / tick
        elif stream.duration is not None:
            end = Fraction(stream.duration + (stream.start_time or 0))
        else:
            return None
        return int(end - last) if (end - last) * tick * rate > LONG_FRAMES else None

    def expected_frames(self, rate: Fraction) -> int | None:
        """Return how many frames the container promises; None if it promises nothing."""
        if self._live or self._stream.frames:
            return None if self._live else self._stream.frames
        seconds = self._stated_seconds()
        if seconds is None and self._container.duration is not None:
            seconds = Fraction(self._container.duration, av.time_base)
        if seconds is None:
            return None
        frames = round(seconds * rate)
        jumps = self.clock_may_jump and self._container.format.name not in PLAYLIST_FORMATS
        too_many = jumps and frames * SMALLEST_PICTURE_BYTES > self._container.size
        return None if too_many else frames

    def _packets(self) -> "Generator[Packet[VideoStream], None, None]":
        suspect: Packet[VideoStream] | None = None
        failures = 0
        while failures <= READ_RETRIES:
            try:
                for packet in self._demuxed():
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
                failures += 1
                if self._source.kind == "file":  # reading goes on behind the damage
                    self._warnings["unreadable places in the file skipped"] += 1
                    continue
                kind = StallError if isinstance(error, ExitError) else MediaError
                failure = kind(self._broken_off(reason_of(error)))
            # Out here, so that FFmpeg's error, which shows the URL, is no part of it.
            raise failure
        # The packet at a cut gives no picture, and PyAV loses those still in a threaded decoder
        # when the last one fails: so it never gets there.
        if suspect is not None:
            self._refused += 1
            self._warnings[DAMAGED_PACKETS] += 1

    def _note(self, packet: "Packet[VideoStream]") -> None:
        if self._also_read:
            self._also_read(packet)
        self._read += 1
        self._sent += not packet.is_discard
        self._states_order |= packet.pts != packet.dts
        if packet.dts is not None:
            self.decoding_times.append(packet.dts)
            self._first_dts = packet.dts if self._first_dts is None else self._first_dts
            self._last_dts = packet.dts
        if packet.pts is not None:
            self._shown.append(packet.pts)
            if self._first_ticks is None or packet.pts < self._first_ticks:
                self._first_ticks = packet.pts
            self._end_ticks = max(self._end_ticks, packet.pts + (packet.duration or 0))

    def _demuxed(self) -> "Iterator[Packet[VideoStream]]":
        """Yield packets of the pictures; others go where a writer finds them."""
        copied = self._sound.streams if self._sound else {}
        packets: Iterator[Packet[Stream]]
        if self._live:
            # All streams: asked for one, PyAV would wait for it as long as there is sound.
            packets = self._container.demux()
        else:
            others = [self._container.streams[index] for index in copied]
            packets = self._container.demux(self._stream, *others)
            if self._start is not None:
                packets = self._from_start(packets, self._start)
            else:
                packets = self._times.placed(packets)
        for packet in packets:
            silent_seconds = time.monotonic() - self._since_seconds
            waits = self._live and not self._awaits_keyframe
            if waits and silent_seconds > self._settings.read_seconds:
                # Packets come without pictures, for which FFmpeg has no timeout.
                raise StallError(self._broken_off("no data in time"))
            if packet.stream is self._stream:
                wanted = cast("Packet[VideoStream]", packet)
                if not self._comes_too_early(wanted):
                    yield wanted
            elif self._sound and packet.size and packet.stream_index in copied:
                self._sound.put(packet)

    def _from_start(
        self, packets: "Iterator[Packet[Stream]]", start: Start
    ) -> "Iterator[Packet[Stream]]":
        """Yield the keyframe to begin at and all packets behind it.

        Some formats seek by decoding times, some by presentation times, and some to a keyframe
        before the one asked for: what comes first is passed over without being decoded.
        """
        if self._awaits_start:
            with suppress(av.FFmpegError):  # it is still found by reading from the beginning
                self._container.seek(min(start), stream=self._stream)
        for packet in packets:
            if self._awaits_start and not (packet.is_keyframe and packet.pts == start.shown):
                continue
            self._awaits_start = False
            yield packet
        if self._awaits_start:
            raise MediaError(
                f"{self._source.shown} has no keyframe at {start.shown} ticks any more; "
                "it was changed while it was read: run again"
            )

    def _comes_too_early(self, packet: "Packet[VideoStream]") -> bool:
        """Return True for a packet that needs pictures which were sent before reading began.

        Most decoders drop it by themselves, some decode it on a grey ground.
        """
        if not self._awaits_keyframe or not packet.size:
            return False
        now = time.monotonic()
        if not packet.is_keyframe:
            if now - self._since_seconds < self._settings.keyframe_seconds:
                self._warnings[SKIPPED_PACKETS] += 1
                return True
            self._warnings[NO_KEYFRAME] += 1
            # Else the decoder goes on waiting for what never comes.
            self._stream.codec_context.flags |= OUTPUT_CORRUPT
        self._awaits_keyframe, self._since_seconds = False, now
        return False

    def _broken_off(self, reason: str) -> str:
        return f"{self._source.shown} broke off ({reason}); connect again"

    def _pictures_of(self, packet: "Packet[VideoStream] | None") -> list[av.VideoFrame]:
        if packet is not None:
            self.last_decoded = packet
        try:
            pictures = self._stream.decode(packet)
        except av.FFmpegError:
            self._refused += 1
            self._warnings[DAMAGED_PACKETS] += 1
            return []
        if self._start is not None:  # some need pictures before the keyframe
            pictures = [p for p in pictures if p.pts is None or p.pts >= self._start.shown]
        self._decoded += len(pictures)
        for picture in pictures:
            if picture.is_corrupt:
                self._warnings[CORRUPT_FRAMES] += 1
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
            self._warnings[MISSING_FRAMES] += missing

    def _missing_at_end(self) -> int:
        frames, rate, tick = self._stream.frames, self._stream.average_rate, self._stream.time_base
        if self._container.format.name == "avi":
            # Its index has one place a tick, empty where the last frame stays.
            steps, covered = self._read - 1, self._last_dts - (self._first_dts or 0)
            if not frames or steps < 1 or covered < steps:
                return 0
            return (frames - 1 - self._last_dts) * steps // covered
        if frames:
            return frames - self._read
        seconds = self._stated_seconds()
        if seconds is None or not rate or tick is None:
            return 0
        end, interval = seconds / tick, 1 / (rate * tick)
        # Where the file was cut, frames that are shown before others may be missing already. None
        # is missing among those shown until the last decoding time, if the rate is constant.
        if self._first_ticks is not None:
            later = sum(shown > self._last_dts for shown in self._shown)
            places = (self._last_dts - self._first_ticks) / interval + 1
            if 2 * abs(places - (self._read - later)) <= 1:
                return round((end - self._last_dts) / interval - 1 - later)
        tail = (end - self._end_ticks) / interval
        return round(tail) if tail >= MISSING_TOLERANCE_FRAMES else 0

    def _stated_seconds(self) -> Fraction | None:
        """Return the length that Matroska notes for the stream when the recording is finished."""
        stated = self._stream.metadata.get("DURATION", "")
        try:
            hours, minutes, seconds = stated.split(":")
            return int(hours) * 3600 + int(minutes) * 60 + Fraction(seconds)
        except ValueError:
            return None
