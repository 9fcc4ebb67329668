"""Parts that all studies share: their command, and how they end."""

import sys
from collections.abc import Callable
from typing import Any

import typer

from edgecar.errors import EdgecarError


def own_command(module: str) -> str:
    """Return the command that repeats this run, as a result file records it."""
    return " ".join([f"python -m {module}", *sys.argv[1:]])


def run_study(main: Callable[..., Any]) -> None:
    """Run a study's commands; an error of edgecar ends it in one line and with its exit code."""
    try:
        main() if isinstance(main, typer.Typer) else typer.run(main)
    except EdgecarError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(error.exit_code)
