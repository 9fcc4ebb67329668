"""Tables of quality studies: JPEG, video, the papers' variants and detection.

Published figures (`published.toml`) stand beside ours.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import Any

from edgecar.errors import DataError
from edgecar.evaluate.metrics import RatePoint, bd_rate
from edgecar.evaluate.postfilters import POSTFILTERS
from edgecar.evaluate.table import NONE, Cells, Columns, Row, Table, table_cells
from edgecar.evaluate.variants import CRFS, LIMITS_MBPS
from edgecar.files import table_from_toml

QUANTISERS = {"h264": "CRF", "hevc": "QP", "jpeg": "quality"}
"""Name of each codec's quantiser."""

NO_HARM_CRF = 35
"""A picture this fine is what most cameras send: cleaning must not cost detections here."""
VIDEO_CODECS = {"h264": "H.264", "hevc": "HEVC"}
INTROS: dict[str, str] = table_from_toml(Path(__file__).with_name("intros.toml"))
"""Words on how each study is measured."""


def study_tables(kind: str, rows: Sequence[Row]) -> list[Table]:
    """Return the tables of ``jpeg``, ``video``, ``variants`` or ``detection`` rows."""
    if kind == "jpeg":
        caption = "Luma; averages over the set."
        return [
            Table(jpeg_cells([("this run", own)], name), name, caption)
            for name, own in grouped(rows, "set").items()
        ]
    if kind == "video":
        caption = "First line: the coded clips, luma PSNR in dB and SSIM; below: gain over it."
        title = "gain over the coded clips, dB of luma PSNR"
        return [
            Table(video_cells(own, codec), f"{VIDEO_CODECS[codec]}: {title}", caption)
            for codec, own in grouped(rows, "codec").items()
        ]
    if kind == "detection":
        return detection_tables(rows)
    titled = variants_tables(rows)
    if any(row["codec"] == "hevc" for row in rows):
        titled["BD-rate in %, over x265 with its filters"] = bd_cells(rows)
    return [Table(cells, title) for title, cells in titled.items()]


@cache
def published() -> dict[str, Any]:
    """Read the figures printed in papers, by table."""
    return table_from_toml(Path(__file__).with_name("published.toml"))


JPEG_COLUMNS = (
    *(("Quality", "{quality}"), ("Network", "{network}"), ("PSNR dB", "{psnr:.2f}")),
    *(("Gain dB", "{gain:+.2f}"), ("Worst picture dB", "{worst:+.2f}")),
    *(("SSIM", "{ssim:.3f}"), ("PSNR-B dB", "{psnr_b:.2f}"), ("Source", "{source}")),
)


def jpeg_cells(studies: Sequence[tuple[str, Sequence[Row]]], set_name: str) -> Cells:
    """Return the quality table of one set, of the ``jpeg`` rows of studies and published ones."""
    keys = {"psnr": "psnr", "ssim": "ssim", "psnr_b": "psnrb"}
    lines: dict[tuple[int, str, str], dict[str, Any]] = {}
    for name, rows in studies:
        for row in (row for row in rows if row["set"] == set_name):
            # All networks share the coded picture, which is listed once.
            for network, end in (("jpeg", "in"), (row["network"], "out")):
                figures = {key: row[f"{column}_{end}"] for key, column in keys.items()}
                figures["worst"] = row["worst_picture_gain_db"] if end == "out" else None
                lines[row["quality"], network, f"measured, {name}"] = figures
    qualities = {quality for quality, *_ in lines}
    for row in published()["quality"]:
        if row["set"].lower() == set_name.lower():
            for quality in qualities & set(map(int, row["psnr"])):
                figures = {key: row.get(key, {}).get(str(quality)) for key in keys}
                figures["worst"] = None
                lines[quality, row["network"], row["source"]] = figures
    for (quality, network, source), line in lines.items():
        coded = lines.get((quality, "jpeg", source))
        line |= {"quality": quality, "network": network, "source": source}
        line["gain"] = line["psnr"] - coded["psnr"] if coded and network != "jpeg" else None
    ordered = sorted(lines.values(), key=lambda line: (line["quality"], line["psnr"]))
    return table_cells(JPEG_COLUMNS, ordered)


