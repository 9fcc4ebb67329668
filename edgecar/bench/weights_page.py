"""Tables of the weights that ship, made from their manifest."""

from collections.abc import Sequence
from statistics import fmean
from typing import Any

from edgecar.zoo.shipped import WORST

Entry = dict[str, Any]
Cells = tuple[tuple[str, ...], list[list[str]]]

WEIGHTS_INTRO = """\
What `python -m benchmarks.run.release` measured when it admitted them: luma PSNR in dB for JPEG,
mean gain in luma PSNR over the coded video in dB for H.264 and HEVC (*frames*: which of a clip;
*lowest*: of all clips and settings), in float32. *Training* is the last run of the recipe, `edgecar
train NETWORK.CODER`, on one core. Networks of the papers were trained by the recipe of our own and
stopped where more time no longer fitted: they show what an equal effort gives, not what they can
reach. Their published figures, from days on GPUs, are in the tables further below."""


def jpeg_weights_cells(entries: Sequence[Entry]) -> Cells:
    """Header and cells of the JPEG-blind weights, the cheapest network first.

    Args:
        entries: Of the manifest.
    """
    own = _cheapest_first(entries, "jpeg")
    columns = list(dict.fromkeys(column for entry in own for column in entry["psnr"]))
    rows = [
        [*_made(entry), *(_number(entry["psnr"].get(column), "{:.2f}") for column in columns)]
        for entry in own
    ]
    return (*_MADE, *columns), rows


def video_weights_cells(entries: Sequence[Entry], codec: str) -> Cells:
    """Header and cells of the weights for ``h264`` or ``hevc``, the cheapest network first.

    Args:
        entries: Of the manifest.
        codec: For which the weights were trained.
    """
    own = _cheapest_first(entries, codec)
    columns = [
        name
        for name in dict.fromkeys(column for entry in own for column in entry["gain_db"])
        if name != WORST
    ]
    rows = []
    for entry in own:
        gains = [entry["gain_db"].get(column) for column in columns]
        known = [gain for gain in gains if gain is not None]
        figures = [*gains, fmean(known) if known else None, entry["gain_db"].get(WORST)]
        frames = f"1 in {entry['measured']['every']}"
        rows.append([*_made(entry), *(_number(figure, "{:+.2f}") for figure in figures), frames])
    return (*_MADE, *columns, "mean", "lowest", "frames"), rows


_MADE = ("Network", "Parameters", "kMAC/px", "Training")


def _made(entry: Entry) -> list[str]:
    sizes = ", ".join(f"{key} {value}" for key, value in entry["config"].items())
    training = entry["training"]
    return [
        f"{entry['network']} ({sizes})" if sizes else entry["network"],
        f"{entry['cost']['params']:,}",
        f"{entry['cost']['kmacs_per_px']:.1f}",
        f"{training['steps']:,} steps, {training['seconds'] / 60:.0f} min",
    ]


def _cheapest_first(entries: Sequence[Entry], codec: str) -> list[Entry]:
    own = [entry for entry in entries if entry["for"] == codec]
    return sorted(own, key=lambda entry: entry["cost"]["kmacs_per_px"])


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else form.format(value)
