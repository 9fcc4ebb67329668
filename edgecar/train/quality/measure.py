"""How well a network, PSNR and SSIM predict the scores of pictures."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from edgecar.evaluate.agreement import plcc, srcc
from edgecar.evaluate.metrics import PSNR_CAP_DB, psnr, ssim
from edgecar.evaluate.patches import Patches, picture_score
from edgecar.train.quality.rated import NONE, RatedSet
from edgecar.zoo.multiscale_iqa import MultiscaleIqa


def predictions(network: MultiscaleIqa, rated: RatedSet) -> NDArray[np.float64]:
    """What the network says of every picture, 0 to 1; it is left in evaluation mode."""
    network.eval()

    def scores_of(patches: Patches) -> NDArray[np.float32]:
        with torch.inference_mode():
            given = torch.from_numpy(patches).contiguous(memory_format=torch.channels_last)
            found: NDArray[np.float32] = network(given).numpy()
        return found

    return np.array(
        [picture_score(rated.references[p.reference], p.picture, scores_of) for p in rated.pictures]
    )


@dataclass(frozen=True)
class Agreement:
    """How well predictions follow scores.

    Attributes:
        pictures: How many were predicted.
        references: How many sources they were made of.
        srcc: Spearman's rank correlation.
        plcc: Pearson's correlation after the four-parameter logistic.
        pairs: Restored pictures whose coded picture is there as well.
        same_verdict: Share of the pairs of which prediction and score say alike whether restoring
            made them better or worse; None where there is no pair.
    """

    pictures: int
    references: int
    srcc: float
    plcc: float
    pairs: int
    same_verdict: float | None


def agreement(predicted: NDArray[np.float64], rated: RatedSet) -> Agreement:
    """Compare predictions with the scores of a set, whatever their unit.

    Raises:
        DataError: There are too few, or all are the same.
    """
    truth = np.array([picture.score for picture in rated.pictures])
    pairs = [(n, r.before) for n, r in enumerate(rated.pictures) if r.before != NONE]
    alike = [
        (predicted[after] > predicted[before]) == (truth[after] > truth[before])
        for after, before in pairs
    ]
    return Agreement(
        pictures=len(truth),
        references=len({picture.reference for picture in rated.pictures}),
        srcc=srcc(predicted, truth),
        plcc=plcc(predicted, truth),
        pairs=len(pairs),
        same_verdict=float(np.mean(alike)) if alike else None,
    )


def simple_measures(rated: RatedSet) -> dict[str, NDArray[np.float64]]:
    """PSNR (100 dB for equal pictures) and SSIM (Gaussian window) of every picture, by name."""
    pairs = [(rated.references[p.reference], p.picture) for p in rated.pictures]
    return {
        "psnr": np.array([min(PSNR_CAP_DB, psnr(*pair)) for pair in pairs]),
        "ssim": np.array([ssim(*pair) for pair in pairs]),
    }
