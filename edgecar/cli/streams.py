"""Standard output and error, whatever they are: closed, full, a pipe that ended, or ASCII alone."""

import codecs
import os
import sys
import unicodedata
from contextlib import suppress
from pathlib import Path
from typing import TextIO

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
