"""Tables of the papers' variants: H.264 under limits of the rate, BD-rates over HEVC."""

from collections.abc import Callable, Iterable, Sequence
from statistics import fmean

from edgecar.bench.published_video import BD_RATES, published_variants
from edgecar.bench.results import Row
from edgecar.errors import DataError
from edgecar.evaluate.bdrate import RatePoint, bd_rate

Cells = tuple[tuple[str, ...], list[list[str]]]

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

MEASURES = {"psnr": ("PSNR dB", 2), "ssim": ("SSIM", 4), "psnrb": ("PSNR-B dB", 2)}
FLICKER = "flicker"
PRINTED_DIGITS = {"psnr": 2, "ssim": 3}  # of the paper
NONE = "–"


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
    lines = [["x265 without filters", *(_unfiltered(own, *column) for column in columns)]]
    for network in dict.fromkeys(row["network"] for row in own):
        of_network = [row for row in own if row["network"] == network]
        lines.append([network, *(_saved(of_network, *column) for column in columns)])
    for method, printed in BD_RATES.items():
        cells = [
            f"{printed[structure]:+.2f}" if structure in printed and place == "instead" else NONE
            for structure, place in columns
        ]
        lines.append([f"*{method}*", *cells])
    return header, lines


def _saved(rows: Sequence[Row], structure: str, place: str) -> str:
    return _mean_bd_rate(rows, structure, place == "after", "psnr_out")


def _unfiltered(rows: Sequence[Row], structure: str, place: str) -> str:
    """What the coder's own filters are worth."""
    return NONE if place == "after" else _mean_bd_rate(rows, structure, False, "psnr_in")


def _mean_bd_rate(rows: Sequence[Row], structure: str, filters: bool, psnr: str) -> str:
    """Over the clips that have points enough of both curves."""
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
    """What the paper's limits came to for each clip."""
    limits: dict[str, dict[float, int]] = {}
    for row in rows:
        if row["limit_mbps"] is not None:
            limits.setdefault(row["clip"], {})[row["limit_mbps"]] = row["max_kbps"]
    return [
        f"{clip}: {', '.join(f'{limit:g} Mb/s is {kbps} kbit/s' for limit, kbps in own.items())} "
        "at 25 frames/s"
        for clip, own in limits.items()
    ]
