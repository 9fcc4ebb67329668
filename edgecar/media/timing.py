"""When each frame is shown: filling gaps on the way in, keeping order on the way out."""

import math
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

import av

from edgecar.errors import MediaError
from edgecar.media.frame import Frame

REORDER_LIMIT_FRAMES = 32
"""No coding standard holds back a picture for longer than 16 frames; twice that, to be safe."""

REORDER_LIMIT_SECONDS = 10

LEAD_SECONDS = 10
"""Frames of a live source that come in one go may cover so long, but no longer."""

JUMP_SECONDS = 1
"""A step back by more is a new start of the clock, by less a mistake in one frame."""


class Timestamps:
    """Presentation times of decoded pictures, in ticks of the stream's time base.

    What the container states passes untouched. A picture without a time, or with one that its
    place in the file contradicts, follows the picture before it by one frame interval.

    Args:
        time_base: Seconds in a tick.
        rate: Frames a second.
        gaps: True if the format may state long gaps, next to which a picture is decoded long
            before it is shown. In other formats such a time is a mistake.
        warnings: Receives a count for every time that was replaced.
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
        """Time of the next picture in the order they are shown."""
        stated = self._stated(picture)
        now = self._next_ticks if stated is None else Fraction(stated)
        self._next_ticks = now + self._interval_ticks
        return round(now)

    def _stated(self, picture: av.VideoFrame) -> int | None:
        if picture.pts is None:
            self._warnings[
                f"timestamps missing, taken from {self._rate_fps:g} frames a second"
            ] += 1
            return None
        if picture.dts is None or abs(picture.pts - picture.dts) <= self._limit_ticks:
            return picture.pts
        self._warnings["impossible timestamps replaced"] += 1
        return None


class DecodingTimes:
    """Presentation times where the container states only when to decode.

    AVI does, and MP4 files by some recorders. Shown in the order of showing, the pictures take the
    packets' times in the order of decoding; `Timestamps` would hand them out in disorder.

    Args:
        queue: Decoding times of the packets that were sent to the decoder and whose pictures did
            not come out yet; grows while pictures are asked for.
        depth_frames: How many further packets the decoder takes before it lets a picture out.
    """

    def __init__(self, queue: deque[int], depth_frames: int) -> None:
        self._queue, self._depth_frames = queue, depth_frames
        self._last_ticks = -1

    def pts_of(self, picture: av.VideoFrame) -> int:
        """Time of the next picture in the order they are shown."""
        if picture.dts is not None:
            sent = sum(ticks <= picture.dts for ticks in self._queue)
            for _ in range(sent - self._depth_frames - 1):  # packets that gave no picture
                self._queue.popleft()
        self._last_ticks = self._queue.popleft() if self._queue else self._last_ticks + 1
        return self._last_ticks


class ArrivalTimes:
    """Presentation times where a live stream states none: when each picture arrived.

    Args:
        time_base: Seconds in a tick; the first picture is at zero.
        clock: Seconds from anywhere.
    """

    def __init__(self, time_base: Fraction, clock: Callable[[], float] = time.monotonic) -> None:
        self._time_base, self._clock = time_base, clock
        self._first_seconds: float | None = None

    def pts_of(self, _picture: av.VideoFrame) -> int:
        """Time of the picture that is there now."""
        now = self._clock()
        if self._first_seconds is None:
            self._first_seconds = now
        return round((now - self._first_seconds) / self._time_base)


class JoinedTimes:
    """One clock for the frames of several connections to one source, which never goes back.

    A camera that restarts counts from zero again. The times of the first connection pass
    untouched; those of a later one, or behind a jump of its clock, are moved so that the first such
    frame lies as long after the very first one as it came after it. Measured from there, the error
    of one connection (how long FFmpeg looked at the stream before it gave out the first frame) does
    not add up over many.

    Args:
        time_base: Seconds in a tick of all frames that are given out.
        live: True if frames come at their own pace. A frame whose time is far ahead of its
            arrival then shows that the clock was set.
    """

    def __init__(self, time_base: Fraction, *, live: bool = True) -> None:
        self._time_base = time_base
        self._lead_seconds = LEAD_SECONDS if live else math.inf
        self._origin: tuple[int, float] | None = None  # ticks and arrival of the very first frame
        self._shift_ticks: int | None = 0
        self._last_ticks = 0
        self._last_seconds = 0.0

    def restart(self) -> None:
        """The next frame is the first of another connection."""
        self._shift_ticks = None

    def place(self, frame: Frame, arrived_seconds: float) -> Frame:
        """The frame with its time on the one clock.

        Args:
            frame: The next one, with a time.
            arrived_seconds: When it came, on any clock that only goes forward.
        """
        if frame.pts is None or frame.time_base is None:
            raise MediaError("a frame without a time cannot follow others; take those of a reader")
        ticks = round(frame.pts * frame.time_base / self._time_base)
        if self._origin is None:
            self._origin, self._last_ticks = (ticks, arrived_seconds), ticks
            self._last_seconds = arrived_seconds
        placed = None if self._shift_ticks is None else ticks + self._shift_ticks
        silent_seconds, self._last_seconds = arrived_seconds - self._last_seconds, arrived_seconds
        if placed is None or self._jumps(placed, silent_seconds):
            first_ticks, first_seconds = self._origin
            elapsed_ticks = round((arrived_seconds - first_seconds) / self._time_base)
            placed = max(self._last_ticks + 1, first_ticks + elapsed_ticks)
            self._shift_ticks = placed - ticks
        self._last_ticks = max(self._last_ticks, placed)
        return replace(frame, pts=self._last_ticks, time_base=self._time_base)

    def _jumps(self, placed: int, silent_seconds: float) -> bool:
        step_seconds = (placed - self._last_ticks) * self._time_base
        return not -JUMP_SECONDS <= step_seconds <= silent_seconds + self._lead_seconds


class Timeline:
    """Places frames on the ticks of an output, each after the one before.

    Args:
        time_base: Seconds in a tick of the output.
        rate: Frames a second, for frames without a time.
        from_zero: Start at zero whatever the first frame says.
        warnings: Receives a count for every time that had to change.
    """

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
        """The tick at which the output shows ``frame``."""
        ticks = self._wanted(frame)
        last = self.last_ticks
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

    def _wanted(self, frame: Frame) -> int:
        if frame.pts is None or frame.time_base is None:
            following = 0 if self.last_ticks is None else self.last_ticks + self.interval_ticks
            return following - self._shift_ticks
        exact = frame.pts * frame.time_base / self.time_base
        if exact.denominator != 1:
            self._warnings[f"timestamps rounded to {self.time_base} s"] += 1
        return round(exact)
