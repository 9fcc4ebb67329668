"""Frames of a camera or network stream, going on whatever happens to the connection."""

import logging
import random
import threading
import time
from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from edgecar.closing import Closing
from edgecar.errors import MediaError, SettingsError, StallError
from edgecar.media.backoff import Backoff
from edgecar.media.connection import Arrival, Connection, Opened
from edgecar.media.facts import StreamFacts
from edgecar.media.frame import Frame
from edgecar.media.packets import CORRUPT_FRAMES, DAMAGED_PACKETS, NO_KEYFRAME, SKIPPED_PACKETS
from edgecar.media.reader import Reader
from edgecar.media.sources import Source, SourceSettings, source_from
from edgecar.media.timing import JoinedTimes

State = Literal["connecting", "streaming", "waiting", "closed"]

RELEASE_SECONDS = 0.5
"""How long to wait for a connection to give the source back: one that is not silent does."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveSettings(SourceSettings):
    """The same for a live source, and when to connect again.

    Raises:
        SettingsError: As `SourceSettings`, or the jitter is no share.
    """

    first_backoff_seconds: float = 0.5
    """Before the first new attempt; twice as long before each further one."""
    longest_backoff_seconds: float = 30
    backoff_jitter: float = 0.2
    """Share by which a backoff varies."""
    give_up_after_seconds: float | None = None
    """Without a frame, once there was one; None: never."""

    def __post_init__(self) -> None:
        SourceSettings.__post_init__(self)  # `super()` does not see through ``slots``
        if not 0 <= self.backoff_jitter < 1:
            raise SettingsError(
                f"backoff_jitter is {self.backoff_jitter}; give a share from 0 to below 1"
            )


LIVE_DEFAULTS = LiveSettings()


@dataclass(slots=True)
class LiveStats:
    """What became of a live source so far."""

    state: State = "connecting"
    frames: int = 0
    """Given out."""
    connects: int = 0
    """Connections that gave a picture."""
    failed_connects: int = 0
    """Attempts to connect again that did not."""
    stalls: int = 0
    """Connections given up because nothing came in time."""
    skipped_packets: int = 0
    """Came before the first keyframe of their connection."""
    keyframeless_starts: int = 0
    """Connections where none came in time: their first pictures may be broken."""
    corrupt_frames: int = 0
    """Given out, but the decoder had to conceal damage."""
    damaged_packets: int = 0
    """Could not be decoded."""
    last_error: str | None = None
    """Why a connection or attempt last failed, without passwords."""
    last_frame_unix_seconds: float | None = None

    @property
    def reconnects(self) -> int:
        """How often the source came back."""
        return max(0, self.connects - 1)


class LiveSource(Closing):
    """Frames that come at their own pace; ``close`` is for any thread, and wakes who reads."""

    @property
    @abstractmethod
    def live(self) -> bool:
        """False for a source that has an end."""

    @property
    @abstractmethod
    def stats(self) -> LiveStats:
        """What happened so far; a copy."""


class LiveReader(LiveSource):
    """Frames of one source; connects again where it hangs up, fails or falls silent.

    Iterate over it in one thread; `close` and `stats` are for any. The first connection is made
    with it. A source that turns out to have an end (a file behind HTTP) is read to it, once.

    The frames of all connections are on one clock that never goes back (`JoinedTimes`). None comes
    before the first keyframe of its connection, unless there is none (see `SourceSettings`). Frames
    with damage that the decoder concealed are given out and counted: most of each is sound.

    Args:
        source: Where to read from.
        settings: Timeouts, transport and backoff.
        keep_size: Scale frames to the size of the very first, as a recording needs. Else a camera
            that comes back with another resolution gives frames of another size.
        read_coding: Note in every frame how coarsely it was coded.
        opener: Makes a reader from the arguments of `Reader`.
        clock: Seconds from anywhere.
        sleep: Waits for so many seconds; `close` cuts the default short.
        rng: Draws the jitter.

    Raises:
        MediaError: The source cannot be opened. Later on, every reason is worth another attempt:
            a camera that starts up may refuse the right password.
    """

    def __init__(
        self,
        source: Source,
        settings: LiveSettings = LIVE_DEFAULTS,
        *,
        keep_size: bool = True,
        read_coding: bool = False,
        opener: Callable[..., Reader] = Reader,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self.source, self.settings = source, settings
        self.warnings: Counter[str] = Counter()
        """What was changed, skipped or missing so far, and how often."""
        self.ended = False
        """True once a source with an end was read to it."""
        self._keep_size, self._read_coding = keep_size, read_coding
        self._opener, self._clock = opener, clock
        self._closing = threading.Event()
        self._sleep = sleep or self._closing.wait
        self._backoff = Backoff(
            settings.first_backoff_seconds,
            settings.longest_backoff_seconds,
            settings.backoff_jitter,
            rng or random.Random(),
        )
        self._stats = LiveStats()
        self._connected_seconds = self._arrived_seconds = clock()
        self._connection = self._started(None)
        try:
            first = self._opened()
            assert first is not None  # that comes of `close` only
        except BaseException:
            self.close()
            raise
        self.facts: StreamFacts = first.facts
        """All that a writer needs to make a video like the first connection's."""
        self.codec = first.codec
        """FFmpeg's short name of the first connection's coding."""
        self._times = JoinedTimes(first.facts.time_base, live=first.facts.live)

    def __iter__(self) -> Iterator[Frame]:
        return self

    def __next__(self) -> Frame:
        """The next frame, however long it takes to come.

        Raises:
            StopIteration: `close` was called, or a source with an end was read to it.
            MediaError: Nothing came for `LiveSettings.give_up_after_seconds`, or a source with an
                end failed before it.
        """
        try:
            frame = self._next_frame()
        except BaseException:
            self.close()
            raise
        if frame is None:
            self.close()
            raise StopIteration
        return frame

    def close(self) -> None:
        """Stop reading; who waits for a frame gets `StopIteration` at once.

        The source is free when this returns, unless it is silent: then once its timeout is over.
        Harmless when repeated.
        """
        self._closing.set()
        self._connection.abandon()
        self._connection.join(RELEASE_SECONDS)

    @property
    def live(self) -> bool:
        """False for a source that has an end."""
        return self.facts.live

    @property
    def stats(self) -> LiveStats:
        """What happened so far; a copy."""
        return replace(
            self._stats,
            state="closed" if self._closing.is_set() else self._stats.state,
            skipped_packets=self.warnings[SKIPPED_PACKETS],
            keyframeless_starts=self.warnings[NO_KEYFRAME],
            corrupt_frames=self.warnings[CORRUPT_FRAMES],
            damaged_packets=self.warnings[DAMAGED_PACKETS],
        )

    def _next_frame(self) -> Frame | None:
        while not self._closing.is_set():
            try:
                # FFmpeg has a timeout from packet to packet and `VideoPackets` one from picture to
                # picture, both shorter. Where neither sees the time pass, this does.
                item = self._connection.next(2 * self.settings.read_seconds)
            except MediaError as error:
                if not self.facts.live:
                    raise
                failure = error
            else:
                if isinstance(item, Arrival):
                    return self._given_out(item)
                if not self.facts.live:
                    self.ended = not self._closing.is_set()
                    return None
                failure = MediaError(f"{self.source.shown} hung up; connect again")
            self._connect_again(failure)
        return None

    def _given_out(self, arrival: Arrival) -> Frame:
        self._arrived_seconds = arrival.seconds
        self._stats.frames += 1
        self._stats.last_frame_unix_seconds = time.time()
        return self._times.place(arrival.frame, arrival.seconds)

    def _connect_again(self, failure: MediaError) -> None:
        """Try until it works or somebody closes."""
        self._stats.stalls += isinstance(failure, StallError)
        self._backoff.succeeded(self._arrived_seconds - self._connected_seconds)
        error: MediaError | None = failure
        level = logging.WARNING
        while error is not None and not self._closing.is_set():
            self._connection.abandon()
            self._stats.last_error = str(error)
            self._check_hope(error)
            seconds = self._backoff.next_seconds()
            _log.log(level, "%s (next attempt in %.1f s)", error, seconds)
            level = logging.INFO  # a camera may be away for days
            self._stats.state = "waiting"
            self._sleep(seconds)
            error = self._attempt()

    def _check_hope(self, error: MediaError) -> None:
        limit = self.settings.give_up_after_seconds
        if limit is not None and self._clock() - self._arrived_seconds >= limit:
            raise MediaError(f"no frame for {limit:g} s, given up: {error}")

    def _attempt(self) -> MediaError | None:
        """Connect once; what went wrong, if anything did."""
        self._connection.join(RELEASE_SECONDS)
        if self._connection.alive:
            # Many cameras refuse a second caller, and stuck threads would add up.
            self._stats.failed_connects += 1
            return MediaError(f"{self.source.shown} still holds the last connection; check it")
        self._connection = self._started(self.facts)
        if self._closing.is_set():  # `close` may have seen the connection before
            self._connection.abandon()
        try:
            self._opened()
        except MediaError as error:
            self._stats.failed_connects += 1
            return error
        self._times.restart()
        if self.facts.sound:
            self.facts.sound.broken_off = True  # a writer takes that of the first connection
        return None

    def _started(self, first: StreamFacts | None) -> Connection:
        self._stats.state = "connecting"

        def open_reader() -> Reader:
            return self._opener(
                self.source,
                keep_size=self._keep_size,
                read_coding=self._read_coding,
                settings=self.settings,
                size=first.size if first else None,
                warnings=self.warnings,
            )

        return Connection(open_reader, self.source.shown, self._clock)

    def _opened(self) -> Opened | None:
        """What the new connection found out; None if it was abandoned."""
        limits = self.settings
        # Longer than FFmpeg can take where it has a timeout: to connect, to look at the stream, for
        # the keyframe, for its picture.
        patience = 2 * limits.open_seconds + limits.keyframe_seconds + 2 * limits.read_seconds
        opened = self._connection.next(patience)
        if not isinstance(opened, Opened):
            return None
        self._connected_seconds = opened.seconds
        self._stats.connects += 1
        self._stats.state = "streaming"
        return opened


def open_live(
    source: str | int | Path,
    settings: LiveSettings = LIVE_DEFAULTS,
    *,
    keep_size: bool = True,
    read_coding: bool = False,
) -> LiveReader:
    """Connect to a camera or network stream and decode its first frame.

    Args:
        source: A camera's number (``0``) or a URL. RTSP goes over TCP.
        settings: Timeouts, transport and backoff.
        keep_size: Scale frames to the first one's size where the stream changes it.
        read_coding: Note in every frame how coarsely it was coded.

    Raises:
        MediaError: It does not answer, refuses, or sends no video.
    """
    return LiveReader(source_from(source), settings, keep_size=keep_size, read_coding=read_coding)
