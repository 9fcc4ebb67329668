"""Curves as SVG inside a page: in its colours, light or dark, and no file besides."""

import math
from collections.abc import Sequence

from edgecar.report.curves import RATE, Panel, Point, Series
from edgecar.report.markup import Element, element

WIDTH, HEIGHT = 420, 270
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 10, 42
TICKS = 5
STYLES = 8
"""Colours of curves in the style sheet; the ninth has that of the first, in another shape."""
STEPS = (1, 2, 5)
MARGIN = 0.06  # of an axis, beyond the outermost points
TEXT_PX = 4  # from the middle of a line of text to its foot
SHAPES = {
    "circle": "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0z",
    "square": "M-3.5-3.5h7v7h-7z",
    "triangle": "M0-4.5L4.5 3.5h-9z",
    "diamond": "M0-5L5 0L0 5L-5 0z",
    "cross": "M-4-4L4 4M-4 4L4-4",
}


class Axis:
    """Where values lie on an axis.

    Args:
        values: Of all points.
        start: Pixel of the lower end.
        end: Pixel of the upper end.
        logarithms: Equal ratios, instead of equal differences, are equally far apart.
    """

    def __init__(self, values: Sequence[float], start: float, end: float, logarithms: bool) -> None:
        self._log, self._start, self._end = logarithms, start, end
        low, high = self._scaled(min(values)), self._scaled(max(values))
        room = MARGIN * (high - low) or 0.5
        self._low, self._high = low - room, high + room

    def at(self, value: float) -> float:
        """Pixel of a value."""
        share = (self._scaled(value) - self._low) / (self._high - self._low)
        return self._start + share * (self._end - self._start)

    def ticks(self) -> list[float]:
        """Round values on the axis, from two to about seven."""
        if self._log:
            low, high = 10**self._low, 10**self._high
            decades = range(math.floor(self._low), math.ceil(self._high) + 1)
            found = [s * 10.0**d for d in decades for s in STEPS if low <= s * 10.0**d <= high]
            return found if len(found) > 1 else round_values(low, high)
        return round_values(self._low, self._high)

    def _scaled(self, value: float) -> float:
        return math.log10(value) if self._log else value


def round_values(low: float, high: float) -> list[float]:
    """From two to seven multiples of 1, 2 or 5 times a power of ten.

    Example:
        >>> round_values(28.3, 33.1)
        [29.0, 30.0, 31.0, 32.0, 33.0]
    """
    rough = (high - low) / TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(s * power for s in (*STEPS, 10) if s * power >= rough * 0.999)
    first, last = math.ceil(low / step), math.floor(high / step)
    return [round(number * step, 12) for number in range(first, last + 1)]


def figure(panel: Panel, order: Sequence[str]) -> Element:
    """A panel with its title.

    Args:
        panel: What to draw.
        order: Names of all curves of the page, which decide on colours and shapes.
    """
    points = [point for series in panel.series for point in series.points]
    across = Axis([x for x, _ in points], LEFT, WIDTH - RIGHT, panel.x == RATE)
    up = Axis([y for _, y in points], HEIGHT - BOTTOM, TOP, False)
    drawing = element(
        "svg",
        *_grid(across, up),
        *_labels(panel),
        *(
            _curve(
                series,
                order.index(series.name),
                panel,
                [(across.at(x), up.at(y)) for x, y in series.points],
            )
            for series in panel.series
        ),
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
        aria_label=f"{panel.title}: {panel.y} over {panel.x}; the tables have the numbers",
    )
    return element("figure", element("figcaption", panel.title), drawing, class_="panel")


def legend(order: Sequence[str]) -> Element:
    """Which colour and shape is which curve."""
    return element(
        "ul",
        *(element("li", _sample(place), name) for place, name in enumerate(order)),
        class_="legend",
    )


def _sample(place: int) -> Element:
    return element(
        "svg",
        element("path", d="M0 8H28", class_=f"line {_style(place)}"),
        element(
            "path", d=_shape(place), transform="translate(14 8)", class_=f"dot {_style(place)}"
        ),
        viewBox="0 0 28 16",
        aria_hidden="true",
    )


def _style(place: int) -> str:
    return f"curve{place % STYLES}"


def _shape(place: int) -> str:
    return list(SHAPES.values())[place % len(SHAPES)]


def _grid(across: Axis, up: Axis) -> list[Element]:
    """Lines at round values, and what they are."""
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    made: list[Element] = []
    for value in across.ticks():
        x = f"{across.at(value):.1f}"
        made.append(element("path", d=f"M{x} {TOP}V{bottom}", class_="grid"))
        made.append(element("text", f"{value:g}", x=x, y=str(bottom + 16), class_="tick below"))
    for value in up.ticks():
        y = up.at(value)
        made.append(element("path", d=f"M{LEFT} {y:.1f}H{right}", class_="grid"))
        made.append(
            element(
                "text", f"{value:g}", x=str(LEFT - 6), y=f"{y + TEXT_PX:.1f}", class_="tick left"
            )
        )
    return made


def _labels(panel: Panel) -> list[Element]:
    middle = f"{TOP + (HEIGHT - TOP - BOTTOM) / 2:.0f}"
    return [
        element(
            "text",
            panel.x,
            x=f"{LEFT + (WIDTH - LEFT - RIGHT) / 2:.0f}",
            y=str(HEIGHT - 6),
            class_="tick below",
        ),
        element(
            "text",
            panel.y,
            x="12",
            y=middle,
            transform=f"rotate(-90 12 {middle})",
            class_="tick below",
        ),
    ]


def _curve(series: Series, place: int, panel: Panel, pixels: Sequence[Point]) -> Element:
    path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in pixels)
    dots = (
        element(
            "path",
            element("title", f"{series.name}: {value_x:.4g} {panel.x}, {value_y:.2f} {panel.y}"),
            d=_shape(place),
            transform=f"translate({x:.1f} {y:.1f})",
            class_=f"dot {_style(place)}",
        )
        for (x, y), (value_x, value_y) in zip(pixels, series.points, strict=True)
    )
    return element("g", element("path", d=path, class_=f"line {_style(place)}"), *dots)
