"""Sound, subtitles and further videos of a source, copied into an output packet by packet."""

import os
import threading
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import av
from av.bitstream import BitStreamFilterContext
from av.container import OutputContainer
from av.packet import Packet
from av.stream import Stream

from edgecar.media.facts import copied_streams
from edgecar.media.sources import main_video, opened, source_from
from edgecar.media.timing import UnbrokenTimes, start_of

UNASKED_BYTES = 16 << 20  # kept until a writer asks: seconds of a further video
LARGEST_BYTES = 64 << 20  # sound that waits for the pictures that belong to it: an hour of most
TRIAL_PACKETS = 16  # enough for a container to learn the parameters of a codec
GUARD_PACKETS = 4096  # after which a guard is made anew: each keeps an index

OUT_OF_ORDER_SECONDS = 1
"""A packet that lies so far behind the one before it, or ahead of the one after it, is left out."""

EARLY_SECONDS = 1
"""Sound so long before the first picture is kept: decoders need some of it to begin."""

WORDS = {"audio": "audio", "subtitle": "subtitles", "video": "further video"}
OUT_OF_ORDER = "audio packets out of order left out"


class Sound:
    """Coded sound on its way from the reader of a video to its writer.

    Its packets come from the same reading as the pictures: pipes and network streams cannot be
    read a second time. One thread may put packets while another takes them.
    """

    def __init__(self, streams: Iterable[Stream], warnings: Counter[str]) -> None:
        # Copies, as a source may be closed before its sound is written.
        self._shelf = av.open(os.devnull, "w", format="null")
        copies = [(stream, _added_like(self._shelf, stream)) for stream in streams]
        self.streams = {stream.index: copy for stream, copy in copies if copy}
        """Streams of the source by index."""
        self.lacking = len(copies) - len(self.streams)
        """Number of streams that nobody can copy: FFmpeg does not know their coding."""
        self.broken_off = False
        """True where pictures go on, but no further sound comes."""
        self._warnings = warnings
        self._packets: deque[Packet[Stream]] = deque()
        self._bytes = 0
        self._limit_bytes: int | None = UNASKED_BYTES
        self._lock = threading.Lock()

    def put(self, packet: "Packet[Stream]") -> None:
        """Keep a packet for the writer; without a writer or room, leave it out."""
        with self._lock:
            if self._limit_bytes is None:
                return
            if self._bytes + packet.size <= self._limit_bytes:
                self._packets.append(packet)
                self._bytes += packet.size
            elif self._limit_bytes == UNASKED_BYTES:  # nobody writes sound
                self._packets.clear()
                self._limit_bytes = None
            else:
                self._warnings["audio packets left out, for want of pictures between them"] += 1

    def take(self) -> "Packet[Stream] | None":
        """Return the next packet, or None if there is none yet or any more."""
        with self._lock:
            if self._limit_bytes == UNASKED_BYTES:
                self._limit_bytes = LARGEST_BYTES
            packet = self._packets.popleft() if self._packets else None
            self._bytes -= packet.size if packet else 0
            return packet


class SoundOfFile(Sound):
    """Coded sound of a file whose pictures are read by others."""

    def __init__(self, path: Path, warnings: Counter[str]) -> None:
        self._file = opened(source_from(path))
        super().__init__(copied_streams(self._file, main_video(self._file)), warnings)
        self._rest = self._packets_of_file()

    def take(self) -> "Packet[Stream] | None":
        """Return the next packet, or None at the end."""
        try:
            return next(self._rest, None)
        except av.FFmpegError:
            self._warnings["damaged end of the audio left out"] += 1
            return None

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _packets_of_file(self) -> "Iterator[Packet[Stream]]":
        chosen: list[Stream] = [self._file.streams[index] for index in self.streams]
        pictures = main_video(self._file)
        if not chosen or pictures is None:
            return
        times = UnbrokenTimes(self._file, pictures, Counter())  # the reader counts the jumps
        if times.may_jump:  # and the pictures say where
            chosen.append(pictures)
        for packet in times.placed(self._file.demux(chosen)):
            if packet.size and packet.stream is not pictures:
                yield packet


