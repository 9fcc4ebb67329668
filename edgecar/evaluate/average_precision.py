"""Average precision of detections, pooled over the frames of a study, with intervals.

The protocol is COCO's: best detections first, each object is matched once, 101 points of recall. It
is computed here because pycocotools needs milliseconds for each of a thousand resamples; a test
compares the two.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgecar.errors import DataError
from edgecar.evaluate.detector import MOST_OBJECTS
from edgecar.evaluate.detector_decoders import Detections
from edgecar.evaluate.sample_frames import Marks

Counts = NDArray[np.int64]
"""How often each frame is in a resample, ``(frames,)``."""

IOUS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)
RESAMPLES = 1000
COVERAGE = 0.95
BLOCK_FRAMES = 10
"""Neighbouring frames show the same objects: they are drawn together, or intervals come out too
narrow (Künsch, "The Jackknife and the Bootstrap for General Stationary Observations", 1989)."""
FEWEST_BLOCKS = 5
NOTHING = -1


class Ranking:
    """Detections of all frames in one ranking, matched to the truth.

    Classes are not compared: give objects and detections of those classes that count as one. At
    most 100 detections of a frame are taken. Objects with a score of 0 are ignored: a detection
    that lies on one counts neither as right nor as wrong.

    Raises:
        DataError: Numbers of frames differ, or there is no object.
    """

    def __init__(self, truth: Sequence[Detections], found: Sequence[Detections]) -> None:
        if len(truth) != len(found):
            raise DataError(
                f"got detections of {len(found)} frames for {len(truth)}; give as many of both"
            )
        self._objects = np.array([int((each.scores > 0).sum()) for each in truth])
        if not self._objects.any():
            raise DataError(f"got no object in {len(truth)} frames; take frames that show some")
        kept = [each.best(MOST_OBJECTS) for each in found]
        judged = [matched(objects, best) for objects, best in zip(truth, kept, strict=True)]
        counted = np.concatenate([counts for _, counts in judged])
        scores = np.concatenate([best.scores for best in kept])[counted]
        frames = np.repeat(np.arange(len(kept)), [len(best.scores) for best in kept])[counted]
        right = np.concatenate([matches for matches, _ in judged])[counted] != NOTHING
        order = np.argsort(-scores, kind="stable")
        self._frames, self._right = frames[order], right[order]  # right: (detections, IoUs)

    @property
    def boxes(self) -> int:
        """Number of objects."""
        return int(self._objects.sum())

    def precision(self) -> NDArray[np.float64]:
        """Return the average precision at each IoU of 0.50, 0.55 … 0.95."""
        once = np.ones(len(self._objects), np.int64)
        return np.array([self._average(place, once) for place in range(len(IOUS))])

    def resampled(self, draws: Sequence[Counts]) -> NDArray[np.float64]:
        """Return the average precision at IoU 0.50 of every resample; NaN without an object."""
        return np.array([self._average(0, counts) for counts in draws])

    def _average(self, iou: int, counts: Counts) -> float:
        objects = int(counts @ self._objects)
        if not objects:
            return math.nan
        weights = counts[self._frames]
        hits = np.flatnonzero(self._right[:, iou])
        right, shown = np.cumsum(weights[hits]), np.cumsum(weights)[hits]
        precision = right / np.maximum(shown, 1)
        highest = np.maximum.accumulate(precision[::-1])[::-1]  # at this recall or a higher one
        places = np.searchsorted(right / objects, RECALLS)
        return float(np.append(highest, 0.0)[places].mean())


def matched(truth: Detections, found: Detections) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Match the detections of one frame, best first, each to the free object that it fits best.

    Returns:
        The number of the object at each IoU of `IOUS`, ``(detections, 10)``, or -1; and ``False``
        for detections that match nothing and lie on an ignored object, ``(detections,)``.
    """
    overlaps = _overlaps(found.boxes, truth.boxes)
    ignored = truth.scores <= 0
    matches = np.full((len(found.scores), len(IOUS)), NOTHING)
    free = np.repeat(~ignored[None], len(IOUS), axis=0)
    for number in np.flatnonzero((overlaps[:, ~ignored] >= IOUS[0]).any(axis=1)):
        fits = np.where(free & (overlaps[number] >= IOUS[:, None]), overlaps[number], 0.0)
        best, fitting = fits.argmax(axis=1), np.flatnonzero(fits.max(axis=1))
        matches[number, fitting] = best[fitting]
        free[fitting, best[fitting]] = False
    on_ignored = (overlaps[:, ignored] >= IOUS[0]).any(axis=1)
    return matches, (matches[:, 0] != NOTHING) | ~on_ignored


def _overlaps(found: NDArray[np.float32], truth: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the IoU of every pair, ``(found, truth)``."""
    one, other = found[:, None].astype(np.float64), truth[None].astype(np.float64)
    corners = np.minimum(one[..., 2:], other[..., 2:]) - np.maximum(one[..., :2], other[..., :2])
    common = corners.clip(0).prod(axis=-1)
    areas = [(boxes[..., 2:] - boxes[..., :2]).prod(axis=-1) for boxes in (one, other)]
    shares: NDArray[np.float64] = common / (areas[0] + areas[1] - common)
    return shares


def marks(truth: Detections, found: Detections, confidence: float) -> Marks:
    """Return objects found and missed, and false detections, in one frame at IoU 0.50.

    Detections below the confidence do not count. Classes are not compared.
    """
    sure = found.at_least(confidence)
    matches, counted = matched(truth, sure)
    hits = matches[:, 0]
    missed = np.setdiff1d(np.flatnonzero(truth.scores > 0), hits)
    return Marks(
        sure.taken(hits != NOTHING), truth.taken(missed), sure.taken((hits == NOTHING) & counted)
    )


def drawn(lengths: Sequence[int], resamples: int = RESAMPLES, seed: int = 0) -> list[Counts]:
    """Resample clips, and in each its frames in runs of neighbours from random places.

    Runs are 10 frames long, or as long as five of them fit into the clip; the last frame's
    neighbour is the first. A picture is a clip of one frame.

    Args:
        lengths: Number of frames of each clip.
        resamples: Number of resamples.
        seed: Seed of the random numbers.

    Returns:
        How often each frame of all clips, in order, is in each resample.
    """
    random = np.random.default_rng(seed)
    times = random.multinomial(len(lengths), [1 / len(lengths)] * len(lengths), resamples)
    counts = np.zeros((resamples, sum(lengths)), np.int64)
    first = 0
    for clip, length in enumerate(lengths):
        which = np.repeat(np.arange(resamples), times[:, clip])
        run = max(1, min(BLOCK_FRAMES, length // FEWEST_BLOCKS))
        starts = random.integers(0, length, (len(which), math.ceil(length / run), 1))
        frames = ((starts + np.arange(run)) % length).reshape(len(which), -1)[:, :length]
        np.add.at(counts, (which[:, None], first + frames), 1)
        first += length
    return list(counts)


def interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """Return the ends of the middle 95 % of the values, ignoring NaN.

    Example:
        >>> [round(end) for end in interval(np.arange(1001.0))]
        [25, 975]
    """
    outside = 50 * (1 - COVERAGE)
    low, high = np.nanpercentile(values, [outside, 100 - outside])
    return float(low), float(high)
