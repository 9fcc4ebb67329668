"""Time of each frame: clocks that jump, gaps on the way in, order on the way out."""

import math
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction

import av
from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream

from edgecar.errors import MediaError
from edgecar.media.frame import Frame

REORDER_LIMIT_FRAMES = 32
"""No coding standard holds back a picture for longer than 16 frames; twice that, to be safe."""

REORDER_LIMIT_SECONDS = 10

LEAD_SECONDS = 10  # longest time that frames of a live source arriving in one go may cover

JUMP_SECONDS = 1  # a step back by more is a new start of the clock, by less a mistake in one frame

GAP_SECONDS = 10
"""A longer gap in a transport stream is a jump of its clock, the same limit as in FFmpeg."""

OVERLAP_SECONDS = 1
"""Sound may end so much later than the pictures before a jump, or start so much earlier after."""

MAX_HELD_PACKETS = 1024  # packets of other streams that may come before the pictures behind a jump

MAY_JUMP = 0x200  # FFmpeg's AVFMT_TS_DISCONT: formats whose clock is known to jump
OVERFLOW_SECONDS = Fraction(2**33, 90000)  # after which a transport stream counts from zero again

CLOCK_JUMPS = "jumps of the file's clock; times go on without a gap"


class Timestamps:
    """Presentation times of decoded pictures, in ticks of the stream's time base.

    Times that the container states pass untouched. A picture without a time, or with one that its
    place in the file contradicts, follows the picture before it by one frame interval.

    ``gaps`` is True if the format may state long gaps, next to which a picture is decoded long
    before it is shown. In other formats such a time is a mistake.
    """

    def __init__(
        self, time_base: Fraction, rate: Fraction, *, gaps: bool = False, warnings: Counter[str]
    ) -> None:
        self._rate_fps = float(rate)
        self._interval_ticks = 1 / (rate * time_base)
        limit = max(REORDER_LIMIT_FRAMES * self._interval_ticks, REORDER_LIMIT_SECONDS / time_base)
        self._limit_ticks = math.inf if gaps else limit
        self._warnings = warnings
        self._next_ticks = Fraction(0)  # a fraction, so that 29.97 frames a second do not drift

    def pts_of(self, picture: av.VideoFrame) -> int:
        """Return the time of the next picture in display order."""
        now = Fraction(picture.pts or 0)
        if picture.pts is None:
            now = self._next_ticks
            words = f"timestamps missing, taken from {self._rate_fps:g} frames a second"
            self._warnings[words] += 1
        elif picture.dts is not None and abs(picture.pts - picture.dts) > self._limit_ticks:
            now = self._next_ticks
            self._warnings["impossible timestamps replaced"] += 1
        self._next_ticks = now + self._interval_ticks
        return round(now)


class DecodingTimes:
    """Presentation times where the container states only when to decode.

    AVI does, and MP4 files by some recorders. Shown in display order, the pictures take the
    packets' times in decoding order; `Timestamps` would return them in disorder.

    ``queue`` has the decoding times of the packets whose pictures did not come out yet, and grows
    while pictures are asked for. The decoder takes ``depth_frames`` further packets before it
    outputs a picture.
    """

    def __init__(self, queue: deque[int], depth_frames: int) -> None:
        self._queue, self._depth_frames = queue, depth_frames
        self._last_ticks = -1

    def pts_of(self, picture: av.VideoFrame) -> int:
        """Return the time of the next picture in display order."""
        if picture.dts is not None:
            sent = sum(ticks <= picture.dts for ticks in self._queue)
            for _ in range(sent - self._depth_frames - 1):  # packets that gave no picture
                self._queue.popleft()
        self._last_ticks = self._queue.popleft() if self._queue else self._last_ticks + 1
        return self._last_ticks


