"""The sound of a source, its subtitles and further videos, as coded packets."""

import os
import threading
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import av
from av.container import OutputContainer
from av.packet import Packet
from av.stream import Stream

from edgecar.media.breaks import UnbrokenTimes
from edgecar.media.notes import copied_streams
from edgecar.media.sources import main_video, opened, source_from

UNASKED_BYTES = 16 << 20
"""Packets kept until a writer asks: seconds of a further video, before the first picture is out."""

LARGEST_BYTES = 64 << 20
"""Sound that waits for the pictures that belong to it: an hour of most."""


class SoundSource(Protocol):
    """Something that coded sound is taken from."""

    @property
    def streams(self) -> "Mapping[int, Stream]": ...
    @property
    def lacking(self) -> int: ...
    @property
    def broken_off(self) -> bool: ...
    def take(self) -> "Packet[Stream] | None": ...


class Sound:
    """Coded sound on its way from the reader of a video to its writer.

    Its packets come from the same reading as the pictures: pipes and network streams cannot be
    read a second time. One thread may put packets while another takes them.

    Args:
        streams: Audio streams of the source.
        warnings: Receives a count for every packet for which there was no room.
    """

    def __init__(self, streams: Iterable[Stream], warnings: Counter[str]) -> None:
        # Copies, as a source may be closed before its sound is written.
        self._shelf = av.open(os.devnull, "w", format="null")
        self.streams: dict[int, Stream] = {}
        """What the source has, by index."""
        self.lacking = 0
        """Number of streams that nobody can copy: FFmpeg does not know their coding."""
        self.broken_off = False
        """True where pictures go on, but no further sound comes."""
        for stream in streams:
            copy = added_like(self._shelf, stream)
            if copy is None:
                self.lacking += 1
                continue
            copy.metadata.update(stream.metadata)
            self.streams[stream.index] = copy
        self._warnings = warnings
        self._packets: deque[Packet[Stream]] = deque()
        self._bytes = 0
        self._limit_bytes: int | None = UNASKED_BYTES
        self._lock = threading.Lock()

    def put(self, packet: "Packet[Stream]") -> None:
        """Keep a packet for the writer, or leave it out where there is none or no room."""
        with self._lock:
            if self._limit_bytes is None:
                return
            if self._bytes + packet.size <= self._limit_bytes:
                self._packets.append(packet)
                self._bytes += packet.size
                return
            if self._limit_bytes == UNASKED_BYTES:  # nobody writes sound
                self._packets.clear()
                self._limit_bytes = None
                return
        self._warnings["audio packets left out, for want of pictures between them"] += 1

    def take(self) -> "Packet[Stream] | None":
        """The next packet, or None if there is none yet or any more."""
        with self._lock:
            if self._limit_bytes == UNASKED_BYTES:
                self._limit_bytes = LARGEST_BYTES
            packet = self._packets.popleft() if self._packets else None
            if packet is not None:
                self._bytes -= packet.size
            return packet


class SoundOfFile:
    """Coded sound of a file whose pictures are read by others.

    Args:
        path: The file.
        warnings: Receives a count where the file is damaged.

    Raises:
        MediaError: The file cannot be opened.
    """

    lacking = 0
    broken_off = False

    def __init__(self, path: Path, warnings: Counter[str]) -> None:
        self._input, self._warnings = opened(source_from(path)), warnings
        copied = copied_streams(self._input, main_video(self._input))
        self.streams = {stream.index: stream for stream in copied}
        self._packets = self._chosen_packets()

    def take(self) -> "Packet[Stream] | None":
        """The next packet, or None at the end."""
        try:
            return next((packet for packet in self._packets if packet.size), None)
        except av.FFmpegError:
            self._warnings["damaged end of the audio left out"] += 1
            self._packets = iter(())
            return None

    def close(self) -> None:
        """Let go of the file."""
        self._input.close()

    def _chosen_packets(self) -> "Iterator[Packet[Stream]]":
        chosen: list[Stream] = list(self.streams.values())
        pictures = main_video(self._input)
        if not chosen or pictures is None:
            return self._input.demux(chosen) if chosen else iter(())
        times = UnbrokenTimes(self._input, pictures, Counter())  # the reader counts the jumps
        if times.may_jump:  # and the pictures say where
            chosen.append(pictures)
        placed = times.placed(self._input.demux(chosen))
        return (packet for packet in placed if packet.stream is not pictures)


def added_like(output: OutputContainer, template: Stream) -> Stream | None:
    """A stream like another; None where PyAV refuses it or FFmpeg has no decoder for it."""
    with suppress(ValueError):
        opaque = True if template.type == "video" else None  # which would need an encoder
        return output.add_stream_from_template(template, opaque=opaque)
    return None
