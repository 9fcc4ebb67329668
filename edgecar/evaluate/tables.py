"""Tables of quality studies: JPEG, video, the papers' variants and detection.

A table is described by its columns: a title, and a template that a row fills in. Published figures
(`published.toml`) stand beside ours.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import Any

from edgecar.errors import DataError
from edgecar.evaluate.metrics import RatePoint, bd_rate
from edgecar.evaluate.variants import CRFS, LIMITS_MBPS
from edgecar.files import table_from_toml

Row = Mapping[str, Any]
Cells = tuple[tuple[str, ...], list[list[str]]]
"""Header and lines of a table."""

Columns = Sequence[tuple[str, str]]
"""Title of each column and its template, such as ``("p50 ms", "{p50_ms:.2f}")``."""

NONE = "–"
QUANTISERS = {"h264": "CRF", "hevc": "QP"}
"""Name of each codec's quantiser."""

JPEG_INTRO = """\
Means over each set, luma, output rounded to 8 bits, no border cut off. Colour pictures become luma
`16 + (65.481 R + 128.553 G + 24.966 B) / 255`, are rounded, and are coded as grey pictures. *Gain*
is over the coded picture of the same source. SSIM has the uniform 7×7 window that reproduces the
printed values on Classic5; PSNR-B is that of Yim and Bovik with 8×8 blocks."""

VIDEO_INTRO = """\
Clips are coded again, H.264 with x264 and HEVC with x265 (preset medium, key frames at most 60
apart), and restored frame by frame. The first line is the coded video against its source: luma PSNR
in dB and SSIM (Gaussian window, at most 10 frames of a clip), means over the frames of a clip and
then over the clips. The other lines are gains over it. An input is a clip at a CRF or QP; *lowest*
is the smallest PSNR gain of an input. `spp` and `fspp` are FFmpeg's post-filters, at the strength
that suits these clips best at each CRF or QP."""
VIDEO_CODECS = {"h264": "H.264", "hevc": "HEVC"}

VARIANTS_INTRO = """\
H.264 at four CRFs under three limits of the rate (VBV, a buffer of one second), as in the CAR-CNN
paper: the limits are meant for 1080p at 30 frames/s and scaled by pixels and frames a second to
each clip. x264, preset medium, key frames at most 60 apart. Means over clips, on luma; rows in
*italics* are printed in the paper, of clips of its own, so that only differences compare. Flicker
is the mean change of the error from frame to frame, in codes, where the source stands still. `spp`
has the strength that suits each CRF without a limit, which is a little weak where one bites."""

BD_INTRO = """\
Rate in percent that is saved at equal luma PSNR (Bjøntegaard, means over clips) against x265 with
deblocking and SAO: by a network after those filters (*after*), and in their place (*instead*).
Rows in *italics* are printed in the GL-Fusion paper. Its setting is another: the reference coder HM
16.9 instead of x265 (preset medium), the standard's test sequences instead of our clips, networks
trained for a QP each instead of one for all, and in all-intra the network sits where the filters
were; here it is a post-filter throughout."""

DETECTION_INTRO = """\
What a detector finds on the source is the truth, as in the CAR-CNN paper; it is asked again on the
coded clip and on what is made of it. mAP is that of COCO (pycocotools), the mean over classes,
times 100: at IoU 0.50, and over 0.50 to 0.95. Differences are to the coded clip and to FFmpeg's
`spp`; in brackets 95 % intervals of 1000 resamples of the frames, neighbours drawn together: one
that holds 0 says that nothing is shown."""


class _Missing:
    """A value that was not measured: shown as a dash in any format."""

    def __format__(self, _form: str) -> str:
        return NONE


def table_cells(columns: Columns, rows: Iterable[Row]) -> Cells:
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


@cache
def published() -> dict[str, Any]:
    """Read the figures printed in papers, by table."""
    return table_from_toml(Path(__file__).with_name("published.toml"))


JPEG_COLUMNS = (
    *(("Quality", "{quality}"), ("Network", "{network}"), ("PSNR dB", "{psnr:.2f}")),
    *(("Gain dB", "{gain:+.2f}"), ("SSIM", "{ssim:.3f}"), ("PSNR-B dB", "{psnr_b:.2f}")),
    ("Source", "{source}"),
)


