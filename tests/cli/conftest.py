"""The command line, called as a user's shell would."""

import sys
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from edgecar.cli import main


@dataclass
class Outcome:
    code: int
    out: str
    err: str


@pytest.fixture
def edgecar(monkeypatch, capsys) -> Callable[..., Outcome]:
    def call(*arguments: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["edgecar", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            main()
            sys.exit(0)
        captured = capsys.readouterr()
        return Outcome(stopped.value.code or 0, captured.out, captured.err)

    return call