@dataclass(frozen=True)
class Gain:
    """Gains of one network or post-filter in dB of luma PSNR; an input is a clip at a quantiser.

    Means are over clips for each quantiser, and over all inputs; ``losses`` counts the inputs that
    came out worse than they went in.
    """

    network: str
    by_quantiser: dict[int, float]
    mean: float
    ssim: float
    lowest: float
    lowest_at: tuple[str, int]
    losses: int
    inputs: int


def grouped(rows: Iterable[Row], key: Any = "network") -> dict[Any, list[Row]]:
    """Group rows by their value of a key, in the order they come."""
    found: dict[Any, list[Row]] = {}
    for row in rows:
        found.setdefault(row[key], []).append(row)
    return found


def gain_db(row: Row) -> float:
    """Return the gain in luma PSNR over the coded input."""
    gain: float = row["psnr_out"] - row["psnr_in"]
    return gain


def gains(rows: Iterable[Row]) -> list[Gain]:
    """Return one entry per network of ``video`` rows of one codec, in the order they come."""
    found: list[Gain] = []
    for network, own in grouped(rows).items():
        worst = min(own, key=gain_db)
        by_quantiser = sorted(grouped(own, "quantiser").items())
        found.append(
            Gain(
                network=network,
                by_quantiser={key: fmean(map(gain_db, each)) for key, each in by_quantiser},
                mean=fmean(map(gain_db, own)),
                ssim=fmean(row["ssim_out"] - row["ssim_in"] for row in own),
                lowest=gain_db(worst),
                lowest_at=(worst["clip"], worst["quantiser"]),
                losses=sum(gain_db(row) < 0 for row in own),
                inputs=len(own),
            )
        )
    return found


def video_cells(rows: Sequence[Row], codec: str) -> Cells:
    """Return the table of one codec: the coded video in dB, then what is gained over it."""
    own = [row for row in rows if row["codec"] == codec]
    # All networks saw the same coded clips, so that each counts once.
    inputs = list({(row["clip"], row["quantiser"]): row for row in own}.values())
    at = sorted(grouped(inputs, "quantiser").items())
    means = [fmean(row["psnr_in"] for row in each) for each in (*(e for _, e in at), inputs)]
    ssim = fmean(row["ssim_in"] for row in inputs)
    cells = [[codec, *(f"{mean:.2f}" for mean in means), f"{ssim:.4f}", NONE, NONE, NONE]]
    word = QUANTISERS[codec]
    for gain in gains(own):
        clip, quantiser = gain.lowest_at
        shown = [gain.by_quantiser.get(quantiser) for quantiser, _ in at]
        cells.append(
            [
                gain.network,
                *(NONE if mean is None else f"{mean:+.2f}" for mean in shown),
                f"{gain.mean:+.2f}",
                f"{gain.ssim:+.4f}",
                f"{gain.lowest:+.2f}",
                f"{clip}, {word} {quantiser}",
                f"{gain.losses} of {gain.inputs} inputs",
            ]
        )
    header = ("Network", *(f"{word} {quantiser}" for quantiser, _ in at))
    return (*header, "Mean", "SSIM", "Lowest", "On", "Loses on"), cells


MEASURES = {
    **{"psnr": ("PSNR dB", 2), "ssim": ("SSIM", 4), "psnrb": ("PSNR-B dB", 2)},
    "flicker": ("Flicker, codes", 3),
}
PRINTED_DIGITS = {"psnr": 2, "ssim": 3}  # of the paper


def published_variants(measure: str) -> dict[str, dict[tuple[float, int], float]]:
    """Return figures of the CAR-CNN paper, if there are any, by method, and by Mb/s and CRF."""
    order = [(limit, crf) for limit in LIMITS_MBPS for crf in CRFS]
    tables = published()["variants"].get(measure, {})
    return {
        method: dict(zip(order, (figure for row in rows for figure in row), strict=True))
        for method, rows in tables.items()
    }


