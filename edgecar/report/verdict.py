"""Verdicts on a study in words, decided by its numbers."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from edgecar.bench.results import Row
from edgecar.evaluate.detection import CODED
from edgecar.evaluate.tables import QUANTISERS, Gain, gains

Outcome = Literal["gains", "mixed", "shows nothing", "loses"]
LEAST_DB = 0.005
"""Smallest gain that a table shows as more than 0.00."""
PERCENT = 100


@dataclass(frozen=True)
class Verdict:
    """The verdict on one network or post-filter.

    Attributes:
        network: Name of the network or post-filter.
        outcome: The verdict in a word or two.
        value: Mean gain over the coded input, in dB or points of mAP.
        words: The verdict in a sentence.
    """

    network: str
    outcome: Outcome
    value: float
    words: str


def verdicts(kind: str, rows: Sequence[Row]) -> list[Verdict]:
    """Return a verdict on each network, in the order of the rows.

    Args:
        kind: ``jpeg``, ``video``, ``variants`` or ``detection``.
        rows: Rows of that kind.
    """
    if kind == "detection":
        by_network: dict[str, list[Row]] = {}
        for row in rows:
            by_network.setdefault(row["network"], []).append(row)
        return [_of_network(name, own) for name, own in by_network.items() if name != CODED]
    if kind == "jpeg":
        named = [{**row, "clip": row["set"], "quantiser": row["quality"]} for row in rows]
        return [_of_gain(gain, "quality", "pictures", "qualities") for gain in gains(named)]
    word = QUANTISERS[rows[0]["codec"]]
    return [_of_gain(gain, word, "clips", "inputs") for gain in gains(rows)]


def headline(found: Sequence[Verdict], kind: str) -> str:
    """Answer in one sentence if cleaning pays, by the network with the highest mean gain."""
    measure = "detections" if kind == "detection" else "luma PSNR"
    if not found:
        return "Nothing was measured."
    best = max(found, key=lambda verdict: verdict.value)
    says = {
        "gains": f"In {measure}, cleaning pays here",
        "mixed": f"In {measure}, cleaning pays on some inputs and not on all",
        "shows nothing": f"In {measure}, nothing is shown",
        "loses": f"In {measure}, cleaning does not pay here",
    }
    return f"{says[best.outcome]}: the best is {best.network}."


def _of_gain(gain: Gain, quantiser: str, inputs: str, unit: str) -> Verdict:
    """Judge by the mean gain in PSNR and the number of inputs that lose."""
    clip, at = gain.lowest_at
    lost = f"none of {gain.inputs}" if not gain.losses else f"{gain.losses} of {gain.inputs}"
    outcome: Outcome
    if abs(gain.mean) < LEAST_DB:
        outcome = "shows nothing"
    elif gain.mean < 0:
        outcome = "loses"
    else:
        outcome = "mixed" if gain.losses else "gains"
    words = (
        f"{gain.network}: {gain.mean:+.2f} dB over the coded {inputs} on average, loses on {lost} "
        f"{unit}; the lowest is {gain.lowest:+.2f} dB ({clip}, {quantiser} {at})."
    )
    return Verdict(gain.network, outcome, gain.mean, words)


def _of_network(network: str, rows: Sequence[Row]) -> Verdict:
    """Judge by gains in mAP at IoU 0.50; an interval that contains 0 shows nothing."""
    better = sum(row["over_coded50_interval"][0] > 0 for row in rows)
    worse = sum(row["over_coded50_interval"][1] < 0 for row in rows)
    mean = PERCENT * fmean(row["over_coded50"] for row in rows)
    outcome: Outcome = "shows nothing"
    if better:
        outcome = "gains" if better == len(rows) else "mixed"
    elif worse:
        outcome = "loses"
    if len(rows) == 1:
        (row,) = rows
        shown = "shows nothing (the interval contains 0), " if outcome == "shows nothing" else ""
        words = f"{network}: {shown}{_points(row)} of mAP50 over the coded clip {_place(row)}."
        return Verdict(network, outcome, mean, words)
    counts = f"better on {better}, worse on {worse}, nothing on {len(rows) - better - worse}"
    low, high = min(rows, key=_over), max(rows, key=_over)
    words = (
        f"{network}: {mean:+.1f} points of mAP50 over the coded clip on average; of {len(rows)} "
        f"inputs it is shown {counts}; from {_points(low)} {_place(low)} to {_points(high)} "
        f"{_place(high)}."
    )
    return Verdict(network, outcome, mean, words)


def _over(row: Row) -> float:
    gain: float = row["over_coded50"]
    return gain


def _points(row: Row) -> str:
    return f"{PERCENT * row['over_coded50']:+.1f} points"


def _place(row: Row) -> str:
    low, high = (f"{PERCENT * end:+.1f}" for end in row["over_coded50_interval"])
    at = f"{row['clip']}, {QUANTISERS[row['codec']]} {row['quantiser']}"
    return f"({at}; 95 % interval {low} to {high})"