class AudioCopy:
    """Copies all streams of a `Sound` into an output, as far as the video has got.

    Sound never decides whether there is a video: a stream or packet that the output's format
    refuses is found beforehand, in a container that keeps nothing, left out and counted. The output
    has all its other streams, but no header yet.
    """

    def __init__(
        self, sound: Sound, output: OutputContainer, kind: str, warnings: Counter[str]
    ) -> None:
        self._sound, self._output, self._kind, self._warnings = sound, output, kind, warnings
        self._waiting: deque[Packet[Stream]] = deque()
        self._first_seconds = Fraction(0)
        self._tracks: dict[int, _Track] = {}
        while len(self._waiting) < TRIAL_PACKETS * len(sound.streams) and self._fetch():
            pass
        for index, stream in sound.streams.items():
            first = [packet for packet in self._waiting if packet.stream_index == index]
            copy = _added_like(output, stream) if _fits(kind, stream, first) else None
            if copy:
                self._tracks[index] = _Track(kind, stream, copy, output, warnings)
                continue
            other = ".mov" if kind in ("mp4", "matroska") else ".mkv"
            refused = f"{kind} does not take {stream.codec_context.name}, {other} may"
            warnings[f"{WORDS[stream.type]} left out: {refused}"] += 1
        if sound.lacking:
            warnings["audio left out: in a coding that FFmpeg does not know"] += sound.lacking

    @property
    def lacks_the_rest(self) -> bool:
        """True where sound that the output takes ended before the pictures."""
        return bool(self._tracks) and self._sound.broken_off

    def start_at(self, seconds: Fraction) -> None:
        """Shift the sound so that this time, which the first picture has, becomes zero."""
        self._first_seconds = seconds

    def close(self) -> None:
        """Close what was opened to check packets."""
        for track in self._tracks.values():
            track.close()

    def copy_until(self, seconds: Fraction | None) -> None:
        """Copy the packets that start before ``seconds``; None: all that are left."""
        if self._tracks:
            self._output.start_encoding()
        while self._waiting or self._fetch():
            packet = self._waiting[0]
            track = self._tracks.get(packet.stream_index)
            if track is None:
                self._waiting.popleft()
                continue
            starts = track.start_of(packet) - self._first_seconds
            following = self._waiting[1] if len(self._waiting) > 1 or self._fetch() else packet
            if track.is_ahead_of(packet, following):
                self._warnings[OUT_OF_ORDER] += 1
                self._waiting.popleft()
                continue
            if seconds is not None and starts >= seconds:
                return
            self._waiting.popleft()
            if starts < -EARLY_SECONDS:
                self._warnings["audio packets before the first picture left out"] += 1
            else:
                track.copy(packet, starts)

    def _fetch(self) -> bool:
        """Look at one more packet, if there is one."""
        packet = self._sound.take()
        if packet is not None:
            self._waiting.append(packet)
        return packet is not None


