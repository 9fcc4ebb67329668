"""A report as Markdown, and as JSON."""

import json
import re
from collections.abc import Sequence
from typing import Any

from edgecar.bench.results import SCHEMA_VERSION
from edgecar.errors import DataError
from edgecar.evaluate.sample_frames import SampleFrame
from edgecar.report.content import Report, Table
from edgecar.report.frames import Kind, described
from edgecar.report.markup import clean
from edgecar.report.page import metadata

SPECIAL = re.compile(r"([\\`*_\[\]<>|#~&])")
PRINTED = re.compile(r"\*[^*]+\*")


def markdown_page(report: Report) -> str:
    """Words, tables and the frames by name; Markdown has no place for their pictures."""
    parts = [
        f"# {escaped(report.title)}",
        f"**{escaped(report.headline)}**",
        "\n".join(f"- *{v.outcome}*: {escaped(v.words)}" for v in report.verdicts),
        "## Numbers",
        *(
            part
            for table in report.tables
            for part in (f"### {escaped(table.title)}", _table(table))
        ),
        *report.intros,
        "## Frames",
        _frames(report),
        "## Where the numbers come from",
        "\n".join(f"- {name}: {escaped(words)}" for name, words in metadata(report.results)),
    ]
    return "\n\n".join(parts) + "\n"


def escaped(text: str) -> str:
    r"""Text that Markdown shows as it is, on one line.

    Example:
        >>> print(escaped("a|b_<c>"))
        a\|b\_\<c\>
    """
    return SPECIAL.sub(r"\\\1", " ".join(clean(text).split()))


def _table(table: Table) -> str:
    lines = [
        [escaped(name) for name in table.header],
        ["---"] * len(table.header),
        *([_cell(text) for text in line] for line in table.lines),
    ]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _cell(text: str) -> str:
    """A cell; one in asterisks is a printed value, and stays in italics."""
    return f"*{escaped(text[1:-1])}*" if PRINTED.fullmatch(text) else escaped(text)


def _frames(report: Report) -> str:
    notes = "\n\n".join(map(escaped, report.notes))
    if not report.best and not report.worst:
        return notes
    lines = [("Network", "Where", "Measured")]
    for exhibit, kind in _kept(report):
        shown = described(exhibit, kind, report.study)
        lines.append((shown.title, shown.place, shown.figures))
    (header, *body) = lines
    table = _table(Table("", header, body))
    return f"{table}\n\n{notes}" if notes else table


def json_page(report: Report) -> str:
    """Verdicts, frames by name, rows and where they come from.

    Raises:
        DataError: A number is infinite or none.
    """
    results = report.results
    table: dict[str, Any] = {
        "schema": SCHEMA_VERSION,
        "kind": results.kind,
        "title": report.title,
        "headline": report.headline,
        "verdicts": [dict(vars(verdict)) for verdict in report.verdicts],
        "frames": [_frame(exhibit, kind) for exhibit, kind in _kept(report)],
        "date": results.date,
        "command": results.command,
        "commit": results.commit,
        "machine": dict(results.machine),
        "versions": dict(results.versions),
        "rows": [dict(row) for row in results.rows],
    }
    try:
        return json.dumps(table, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    except ValueError as error:
        raise DataError(f"report as JSON: {error}; leave that row out, or write .html") from error


def _kept(report: Report) -> Sequence[tuple[SampleFrame, Kind]]:
    best: list[tuple[SampleFrame, Kind]] = [(exhibit, "best") for exhibit in report.best]
    return [*best, *((exhibit, "worst") for exhibit in report.worst)]


def _frame(exhibit: SampleFrame, kind: Kind) -> dict[str, Any]:
    unit = "mistakes fewer" if exhibit.boxes else "dB of luma PSNR"
    subject = dict(vars(exhibit.subject))
    return {"kind": kind, **subject, "frame": exhibit.index, "gain": exhibit.gain, "unit": unit}
