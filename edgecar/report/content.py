"""The content of a report: verdicts in words, tables, curves and sample frames of a study."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from edgecar.bench.results import Results, Row
from edgecar.evaluate.sample_frames import Kind, SampleFrame, SampleFrames
from edgecar.evaluate.study import CODED
from edgecar.evaluate.table import Table, table_cells
from edgecar.evaluate.tables import (
    INTROS,
    QUANTISERS,
    VIDEO_CODECS,
    Gain,
    gain_db,
    gains,
    grouped,
    of_each_detector,
    study_tables,
)
from edgecar.evaluate.variants import variant_words
from edgecar.report.curves import Panel, panels_of

Outcome = Literal["gains", "mixed", "shows nothing", "loses"]
LEAST_DB = 0.005
"""Smallest gain that a table shows as more than 0.00."""


@dataclass(frozen=True)
class Verdict:
    """The verdict on one network or post-filter, decided by the numbers.

    ``value`` is the mean gain over the coded input, in dB or points of AP.
    """

    network: str
    outcome: Outcome
    value: float
    words: str


@dataclass(frozen=True)
class Report:
    """A study, ready to be written.

    ``samples`` are frames with most gain, then those with least; ``notes`` have a sentence for each
    network without a frame. In ``intro``, backticks mean code and asterisks emphasis.
    """

    title: str
    headline: str
    verdicts: Sequence[Verdict]
    tables: Sequence[Table]
    intro: str
    panels: Sequence[Panel]
    samples: Sequence[tuple[SampleFrame, Kind]]
    notes: Sequence[str]
    results: Results
    codec: str


def report_of(results: Results, sample_frames: SampleFrames | None = None) -> Report:
    """Compose the report of a study.

    Args:
        results: Results of kind ``jpeg``, ``video``, ``variants`` or ``detection`` with at least
            one row, of one codec.
        sample_frames: Frames kept while measuring.
    """
    kind, rows = results.kind, results.rows
    codec: str = rows[0].get("codec", "jpeg")
    names = rows[0].get("clips") or list(grouped(rows, "set" if kind == "jpeg" else "clip"))
    on = names[0] if len(names) == 1 else f"{len(names)} clips"
    coder = {"jpeg": "JPEG", **VIDEO_CODECS}[codec]
    title = f"{coder}: what cleaning gains on {on}"
    why = "none of its frames was kept"
    tables = study_tables(kind, rows)
    if kind == "detection":
        detectors = list(grouped(of_each_detector(rows), "detector"))
        found = f"{detectors[0]} finds" if len(detectors) == 1 else "detectors find"
        title = f"{coder}: what {found} on {on}, coded and cleaned"
        why = (
            "as many mistakes on every frame as before cleaning, with detections from a score of "
            f"{rows[0]['confidence']:g}; AP counts less sure ones, too"
        )
    elif kind != "jpeg":
        tables.append(every_input(rows, QUANTISERS[codec]))
    samples = list(sample_frames.shown()) if sample_frames else []
    shown = {CODED, *(sample.network for sample, _ in samples)}
    judged = verdicts(kind, rows)
    return Report(
        title=title,
        headline=headline(judged, kind),
        verdicts=judged,
        tables=tables,
        intro=INTROS["bd_rates" if (kind, codec) == ("variants", "hevc") else kind],
        panels=panels_of(kind, rows),
        samples=samples,
        notes=[f"{name}: {why}." for name in grouped(rows) if name not in shown],
        results=results,
        codec=codec,
    )


def every_input(rows: Sequence[Row], quantiser: str) -> Table:
    """Return a table of ``video`` or ``variants`` rows of one codec with a line for each."""
    columns = [
        *(("Clip", "{clip}"), (quantiser, "{quantiser}"), ("Coding", "{coding}")),
        *(("kbit/s", "{kbps:.0f}"), ("Network", "{network}"), ("Coded dB", "{psnr_in:.2f}")),
        *(("Restored dB", "{psnr_out:.2f}"), ("Gain dB", "{gain:+.2f}")),
        *(("SSIM gain", "{ssim:+.4f}"), ("Worst frame dB", "{worst_frame_gain_db:+.2f}")),
    ]
    shown = [
        {
            "worst_frame_gain_db": None,  # of variants
            **row,
            "coding": variant_words(row) if "structure" in row else None,
            "gain": gain_db(row),
            "ssim": row["ssim_out"] - row["ssim_in"],
        }
        for row in rows
    ]
    return Table(table_cells(columns, shown), "Every input", folded=True)


def verdicts(kind: str, rows: Sequence[Row]) -> list[Verdict]:
    """Return a verdict on each network, in the order of the rows."""
    if kind == "detection":
        networks = grouped(of_each_detector(rows)).items()
        return [_of_detections(name, own) for name, own in networks if name != CODED]
    if kind == "jpeg":
        named = [{**row, "clip": row["set"], "quantiser": row["quality"]} for row in rows]
        return [_of_gain(gain, "quality", "pictures", "qualities") for gain in gains(named)]
    return [_of_gain(gain, QUANTISERS[rows[0]["codec"]], "clips", "inputs") for gain in gains(rows)]


def headline(found: Sequence[Verdict], kind: str) -> str:
    """Answer in one sentence if cleaning pays, by the network with the highest mean gain."""
    if not found:
        return "Nothing was measured."
    best = max(found, key=lambda verdict: verdict.value)
    says = {
        "gains": "cleaning pays here",
        "mixed": "cleaning pays on some inputs and not on all",
        "shows nothing": "nothing is shown",
        "loses": "cleaning does not pay here",
    }
    measure = "detections" if kind == "detection" else "luma PSNR"
    return f"In {measure}, {says[best.outcome]}: the best is {best.network}."


def _of_gain(gain: Gain, quantiser: str, inputs: str, unit: str) -> Verdict:
    """Judge by the mean gain in PSNR and the number of inputs that lose."""
    outcome: Outcome = "mixed" if gain.losses else "gains"
    if abs(gain.mean) < LEAST_DB:
        outcome = "shows nothing"
    elif gain.mean < 0:
        outcome = "loses"
    clip, at = gain.lowest_at
    words = (
        f"{gain.network}: {gain.mean:+.2f} dB over the coded {inputs} on average, loses on "
        f"{gain.losses or 'none'} of {gain.inputs} {unit}; the lowest is {gain.lowest:+.2f} dB "
        f"({clip}, {quantiser} {at})."
    )
    return Verdict(gain.network, outcome, gain.mean, words)


def _of_detections(network: str, rows: Sequence[Row]) -> Verdict:
    """Judge by gains in AP at IoU 0.50; an interval that contains 0 shows nothing."""
    better = sum(row["over_coded50_interval"][0] > 0 for row in rows)
    worse = sum(row["over_coded50_interval"][1] < 0 for row in rows)
    mean = 100 * fmean(row["over_coded50"] for row in rows)
    outcome: Outcome = "loses" if worse else "shows nothing"
    if better:
        outcome = "gains" if better == len(rows) else "mixed"

    def points(row: Row, of_what: str = "") -> str:
        low, high = (f"{100 * end:+.1f}" for end in row["over_coded50_interval"])
        at = f"{row['detector']}, {QUANTISERS[row['codec']]} {row['quantiser']}"
        gain = f"{100 * row['over_coded50']:+.1f} points{of_what}"
        return f"{gain} ({at}; 95 % interval {low} to {high})"

    if len(rows) == 1:
        shown = "shows nothing (the interval contains 0), " if outcome == "shows nothing" else ""
        words = f"{network}: {shown}{points(rows[0], ' of AP50 over the coded frames')}."
        return Verdict(network, outcome, mean, words)
    counts = f"better on {better}, worse on {worse}, nothing on {len(rows) - better - worse}"
    low, *_, high = sorted(rows, key=lambda row: row["over_coded50"])
    words = (
        f"{network}: {mean:+.1f} points of AP50 over the coded frames on average; of "
        f"{len(rows)} comparisons it is shown {counts}; from {points(low)} to {points(high)}."
    )
    return Verdict(network, outcome, mean, words)
