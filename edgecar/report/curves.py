"""Curves of a study, quality over rate, drawn by matplotlib as SVG for a page."""

import base64
import io
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from edgecar.bench.results import Row
from edgecar.evaluate.detection import CODED

Point = tuple[float, float]
RATE = "kbit/s"
NO_FILTERS = ", no filters"
FEWEST_POINTS = 2  # in a curve
WIDE_RANGE = 4  # ratio of rates from which 1, 2, 5, 10 … are enough marks on an axis

PANEL_INCHES, SAMPLE_INCHES = (4.2, 2.8), (0.4, 0.2)
# Colours of curves, ink and lines: light page, dark page. Okabe and Ito, told apart by any eye.
COLOURS = {
    "#5b6670": "#9aa6b0",
    "#0072b2": "#56b4e9",
    "#d55e00": "#ff8a3d",
    "#008a66": "#34c79d",
    "#b0578d": "#e29bc4",
    "#a87400": "#e6a817",
    "#2f8fc4": "#9bd3f5",
    "#7a5195": "#b799d6",
    "#d5dbe0": "#39424a",
}
*CURVES, LINES = COLOURS
INK = CURVES[0]
MARKERS = "os^DX"
SETTINGS: Any = {  # matplotlib's type has a literal for every name
    "svg.fonttype": "none",
    "svg.hashsalt": "edgecar",  # the same report has the same bytes
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    **{f"axes.{name}": INK for name in ("labelcolor", "titlecolor")},
    **{f"{axis}tick.{name}": INK for axis in "xy" for name in ("color", "labelcolor")},
    "axes.edgecolor": LINES,
    "grid.color": LINES,
}


@dataclass(frozen=True)
class Panel:
    """Curves that share two axes.

    Attributes:
        title: Clip or set, and its coding where there are several.
        x: Horizontal axis; ``kbit/s`` is logarithmic.
        y: Vertical axis.
        series: Points of each curve from left to right, by name, the coded input first.
    """

    title: str
    x: str
    y: str
    series: dict[str, list[Point]]


def panels_of(kind: str, rows: Sequence[Row]) -> list[Panel]:
    """Return a panel for each clip, and for each limit of the rate or structure of the coding.

    Panels without two points on a curve are left out: one quantiser makes none.
    """
    title_of: Callable[[Row], str] = lambda row: row["clip"]  # noqa: E731
    x, y = RATE, "PSNR dB"
    if kind == "jpeg":
        x, title_of = "JPEG quality", lambda row: row["set"]
    elif kind == "detection":
        y = "mAP50"
    elif kind == "variants":
        title_of = _variant
    panels: dict[str, dict[str, set[Point]]] = {}
    for row in rows:
        series = panels.setdefault(title_of(row), {})
        for name, point in _points(kind, row):
            series.setdefault(name, set()).add(point)
    return [
        Panel(title, x, y, {name: sorted(points) for name, points in series.items()})
        for title, series in panels.items()
        if max(map(len, series.values())) >= FEWEST_POINTS
    ]


def gain_panels_of(kind: str, rows: Sequence[Row]) -> list[Panel]:
    """Return the same panels as gains over the coded clip, which are fractions of a dB.

    Detections have none: their gains are in the table, with intervals.
    """
    if kind == "detection":
        return []
    return [
        Panel(panel.title, panel.x, "gain dB", _gains(panel.series))
        for panel in panels_of(kind, rows)
    ]


def _gains(series: dict[str, list[Point]]) -> dict[str, list[Point]]:
    gains: dict[str, list[Point]] = {}
    for name, points in series.items():
        coded = dict(series[CODED + NO_FILTERS if name.endswith(NO_FILTERS) else CODED])
        gains[name] = [(x, y - coded[x]) for x, y in points]
    return gains


def _points(kind: str, row: Row) -> list[tuple[str, Point]]:
    if kind == "detection":
        return [(row["network"], (row["kbps"], 100 * row["map50"]))]
    x = float(row["quality" if kind == "jpeg" else "kbps"])
    suffix = "" if row.get("in_loop_filters", True) else NO_FILTERS
    return [
        (CODED + suffix, (x, row["psnr_in"])),
        (row["network"] + suffix, (x, row["psnr_out"])),
    ]


def _variant(row: Row) -> str:
    limit = row["limit_mbps"]
    words = row["structure"] if limit is None else f"limit {limit:g} Mb/s"
    return f"{row['clip']}, {words}"


def drawn(panel: Panel, order: Sequence[str]) -> str:
    """Draw a panel.

    Args:
        panel: Curves to draw.
        order: Names of all curves of the page, which decide on colours and markers.

    Returns:
        Data URI of an SVG picture.
    """
    from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

    def draw(figure: Any) -> None:
        axes = figure.add_subplot()
        if panel.x == RATE:
            axes.set_xscale("log")
            rates = [x for points in panel.series.values() for x, _ in points]
            wide = max(rates) >= WIDE_RANGE * min(rates)
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)) if wide else MaxNLocator(4))
            axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter("{x:g}")
        axes.yaxis.get_major_formatter().set_useOffset(False)
        for name, points in panel.series.items():
            axes.plot(*zip(*points, strict=True), **_style(order.index(name)))
        axes.set_xlabel(panel.x)
        axes.set_ylabel(panel.y)
        axes.grid(True)
        axes.tick_params(length=0)

    return _svg(PANEL_INCHES, draw)


def legend(order: Iterable[str]) -> list[tuple[str, str]]:
    """Return the name of every curve and a sample of its line, as the data URI of an SVG."""

    def sample(place: int) -> str:
        def draw(figure: Any) -> None:
            figure.set_layout_engine("none")
            axes = figure.add_axes((0, 0, 1, 1))
            axes.set_axis_off()
            axes.plot([0, 1, 2], [0, 0, 0], markevery=[1], **_style(place))

        return _svg(SAMPLE_INCHES, draw)

    return [(name, sample(place)) for place, name in enumerate(order)]


def _style(place: int) -> dict[str, Any]:
    return {
        "color": CURVES[place % len(CURVES)],
        "marker": MARKERS[place % len(MARKERS)],
        "linestyle": "--" if place == 0 else "-",
        "markersize": 5,
    }


def _svg(inches: tuple[float, float], draw: Callable[[Any], None]) -> str:
    """Return a figure as a data URI; its colours follow the light or dark theme of the page."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(SETTINGS):
        figure = Figure(figsize=inches, layout="tight")
        draw(figure)
        written = io.StringIO()
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(written, format="svg", transparent=True, metadata=nothing)
    names = {light: f"--c{place}" for place, light in enumerate(COLOURS)}
    svg = re.sub("|".join(COLOURS), lambda match: f"var({names[match[0]]})", written.getvalue())
    light, dark = (
        ":root{" + ";".join(f"{names[key]}:{colour}" for key, colour in theme) + "}"
        for theme in (zip(COLOURS, COLOURS, strict=True), COLOURS.items())
    )
    themes = f"{light}@media(prefers-color-scheme:dark){{{dark}}}"
    svg = svg.replace('<style type="text/css">', f'<style type="text/css">{themes}', 1)
    return f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}"
