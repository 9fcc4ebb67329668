"""One connection to a live source, in a thread that nobody has to wait for."""

import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from edgecar.errors import StallError
from edgecar.media.facts import StreamFacts
from edgecar.media.frame import Frame
from edgecar.media.reader import Reader

QUEUE_FRAMES = 2
"""Enough to decode the next frame while one is worked on; more would be delay."""

POLL_SECONDS = 0.1
"""How soon a thread with a full queue notices that it should stop."""


class Opened(NamedTuple):
    """What a reader found out, and when."""

    facts: StreamFacts
    codec: str
    seconds: float


class Arrival(NamedTuple):
    """A frame, and when it was decoded."""

    frame: Frame
    seconds: float


class Connection:
    """A reader in a thread of its own.

    A call into FFmpeg cannot be cut short: it crashes where one thread closes what another reads,
    and it knows no timeout in the drivers of cameras and the look-up of names. So who waits for
    it goes on without it, and the thread closes the reader once FFmpeg returns.

    Args:
        open_reader: Opens the reader; called in the thread.
        shown: Name for messages.
        clock: Seconds from anywhere.
    """

    def __init__(
        self, open_reader: Callable[[], Reader], shown: str, clock: Callable[[], float]
    ) -> None:
        self._open_reader, self._shown, self._clock = open_reader, shown, clock
        self._items: queue.Queue[_Item] = queue.Queue(QUEUE_FRAMES)
        self._stop = threading.Event()
        # A daemon: if FFmpeg never returns, the program still ends.
        self._thread = threading.Thread(target=self._run, name="edgecar-live", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether the thread runs, and may hold the source."""
        return self._thread.is_alive()

    def next(self, timeout_seconds: float) -> Opened | Arrival | None:
        """First what the reader found out, then frames, None at the end.

        Raises:
            StallError: Nothing came in time.
            MediaError: The reader failed.
        """
        try:
            item = self._items.get(timeout=timeout_seconds)
        except queue.Empty:
            item = StallError(f"{self._shown} gave nothing for {timeout_seconds:g} s; check it")
        if isinstance(item, BaseException):
            raise item
        return item

    def abandon(self) -> None:
        """Wake up who waits, and have the reader closed as soon as can be."""
        self._stop.set()
        with suppress(queue.Full):  # then nobody waits
            self._items.put_nowait(None)

    def join(self, timeout_seconds: float) -> None:
        """Wait until the source is given back, but no longer than that."""
        self._thread.join(timeout_seconds)

    def _run(self) -> None:
        try:
            with self._open_reader() as reader:
                going_on = self._put(Opened(reader.facts, reader.codec, self._clock()))
                while going_on and (frame := next(reader, None)) is not None:
                    going_on = self._put(Arrival(frame, self._clock()))
            self._put(None)
        except BaseException as error:  # raised again where it can be caught
            self._put(error)

    def _put(self, item: "_Item") -> bool:
        while not self._stop.is_set():
            with suppress(queue.Full):
                self._items.put(item, timeout=POLL_SECONDS)
                return True
        return False


_Item = Opened | Arrival | BaseException | None
