"""Tables of pages whose lines are more than a row of a result file, by name in `pages.toml`."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any

from edgecar.bench.results import Results, Row
from edgecar.bench.tables import SPEED_COLUMNS, colour_of
from edgecar.evaluate import tables
from edgecar.evaluate.table import NONE, Cells, Columns, table_cells
from edgecar.evaluate.tables import VIDEO_CODECS, published
from edgecar.zoo.shipped import WORST, codec_of, manifest

FRAME_RATE = 30  # of the papers' TFLOPS
Named = tuple[str, Results]
Titled = Iterable[tuple[str, Cells]]
"""Tables, each with the heading above it; an empty heading is left out."""

WHOLE = "full"  # the MSFAN of the paper's ablations that lacks nothing
GAINS = ("gain_q10", "gain_q20", "gain_q30", "gain_q40")
CODERS = {"jpeg": "JPEG", "h264": "H.264", "hevc": "HEVC", "h264:detect": "H.264, for detectors"}


def complexity(studies: Sequence[Named], columns: Columns) -> Titled:
    """One table of counted cost beside printed cost, whatever file a row is in."""
    keys = ("network", "channels", "height", "width")
    counted = {
        tuple(row[key] for key in keys): row
        for _, study in studies
        for row in study.rows
        if row["params"]
    }
    printed = {
        (row["network"], row["channels"], *row["size"]): row for row in published()["complexity"]
    }
    empty = dict.fromkeys(("params", "published_memory_mb", "published_tflops", "gmacs"))
    rows = []
    for key in dict.fromkeys([*printed, *counted]):
        ours, theirs = counted.get(key, empty), printed.get(key, {})
        row = {**ours, **dict(zip(keys, key, strict=True))}
        row |= {f"printed_{name}": theirs.get(name) for name in ("params", "tflops")}
        row |= {"printed_mb": theirs.get("memory_mb"), "colour": colour_of(row)}
        row["kmacs_per_px"] = ours["gmacs"] and ours["gmacs"] * 1e6 / (key[2] * key[3])
        row["tflops"] = ours["published_tflops"] and tflops_as_printed(ours["published_tflops"])
        rows.append(row)
    yield "", table_cells(columns, rows)


def tflops_as_printed(tflops: float) -> str:
    """TFLOPS at 30 frames/s the way the printed column was made; small ones keep more digits.

    GMAC of a frame were rounded to two decimals first: 3.255027 for ARCNN at 720p is 108.50 GMAC,
    hence 3.255 and, as no binary fraction is quite that much, the printed 3.25.

    Example:
        >>> tflops_as_printed(3.255027), tflops_as_printed(2.056534), tflops_as_printed(0.00327)
        ('3.25', '2.06', '0.0033')
    """
    if tflops < 0.1:
        return f"{tflops:.4f}"
    return f"{round(tflops * 1000 / FRAME_RATE, 2) * FRAME_RATE / 1000:.2f}"


def speed(studies: Sequence[Named], _columns: Columns) -> Titled:
    """A table for each file with timed rows; what was only counted is left out."""
    for name, study in studies:
        timed = [{**row, "colour": colour_of(row)} for row in study.rows if row["fps"] is not None]
        if timed:
            yield name, table_cells(SPEED_COLUMNS, timed)


def precision(studies: Sequence[Named], columns: Columns) -> Titled:
    """A table for each file and coder of the weights, with losses against FP32."""
    for name, study in studies:
        for coder, title in CODERS.items():
            own = [row for row in study.rows if row["weights"] == coder]
            if own:
                size = f"{own[0]['width']}×{own[0]['height']}"
                heading = f"Weights for {title}, {size}, {own[0]['provider']}, {name}"
                yield heading, _precision_cells(own, title, columns)


def _precision_cells(rows: Sequence[Row], title: str, columns: Columns) -> Cells:
    sets = {"classic5_db": "Classic5 dB", "live1_db": "LIVE1 dB"}
    measured = sets if title == "JPEG" else {"video_db": f"{title} dB"}
    shown = list(columns[:3])
    for key, name in measured.items():
        shown += [(name, f"{{{key}:.2f}}"), ("loss", f"{{{key}_loss:.3f}}")]
    base = {row["network"]: row for row in rows if row["precision"] == "fp32"}
    lines = []
    for row in rows:
        line = {**with_shares(row), "method": row["method"] or None}
        line["kb"] = row["bytes"] and row["bytes"] / 1000
        for key in measured:
            before, after = base.get(row["network"], {}).get(key), row[key]
            line[f"{key}_loss"] = None if None in (before, after) else before - after
        lines.append(line)
    return table_cells([*shown, *columns[3:]], lines)


def with_shares(row: Row) -> dict[str, Any]:
    """Add what several tables show and no result file has: shares, pairs and times in words."""
    found = dict(row)
    if "outcome" in row and "why" in row:
        found["ended"] = ": ".join(filter(None, (row["outcome"], row["why"])))
        found["kept_of"] = None if row["kept"] is None else f"{row['kept']} of {row['layers']}"
    for key in ("budget", "gate", "openvino", "exact", "onnxruntime"):  # of INT8
        if f"{key}_worst_db" in row:
            mean, worst = row[f"{key}_db"], row[f"{key}_worst_db"]
            found[key] = None if mean is None else f"{mean:.3f} ({worst:.3f})"
    if "seconds" in row:
        found["minutes"] = row["seconds"] / 60
    if "levels" in row:
        found["ran"] = ", ".join(f"{n} {share:.0%}" for n, share in row["levels"].items()) or NONE
        found["tenths"] = " ".join(f"{mib:.0f}" for mib in row["memory_tenths_mib"]) or NONE
        found["recorded"] = _recorded(row)
    if "same_bytes" in row:
        found["outputs"] = "the same bytes" if row["same_bytes"] else "other bytes"
    if "detail" in row:
        found["details"] = ", ".join(f"{key}: {value:,}" for key, value in row["detail"].items())
    return found


def _recorded(row: Row) -> str:
    if row["frames_given"] is None:
        return NONE
    left_out = f", {row['frames_left_out']:,} left out" if row["frames_left_out"] else ""
    return f"{row['frames_written']:,} of {row['frames_given']:,}{left_out}"


def quietest_first(rows: Sequence[Row]) -> list[Row]:
    """Rows of the real-time study, the clip in which least changes first, its codings together."""
    quietest: dict[str, float] = {}
    for row in rows:
        share = row["changed_tiles_share"]
        quietest[row["clip"]] = min(share, quietest.get(row["clip"], share))
    return sorted(rows, key=lambda row: (quietest[row["clip"]], row["clip"]))


def weights(_studies: Sequence[Named], _columns: Columns) -> Titled:
    """A table for each coder of the weights that ship, the cheapest network first."""
    entries = sorted(manifest(), key=lambda entry: entry["cost"]["kmacs_per_px"])
    for coder, title in CODERS.items():
        own = [entry for entry in entries if codec_of(entry) == coder]
        if own:
            yield title, _weights_cells(own, "psnr" if coder == "jpeg" else "gain_db")


def _weights_cells(entries: Sequence[Mapping[str, Any]], measured: str) -> Cells:
    video = measured == "gain_db"
    form = "+.2f" if video else ".2f"
    names = [n for n in dict.fromkeys(n for e in entries for n in e[measured]) if n != WORST]
    columns = [
        *(("Network", "{name}"), ("Parameters", "{params:,}"), ("kMAC/px", "{kmacs_per_px:.1f}")),
        ("Training", "{steps:,} steps, {minutes:.0f} min"),
        *((name, f"{{figure{number}:{form}}}") for number, name in enumerate(names)),
    ]
    if video:
        columns += [
            ("mean", "{mean:+.2f}"),
            ("lowest", "{lowest:+.2f}"),
            ("frames", "1 in {every}"),
        ]
    rows = []
    for entry in entries:
        sizes = ", ".join(f"{key} {value}" for key, value in entry["config"].items())
        figures = [entry[measured].get(name) for name in names]
        known = [figure for figure in figures if figure is not None]
        rows.append(
            {
                **entry["cost"],
                **{f"figure{number}": figure for number, figure in enumerate(figures)},
                "name": f"{entry['network']} ({sizes})" if sizes else entry["network"],
                "steps": entry["training"]["steps"],
                "minutes": entry["training"]["seconds"] / 60,
                "mean": fmean(known) if known else None,
                "lowest": entry[measured].get(WORST),
                "every": entry["measured"].get("every"),
            }
        )
    return table_cells(columns, rows)


def jpeg(studies: Sequence[Named], _columns: Columns) -> Titled:
    """A table for each test set, with all files and published rows."""
    named = [(name, study.rows) for name, study in studies]
    for set_name in dict.fromkeys(row["set"] for _, rows in named for row in rows):
        yield set_name, tables.jpeg_cells(named, set_name)


def video(studies: Sequence[Named], _columns: Columns) -> Titled:
    """A table for each codec and file: means over different clips do not compare."""
    for codec, title in VIDEO_CODECS.items():
        for name, study in studies:
            if any(row["codec"] == codec for row in study.rows):
                yield f"{title}, {name}", tables.video_cells(study.rows, codec)


def variants(studies: Sequence[Named], _columns: Columns) -> Titled:
    """Tables of H.264 under limits of the rate, for each file."""
    for name, study in studies:
        for title, cells in tables.variants_tables(study.rows).items():
            yield f"{title}, {name}", cells


def bd_rates(studies: Sequence[Named], _columns: Columns) -> Titled:
    """A table of BD-rates for each file with HEVC."""
    for name, study in studies:
        if any(row["codec"] == "hevc" for row in study.rows):
            yield f"BD-rate in %, {name}", tables.bd_cells(study.rows)


def detection(studies: Sequence[Named], _columns: Columns) -> Titled:
    """A table for each file, detector and group of classes."""
    for name, study in studies:
        for table in tables.detection_tables(study.rows):
            yield f"{table.title}, {name}", table.cells


def iqa(studies: Sequence[Named], columns: Columns) -> Titled:
    """Table 2 of the paper beside ours, then every network of ours."""
    rows = [row for _, study in studies for row in study.rows]
    printed = published()["iqa"]
    sets = dict.fromkeys(row["set"] for row in rows)
    found = {(row["method"], row["set"]): (row["srcc"], row["plcc"]) for row in rows}
    ours = {row["method"]: [found.get((row["method"], name)) for name in sets] for row in rows}
    header = ("Row", *(f"{n} (proxy)" for n in sets), *(f"{n} (paper)" for n in printed["sets"]))
    lines = []
    for method in dict.fromkeys([*printed["rows"], *ours]):
        if method in ours:
            theirs = printed["rows"].get(method, [None] * len(printed["sets"]))
            pairs = [*ours[method], *theirs]
            lines.append([method, *(f"{p[0]:.3f} / {p[1]:.3f}" if p else NONE for p in pairs)])
    yield "SRCC / PLCC", (header, lines)
    details = [
        {
            **row,
            "pyramids": {None: None, True: "yes", False: "no"}[row["multi_scale"]],
            "layers": ", ".join(map(str, row["fully_connected"] or ())) or None,
            "verdict": None
            if row["same_verdict"] is None
            else f"{100 * row['same_verdict']:.1f} %",
        }
        for row in rows
    ]
    yield "Networks and sets", table_cells(columns, details)


def design(studies: Sequence[Named], columns: Columns) -> Titled:
    """One table: candidates of one size may have been trained in several runs."""
    rows = [
        {**row, "mean": fmean(row[key] for key in GAINS)}
        for _, study in studies
        for row in study.rows
    ]
    ordered = sorted(rows, key=lambda row: (row["kmacs_per_px"], -row["mean"]))
    shown = [
        {
            **row,
            "name": row["candidate"] if beaten(row, rows) else f"**{row['candidate']}**",
            "teacher": row["teacher"] or None,
            **{key: "yes" if row[key] else None for key in ("skips", "branches")},
        }
        for row in ordered
    ]
    yield "", table_cells(columns, shown)


def ablations(studies: Sequence[Named], columns: Columns) -> Titled:
    """A table for each file: what a row loses against the whole network, here and in the paper."""
    printed = published()["ablations"]
    for name, study in studies:
        means = {row["row"]: fmean(row[key] for key in GAINS) for row in study.rows}
        lines = []
        for row in sorted(study.rows, key=lambda row: (row["row"] != WHOLE, row["row"])):
            theirs = printed.get(row["row"])
            line = {**row, "mean": means[row["row"]], "paper_db": theirs}
            line["change"] = means[row["row"]] - means[WHOLE] if WHOLE in means else None
            line["paper_change"] = theirs and theirs - printed[WHOLE]
            lines.append(line)
        yield name, table_cells(columns, lines)


def beaten(row: Row, rows: Iterable[Row]) -> bool:
    """Tell if another candidate costs no more, gains no less, and is better in one of the two."""
    cost, gain = row["kmacs_per_px"], row["mean"]
    others = [(other["kmacs_per_px"], other["mean"]) for other in rows]
    return any(c <= cost and g >= gain and (c, g) != (cost, gain) for c, g in others)


def described(
    studies: Sequence[Named], columns: Columns, group: str | None = None
) -> Iterator[tuple[str, Cells]]:
    """Tables that are described by their columns alone."""
    for name, study in studies:
        grouped: dict[str, list[Row]] = {}
        for row in study.rows:
            heading = f"{group.format_map(row)}, {name}" if group else name
            grouped.setdefault(heading, []).append(with_shares(row))
        for heading, rows in grouped.items():
            ordered = quietest_first(rows) if "changed_tiles_share" in rows[0] else rows
            yield heading, table_cells(columns, ordered)


TABLES: Mapping[str, Callable[[Sequence[Named], Columns], Titled]] = {
    made.__name__: made
    for made in (
        *(complexity, speed, precision, weights, jpeg, video, variants, bd_rates, detection),
        *(iqa, design, ablations),
    )
}