def variants_tables(rows: Sequence[Row]) -> dict[str, Cells]:
    """Tables of H.264 by title, in the layout of the paper: a line a method, a column a variant."""
    own = [row for row in rows if row["codec"] == "h264"]
    variants = list(dict.fromkeys((row["limit_mbps"], row["quantiser"]) for row in own))
    header = ("Method", *(f"{limit:g} Mb/s CRF {crf}" for limit, crf in variants), "Mean")

    def line(name: str, values: Iterable[float | None], digits: int, mean_digits: int) -> list[str]:
        values = list(values)
        known = [value for value in values if value is not None]
        shown = [NONE if value is None else f"{value:.{digits}f}" for value in values]
        return [name, *shown, f"{fmean(known):.{mean_digits}f}" if known else NONE]

    def means(rows: Iterable[Row], key: str) -> Iterator[float | None]:
        """Yield means over clips; the coded clip, which all methods share, counts once."""
        by_clip: dict[Any, dict[str, float]] = {variant: {} for variant in variants}
        for row in rows:
            if row[key] is not None:
                by_clip[row["limit_mbps"], row["quantiser"]][row["clip"]] = row[key]
        return (fmean(values.values()) if values else None for values in by_clip.values())

    tables: dict[str, Cells] = {}
    for measure, (title, digits) in MEASURES.items() if own else ():
        lines = [line("h264", means(own, f"{measure}_in"), digits, digits)]
        for network, each in grouped(own).items():
            lines.append(line(network, means(each, f"{measure}_out"), digits, digits))
        for method, printed in published_variants(measure).items():
            values = map(printed.get, variants)
            lines.append(line(f"*{method}*", values, PRINTED_DIGITS[measure], digits))
        tables[title] = header, lines
    return tables


def bd_cells(rows: Sequence[Row]) -> Cells:
    """Return the table of the BD-rates of HEVC, published ones included."""
    own = [row for row in rows if row["codec"] == "hevc"]
    columns = [(s, place) for s in grouped(own, "structure") for place in ("after", "instead")]
    header = ("Network", *(f"{structure}, {place}" for structure, place in columns))

    def line(name: str, rows: Sequence[Row], psnr: str) -> list[str]:
        return [name, *(_mean_bd_rate(rows, *column, psnr) for column in columns)]

    lines = [line("x265 without filters", own, "psnr_in")]
    lines += [line(network, each, "psnr_out") for network, each in grouped(own).items()]
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
    saved: list[float] = []
    filters = place == "after"
    for here in grouped(rows, "clip").values():
        own = [row for row in here if row["structure"] == structure]
        anchor = {RatePoint(r["kbps"], r["psnr_in"]) for r in own if r["in_loop_filters"]}
        test = {RatePoint(r["kbps"], r[psnr]) for r in own if r["in_loop_filters"] is filters}
        with suppress(DataError):  # fewer quantisers than a curve needs, or not a common dB
            saved.append(bd_rate(sorted(anchor), sorted(test)))
    return f"{fmean(saved):+.2f}" if saved and (place, psnr) != ("after", "psnr_in") else NONE


def limits_lines(rows: Iterable[Row]) -> list[str]:
    """Say for each clip what the paper's limits are at its size."""
    limits: dict[str, dict[str, None]] = {}
    for row in rows:
        if row["limit_mbps"] is not None:
            words = f"{row['limit_mbps']:g} Mb/s is {row['max_kbps']} kbit/s"
            limits.setdefault(row["clip"], {})[words] = None
    return [f"{clip}: {', '.join(own)} at 25 frames/s" for clip, own in limits.items()]


DETECTION_COLUMNS: Columns = (
    *(("At", "{at}"), ("Network", "{network}"), ("AP50", "{ap50:.1f}")),
    *(("over coded", "{over_coded50}"), ("over spp", "{over_spp50}"), ("AP", "{ap:.1f}")),
)
NO_HARM = "†"
MEAN_OF = "mean of "
"""Start of the name of several detectors' mean."""


