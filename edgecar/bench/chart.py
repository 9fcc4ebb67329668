"""Result rows as a picture; nothing is measured here."""

from collections.abc import Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING

from edgecar.bench.results import Row
from edgecar.errors import DataError, EdgecarError
from edgecar.files import atomic_write

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito: told apart with any colour vision. An engine has the same colour in every chart.
COLOURS = {
    "openvino": "#0072B2",
    "onnxruntime": "#E69F00",
    "onnxruntime:cuda": "#F0E442",
    "onnxruntime:tensorrt": "#CC79A7",
    "tensorrt": "#009E73",
    "tensorrt-rtx": "#56B4E9",
    "torch": "#D55E00",
}
OTHER_COLOUR = "#808080"
CAMERA_FPS = 30
WIDTH_IN, BAR_IN, PANEL_IN = 8.0, 0.32, 0.75
CAPTION_LETTERS = 120
DOTS_PER_INCH = 150


def chart(rows: Sequence[Row], path_png: Path, *, machine: str) -> None:
    """Draw frames a second of every timed row as horizontal bars, a panel for each frame size.

    Bars are sorted by speed and coloured by engine; a dashed line marks a 30 frames/s camera.

    Raises:
        EdgecarError: matplotlib is missing.
        DataError: No row has times.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise EdgecarError(
            "charts need matplotlib, which is not installed; run: pip install 'edgecar[plot]'"
        ) from error
    timed = sorted(
        (row for row in rows if row["fps"] is not None),
        key=lambda row: (row["height"], row["width"], row["fps"]),  # the fastest ends up on top
    )
    if not timed:
        raise DataError("no row has times to draw; time a network with edgecar bench first")
    panels = [
        (size, list(group)) for size, group in groupby(timed, key=itemgetter("height", "width"))
    ]
    heights = [BAR_IN * len(group) + PANEL_IN for _, group in panels]
    figure = Figure(figsize=(WIDTH_IN, sum(heights) + 0.6), layout="constrained")
    axes = figure.subplots(len(panels), 1, squeeze=False, height_ratios=heights)[:, 0]
    engines = sorted({row["engine"] for row in timed})
    for axis, ((height, width), group) in zip(axes, panels, strict=True):
        _draw_panel(axis, group)
        axis.set_title(f"{width}×{height}", loc="left", fontsize=10, fontweight="bold")
    axes[-1].set_xlabel("frames per second (more is better)")
    bars = [axes[0].barh(0, 0, color=COLOURS.get(engine, OTHER_COLOUR)) for engine in engines]
    names = [*engines, f"{CAMERA_FPS} frames/s camera"]
    handles = [*bars, axes[0].lines[0]]
    figure.legend(handles, names, loc="outside upper right", ncols=len(names), frameon=False)
    caption = fill(f"Measured on {machine}", CAPTION_LETTERS)
    figure.supxlabel(caption, fontsize=8, color="0.3")
    with atomic_write(path_png) as temporary:
        figure.savefig(temporary, dpi=DOTS_PER_INCH, metadata={"Software": None})


def _draw_panel(axis: "Axes", rows: Sequence[Row]) -> None:
    speeds = [row["fps"] for row in rows]
    colours = [COLOURS.get(row["engine"], OTHER_COLOUR) for row in rows]
    bars = axis.barh(range(len(rows)), speeds, color=colours, height=0.7)
    numbers = [f"{speed:.1f}" if speed < 100 else f"{speed:.0f}" for speed in speeds]
    behind = {
        "facecolor": "white",
        "edgecolor": "none",
        "pad": 0.5,
    }  # the dashed line stays legible
    axis.bar_label(bars, numbers, padding=4, fontsize=8, bbox=behind)
    labels = [f"{row['network']}  {row['precision']}" for row in rows]
    axis.set_yticks(range(len(rows)), labels, fontsize=9)
    axis.axvline(CAMERA_FPS, color="0.4", linewidth=1, linestyle="--")
    axis.set_xlim(0, 1.12 * max(*speeds, CAMERA_FPS))  # room for the numbers
    axis.set_ylim(-0.6, len(rows) - 0.4)
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(axis="y", length=0)