def jpeg_cells(studies: Sequence[tuple[str, Sequence[Row]]], set_name: str) -> Cells:
    """Header and cells of one set's quality table, published rows of the same set included.

    Args:
        studies: Name and ``jpeg`` rows of each study.
        set_name: Name of the test set.
    """
    lines: dict[tuple[int, str, str], dict[str, Any]] = {}
    for name, rows in studies:
        for row in (row for row in rows if row["set"] == set_name):
            # All networks share the coded picture, which is listed once.
            for network, end in (("jpeg", "in"), (row["network"], "out")):
                keys = {"psnr": "psnr", "ssim": "ssim", "psnr_b": "psnrb"}
                figures = {key: row[f"{column}_{end}"] for key, column in keys.items()}
                lines[row["quality"], network, f"measured, {name}"] = figures
    qualities = {quality for quality, *_ in lines}
    for row in published()["quality"]:
        if row["set"].lower() == set_name.lower():
            for quality in qualities & set(map(int, row["psnr"])):
                measures = ("psnr", "ssim", "psnr_b")
                figures = {key: row.get(key, {}).get(str(quality)) for key in measures}
                lines[quality, row["network"], row["source"]] = figures
    for (quality, network, source), line in lines.items():
        coded = lines.get((quality, "jpeg", source))
        line |= {"quality": quality, "network": network, "source": source}
        line["gain"] = line["psnr"] - coded["psnr"] if coded and network != "jpeg" else None
    ordered = sorted(lines.values(), key=lambda line: (line["quality"], line["psnr"]))
    return table_cells(JPEG_COLUMNS, ordered)


@dataclass(frozen=True)
class Gain:
    """Gains of one network on coded clips, in dB of luma PSNR.

    Attributes:
        network: Or post-filter.
        by_quantiser: Mean over the clips, for each quantiser in rising order.
        mean: Over all inputs. An input is a clip at a quantiser.
        ssim: Mean gain in SSIM over all inputs.
        lowest: Lowest gain of all inputs.
        lowest_at: Clip and quantiser of the lowest.
        losses: Inputs that came out worse than they went in.
        inputs: Number of inputs.
    """

    network: str
    by_quantiser: dict[int, float]
    mean: float
    ssim: float
    lowest: float
    lowest_at: tuple[str, int]
    losses: int
    inputs: int


def gains(rows: Iterable[Row]) -> list[Gain]:
    """One entry per network of ``video`` rows of one codec, in the order they come."""
    by_network: dict[str, list[Row]] = {}
    for row in rows:
        by_network.setdefault(row["network"], []).append(row)
    return [_gain_of(network, own) for network, own in by_network.items()]


def _gain_of(network: str, rows: Sequence[Row]) -> Gain:
    worst = min(rows, key=_gain_db)
    quantisers = sorted({row["quantiser"] for row in rows})
    return Gain(
        network=network,
        by_quantiser={
            quantiser: fmean(_gain_db(row) for row in rows if row["quantiser"] == quantiser)
            for quantiser in quantisers
        },
        mean=fmean(map(_gain_db, rows)),
        ssim=fmean(row["ssim_out"] - row["ssim_in"] for row in rows),
        lowest=_gain_db(worst),
        lowest_at=(worst["clip"], worst["quantiser"]),
        losses=sum(_gain_db(row) < 0 for row in rows),
        inputs=len(rows),
    )


def _gain_db(row: Row) -> float:
    gain: float = row["psnr_out"] - row["psnr_in"]
    return gain


def video_cells(rows: Sequence[Row], codec: str) -> Cells:
    """Header and cells of the table of one codec.

    The first line is the coded video itself, in dB; the others are what is gained over it.

    Args:
        rows: ``video`` rows; those of other codecs are passed over.
        codec: ``h264`` or ``hevc``.
    """
    own = [row for row in rows if row["codec"] == codec]
    word = QUANTISERS[codec]
    quantisers = sorted({row["quantiser"] for row in own})
    at = [f"{word} {quantiser}" for quantiser in quantisers]
    header = ("Network", *at, "Mean", "SSIM", "Lowest", "On", "Loses on")
    cells = [_coded_cells(own, codec, quantisers)]
    for gain in gains(own):
        clip, quantiser = gain.lowest_at
        means = (gain.by_quantiser.get(quantiser) for quantiser in quantisers)
        cells.append(
            [
                gain.network,
                *("–" if mean is None else f"{mean:+.2f}" for mean in means),
                f"{gain.mean:+.2f}",
                f"{gain.ssim:+.4f}",
                f"{gain.lowest:+.2f}",
                f"{clip}, {word} {quantiser}",
                f"{gain.losses} of {gain.inputs} inputs",
            ]
        )
    return header, cells


