"""What every output of a camera has in common: a queue, a thread, and another try."""

import logging
import random
import threading
import time
from abc import abstractmethod
from collections import deque
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from edgecar.closing import Closing
from edgecar.errors import EdgecarError
from edgecar.media.backoff import Backoff

Kind = Literal["code", "record", "push", "publish"]
OutputState = Literal["connecting", "running", "waiting", "stopped"]
Item = TypeVar("Item")

FIRST_BACKOFF_SECONDS = 0.5
LONGEST_BACKOFF_SECONDS = 30.0
JITTER = 0.2
DRAIN_SECONDS = 2.0
"""For what is queued when an output is closed; a service has 5 s for everything."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class OutputStatus:
    """What became of an output.

    Attributes:
        kind: What it does.
        target: Where to, without passwords.
        state: What it does now.
        error: Why it waits.
        frames: Written so far.
        dropped: Left out, because it was not ready or too slow.
    """

    kind: Kind
    target: str
    state: OutputState
    error: str | None
    frames: int
    dropped: int


class Output(Closing, Generic[Item]):
    """Takes items without ever making who gives them wait, and writes them in a thread.

    Args:
        kind: What it does.
        target: Where to, for messages; without passwords.
        depth: Items that may wait; the oldest goes when one more comes.
    """

    def __init__(self, kind: Kind, target: str, depth: int) -> None:
        self.kind, self.target = kind, target
        self._depth = depth
        self._items: deque[Item] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._state: OutputState = "connecting"
        self._error: str | None = None
        self._frames = self._dropped = 0
        self._backoff = Backoff(
            FIRST_BACKOFF_SECONDS, LONGEST_BACKOFF_SECONDS, JITTER, random.Random()
        )
        self._thread = threading.Thread(target=self._run, name=f"edgecar-{kind}", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def offer(self, item: Item) -> None:
        """Queue an item; for any thread, returns at once."""
        with self._changed:
            if self._closing:
                return
            if len(self._items) >= self._depth:
                self._make_room()
            self._items.append(item)
            self._changed.notify_all()

    def close(self) -> None:
        """Write what is queued, but not for long; harmless when repeated."""
        with self._changed:
            first, self._closing = not self._closing, True
            self._changed.notify_all()
        if self._thread.ident is None:
            return
        self._thread.join(DRAIN_SECONDS)
        if first:
            lost = self._dropped + len(self._items)
            _log.info("%s %s: %d written, %d dropped", self.kind, self.target, self._frames, lost)

    @property
    def status(self) -> OutputStatus:
        """What became of it so far."""
        state: OutputState = "stopped" if self._closing else self._state
        return OutputStatus(self.kind, self.target, state, self._error, self._frames, self._dropped)

    @abstractmethod
    def _write(self, item: Item) -> bool:
        """Write one item, opening what is needed; False if it had to be left out.

        Raises:
            EdgecarError: It failed; `_reset` is called, and the next item tries again.
        """

    @abstractmethod
    def _reset(self) -> None:
        """Let go of what is open; finish it where that is possible."""

    def _make_room(self) -> None:
        """Leave the oldest out; what waits may depend on what came before."""
        self._items.popleft()
        self._dropped += 1

    def _run(self) -> None:
        while (item := self._next()) is not None:
            began = time.monotonic()
            try:
                if self._write(item):
                    self._frames += 1
                else:
                    self._dropped += 1
                self._state, self._error = "running", None
            except Exception as error:  # an output's failure is its own
                self._failed(error, began)
        self._quietly_reset()

    def _next(self) -> Item | None:
        with self._changed:
            while not self._items:
                if self._closing:
                    return None
                self._changed.wait()
            return self._items.popleft()

    def _failed(self, error: Exception, began: float) -> None:
        if not isinstance(error, EdgecarError):
            _log.exception("%s %s failed", self.kind, self.target)
        self._quietly_reset()
        self._dropped += 1
        self._state, self._error = "waiting", str(error) or type(error).__name__
        self._backoff.succeeded(time.monotonic() - began)
        seconds = self._backoff.next_seconds()
        _log.warning("%s %s: %s (again in %.1f s)", self.kind, self.target, self._error, seconds)
        until = time.monotonic() + seconds
        with self._changed:
            while not self._closing and (left := until - time.monotonic()) > 0:
                self._dropped += len(self._items)
                self._items.clear()
                self._changed.wait(left)

    def _quietly_reset(self) -> None:
        try:
            self._reset()
        except Exception as error:
            _log.warning("%s %s: %s", self.kind, self.target, error)
