"""The sound of a restored video: the source's own packets, not coded again."""

from collections import Counter
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
from av.container import OutputContainer
from av.packet import Packet
from av.stream import Stream

from edgecar.media.breaks import UnbrokenTimes
from edgecar.media.sources import main_video, opened, source_from

END = None
"""As a limit in time: everything that is left."""

EARLY_SECONDS = 1
"""Sound so long before the first picture is kept: decoders need some of it to begin."""


class AudioCopy:
    """Copies all audio streams of a file into an output, as far as the video has got.

    Args:
        path: The file with the audio.
        output: Where to; its header is not written yet.
        warnings: Receives a count for every stream or packet that cannot be copied.

    Raises:
        MediaError: The file cannot be opened.
    """

    def __init__(self, path: Path, output: OutputContainer, warnings: Counter[str]) -> None:
        self._output, self._warnings = output, warnings
        self._input = opened(source_from(path))
        self._copies: dict[int, Stream] = {}
        for stream in self._input.streams.audio:
            self._add(stream)
        self._packets = self._chosen_packets()
        self._first_seconds = Fraction(0)
        self._waiting: Packet[Stream] | None = None
        self._last_dts: dict[int, int] = {}

    def close(self) -> None:
        """Let go of the file."""
        self._input.close()

    def start_at(self, seconds: Fraction) -> None:
        """Shift the sound so that this time, which the first picture has, becomes zero.

        What comes long before the first picture is left out.
        """
        self._first_seconds = seconds

    def copy_until(self, seconds: Fraction | None) -> None:
        """Copy the packets that start before ``seconds``, or all that are left for ``END``.

        Raises:
            av.FFmpegError: The output cannot be written.
        """
        while (packet := self._waiting or self._next()) is not None:
            ticks = packet.dts if packet.dts is not None else packet.pts or 0
            starts = ticks * packet.time_base - self._first_seconds
            if seconds is not END and starts >= seconds:
                self._waiting = packet
                return
            self._waiting = None
            if starts < -EARLY_SECONDS:
                self._warnings["audio packets before the first picture left out"] += 1
            else:
                self._copy(packet)

    def _add(self, stream: Stream) -> None:
        # PyAV types it as always there; it is None where FFmpeg has no decoder.
        context: object = stream.codec_context
        name = stream.codec_context.name if context is not None else "unknown"
        try:
            copy = self._output.add_stream_from_template(stream)
        except ValueError:
            kind = self._output.format.name
            self._warnings[f"audio left out: {kind} does not take {name}, .mov may"] += 1
            return
        copy.metadata.update(stream.metadata)
        self._copies[stream.index] = copy

    def _chosen_packets(self) -> "Iterator[Packet[Stream]]":
        chosen = [self._input.streams[index] for index in self._copies]
        pictures = main_video(self._input)
        if not chosen or pictures is None:
            return iter(self._input.demux(chosen) if chosen else ())
        times = UnbrokenTimes(self._input, pictures, Counter())  # the reader counts the jumps
        if times.may_jump:  # and the pictures say where
            chosen.append(pictures)
        packets = times.placed(self._input.demux(chosen))
        return (packet for packet in packets if packet.stream is not pictures)

    def _next(self) -> "Packet[Stream] | None":
        try:
            return next((packet for packet in self._packets if packet.size), None)
        except av.FFmpegError:
            self._warnings["damaged end of the audio left out"] += 1
            self._packets = iter(())
            return None

    def _copy(self, packet: "Packet[Stream]") -> None:
        index = packet.stream.index
        last = self._last_dts.get(index)
        if packet.dts is not None:
            if last is not None and packet.dts <= last:  # the muxer would refuse the whole file
                self._warnings["audio packets out of order left out"] += 1
                return
            self._last_dts[index] = packet.dts
        shift = round(self._first_seconds / packet.time_base)
        packet.pts = None if packet.pts is None else packet.pts - shift
        packet.dts = None if packet.dts is None else packet.dts - shift
        packet.stream = self._copies[index]
        self._output.mux(packet)
