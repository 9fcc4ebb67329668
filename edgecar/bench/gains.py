"""What a video study says: gains by network and quantiser, and the input that fares worst."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

from edgecar.bench.results import Row

QUANTISERS = {"h264": "CRF", "hevc": "QP"}
"""What the quantiser of a codec is called."""


@dataclass(frozen=True)
class Gain:
    """What one network gains on coded clips, in dB of luma PSNR.

    Attributes:
        network: Or post-filter.
        by_quantiser: Mean over the clips, for each quantiser in rising order.
        mean: Over all inputs. An input is a clip at a quantiser.
        ssim: Mean gain in SSIM over all inputs.
        lowest: Of all inputs.
        lowest_at: Clip and quantiser of the lowest.
        losses: Inputs that came out worse than they went in.
        inputs: How many there are.
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


def video_cells(rows: Sequence[Row], codec: str) -> tuple[tuple[str, ...], list[list[str]]]:
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
