"""Signals that end a command early (Ctrl-C, SIGTERM, SIGHUP), all handled in the same way."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from edgecar.files import remove_unfinished

ENDING = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)


class Ending:
    """The signal that asked this process to end, if one did."""

    def __init__(self) -> None:
        self.number: int | None = None

    @property
    def exit_code(self) -> int:
        """The code that shells report for the signal; that of Ctrl-C if there was none."""
        return 128 + (self.number or signal.SIGINT)


@contextmanager
def ended_by_signals() -> Iterator[Ending]:
    """Raise KeyboardInterrupt for the first signal that asks to end; the second one ends at once.

    A recording of a camera is finished on the first signal, and half-written files are removed on
    either. Signals that were ignored before, as under nohup, stay ignored. Handlers from before are
    back when the block ends; outside the main thread nothing is changed.
    """
    ending, owner = Ending(), os.getpid()

    def end(number: int, frame: FrameType | None) -> None:  # noqa: ARG001  # a handler's form
        first = ending.number is None
        if first and os.getpid() == owner:
            ending.number = number
            raise KeyboardInterrupt
        if os.getpid() == owner:
            remove_unfinished()
        signal.signal(number, signal.SIG_DFL)  # also in a child that was forked off
        os.kill(os.getpid(), number)

    before = {}
    try:
        for number in ENDING:
            handler = signal.getsignal(number)
            if handler in (signal.SIG_DFL, signal.default_int_handler):
                before[number] = handler
                signal.signal(number, end)
    except ValueError:  # not the main thread
        before = {}
    try:
        yield ending
    finally:
        for number, handler in before.items():
            if signal.getsignal(number) is end:
                signal.signal(number, handler)
