"""Agreement of predicted scores with true ones: SRCC, and PLCC after a logistic."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats
from scipy.special import expit

from edgecar.errors import DataError

Scores = NDArray[np.float64]

PARAMETERS = 4
MOST_STEPS = 2_000


@dataclass(frozen=True)
class Agreement:
    """Agreement of predictions with scores.

    Attributes:
        pictures: Number of predicted pictures.
        references: Number of sources they were made of.
        srcc: Spearman's rank correlation.
        plcc: Pearson's correlation after the four-parameter logistic.
        pairs: Number of restored pictures whose coded picture is there as well.
        same_verdict: Share of the pairs where prediction and score agree whether restoring made
            the picture better or worse; None where there is no pair.
    """

    pictures: int
    references: int
    srcc: float
    plcc: float
    pairs: int
    same_verdict: float | None


def agreement(
    predicted: Scores, truth: Scores, references: int, pairs: Sequence[tuple[int, int]]
) -> Agreement:
    """Compare predictions ``(N,)`` with true scores ``(N,)``, whatever their units.

    Args:
        predicted: Predicted scores.
        truth: True scores.
        references: Number of sources.
        pairs: Numbers of a coded picture and of the one restored from it.

    Raises:
        DataError: There are fewer than 5 scores, one is not finite, or all are the same.
    """
    alike = [
        (predicted[after] > predicted[before]) == (truth[after] > truth[before])
        for before, after in pairs
    ]
    return Agreement(
        pictures=len(truth),
        references=references,
        srcc=srcc(predicted, truth),
        plcc=plcc(predicted, truth),
        pairs=len(pairs),
        same_verdict=float(np.mean(alike)) if alike else None,
    )


def srcc(predicted: Scores, truth: Scores) -> float:
    """Return Spearman's rank correlation, -1 to 1; ties get their mean rank.

    Example:
        >>> srcc(np.array([1.0, 2, 3, 4, 9]), np.array([0.1, 0.2, 0.3, 0.5, 0.4])) < 1
        True
    """
    _check(predicted, truth)
    return float(stats.spearmanr(predicted, truth).statistic)


def plcc(predicted: Scores, truth: Scores) -> float:
    """Return Pearson's linear correlation after `logistic_fitted`."""
    return float(stats.pearsonr(logistic_fitted(predicted, truth), truth).statistic)


def logistic_fitted(predicted: Scores, truth: Scores) -> Scores:
    """Map predictions to the scale of the truth by the logistic of VQEG that fits best.

    ``(b1 - b2) / (1 + exp(-(x - b3) / |b4|)) + b2``, least squares. Video Quality Experts Group,
    "Final report … phase II", 2003, which the IQA papers cite.
    """
    _check(predicted, truth)

    def logistic(parameters: Scores) -> Scores:
        b1, b2, b3, b4 = parameters
        width = max(abs(b4), np.finfo(np.float64).tiny)
        return np.asarray((b1 - b2) * expit((predicted - b3) / width) + b2, dtype=np.float64)

    ends = (truth.max(), truth.min())
    top, bottom = ends if stats.pearsonr(predicted, truth).statistic >= 0 else ends[::-1]
    start = (top, bottom, float(np.median(predicted)), float(predicted.std()))
    # Where another curve fits better, the parameters run away while the error hardly falls; those
    # found when the steps end are as good.
    found = optimize.least_squares(
        lambda parameters: logistic(parameters) - truth, start, x_scale="jac", max_nfev=MOST_STEPS
    )
    return logistic(found.x)


def _check(predicted: Scores, truth: Scores) -> None:
    if predicted.shape != truth.shape or predicted.ndim != 1 or len(truth) <= PARAMETERS:
        raise DataError(
            f"got scores {predicted.shape} for {truth.shape}; need at least {PARAMETERS + 1} pairs"
        )
    if not (np.isfinite(predicted).all() and np.isfinite(truth).all()):
        raise DataError("a score is not finite; leave equal pictures out where they have none")
    if np.ptp(predicted) == 0 or np.ptp(truth) == 0:
        raise DataError("all scores are the same; correlation needs pictures of several qualities")
