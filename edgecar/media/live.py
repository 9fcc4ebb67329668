"""Frames of a camera or network stream, which connects again whatever happens."""

import logging
import queue
import random
import threading
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Literal

from edgecar.errors import MediaError, StallError
from edgecar.media.facts import StreamFacts
from edgecar.media.frame import Frame
from edgecar.media.packets import CORRUPT_FRAMES, DAMAGED_PACKETS, NO_KEYFRAME, SKIPPED_PACKETS
from edgecar.media.reader import Reader
from edgecar.media.sources import LIVE_DEFAULTS, Backoff, LiveSettings, Source
from edgecar.media.timing import JoinedTimes

if TYPE_CHECKING:
    from typing_extensions import Self

RELEASE_SECONDS = 0.5  # longest wait for a connection to release the source
QUEUE_FRAMES = 2  # to decode the next frame while one is worked on; more would be delay
POLL_SECONDS = 0.1  # between looks of a thread with a full queue at whether it should stop

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class LiveStats:
    """Counters of a live source."""

    state: Literal["connecting", "streaming", "waiting", "closed"] = "connecting"
    frames: int = 0  # returned
    connects: int = 0  # that gave a picture
    failed_connects: int = 0  # attempts to connect again
    stalls: int = 0  # connections given up because nothing came in time
    skipped_packets: int = 0  # before the first keyframe of their connection
    keyframeless_starts: int = 0  # no keyframe in time: first pictures may be broken
    corrupt_frames: int = 0  # returned ones in which the decoder concealed damage
    damaged_packets: int = 0  # that could not be decoded
    last_error: str | None = None  # without passwords
    last_frame_unix_seconds: float | None = None

    @property
    def reconnects(self) -> int:
        """Number of times the source came back."""
        return max(0, self.connects - 1)


class LiveSource(ABC):
    """Frames that come at their own pace; any thread may call ``close``, which ends a wait."""

    @property
    @abstractmethod
    def live(self) -> bool:
        """False for a source that has an end."""

    @property
    @abstractmethod
    def stats(self) -> LiveStats:
        """Copy of the counters."""

    @abstractmethod
    def close(self) -> None:
        """End a wait and free the source; a second call does nothing."""

    def __enter__(self) -> "Self":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Connection:
    """A reader in a thread of its own.

    A call into FFmpeg cannot be cut short: it crashes where one thread closes what another reads,
    and it has no timeout in camera drivers and name resolution. So the caller goes on without it,
    and the thread closes the reader once FFmpeg returns.
    """

    facts: StreamFacts
    """Facts of the reader, once `next` returned."""
    codec: str

    def __init__(
        self, open_reader: Callable[[], Reader], shown: str, clock: Callable[[], float]
    ) -> None:
        self._open_reader, self._shown, self._clock = open_reader, shown, clock
        self._items: queue.Queue[tuple[Frame | None, float] | BaseException | None] = queue.Queue(
            QUEUE_FRAMES
        )
        self._stop = threading.Event()
        # A daemon: if FFmpeg never returns, the program still ends.
        self._thread = threading.Thread(target=self._run, name="edgecar-live", daemon=True)
        self._thread.start()

    def next(self, timeout_seconds: float) -> tuple[Frame | None, float] | None:
        """Return a frame and its arrival; no frame once it is open; None at the end."""
        try:
            item = self._items.get(timeout=timeout_seconds)
        except queue.Empty:
            item = StallError(f"{self._shown} gave nothing for {timeout_seconds:g} s; check it")
        if isinstance(item, BaseException):
            raise item
        return item

    def abandon(self) -> None:
        """Wake up the waiting thread, and have the reader closed as soon as possible."""
        self._stop.set()
        with suppress(queue.Full):  # then nobody waits
            self._items.put_nowait(None)

    def is_released(self) -> bool:
        """Wait a little for the source to be released; return False if it still is not."""
        self._thread.join(RELEASE_SECONDS)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            with self._open_reader() as reader:
                self.facts, self.codec = reader.facts, reader.codec
                going_on = self._put((None, self._clock()))
                while going_on and (frame := next(reader, None)) is not None:
                    going_on = self._put((frame, self._clock()))
            self._put(None)
        except BaseException as error:  # raised again where it can be caught
            self._put(error)

    def _put(self, item: tuple[Frame | None, float] | BaseException | None) -> bool:
        while not self._stop.is_set():
            with suppress(queue.Full):
                self._items.put(item, timeout=POLL_SECONDS)
                return True
        return False