class _Track:
    """One copied stream of the output."""

    def __init__(
        self,
        kind: str,
        template: Stream,
        copy: Stream,
        output: OutputContainer,
        warnings: Counter[str],
    ) -> None:
        self._kind, self._template, self._copy = kind, template, copy
        self._output, self._warnings = output, warnings
        # Matroska takes packets of one time, as TrueHD's are where milliseconds are counted.
        self._step_ticks = 0 if output.format.name == "matroska" else 1
        self._guard: _Guard | None = None
        # MP4 wants AAC without the headers that transport streams need. FFmpeg removes them by
        # itself, but not in files that can be played before they are ended.
        adts = kind in ("mp4", "mov") and template.codec_context.name == "aac"
        self._filter = BitStreamFilterContext("aac_adtstoasc", template) if adts else None
        self._last_ticks: int | None = None
        self._end = Fraction(0)  # of the last packet, in seconds of the source

    def start_of(self, packet: "Packet[Stream]") -> Fraction:
        """Return the start of a packet in seconds of the source, by default the last one's end."""
        stated = start_of(packet)
        return self._end if stated is None else stated

    def is_ahead_of(self, packet: "Packet[Stream]", following: "Packet[Stream]") -> bool:
        """Return True if a packet's time is a mistake: the next one continues the last one."""
        if following.stream_index != packet.stream_index:
            return False
        ahead = self.start_of(packet) - self.start_of(following)
        return ahead > OUT_OF_ORDER_SECONDS and self.start_of(following) >= self._end

    def copy(self, packet: "Packet[Stream]", starts: Fraction) -> None:
        """Write a packet at ``starts`` seconds of the output, but no earlier than the last one."""
        tick = self._copy.time_base
        assert tick is not None  # the header is written
        lead = 0 if packet.pts is None or packet.dts is None else packet.pts - packet.dts
        self._end = self.start_of(packet) + (packet.duration or 0) * packet.time_base
        ticks = wanted = round(starts / tick)
        duration = round((packet.duration or 0) * packet.time_base / tick)
        if self._last_ticks is not None:
            ticks = max(wanted, self._last_ticks + self._step_ticks)
            # Without one, MP4 ends before the last packet.
            duration = duration or ticks - self._last_ticks
        if (ticks - wanted) * tick > OUT_OF_ORDER_SECONDS:
            self._warnings[OUT_OF_ORDER] += 1
            return
        packet.duration = duration
        packet.pts = ticks + round(lead * packet.time_base / tick)
        packet.dts, packet.time_base = ticks, tick
        try:
            if self._guard is None or self._guard.packets == GUARD_PACKETS:
                self.close()
                self._guard = _Guard(self._kind, self._template)
            self._guard.check(packet)
            plain = self._filter.filter(packet) if self._filter else [packet]
        except (av.FFmpegError, ValueError):
            self.close()  # a guard that failed takes everything from then on
            self._warnings[f"audio packets that {self._kind} refuses left out"] += 1
            return
        self._last_ticks = ticks
        for each in plain:
            each.stream, each.time_base = self._copy, tick
            self._output.mux(each)

    def close(self) -> None:
        """Close the container that checks packets."""
        guard, self._guard = self._guard, None
        if guard is not None:
            with suppress(av.FFmpegError):
                guard.close()


class _Guard:
    """A container that keeps nothing and raises for what a real one refuses."""

    def __init__(self, kind: str, template: Stream) -> None:
        # PyAV asks formats for codings that are usual in them, and Matroska takes more. It does
        # not ask FFmpeg's "tee", which writes through another format.
        self._container = av.open(f"[f={kind}:strict=experimental]{os.devnull}", "w", format="tee")
        self._stream = self._container.add_stream_from_template(template, opaque=True)
        self._container.start_encoding()
        self.packets = 0
        self.close = self._container.close
        """Write the index, which fails where the format has not seen enough of a stream."""

    def check(self, packet: "Packet[Stream]") -> None:
        """Raise av.FFmpegError or ValueError if the format refuses a packet."""
        copy = Packet(bytes(packet))
        copy.stream, copy.is_keyframe = self._stream, packet.is_keyframe
        copy.pts = copy.dts = self.packets  # order is seen to elsewhere
        copy.time_base, self.packets = Fraction(1), self.packets + 1
        self._container.mux(copy)


def _fits(kind: str, stream: Stream, packets: "Sequence[Packet[Stream]]") -> bool:
    """Return True if a format takes a stream, as far as its first packets and its index show.

    The very first ones may be damaged.
    """
    for start in range(max(1, len(packets))):
        with suppress(av.FFmpegError, ValueError):
            guard = _Guard(kind, stream)
            for packet in packets[start:]:
                guard.check(packet)
            guard.close()
            return True
    return False


def is_unusual(kind: str, sound: Sound) -> bool:
    """Return True if a format takes sound that PyAV would keep from it: G.711 in Matroska.

    FFmpeg writes what is unusual in other formats in a way that nobody can read.
    """
    if kind != "matroska":
        return False
    with av.open(os.devnull, "w", format=kind) as plain:
        refused = [s for s in sound.streams.values() if _added_like(plain, s) is None]
    return any(_fits(kind, stream, ()) for stream in refused)


def _added_like(output: OutputContainer, template: Stream) -> Stream | None:
    """Add a stream like another; None where PyAV refuses it or FFmpeg has no decoder for it."""
    with suppress(ValueError):
        # Opaque: else a video would need an encoder.
        copy = output.add_stream_from_template(template, opaque=True)
        copy.metadata.update(template.metadata)
        return copy
    return None
