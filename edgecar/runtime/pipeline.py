"""Threads that read ahead and write behind, with bounded queues and one failure to report."""

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Generic, Self, TypeVar

Item = TypeVar("Item")

DEPTH = 3  # frames in a queue: enough to ride out an I-frame, little enough to bound memory
POLL_SECONDS = 0.2  # how soon a thread notices that it should stop


class ReadAhead(Generic[Item]):
    """Iterates over a source in a thread of its own, a few items ahead of the consumer.

    A failure of the source is raised in the consumer, after the items read before it. Leaving the
    ``with`` block stops the thread.
    """

    def __init__(self, source: Iterable[Item], depth: int = DEPTH) -> None:
        self._queue: queue.Queue[Item | _End] = queue.Queue(depth)
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=self._read, args=(source,), name="edgecar-read", daemon=True
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __iter__(self) -> Iterator[Item]:
        while True:
            item = self._queue.get()
            if isinstance(item, _End):
                if item.error is not None:
                    raise item.error
                return
            yield item

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _read(self, source: Iterable[Item]) -> None:
        end = _End(None)
        try:
            for item in source:
                if not self._put(item):
                    return
        except BaseException as error:  # raised again where it can be caught
            end = _End(error)
        self._put(end)

    def _put(self, item: "Item | _End") -> bool:
        while not self._stop.is_set():
            try:
                self._queue.put(item, timeout=POLL_SECONDS)
            except queue.Full:
                continue
            return True
        return False


class WriteBehind(Generic[Item]):
    """Hands items to a function in a thread of its own, in order.

    A failure of the function is raised by the next `put`, or on leaving the ``with`` block. Leaving
    it normally waits for everything to be written; leaving it by an exception writes no more.
    """

    def __init__(self, write: Callable[[Item], None], depth: int = DEPTH) -> None:
        self._queue: queue.Queue[Item | _End] = queue.Queue(depth)
        self._write = write
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._drain, name="edgecar-write", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def put(self, item: Item) -> None:
        """Queue an item; blocks while the queue is full."""
        self._offer(item)
        if self._failure is not None:
            raise self._failure

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            self._failure = self._failure or error  # the drain stops at the next item
        self._offer(_End(None))
        self._thread.join()
        if error is None and self._failure is not None:
            raise self._failure

    def _offer(self, item: "Item | _End") -> None:
        while self._thread.is_alive():
            try:
                self._queue.put(item, timeout=POLL_SECONDS)
            except queue.Full:
                continue
            return

    def _drain(self) -> None:
        while True:
            item = self._queue.get()
            if isinstance(item, _End) or self._failure is not None:
                return
            try:
                self._write(item)
            except BaseException as error:  # raised again where it can be caught
                self._failure = error
                return


class _End:
    """Closes a queue, with the failure that ended it."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error
