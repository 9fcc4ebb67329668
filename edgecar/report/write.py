"""Write a report as HTML, Markdown or JSON, chosen by the suffix of the file."""

import base64
import hashlib
import importlib.util
import json
import re
import tempfile
from pathlib import Path
from typing import Any

from edgecar.bench.machine import machine_line
from edgecar.bench.results import Results, table_of
from edgecar.errors import DataError, SettingsError
from edgecar.evaluate.table import Cells, markdown
from edgecar.files import atomic_write
from edgecar.report.content import Report
from edgecar.report.curves import drawn
from edgecar.report.frames import articles, described

MOST_PANELS = 24
CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
"""Characters that HTML forbids but file names may contain."""
SPECIAL = re.compile(r"([\\`*_\[\]<>|#~&])")
PRINTED = re.compile(r"\*([^*]+)\*")
CODE = re.compile(r"`([^`]+)`")


def html_page(report: Report) -> str:
    """Return the report as one HTML file that loads nothing; its text is escaped."""
    from jinja2 import Environment, FileSystemLoader
    from markupsafe import Markup, escape

    def inline(text: str) -> Markup:
        return Markup(PRINTED.sub(r"<em>\1</em>", CODE.sub(r"<code>\1</code>", escape(text))))

    def printed(cell: str) -> str | Markup:
        return inline(cell) if PRINTED.fullmatch(cell) else cell

    def digest(text: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    def finalized(value: Any) -> Any:
        return clean(value) if type(value) is str else value

    folder = Path(__file__).parent
    environment = Environment(
        loader=FileSystemLoader(folder), autoescape=True, finalize=finalized, auto_reload=False
    )
    environment.filters |= {"digest": digest, "drawn": drawn, "inline": inline, "printed": printed}
    return environment.get_template("page.html").render(
        report=report,
        style=(folder / "page.css").read_text("utf-8"),
        script=(folder / "page.js").read_text("utf-8"),
        most_panels=MOST_PANELS,
        articles=articles(report.samples, report.codec),
        metadata=metadata(report.results),
    )


def clean(text: str) -> str:
    """Replace characters that no page may contain."""
    readable = text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    return CONTROL.sub("\N{REPLACEMENT CHARACTER}", readable)


def metadata(results: Results) -> list[tuple[str, str]]:
    """Return machine, versions, commit, date and command, by name."""
    machine = results.machine
    libraries = ", ".join(f"{name} {version}" for name, version in results.versions.items())
    return [
        ("Machine", machine_line(machine)),
        ("CPU features", ", ".join(machine["cpu_features"]) or "none that matter"),
        ("System", machine["os"]),
        ("Versions", f"Python {machine['python']}, {libraries}"),
        ("Commit", results.commit or "unknown"),
        ("Date", results.date),
        ("Command", results.command),
    ]


def markdown_page(report: Report) -> str:
    """Return the report as Markdown: words, tables, and the frames by name."""
    frames = [described(sample, kind, report.codec) for sample, kind in report.samples]
    shown = [_markdown_table((("Network", "Where", "Measured"), frames))] if frames else []
    parts = [
        f"# {escaped(report.title)}",
        f"**{escaped(report.headline)}**",
        "\n".join(f"- *{v.outcome}*: {escaped(v.words)}" for v in report.verdicts),
        "## Numbers",
        *(f"### {escaped(t.title)}\n\n{_markdown_table(t.cells)}" for t in report.tables),
        report.intro,
        "## Frames",
        *shown,
        *map(escaped, report.notes),
        "## Where the numbers come from",
        "\n".join(f"- {name}: {escaped(words)}" for name, words in metadata(report.results)),
    ]
    return "\n\n".join(parts) + "\n"


def escaped(text: str) -> str:
    r"""Escape text for one line of Markdown.

    Example:
        >>> print(escaped("a|b_<c>"))
        a\|b\_\<c\>
    """
    return SPECIAL.sub(r"\\\1", " ".join(clean(text).split()))


def _markdown_table(cells: Cells) -> str:
    """Return a table of escaped cells; a cell in asterisks is a printed value, in italics."""

    def cell(text: str) -> str:
        return f"*{escaped(text[1:-1])}*" if PRINTED.fullmatch(text) else escaped(text)

    header, lines = cells
    return markdown([escaped(name) for name in header], [list(map(cell, line)) for line in lines])


def json_page(report: Report) -> str:
    """Return verdicts, frames by name, rows and their provenance as JSON."""
    keys = ("clip", "quantiser", "network", "variant", "gain")
    table = {
        **table_of(report.results),
        "title": report.title,
        "headline": report.headline,
        "verdicts": [dict(vars(verdict)) for verdict in report.verdicts],
        "frames": [
            {
                "kind": kind,
                **{key: getattr(sample, key) for key in keys},
                "frame": sample.index,
                "unit": "mistakes fewer" if sample.boxes else "dB of luma PSNR",
            }
            for sample, kind in report.samples
        ],
    }
    try:
        return json.dumps(table, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    except ValueError as error:
        raise DataError(f"report as JSON: {error}; leave that row out, or write .html") from error


FORMS = {".html": html_page, ".md": markdown_page, ".json": json_page}


def check_path(path: Path) -> None:
    """Check that a report can be written, before an hour of measuring.

    Raises:
        SettingsError: The suffix is none of ``.html``, ``.md`` and ``.json``; the path is a folder;
            its folder cannot be made or written to; or a page's libraries are not installed.
    """
    suffix = path.suffix.lower()
    if suffix not in FORMS:
        raise SettingsError(
            f"report {path} has the suffix {path.suffix!r}; need .html, .md or .json: name it so"
        )
    for library in ("jinja2", "matplotlib") if suffix == ".html" else ():
        if importlib.util.find_spec(library) is None:
            raise SettingsError(
                f"a report as HTML needs {library}, which is not installed; "
                "pip install 'edgecar[eval]', or write .md or .json"
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
    """Write a report in the form that its suffix names, which `check_path` has checked.

    Raises:
        SettingsError: The file cannot be written.
        DataError: The report is to be JSON and a number is infinite.
    """
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
