"""One running clock for the packets of a file whose own clock jumps."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction

from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream

from edgecar.media.timing import JUMP_SECONDS

MAY_JUMP = 0x200
"""FFmpeg's AVFMT_TS_DISCONT: formats whose clock is known to jump."""

GAP_SECONDS = 10
"""A longer gap in a transport stream is a jump of its clock, as FFmpeg's own limit has it."""

OVERLAP_SECONDS = 1
"""Sound may end so much later than the pictures before a jump, or start so much earlier after."""

MAX_HELD_PACKETS = 1024
"""Packets of other streams that may come before the pictures behind a jump."""

OVERFLOW_SECONDS = Fraction(2**33, 90000)
"""After so long the clock of a transport stream starts again from zero."""

CLOCK_JUMPS = "jumps of the file's clock; times go on without a gap"


@dataclass(slots=True)
class _Stream:
    """Position of one stream: the run of the clock it is in, and its latest time there."""

    run: int = 0
    last: Fraction | None = None
    held: list["Packet[Stream]"] = field(default_factory=list)


class UnbrokenTimes:
    """Moves the packets of a file so that their times go on where the file's clock jumps.

    Transport streams jump where recordings were joined, where a recorder restarted, and where the
    33 bits of their clock overflow. The pictures decide where a jump is: behind it, the next one
    follows the last one by one frame interval. All other streams move by the same time, so sound
    stays in step. Times without a jump are not changed.

    Formats with a time line of their own (MP4, Matroska) state gaps that are meant, however long:
    there, only a step back is a jump.

    Args:
        container: The file.
        pictures: Video stream of the file.
        warnings: Receives a count for every jump.
    """

    def __init__(self, container: InputContainer, pictures: Stream, warnings: Counter[str]) -> None:
        self.may_jump = bool(container.format.flags & MAY_JUMP)
        """True for formats whose clock is known to jump."""
        self._pictures, self._warnings = pictures, warnings
        self._shifts = [Fraction(0)]  # seconds, for each run of the clock
        self._streams: dict[int, _Stream] = {}
        self._end = self._shown_end = Fraction(0)  # of the pictures so far, in seconds

    def placed(self, packets: "Iterable[Packet[Stream]]") -> "Iterator[Packet[Stream]]":
        """The packets with their times moved; packets that wait for the pictures come later."""
        for packet in packets:
            stream = self._streams.setdefault(packet.stream.index, _Stream())
            if packet.stream is not self._pictures:
                stream.held.append(packet)
                yield from self._released(stream, final=len(stream.held) > MAX_HELD_PACKETS)
                continue
            if self._follow_pictures(stream, packet):
                for other in self._streams.values():
                    yield from self._released(other, final=False)
            _move(packet, self._shifts[stream.run])
            yield packet
        for other in self._streams.values():
            yield from self._released(other, final=True)

    def _follow_pictures(self, stream: _Stream, packet: "Packet[Stream]") -> bool:
        """Begin another run of the clock if this picture's time jumps."""
        if packet.dts is None:  # times of showing alone go back and forth
            return False
        now = packet.dts * packet.time_base
        jumped = self._is_jump(stream.last, now)
        if jumped:
            self._shifts.append(self._shift_behind_jump(stream, packet, now))
            stream.run = len(self._shifts) - 1
        shift = self._shifts[stream.run]
        interval = (packet.duration or 0) * packet.time_base
        if not interval and stream.last is not None and not jumped:
            interval = max(now - stream.last, Fraction(0))
        self._end = now + shift + interval
        if packet.pts is not None:
            end = packet.pts * packet.time_base + shift + interval
            self._shown_end = max(self._shown_end, end)
        stream.last = now
        return jumped

    def _shift_behind_jump(
        self, stream: _Stream, packet: "Packet[Stream]", now: Fraction
    ) -> Fraction:
        assert stream.last is not None
        if 0 < now + OVERFLOW_SECONDS - stream.last <= GAP_SECONDS:
            return self._shifts[stream.run] + OVERFLOW_SECONDS
        self._warnings[CLOCK_JUMPS] += 1
        shift = self._end - now
        if packet.is_keyframe and packet.pts is not None:  # shown behind all before it
            shift = max(shift, self._shown_end - packet.pts * packet.time_base)
        return shift

    def _is_jump(self, last: Fraction | None, now: Fraction) -> bool:
        if last is None:
            return False
        if self.may_jump:
            return now < last or now - last > GAP_SECONDS
        return last - now > JUMP_SECONDS

    def _released(self, stream: _Stream, *, final: bool) -> "Iterator[Packet[Stream]]":
        """Packets of another stream whose run of the clock is known."""
        while stream.held:
            packet = stream.held[0]
            now = _seconds(packet)
            if now is not None:
                if self._is_jump(stream.last, now) and not self._is_pause(stream, now):
                    run = self._run_after(stream, now)
                    if run is None and not final:
                        return
                    if run is not None:
                        stream.run = run
                stream.last = now
            del stream.held[0]
            _move(packet, self._shifts[stream.run])
            yield packet

    def _is_pause(self, stream: _Stream, now: Fraction) -> bool:
        """Return True if a stream was only silent for long while the pictures went on."""
        assert stream.last is not None
        placed = now + self._shifts[stream.run]
        return now > stream.last and abs(placed - self._end) <= GAP_SECONDS

    def _run_after(self, stream: _Stream, now: Fraction) -> int | None:
        """The run in which a stream goes on behind a jump; None if the pictures are not there."""
        assert stream.last is not None
        before = stream.last + self._shifts[stream.run]
        for run in range(len(self._shifts) - 1, stream.run, -1):
            step = now + self._shifts[run] - before
            if -OVERLAP_SECONDS <= step <= GAP_SECONDS:
                return run
        return None


def _seconds(packet: "Packet[Stream]") -> Fraction | None:
    ticks = packet.pts if packet.dts is None else packet.dts
    return None if ticks is None else ticks * packet.time_base


def _move(packet: "Packet[Stream]", seconds: Fraction) -> None:
    if not seconds or _seconds(packet) is None:
        return
    ticks = round(seconds / packet.time_base)
    if packet.pts is not None:
        packet.pts += ticks
    if packet.dts is not None:
        packet.dts += ticks
