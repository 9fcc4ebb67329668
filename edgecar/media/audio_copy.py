"""Sound, subtitles and further videos of a source into an output, packet by packet."""

import os
from collections import Counter, deque
from collections.abc import Sequence
from contextlib import suppress
from fractions import Fraction

import av
from av.bitstream import BitStreamFilterContext
from av.container import OutputContainer
from av.packet import Packet
from av.stream import Stream

from edgecar.media.audio import SoundSource, added_like

END = None
"""As a limit in time: everything that is left."""

TRIAL_PACKETS = 16
"""Enough for a container to find out what it must know of a coding."""

GUARD_PACKETS = 4096
"""Packets after which a container that only checks them is made anew: each keeps an index."""

OUT_OF_ORDER_SECONDS = 1
"""A packet that lies so far behind the one before it, or ahead of the one after it, is left out."""

EARLY_SECONDS = 1
"""Sound so long before the first picture is kept: decoders need some of it to begin."""

WORDS = {"audio": "audio", "subtitle": "subtitles", "video": "further video"}

OUT_OF_ORDER = "audio packets out of order left out"


class AudioCopy:
    """Copies all audio streams of a source into an output, as far as the video has got.

    Sound never decides whether there is a video: a stream or packet that the output's format
    refuses is found out beforehand, in a container that keeps nothing, and left out.

    Args:
        sound: Where the packets come from.
        output: Where to; its header is not written yet, and it has all streams of other kinds.
        kind: FFmpeg's name of the output's format.
        warnings: Receives a count for every stream or packet that cannot be copied.
    """

    def __init__(
        self, sound: SoundSource, output: OutputContainer, kind: str, warnings: Counter[str]
    ) -> None:
        self._sound, self._output, self._warnings = sound, output, warnings
        self._kind = kind
        self._waiting: deque[Packet[Stream]] = deque()
        self._first_seconds = Fraction(0)
        self._tracks: dict[int, _Track] = {}
        while len(self._waiting) < TRIAL_PACKETS * len(sound.streams) and self._fetch():
            pass
        for index, stream in sound.streams.items():
            self._add(index, stream)
        if sound.lacking:
            warnings["audio left out: in a coding that FFmpeg does not know"] += sound.lacking

    @property
    def lacks_the_rest(self) -> bool:
        """True where sound that the output takes ended before the pictures."""
        return bool(self._tracks) and self._sound.broken_off

    def start_at(self, seconds: Fraction) -> None:
        """Shift the sound so that this time, which the first picture has, becomes zero.

        What comes long before the first picture is left out.
        """
        self._first_seconds = seconds

    def close(self) -> None:
        """Let go of what was opened to check packets."""
        for track in self._tracks.values():
            track.close()

    def copy_until(self, seconds: Fraction | None) -> None:
        """Copy the packets that start before ``seconds``, or all that are left for ``END``.

        Raises:
            av.FFmpegError: The output cannot be written.
        """
        if not self._tracks:
            while self._sound.take() is not None:
                pass
            return
        self._output.start_encoding()
        while self._waiting or self._fetch():
            packet = self._waiting[0]
            track = self._tracks.get(packet.stream_index)
            if track is None:
                self._waiting.popleft()
                continue
            starts = track.start_of(packet) - self._first_seconds
            if len(self._waiting) > 1 or self._fetch():
                following = self._waiting[1]
                same = following.stream_index == packet.stream_index
                if same and track.is_ahead_of(packet, following):
                    self._leave_out(OUT_OF_ORDER)
                    continue
            if seconds is not END and starts >= seconds:
                return
            if starts < -EARLY_SECONDS:
                self._leave_out("audio packets before the first picture left out")
                continue
            self._waiting.popleft()
            track.copy(packet, starts)

    def _fetch(self) -> bool:
        """Look at one more packet, if there is one."""
        packet = self._sound.take()
        if packet is not None:
            self._waiting.append(packet)
        return packet is not None

    def _leave_out(self, reason: str) -> None:
        self._waiting.popleft()
        self._warnings[reason] += 1

    def _add(self, index: int, stream: Stream) -> None:
        name = stream.codec_context.name
        first = [packet for packet in self._waiting if packet.stream_index == index]
        copy = added_like(self._output, stream) if _fits(self._kind, stream, first) else None
        if copy is None:
            other = ".mov" if self._kind in ("mp4", "matroska") else ".mkv"
            words = f"{WORDS[stream.type]} left out: {self._kind} does not take {name}"
            self._warnings[f"{words}, {other} may"] += 1
            return
        copy.metadata.update(stream.metadata)
        self._tracks[index] = _Track(self._kind, stream, copy, self._output, self._warnings)


