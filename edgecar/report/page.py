"""A report as one HTML file: style, code and pictures are inside it."""

import base64
import hashlib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from edgecar.bench.machine import machine_line
from edgecar.bench.results import Results
from edgecar.report.content import Report, Table
from edgecar.report.curves import MOST_PANELS
from edgecar.report.frames import frames_section
from edgecar.report.markup import Element, element, inline, written
from edgecar.report.plot import figure, legend

STYLE = Path(__file__).with_name("page.css")
SCRIPT = Path(__file__).with_name("page.js")
NUMBER = re.compile(r"[-+–]?\d|–$")
FRAMES_INTRO = (
    "For every network the frames that it gains most and least on. Drag the line, or press the "
    "arrow keys when it has the focus. Crops show pixels as they are."
)
BOXES_INTRO = (
    "For every network the frames on which mistakes become most fewer, and most more: objects of "
    "the source that are missed (dashed), and false detections. Drag the line, or press the arrow "
    "keys when it has the focus."
)


def html_page(report: Report) -> str:
    """The whole file.

    Args:
        report: What it says; all of its text is escaped.
    """
    style, script = (path.read_text(encoding="utf-8") for path in (STYLE, SCRIPT))
    head = element(
        "head",
        element("meta", charset="utf-8"),
        # Nothing is loaded, and nothing runs but what is known by its hash.
        element("meta", http_equiv="Content-Security-Policy", content=_policy(style, script)),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", report.title),
        element("style", style),
    )
    body = element(
        "body",
        element("main", *_header(report), *_tables(report), *_curves(report), *_frames(report)),
        _footer(report.results),
        element("script", script),
    )
    return f"<!DOCTYPE html>\n{written(element('html', head, body, lang='en'))}\n"


def _policy(style: str, script: str) -> str:
    return (
        f"default-src 'none'; img-src data:; style-src {_hash(style)}; script-src {_hash(script)}; "
        "base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def _header(report: Report) -> list[Element]:
    verdicts = (
        element(
            "li",
            element("span", verdict.outcome, class_=f"word {verdict.outcome.replace(' ', '-')}"),
            element("span", verdict.words),
        )
        for verdict in report.verdicts
    )
    return [
        element("h1", report.title),
        element("p", report.headline, class_="headline"),
        element("ul", *verdicts, class_="verdicts"),
    ]


def _tables(report: Report) -> list[Element]:
    how = (element("p", *inline(intro)) for intro in report.intros)
    return [
        element("h2", "Numbers"),
        *map(_table, report.tables),
        element("details", element("summary", "How it was measured"), *how),
    ]


def _table(table: Table) -> Element:
    """A table that scrolls by itself where a screen is narrow."""
    numbers = [
        all(NUMBER.match(line[column]) for line in table.lines)
        for column in range(len(table.header))
    ]
    sides: list[Mapping[str, str]] = [{"class_": "number"} if is_ else {} for is_ in numbers]
    head = (
        element("th", name, scope="col", **side)
        for name, side in zip(table.header, sides, strict=True)
    )
    body = (
        element("tr", *(_cell(text, side) for text, side in zip(line, sides, strict=True)))
        for line in table.lines
    )
    made = element(
        "table",
        element("caption", table.title),
        element("thead", element("tr", *head)),
        element("tbody", *body),
    )
    box = element("div", made, class_="scroll", tabindex="0", role="region", aria_label=table.title)
    if not table.folded:
        return box
    return element("details", element("summary", f"{table.title} ({len(table.lines)})"), box)


def _cell(text: str, side: Mapping[str, str]) -> Element:
    """A cell; one in asterisks is a printed value, as the benchmarks' pages have it."""
    printed = len(text) > 2 and text.startswith("*") and text.endswith("*")
    return element("td", element("em", text.strip("*")) if printed else text, **side)


def _curves(report: Report) -> list[Element]:
    title = element("h2", "Curves")
    if not report.panels:
        words = "A curve needs two qualities, CRFs or QPs; this study has one."
        return [title, element("p", words, class_="figures")]
    order = list(dict.fromkeys(s.name for panel in report.panels for s in panel.series))
    over_rate = f"{report.panels[0].y} over {report.panels[0].x}"
    left_out = len(report.panels) - MOST_PANELS
    more = element("p", f"{left_out} more are in the tables.", class_="figures")
    parts = [title, legend(order)]
    titled = ((over_rate, report.panels), ("Gain over the coded input", report.gain_panels))
    for name, panels in titled:
        if not panels:
            continue
        parts.append(element("h3", name))
        drawn = (figure(panel, order) for panel in panels[:MOST_PANELS])
        parts.append(element("div", *drawn, class_="panels"))
    return [*parts, more] if left_out > 0 else parts


def _frames(report: Report) -> list[Element]:
    intro = BOXES_INTRO if report.results.kind == "detection" else FRAMES_INTRO
    return [
        element("h2", "Frames"),
        element("p", intro),
        *(element("p", note, class_="figures") for note in report.notes),
        element("noscript", element("p", "Without JavaScript the lines stay in the middle.")),
        *frames_section(report.best, report.worst, report.study),
    ]


def _footer(results: Results) -> Element:
    pairs = metadata(results)
    entries = (entry for name, words in pairs for entry in _fact(name, words))
    return element(
        "footer",
        element("h2", "Where the numbers come from"),
        element("dl", *entries, class_="metadata"),
    )


def _fact(name: str, words: str) -> Iterable[Element]:
    shown = element("code", words) if name == "Command" else words
    return element("dt", name), element("dd", shown)


def metadata(results: Results) -> list[tuple[str, str]]:
    """Machine, versions, commit, date and command, by name."""
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