def _coded_cells(rows: Iterable[Row], codec: str, quantisers: Sequence[int]) -> list[str]:
    """All networks saw the same coded clips, so that each counts once."""
    inputs = list({(row["clip"], row["quantiser"]): row for row in rows}.values())
    means = [
        fmean(row["psnr_in"] for row in inputs if row["quantiser"] == quantiser)
        for quantiser in quantisers
    ]
    means.append(fmean(row["psnr_in"] for row in inputs))
    likeness = fmean(row["ssim_in"] for row in inputs)
    return [codec, *(f"{mean:.2f}" for mean in means), f"{likeness:.4f}", "–", "–", "–"]


MEASURES = {"psnr": ("PSNR dB", 2), "ssim": ("SSIM", 4), "psnrb": ("PSNR-B dB", 2)}
FLICKER = "flicker"
PRINTED_DIGITS = {"psnr": 2, "ssim": 3}  # of the paper


def published_variants(measure: str) -> dict[str, dict[tuple[float, int], float]]:
    """Figures of the CAR-CNN paper for its twelve variants, by method.

    Args:
        measure: ``psnr`` or ``ssim``; nothing is printed of others.

    Returns:
        A figure for each limit in Mb/s and CRF.
    """
    order = [(limit, crf) for limit in LIMITS_MBPS for crf in CRFS]
    tables = published()["variants"].get(measure, {})
    return {
        method: dict(zip(order, (figure for row in rows for figure in row), strict=True))
        for method, rows in tables.items()
    }


def variants_tables(rows: Sequence[Row]) -> dict[str, Cells]:
    """Tables of H.264 by title, in the layout of the paper: a line a method, a column a variant."""
    own = [row for row in rows if row["codec"] == "h264"]
    if not own:
        return {}
    measures = {**MEASURES, FLICKER: ("Flicker, codes", 3)}
    return {title: _variants_cells(own, key, digits) for key, (title, digits) in measures.items()}


def _variants_cells(rows: Sequence[Row], measure: str, digits: int) -> Cells:
    variants = list(dict.fromkeys((row["limit_mbps"], row["quantiser"]) for row in rows))
    header = ("Method", *(f"{limit:g} Mb/s CRF {crf}" for limit, crf in variants), "Mean")
    lines = [_line("h264", rows, variants, lambda row: row[f"{measure}_in"], digits)]
    for network in dict.fromkeys(row["network"] for row in rows):
        of_network = [row for row in rows if row["network"] == network]
        after = _line(network, of_network, variants, lambda row: row[f"{measure}_out"], digits)
        lines.append(after)
    for method, printed in published_variants(measure).items():
        values = [printed.get(variant) for variant in variants]
        known = [value for value in values if value is not None]
        cells = [
            NONE if value is None else f"{value:.{PRINTED_DIGITS[measure]}f}" for value in values
        ]
        lines.append([f"*{method}*", *cells, f"{fmean(known):.{digits}f}" if known else NONE])
    return header, lines


def _line(
    name: str,
    rows: Iterable[Row],
    variants: Sequence[tuple[float, int]],
    value: Callable[[Row], float | None],
    digits: int,
) -> list[str]:
    """Means over clips; the coded clip, which all methods share, counts once."""
    by_variant: dict[tuple[float, int], dict[str, float]] = {variant: {} for variant in variants}
    for row in rows:
        found = value(row)
        if found is not None:
            by_variant[row["limit_mbps"], row["quantiser"]][row["clip"]] = found
    means = [fmean(values.values()) if values else None for values in by_variant.values()]
    known = [mean for mean in means if mean is not None]
    shown = [NONE if mean is None else f"{mean:.{digits}f}" for mean in means]
    return [name, *shown, f"{fmean(known):.{digits}f}" if known else NONE]