class _Track:
    """One audio stream of the output."""

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
        self._filter: BitStreamFilterContext | None = None
        self._checked = 0
        self._last_ticks: int | None = None
        self._end = Fraction(0)  # of the last packet, in seconds of the source

    def start_of(self, packet: "Packet[Stream]") -> Fraction:
        """When a packet starts, in seconds of the source; where the last one ended if unknown."""
        ticks = packet.pts if packet.dts is None else packet.dts
        return self._end if ticks is None else ticks * packet.time_base

    def is_ahead_of(self, packet: "Packet[Stream]", following: "Packet[Stream]") -> bool:
        """True where a packet's time is a mistake: the next one goes on from where the last was."""
        ahead = self.start_of(packet) - self.start_of(following)
        return ahead > OUT_OF_ORDER_SECONDS and self.start_of(following) >= self._end

    def copy(self, packet: "Packet[Stream]", starts: Fraction) -> None:
        """Write a packet, no earlier than the one before it.

        Args:
            packet: The next one.
            starts: When, in seconds of the output.

        Raises:
            av.FFmpegError: The output cannot be written.
        """
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
        if not self._passes(packet):
            self._warnings[f"audio packets that {self._kind} refuses left out"] += 1
            return
        self._last_ticks = ticks
        for plain in self._without_adts(packet):
            plain.stream, plain.time_base = self._copy, tick
            self._output.mux(plain)

    def close(self) -> None:
        """Let go of the container that checks packets."""
        guard, self._guard = self._guard, None
        if guard is not None:
            with suppress(av.FFmpegError):
                guard.close()

    def _without_adts(self, packet: "Packet[Stream]") -> "list[Packet[Stream]]":
        """The packet as MP4 wants AAC: without the headers that transport streams need.

        FFmpeg sees to that by itself, but not in files that can be played before they are ended.
        """
        if self._kind not in ("mp4", "mov") or self._template.codec_context.name != "aac":
            return [packet]
        if self._filter is None:
            self._filter = BitStreamFilterContext("aac_adtstoasc", self._template)
        with suppress(av.FFmpegError):
            return self._filter.filter(packet)
        self._warnings[f"audio packets that {self._kind} refuses left out"] += 1
        return []

    def _passes(self, packet: "Packet[Stream]") -> bool:
        if self._guard is None or self._checked % GUARD_PACKETS == 0:
            self.close()
            self._guard = _Guard(self._kind, self._template)
        self._checked += 1
        passes = self._guard.passes(packet)
        if not passes:  # one that failed takes everything from then on
            self.close()
        return passes


class _Guard:
    """A container that keeps nothing and shows what a real one would refuse.

    Raises:
        av.FFmpegError: It refuses the stream.
    """

    def __init__(self, kind: str, template: Stream) -> None:
        # PyAV asks formats for codings that are usual in them, and Matroska takes more. It does
        # not ask FFmpeg's "tee", which writes through another format.
        self._container = av.open(f"[f={kind}:strict=experimental]{os.devnull}", "w", format="tee")
        opaque = True if template.type == "video" else None
        self._stream = self._container.add_stream_from_template(template, opaque=opaque)
        self._container.start_encoding()
        self._packets = 0

    def passes(self, packet: "Packet[Stream]") -> bool:
        """Whether the format takes a packet."""
        copy = Packet(bytes(packet))
        copy.stream, copy.is_keyframe = self._stream, packet.is_keyframe
        copy.pts = copy.dts = self._packets  # order is seen to elsewhere
        copy.time_base, self._packets = Fraction(1), self._packets + 1
        try:
            self._container.mux(copy)
        except (av.FFmpegError, ValueError):
            return False
        return True

    def close(self) -> None:
        """Write the index of what was muxed.

        Raises:
            av.FFmpegError: The format cannot, as where it has not seen enough of a stream.
        """
        self._container.close()


def _fits(kind: str, stream: Stream, packets: "Sequence[Packet[Stream]]") -> bool:
    """Whether a format takes a stream, as far as its first packets and its index show.

    The very first ones may be damaged.
    """
    starts = range(len(packets)) if packets else range(1)
    return any(_takes_all(kind, stream, packets[start:]) for start in starts)


def _takes_all(kind: str, stream: Stream, packets: "Sequence[Packet[Stream]]") -> bool:
    try:
        guard = _Guard(kind, stream)
        taken = all(guard.passes(packet) for packet in packets)
        guard.close()
    except (av.FFmpegError, ValueError):
        return False
    return taken


def unusual(kind: str, sound: SoundSource) -> bool:
    """Whether a format takes sound that PyAV would keep from it: G.711 in Matroska.

    Of other formats, FFmpeg writes for what is unusual in them what nobody can read.
    """
    if kind != "matroska":
        return False
    with av.open(os.devnull, "w", format=kind) as plain:
        refused = [s for s in sound.streams.values() if added_like(plain, s) is None]
    return any(_fits(kind, stream, ()) for stream in refused)