class JoinedTimes:
    """One clock for the frames of several connections to one source; it never goes back.

    A camera that restarts counts from zero again. Times of the first connection pass untouched.
    Times of a later connection, or behind a jump of its clock, are moved so that the first such
    frame lies as long after the very first frame as it arrived after it. Measuring from there keeps
    the error of one connection (how long FFmpeg analysed the stream before it returned the first
    frame) from adding up over many.

    If frames come at their own pace (``live``), one whose time is far ahead of its arrival shows
    that the clock was set.
    """

    def __init__(self, time_base: Fraction, *, live: bool = True) -> None:
        self._time_base = time_base
        self._lead_seconds = LEAD_SECONDS if live else math.inf
        self._origin: tuple[int, float] | None = None  # ticks and arrival of the very first frame
        self._shift_ticks: int | None = 0
        self._last_ticks = 0
        self._last_seconds = 0.0

    def restart(self) -> None:
        """Treat the next frame as the first of another connection."""
        self._shift_ticks = None

    def place(self, frame: Frame, arrived_seconds: float) -> Frame:
        """Return the next frame, which arrived then by a steady clock, on the one clock."""
        if frame.pts is None or frame.time_base is None:
            raise MediaError("a frame without a time cannot follow others; take those of a reader")
        ticks = round(frame.pts * frame.time_base / self._time_base)
        if self._origin is None:
            self._origin, self._last_ticks = (ticks, arrived_seconds), ticks
            self._last_seconds = arrived_seconds
        silent_seconds, self._last_seconds = arrived_seconds - self._last_seconds, arrived_seconds
        placed = ticks + (self._shift_ticks or 0)
        step_seconds = (placed - self._last_ticks) * self._time_base
        longest_seconds = silent_seconds + self._lead_seconds
        if self._shift_ticks is None or not -JUMP_SECONDS <= step_seconds <= longest_seconds:
            first_ticks, first_seconds = self._origin
            elapsed_ticks = round((arrived_seconds - first_seconds) / self._time_base)
            placed = max(self._last_ticks + 1, first_ticks + elapsed_ticks)
            self._shift_ticks = placed - ticks
        self._last_ticks = max(self._last_ticks, placed)
        return replace(frame, pts=self._last_ticks, time_base=self._time_base)


class Timeline:
    """Places frames on the ticks of an output, each after the one before, if asked from zero on."""

    def __init__(
        self, time_base: Fraction, rate: Fraction, *, from_zero: bool, warnings: Counter[str]
    ) -> None:
        self.time_base = time_base
        self.interval_ticks = max(1, round(1 / (rate * time_base)))
        self._from_zero = from_zero
        self._warnings = warnings
        self._shift_ticks = 0
        self.last_ticks: int | None = None

    def place(self, frame: Frame) -> int:
        """Return the tick at which the output shows ``frame``."""
        last = self.last_ticks
        if frame.pts is None or frame.time_base is None:
            ticks = (0 if last is None else last + self.interval_ticks) - self._shift_ticks
        else:
            exact = frame.pts * frame.time_base / self.time_base
            ticks = round(exact)
            if exact != ticks:
                self._warnings[f"timestamps rounded to {self.time_base} s"] += 1
        if last is None and self._from_zero:
            self._shift_ticks = -ticks
        elif last is not None and ticks + self._shift_ticks <= last:
            self._warnings["timestamps moved to keep frames in order"] += 1
            if (last - ticks - self._shift_ticks) * self.time_base > JUMP_SECONDS:
                self._shift_ticks = last + self.interval_ticks - ticks
            else:
                ticks = last + 1 - self._shift_ticks
        self.last_ticks = ticks + self._shift_ticks
        return self.last_ticks


@dataclass(slots=True)
class _Stream:
    """Position of one stream: the run of the clock it is in, and its latest time there."""

    run: int = 0
    last: Fraction | None = None
    held: deque["Packet[Stream]"] = field(default_factory=deque)


