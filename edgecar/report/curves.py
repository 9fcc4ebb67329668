"""Rows as curves: quality over rate, a panel for each clip."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from edgecar.bench.results import Row
from edgecar.evaluate.detection import CODED

Point = tuple[float, float]
MOST_PANELS = 24
FEWEST_POINTS = 2  # of a curve


@dataclass(frozen=True)
class Series:
    """One curve: what it is of, and its points from left to right."""

    name: str
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Panel:
    """Curves in one frame.

    Attributes:
        title: What they are of.
        x: What is on the horizontal axis; ``kbit/s`` is on a scale of logarithms.
        y: What is on the vertical one.
        series: At least one, the coded clip first.
    """

    title: str
    x: str
    y: str
    series: tuple[Series, ...]


RATE = "kbit/s"
QUALITY = "JPEG quality"
NO_FILTERS = ", no filters"


def panels_of(kind: str, rows: Sequence[Row]) -> list[Panel]:
    """A panel for each clip, and for each limit of the rate or structure where there are several.

    Panels without two points of a curve are left out: one quantiser makes none.
    """
    if kind == "jpeg":
        return _panels(rows, lambda row: row["set"], QUALITY, "PSNR dB", _of_psnr("quality"))
    if kind == "detection":
        return _panels(rows, lambda row: row["clip"], RATE, "mAP50", _of_detection)
    if kind == "variants":
        return _panels(rows, _variant, RATE, "PSNR dB", _of_variants)
    return _panels(rows, lambda row: row["clip"], RATE, "PSNR dB", _of_psnr("kbps"))


def gain_panels_of(kind: str, rows: Sequence[Row]) -> list[Panel]:
    """The same panels with what is gained over the coded clip, which is a fraction of a dB.

    Of detections there are none: their gains are in the table, with intervals.
    """
    if kind == "detection":
        return []
    over_coded: list[Panel] = []
    for panel in panels_of(kind, rows):
        coded = {series.name: dict(series.points) for series in panel.series}
        gained = tuple(
            Series(series.name, tuple((x, y - base[x]) for x, y in series.points))
            for series in panel.series
            if (base := coded[_coded_name(series.name)])
        )
        over_coded.append(Panel(panel.title, panel.x, "gain dB", gained))
    return over_coded


def _coded_name(name: str) -> str:
    """Of the coded clip that a network was given."""
    return f"{CODED}{NO_FILTERS}" if name.endswith(NO_FILTERS) else CODED


Named = list[tuple[str, Point]]


def _panels(
    rows: Sequence[Row],
    title_of: Callable[[Row], str],
    x: str,
    y: str,
    points_of: Callable[[Row], Named],
) -> list[Panel]:
    found: list[Panel] = []
    for title in dict.fromkeys(map(title_of, rows)):
        series: dict[str, set[Point]] = {}
        for row in rows:
            if title_of(row) == title:
                for name, point in points_of(row):
                    series.setdefault(name, set()).add(point)
        if max(map(len, series.values())) >= FEWEST_POINTS:
            curves = tuple(Series(name, tuple(sorted(own))) for name, own in series.items())
            found.append(Panel(title, x, y, curves))
    return found


def _of_psnr(across: str) -> Callable[[Row], Named]:
    def points(row: Row) -> Named:
        x = float(row[across])
        return [(CODED, (x, row["psnr_in"])), (row["network"], (x, row["psnr_out"]))]

    return points


def _of_detection(row: Row) -> Named:
    return [(row["network"], (row["kbps"], 100 * row["map50"]))]


def _of_variants(row: Row) -> Named:
    suffix = "" if row["in_loop_filters"] else NO_FILTERS
    points = _of_psnr("kbps")(row)
    return [(f"{name}{suffix}", point) for name, point in points]


def _variant(row: Row) -> str:
    limit: Any = row["limit_mbps"]
    words = row["structure"] if limit is None else f"limit {limit:g} Mb/s"
    return f"{row['clip']}, {words}"
