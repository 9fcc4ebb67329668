"""Curves of a study, quality over rate and gain over the coded input, drawn by matplotlib."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edgecar.bench.results import Row
from edgecar.evaluate.study import CODED
from edgecar.evaluate.tables import headline_rows
from edgecar.evaluate.variants import variant_words

Point = tuple[float, float]
RATE = "kbit/s"
NO_FILTERS = ", no filters"
FEWEST_POINTS = 2  # in a curve
WIDE_RANGE = 4  # ratio of rates from which 1, 2, 5, 10 … are enough marks on an axis

# Okabe and Ito, told apart by any eye, on the white that panels have in both themes.
COLOURS = ("#5b6670", "#0072b2", "#d55e00", "#008a66", "#b0578d", "#a87400", "#2f8fc4", "#7a5195")
MARKERS = "os^DX"
SETTINGS: Any = {  # matplotlib's type has a literal for every name
    "svg.fonttype": "none",
    "svg.hashsalt": "edgecar",  # the same report has the same bytes
    "font.family": "sans-serif",
}


@dataclass(frozen=True)
class Panel:
    """Curves that share their horizontal axis.

    Attributes:
        title: Clip, set or detector, and the coding where there are several.
        x: Horizontal axis; ``kbit/s`` is logarithmic.
        y: Vertical axis.
        series: Points of each curve from left to right, by name, the coded input first.
        gains: The same curves over the coded input, which are fractions of a dB; empty for
            detections, whose gains are in the table with intervals.
    """

    title: str
    x: str
    y: str
    series: dict[str, list[Point]]
    gains: dict[str, list[Point]]


def panels_of(kind: str, rows: Sequence[Row]) -> list[Panel]:
    """Return a panel for each clip or detector, and for each limit or structure of the coding.

    Panels without two points on a curve are left out: one quantiser makes none.
    """
    panels: dict[str, dict[str, set[Point]]] = {}
    titles = {"jpeg": "set", "detection": "detector"}
    for row in headline_rows(rows) if kind == "detection" else rows:
        title = row[titles.get(kind, "clip")]
        suffix = ""
        if kind == "variants":
            title = f"{title}, {variant_words(row).removesuffix(NO_FILTERS)}"
            suffix = "" if row["in_loop_filters"] else NO_FILTERS
        x = row["quality"] if kind == "jpeg" else row["kbps"]
        if kind == "detection":
            x = row["quantiser"] if x is None else x
            values = {row["network"]: 100 * row["ap50"]}
        else:
            values = {CODED + suffix: row["psnr_in"], row["network"] + suffix: row["psnr_out"]}
        for name, y in values.items():
            panels.setdefault(title, {}).setdefault(name, set()).add((x, y))
    found: list[Panel] = []
    for title, unsorted in panels.items():
        series = {name: sorted(points) for name, points in unsorted.items()}
        gains: dict[str, list[Point]] = {}
        for name, points in series.items() if kind != "detection" else ():
            coded = dict(series[CODED + NO_FILTERS * name.endswith(NO_FILTERS)])
            gains[name] = [(x, y - coded[x]) for x, y in points]
        if max(map(len, series.values())) >= FEWEST_POINTS:
            axes = "JPEG quality" if "jpeg" in (kind, rows[0].get("codec")) else RATE
            y_axis = "AP50" if kind == "detection" else "PSNR dB"
            found.append(Panel(title, axes, y_axis, series, gains))
    return found


def drawn(panel: Panel) -> str:
    """Draw a panel, quality and gain side by side, as the data URI of an SVG picture."""
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

    parts = {panel.y: panel.series, "gain dB": panel.gains}
    parts = {name: series for name, series in parts.items() if series}
    written = io.StringIO()
    with matplotlib.rc_context(SETTINGS):
        figure = Figure(figsize=(4.6 * len(parts), 3.2), layout="tight")
        for axes, (name, series) in zip(
            figure.subplots(1, len(parts), squeeze=False)[0], parts.items(), strict=True
        ):
            if panel.x == RATE:
                axes.set_xscale("log")
                rates = [x for points in series.values() for x, _ in points]
                wide = max(rates) >= WIDE_RANGE * min(rates)
                axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)) if wide else MaxNLocator(4))
                axes.xaxis.set_minor_locator(NullLocator())
            axes.xaxis.set_major_formatter("{x:g}")
            axes.yaxis.get_major_formatter().set_useOffset(False)
            for place, (label, points) in enumerate(series.items()):
                axes.plot(
                    *zip(*points, strict=True),
                    color=COLOURS[place % len(COLOURS)],
                    marker=MARKERS[place % len(MARKERS)],
                    linestyle="-" if place else "--",
                    label=label,
                )
            axes.set_xlabel(panel.x)
            axes.set_ylabel(name)
            axes.grid(True, color="#d5dbe0")
        axes.legend(fontsize="small")
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(written, format="svg", metadata=nothing)
    svg = base64.b64encode(written.getvalue().encode()).decode()
    return f"data:image/svg+xml;base64,{svg}"
