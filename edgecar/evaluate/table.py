"""One description of tables, which the terminal, Markdown and reports show alike."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table as RichTable

Row = Mapping[str, Any]
Cells = tuple[Sequence[str], Sequence[Sequence[str]]]
"""Header and lines of a table."""

Columns = Sequence[tuple[str, str]]
"""Title of each column and its template, such as ``("p50 ms", "{p50_ms:.2f}")``."""

NONE = "–"
NUMBER = re.compile(r"[-+–]?\d|–$")


@dataclass(frozen=True)
class Table:
    """A table; cells between asterisks are printed in papers.

    The caption stands below it in the terminal; a page shows a folded table closed at first.
    """

    cells: Cells
    title: str = ""
    caption: str = ""
    folded: bool = False

    def is_number(self, column: int) -> bool:
        """Return True if every cell of a column is a number or a dash: aligned to the right."""
        return all(NUMBER.match(line[column]) for line in self.cells[1])


class _Missing:
    """A value that was not measured: shown as a dash in any format."""

    def __format__(self, _form: str) -> str:
        return NONE


def table_cells(columns: Columns, rows: Iterable[Row]) -> tuple[tuple[str, ...], list[list[str]]]:
    """Fill in the columns' templates, a line for each row; None becomes a dash.

    Example:
        >>> table_cells([("Frame", "{width}×{height}"), ("p50 ms", "{ms:.1f}")],
        ...             [{"width": 64, "height": 48, "ms": None}])
        (('Frame', 'p50 ms'), [['64×48', '–']])
    """
    missing = _Missing()
    filled = ({key: missing if value is None else value for key, value in r.items()} for r in rows)
    return tuple(title for title, _ in columns), [
        [template.format_map(row) for _, template in columns] for row in filled
    ]


def printed(table: Table) -> RichTable:
    """Render a table for the terminal; only words are wrapped."""
    header, lines = table.cells
    made = RichTable(
        box=SIMPLE_HEAD,
        title=table.title or None,
        caption=table.caption or None,
        title_justify="left",
        caption_justify="left",
    )
    for place, name in enumerate(header):
        made.add_column(name, justify="right" if table.is_number(place) else "left")
    for line in lines:
        made.add_row(*line)
    return made


def markdown(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """Render a table as Markdown; cells must be escaped already."""
    return "\n".join(
        f"| {' | '.join(cells)} |" for cells in (header, ["---"] * len(header), *lines)
    )