class LiveReader(LiveSource):
    """Frames of one source; connects again where it hangs up, fails or falls silent.

    Iterate over it in one thread; `close` and `stats` are for any. The first connection is made on
    construction, which raises MediaError if it fails. Later on, every reason is worth another
    attempt: a camera that starts up may refuse the right password. A source that turns out to have
    an end (a file behind HTTP) is read to it, once.

    The frames of all connections are on one clock that never goes back (`JoinedTimes`). None comes
    before the first keyframe of its connection, unless there is none (see `LiveSettings`). Frames
    with damage that the decoder concealed are returned and counted: most of each is sound.

    With ``keep_size``, frames are scaled to the size of the very first, as a recording needs; else
    a camera that comes back with another resolution gives frames of another size. ``opener`` takes
    the arguments of `Reader`; ``clock``, ``sleep`` and ``rng`` are for tests.
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
        self.warnings: Counter[str] = Counter()  # what was changed, skipped or missing so far
        self.ended = False  # True once a source with an end was read to it
        self._clock = clock
        self._open = partial(
            opener,
            source,
            keep_size=keep_size,
            read_coding=read_coding,
            settings=settings,
            warnings=self.warnings,
        )
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
        try:
            self._connect(None)
        except BaseException:
            self.close()
            raise
        # What a writer needs to make a video like the first connection's, and FFmpeg's short name.
        self.facts, self.codec = self._connection.facts, self._connection.codec
        self._times = JoinedTimes(self.facts.time_base, live=self.facts.live)

    def __iter__(self) -> Iterator[Frame]:
        return self

    def __next__(self) -> Frame:
        """Return the next frame, however long it takes to come, until `close` is called.

        Raises:
            MediaError: Nothing came for `LiveSettings.give_up_after_seconds`, or a source with an
                end failed before it.
        """
        try:
            while not self._closing.is_set():
                if (frame := self._next_frame()) is not None:
                    return frame
        except BaseException:
            self.close()
            raise
        self.close()
        raise StopIteration

    def close(self) -> None:
        """Stop reading; a thread that waits for a frame gets `StopIteration` at once.

        The source is free when this returns; a silent one is free once its timeout is over.
        """
        self._closing.set()
        self._connection.abandon()
        self._connection.is_released()

    @property
    def live(self) -> bool:
        """False for a source that has an end."""
        return self.facts.live

    @property
    def stats(self) -> LiveStats:
        """Copy of the counters."""
        return replace(
            self._stats,
            state="closed" if self._closing.is_set() else self._stats.state,
            skipped_packets=self.warnings[SKIPPED_PACKETS],
            keyframeless_starts=self.warnings[NO_KEYFRAME],
            corrupt_frames=self.warnings[CORRUPT_FRAMES],
            damaged_packets=self.warnings[DAMAGED_PACKETS],
        )

    def _next_frame(self) -> Frame | None:
        """Return the next frame; None after another connection or the end."""
        try:
            # FFmpeg has a timeout from packet to packet and `VideoPackets` one from picture to
            # picture, both shorter. Where neither sees the time pass, this does.
            item = self._connection.next(2 * self.settings.read_seconds)
        except MediaError as error:
            if not self.facts.live:
                raise
            self._connect_again(error)
            return None
        if item and item[0]:
            self._arrived_seconds = item[1]
            self._stats.frames += 1
            self._stats.last_frame_unix_seconds = time.time()
            return self._times.place(item[0], item[1])
        if self.facts.live:
            self._connect_again(MediaError(f"{self.source.shown} hung up; connect again"))
        elif not self._closing.is_set():
            self.ended = True
            self.close()
        return None

    def _connect_again(self, error: MediaError | None) -> None:
        """Try until it works or somebody closes."""
        self._stats.stalls += isinstance(error, StallError)
        self._backoff.succeeded(self._arrived_seconds - self._connected_seconds)
        limit = self.settings.give_up_after_seconds
        level = logging.WARNING
        while error is not None and not self._closing.is_set():
            self._connection.abandon()
            self._stats.last_error = str(error)
            if limit is not None and self._clock() - self._arrived_seconds >= limit:
                raise MediaError(f"no frame for {limit:g} s, given up: {error}")
            seconds = self._backoff.next_seconds()
            _log.log(level, "%s (next attempt in %.1f s)", error, seconds)
            level = logging.INFO  # a camera may be away for days
            self._stats.state = "waiting"
            self._sleep(seconds)
            error = self._attempt()
            self._stats.failed_connects += error is not None

    def _attempt(self) -> MediaError | None:
        """Connect once; return the error, if any."""
        if not self._connection.is_released():
            # Many cameras refuse a second caller, and stuck threads would add up.
            return MediaError(f"{self.source.shown} still holds the last connection; check it")
        try:
            self._connect(self.facts)
        except MediaError as error:
            return error
        self._times.restart()
        if self.facts.sound:
            self.facts.sound.broken_off = True  # a writer takes that of the first connection
        return None

    def _connect(self, first: StreamFacts | None) -> None:
        """Open a connection of the first one's size, and wait for it unless `close` is called."""
        limits = self.settings
        self._stats.state = "connecting"
        open_reader = partial(self._open, size=first.size if first else None)
        self._connection = _Connection(open_reader, self.source.shown, self._clock)
        if self._closing.is_set():  # `close` may have seen the connection before
            self._connection.abandon()
        # Longer than FFmpeg can take where it has a timeout: to connect, to look at the stream, for
        # the keyframe, for its picture.
        patience = 2 * limits.open_seconds + limits.keyframe_seconds + 2 * limits.read_seconds
        if item := self._connection.next(patience):
            self._connected_seconds = item[1]
            self._stats.connects += 1
            self._stats.state = "streaming"