def bd_cells(rows: Sequence[Row]) -> Cells:
    """Header and cells of the BD-rates of HEVC, published ones included."""
    own = [row for row in rows if row["codec"] == "hevc"]
    structures = list(dict.fromkeys(row["structure"] for row in own))
    columns = [(structure, place) for structure in structures for place in ("after", "instead")]
    header = ("Network", *(f"{structure}, {place}" for structure, place in columns))
    lines = [["x265 without filters", *(_mean_bd_rate(own, *each, "psnr_in") for each in columns)]]
    for network in dict.fromkeys(row["network"] for row in own):
        of_network = [row for row in own if row["network"] == network]
        lines.append([network, *(_mean_bd_rate(of_network, *each, "psnr_out") for each in columns)])
    for method, printed in published()["bd_rates"].items():
        cells = [
            f"{printed[structure]:+.2f}" if structure in printed and place == "instead" else NONE
            for structure, place in columns
        ]
        lines.append([f"*{method}*", *cells])
    return header, lines


def _mean_bd_rate(rows: Sequence[Row], structure: str, place: str, psnr: str) -> str:
    """Mean over the clips that have points enough of both curves.

    The coder's own output after its filters is the anchor itself: a dash.
    """
    if (place, psnr) == ("after", "psnr_in"):
        return NONE
    filters = place == "after"
    own = [row for row in rows if row["structure"] == structure]
    saved: list[float] = []
    for clip in dict.fromkeys(row["clip"] for row in own):
        here = [row for row in own if row["clip"] == clip]
        anchor = {RatePoint(r["kbps"], r["psnr_in"]) for r in here if r["in_loop_filters"]}
        test = {RatePoint(r["kbps"], r[psnr]) for r in here if r["in_loop_filters"] is filters}
        try:
            saved.append(bd_rate(sorted(anchor), sorted(test)))
        except DataError:  # fewer quantisers than a curve needs, or not a common dB
            continue
    return f"{fmean(saved):+.2f}" if saved else NONE


def limits_lines(rows: Iterable[Row]) -> list[str]:
    """Say for each clip what the paper's limits are at its size."""
    limits: dict[str, dict[float, int]] = {}
    for row in rows:
        if row["limit_mbps"] is not None:
            limits.setdefault(row["clip"], {})[row["limit_mbps"]] = row["max_kbps"]
    return [
        f"{clip}: {', '.join(f'{limit:g} Mb/s is {kbps} kbit/s' for limit, kbps in own.items())} "
        "at 25 frames/s"
        for clip, own in limits.items()
    ]


DETECTION_COLUMNS = (
    *(("Clip", "{clip}"), ("Frames", "{frames}"), ("Objects", "{boxes}"), ("At", "{at}")),
    *(("kbit/s", "{kbps:.0f}"), ("Network", "{network}"), ("mAP50", "{map50:.1f}")),
    *(("over coded", "{over_coded50}"), ("over spp", "{over_spp50}"), ("mAP50-95", "{map:.1f}")),
    *(("over coded", "{over_coded}"), ("over spp", "{over_spp}"), ("mAP50 by class", "{by_class}")),
)
DIFFERENCES = ("over_coded50", "over_spp50", "over_coded", "over_spp")


def detection_cells(rows: Iterable[Row]) -> Cells:
    """Header and cells of one setting, a line for each clip, quantiser and network."""
    shown = [
        {
            **row,
            **{key: 100 * row[key] for key in ("map50", "map")},
            **{key: _difference(row, key) for key in DIFFERENCES},
            "at": f"{QUANTISERS[row['codec']]} {row['quantiser']}",
            "by_class": ", ".join(
                f"{entry['name']} {100 * entry['map50']:.1f}" for entry in row["classes"]
            ),
        }
        for row in rows
    ]
    return table_cells(DETECTION_COLUMNS, shown)


def detection_settings(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Rows by the line that stands over their table: detector, truth and coder."""
    by_setting: dict[str, list[Row]] = {}
    for row in rows:
        line = (
            f"{row['codec']}; detector {row['detector']} ({row['head']}), objects from a score of "
            f"{row['confidence']:g}, classes from {row['least_boxes']} of them:"
        )
        by_setting.setdefault(line, []).append(row)
    return by_setting


def _difference(row: Row, key: str) -> str:
    if row[key] is None:
        return NONE
    low, high = (f"{100 * value:+.1f}" for value in row[f"{key}_interval"])
    return f"{100 * row[key]:+.1f} [{low}, {high}]"
