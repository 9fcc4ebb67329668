"""Parts into one file: packets copied, none encoded again."""

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
from av.container import OutputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from edgecar.batch.part import PartDone
from edgecar.errors import BatchError
from edgecar.files import atomic_write
from edgecar.media.audio import END, AudioCopy, SoundOfFile
from edgecar.media.container import (
    container_for,
    explained,
    format_of,
    set_orientation,
    stored_time_base,
)
from edgecar.media.facts import StreamFacts, write_notes


class SeamError(BatchError):
    """Frames decoded from a cut on are not those decoded without it: the clip must stay whole."""


@dataclass(frozen=True)
class _Times:
    """When the packets of a clip are shown and decoded, in ticks of the output.

    Attributes:
        shown: All times, sorted.
        depth: How many frames a packet is decoded before its place in the order of showing.
    """

    shown: Sequence[int]
    depth: int

    def decoded(self, number: int) -> int:
        """Of a packet, by its place in the file; as x264 does it for a whole clip."""
        if number >= self.depth:
            return self.shown[number - self.depth]
        lead = self.shown[min(self.depth, len(self.shown) - 1)] - self.shown[0]
        return self.shown[number] - max(lead, self.depth)

    def duration(
        self, number: int, packet: "Packet[VideoStream]", hold_ticks: int, kind: str
    ) -> int:
        """Return the duration of a packet if the last frame is held; else 0, as encoders leave it.

        Args:
            number: Its place in the file.
            packet: The packet with its times.
            hold_ticks: How long the last frame is shown; 0: as long as others.
            kind: FFmpeg's name of the output's format: MP4 ends with the packet decoded last.
        """
        if hold_ticks and number + 1 == len(self.shown) and kind in ("mp4", "mov"):
            return self.shown[-1] + hold_ticks - ((packet.dts or 0) - self.decoded(0))
        return hold_ticks if packet.pts == self.shown[-1] else 0


def check_seams(source: Path, parts: Sequence[PartDone]) -> None:
    """Compare what was decoded on both sides of every cut.

    Raises:
        SeamError: It differs.
        BatchError: Parts were computed by different engines.
    """
    engines = {part.engine for part in parts}
    if len(engines) > 1:
        raise BatchError(
            f"parts of {source} were computed by {' and by '.join(sorted(engines))}, which give "
            "other bytes; choose --engine and --precision so that all workers do the same"
        )
    for number, (before, after) in enumerate(itertools.pairwise(parts), 1):
        pairs = zip(before.goes_on, after.begins, strict=False)
        if not before.goes_on or any(left != right for left, right in pairs):
            raise SeamError(f"part {number} decodes to other frames than without a cut")


def join_parts(
    paths: Sequence[Path], parts: Sequence[PartDone], facts: StreamFacts, target: Path
) -> Counter[str]:
    """Write a clip from its parts, with the audio, rotation and shape of pixels of its source.

    Args:
        paths: Files of all parts, in order.
        parts: What is known of them.
        facts: Of the clip.
        target: The file to write; appears whole or not at all.

    Returns:
        What had to change or be left out, and how often.

    Raises:
        BatchError: The parts do not fit together.
        MediaError: The file cannot be written.
    """
    warnings: Counter[str] = Counter()
    tick = stored_time_base(target.suffix, facts)
    times = _times(paths, parts, tick)
    with (
        explained(target),
        atomic_write(target) as temporary,
        ExitStack() as resources,
    ):
        sound = SoundOfFile(facts.audio_from, warnings) if facts.audio_from else None
        if sound:
            resources.callback(sound.close)
        output = resources.enter_context(container_for(temporary, sound, same_bytes=True))
        stream = _stream_like(paths, facts, output, tick)
        audio = AudioCopy(sound, output, format_of(target), warnings) if sound else None
        if audio:
            audio.start_at(parts[0].first_ticks * tick)
            resources.callback(audio.close)
        kind, first = format_of(target), parts[0].first_ticks * tick
        write_notes(facts.notes, output, stream, kind, facts.rate, first, warnings)
        for number, packet in enumerate(_packets(paths, parts, tick)):
            packet.dts = times.decoded(number)
            packet.duration = times.duration(number, packet, parts[-1].hold_ticks, kind)
            packet.stream = stream
            if audio:
                audio.copy_until(packet.dts * tick)
            output.mux(packet)
        if audio:
            audio.copy_until(END)
    return warnings


def _times(paths: Sequence[Path], parts: Sequence[PartDone], tick: Fraction) -> _Times:
    """Look through all parts, whose own times of decoding would overlap at the cuts.

    Raises:
        BatchError: Two frames have one time.
    """
    coded = [packet.pts or 0 for packet in _packets(paths, parts, tick)]
    shown = sorted(coded)
    if len(set(shown)) < len(shown):
        raise BatchError(
            f"frames of {paths[0].parent} share a time; give a larger --part-seconds than the clip"
        )
    place = {ticks: number for number, ticks in enumerate(shown)}
    return _Times(shown, max(number - place[ticks] for number, ticks in enumerate(coded)))


def _packets(
    paths: Sequence[Path], parts: Sequence[PartDone], tick: Fraction
) -> "Iterator[Packet[VideoStream]]":
    """Coded frames of all parts in the order of the file, shown at ticks of the output."""
    for path, part in zip(paths, parts, strict=True):
        with av.open(f"file:{path}") as container:
            stream = container.streams.video[0]
            for packet in container.demux(stream):
                if packet.size and packet.pts is not None:
                    shown = packet.pts * packet.time_base / tick
                    first_ticks = part.first_ticks - parts[0].first_ticks
                    packet.pts, packet.time_base = round(shown) + first_ticks, tick
                    packet.duration = 0  # as encoders leave it: formats count it out to the next
                    yield packet


def _stream_like(
    paths: Sequence[Path], facts: StreamFacts, output: OutputContainer, tick: Fraction
) -> VideoStream:
    """An output stream that takes the parts' packets.

    Raises:
        BatchError: The parts were encoded in different ways.
    """
    headers = set()
    for path in paths:
        with av.open(f"file:{path}") as container:
            template = container.streams.video[0]
            headers.add(bytes(template.codec_context.extradata or b""))
            if len(headers) > 1:
                raise BatchError(
                    f"{path} was encoded by another library than the parts before it; remove "
                    f"{path.parent} and give all nodes the same version of PyAV"
                )
            if path == paths[0]:
                stream: VideoStream = output.add_stream_from_template(template)
    stream.time_base = tick
    stream.codec_context.time_base = tick
    stream.codec_context.framerate = facts.rate
    if facts.sample_aspect:
        stream.codec_context.sample_aspect_ratio = facts.sample_aspect
    set_orientation(stream, facts)
    return stream
