"""The process of a command: its standard streams, and the signals that end it."""

import codecs
import os
import signal
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import TextIO

from edgecar.files import remove_unfinished

PLAIN = {"–": "-", "—": "-", "…": "...", "→": "->", "×": "x", "’": "'", "·": "*", "≤": "<="}
"""Replacements for characters that an encoding lacks; all others are written as escapes."""

FAILED = 1


def open_streams() -> None:
    """Make it possible to write to standard output and error.

    What was closed by the caller is opened and keeps nothing: else the next file that is opened
    would get its number, and what libraries print would end up in that file. A character that the
    encoding lacks is replaced.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free, which is this
    if sys.stdout is None:
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115  # as long as the process lives
    if sys.stderr is None:
        sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115
    codecs.register_error("edgecar", _plain)
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, ValueError):  # a program has put a stream of its own there
            stream.reconfigure(errors="edgecar")  # type: ignore[union-attr]


def check_written(code: int) -> int:
    """Write what standard output holds back; return ``code``, or 1 if that fails after a success.

    A reader that went away, such as ``head``, is no failure to speak of.
    """
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            code = code or FAILED
            _let_go(stream)
        except OSError as error:
            code = code or FAILED
            _let_go(stream)
            with suppress(OSError):
                sys.stderr.write(f"edgecar: results cannot be written ({error.strerror})\n")
    return code


def one_line(text: str) -> str:
    r"""The text with line breaks and other control characters, as in names of files, as escapes.

    Example:
        >>> one_line("two\nlines")
        'two\\nlines'
    """
    return "".join(
        char.encode("unicode_escape").decode()
        if unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp")
        else char
        for char in text
    )


def _plain(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    char = error.object[error.start]
    return PLAIN.get(char) or char.encode("unicode_escape").decode(), error.start + 1


def _let_go(stream: TextIO) -> None:
    """Drop what could not be written: Python would try again at its end, and complain."""
    with suppress(OSError, ValueError):
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, stream.fileno())
        os.close(nothing)


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