def detection_tables(rows: Iterable[Row]) -> list[Table]:
    """Return a table for each detector and group of classes, a line for each coding and method."""
    titles = "{codec}: {detector} ({head}), {objects}: {boxes} {of} on {on}"
    of_truth = {"detector": "objects", "people": "marked objects"}
    titled = [{**row, "on": measured_on(row), "of": of_truth[row["truth"]]} for row in rows]
    by_title = grouped(({**row, "title": titles.format_map(row)} for row in titled), "title")
    return [
        Table(table_cells(DETECTION_COLUMNS, map(_shown, own)), title, _caption(own))
        for title, own in by_title.items()
    ]


def measured_on(row: Row) -> str:
    """Say how many frames of how many clips, or pictures, a detection row is of."""
    if row["codec"] == "jpeg":
        return f"{row['frames']} pictures"
    clips = len(row["clips"])
    return f"{row['frames']} frames of {clips} clip{'s' if clips > 1 else ''}"


def _shown(row: Row) -> dict[str, Any]:
    """Return a row of the detection study in words and percent."""
    fine = row["codec"] == "h264" and row["quantiser"] == NO_HARM_CRF

    def difference(key: str) -> str | None:
        if row[key] is None:
            return None
        low, high = (f"{100 * value:.1f}" for value in row[f"{key}_interval"])
        return f"{100 * row[key]:+.1f} [{low}, {high}]"

    return {
        **row,
        **{key: 100 * row[key] for key in ("ap50", "ap")},
        **{key: difference(key) for key in ("over_coded50", "over_spp50")},
        "at": f"{QUANTISERS[row['codec']]} {row['quantiser']}{NO_HARM if fine else ''}",
    }


def _caption(rows: Sequence[Row]) -> str:
    truth = "boxes that people marked"
    if rows[0]["truth"] == "detector":
        truth = f"what the detector finds on the source from a score of {rows[0]['confidence']:g}"
    fine = any(NO_HARM in _shown(row)["at"] for row in rows)
    harm = f"\n{NO_HARM} Cleaning must not lose here." if fine else ""
    return (
        f"Truth: {truth}.\nAP × 100, at IoU 0.50 and over 0.50 to 0.95; an interval "
        f"with 0 shows nothing.{harm}"
    )


def headline_rows(rows: Iterable[Row]) -> list[Row]:
    """Return the detection rows on all classes, or on the group that people marked."""
    rows = list(rows)
    return [row for row in rows if row["objects"] == rows[0]["objects"]]


def of_each_detector(rows: Iterable[Row]) -> list[Row]:
    """Return the headline rows of detectors, without those of their mean."""
    return [row for row in headline_rows(rows) if not row["detector"].startswith(MEAN_OF)]


def recommendations(rows: Iterable[Row]) -> Iterator[str]:
    """Yield a sentence for each detector, coding and network: clean, pass or either."""
    judged = [row for row in headline_rows(rows) if row["recommendation"]]
    networks = [row for row in judged if row["network"] not in POSTFILTERS]

    def points(row: Row, over: str, sign: int = 1) -> tuple[str, str]:
        gain, limits = row[f"over_{over}50"], row[f"over_{over}50_interval"]
        low, high = sorted(100 * sign * limit for limit in limits)
        form = "+.1f" if sign > 0 else ".1f"
        return f"{100 * sign * gain:{form}}", f"[{low:.1f}, {high:.1f}]"

    for row in networks or judged:
        gain, limits = points(row, "coded", -1 if row["recommendation"] == "pass" else 1)
        words = {
            "clean": "clean: {network} brings {detector} {gain} points of AP50 {limits}",
            "pass": "pass: cleaning with {network} costs {detector} {gain} points of AP50 {limits}",
            "either": "either: {network} changes {detector} by {gain} points of AP50 {limits}",
        }[row["recommendation"]].format(**row, gain=gain, limits=limits)
        words += f" over coded at {QUANTISERS[row['codec']]} {row['quantiser']}"
        if row["over_spp50"] is not None:
            words += ", {} {} over spp".format(*points(row, "spp"))
        yield words