class UnbrokenTimes:
    """Moves the packets of a file so that their times go on where the file's clock jumps.

    Transport streams jump where recordings were joined, where a recorder restarted, and where the
    33 bits of their clock overflow. The pictures decide where a jump is: behind it, the next one
    follows the last one by one frame interval. All other streams move by the same time, so sound
    stays in step. Times without a jump are not changed.

    Formats with a time line of their own (MP4, Matroska) state gaps that are meant, however long:
    there, only a step back is a jump.
    """

    def __init__(self, container: InputContainer, pictures: Stream, warnings: Counter[str]) -> None:
        self.may_jump = bool(container.format.flags & MAY_JUMP)
        """True for formats whose clock is known to jump."""
        self._pictures, self._warnings = pictures, warnings
        self._shifts = [Fraction(0)]  # seconds, for each run of the clock
        self._streams: dict[int, _Stream] = {}
        self._end = self._shown_end = Fraction(0)  # of the pictures so far, in seconds

    def placed(self, packets: "Iterable[Packet[Stream]]") -> "Iterator[Packet[Stream]]":
        """Yield the packets with their times moved; packets that wait for pictures come later."""
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
        if packet.dts is None:  # presentation times alone go back and forth
            return False
        now, last = packet.dts * packet.time_base, stream.last
        shown = None if packet.pts is None else packet.pts * packet.time_base
        jumped = last is not None and self._is_jump(last, now)
        if last is not None and jumped:
            shift = self._end - now
            if 0 < now + OVERFLOW_SECONDS - last <= GAP_SECONDS:
                shift = self._shifts[stream.run] + OVERFLOW_SECONDS
            else:
                self._warnings[CLOCK_JUMPS] += 1
                if packet.is_keyframe and shown is not None:  # shown behind all before it
                    shift = max(shift, self._shown_end - shown)
            self._shifts.append(shift)
            stream.run = len(self._shifts) - 1
        shift = self._shifts[stream.run]
        interval = (packet.duration or 0) * packet.time_base
        if not interval and last is not None and not jumped:
            interval = max(now - last, Fraction(0))
        self._end = now + shift + interval
        if shown is not None:
            self._shown_end = max(self._shown_end, shown + shift + interval)
        stream.last = now
        return jumped

    def _is_jump(self, last: Fraction, now: Fraction) -> bool:
        if self.may_jump:
            return now < last or now - last > GAP_SECONDS
        return last - now > JUMP_SECONDS

    def _released(self, stream: _Stream, *, final: bool) -> "Iterator[Packet[Stream]]":
        """Yield packets of another stream whose run of the clock is known."""
        while stream.held:
            packet = stream.held[0]
            now = start_of(packet)
            if now is not None:
                if stream.last is not None and self._is_jump(stream.last, now):
                    run = self._run_after(stream, stream.last, now)
                    if run is None and not final:
                        return
                    stream.run = stream.run if run is None else run
                stream.last = now
            stream.held.popleft()
            _move(packet, self._shifts[stream.run])
            yield packet

    def _run_after(self, stream: _Stream, last: Fraction, now: Fraction) -> int | None:
        """Return the run in which a stream goes on; None if its pictures did not come yet."""
        shift = self._shifts[stream.run]
        if now > last and abs(now + shift - self._end) <= GAP_SECONDS:
            return stream.run  # it was only silent for long while the pictures went on
        for run in range(len(self._shifts) - 1, stream.run, -1):
            step = now + self._shifts[run] - (last + shift)
            if -OVERLAP_SECONDS <= step <= GAP_SECONDS:
                return run
        return None


def start_of(packet: "Packet[Stream]") -> Fraction | None:
    """Return when a packet starts in seconds; None if it does not say."""
    ticks = packet.pts if packet.dts is None else packet.dts
    return None if ticks is None else ticks * packet.time_base


def _move(packet: "Packet[Stream]", seconds: Fraction) -> None:
    if not seconds:
        return
    ticks = round(seconds / packet.time_base)
    if packet.pts is not None:
        packet.pts += ticks
    if packet.dts is not None:
        packet.dts += ticks
