"""Reports into files: the form by the suffix, whole or not at all."""

import tempfile
from collections.abc import Callable
from pathlib import Path

from edgecar.errors import SettingsError
from edgecar.files import atomic_write
from edgecar.report.content import Report
from edgecar.report.page import html_page
from edgecar.report.text import json_page, markdown_page

FORMS: dict[str, Callable[[Report], str]] = {
    ".html": html_page,
    ".md": markdown_page,
    ".json": json_page,
}


def check_path(path: Path) -> None:
    """Say now, not after an hour of measuring, that a report cannot be written.

    Raises:
        SettingsError: The suffix is none of ``.html``, ``.md`` and ``.json``, there is a folder of
            this name, or the folder it is to lie in cannot be made or written to.
    """
    if path.suffix.lower() not in FORMS:
        raise SettingsError(
            f"report {path} has the suffix {path.suffix!r}; need .html, .md or .json: name it so"
        )
    if path.is_dir():
        raise SettingsError(f"report {path} is a folder; give the name of a file")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise _refused(path, error) from error


def write_report(path: Path, report: Report) -> None:
    """Write a report in the form that its suffix names.

    Raises:
        SettingsError: The suffix is not known, or the file cannot be written.
        DataError: JSON is wanted, and a number is infinite.
    """
    if path.suffix.lower() not in FORMS:
        check_path(path)
    text = FORMS[path.suffix.lower()](report)
    try:
        with atomic_write(path) as temporary:
            temporary.write_text(text, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise _refused(path, error) from error


def _refused(path: Path, error: OSError) -> SettingsError:
    reason = error.strerror or str(error)
    return SettingsError(
        f"cannot write report {path} ({reason.lower()}); give a file in a folder you may write to"
    )
