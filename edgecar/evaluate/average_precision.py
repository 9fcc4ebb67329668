"""Mean average precision of detections, with confidence intervals from resampled frames."""

import io
import math
from collections.abc import Sequence
from contextlib import redirect_stdout
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgecar.errors import DataError
from edgecar.evaluate.detector import MOST_OBJECTS
from edgecar.evaluate.detector_decoders import Detections
from edgecar.evaluate.sample_frames import Marks

Frames = NDArray[np.int64]
"""Indices of frames; one may come more than once."""
Pair = NDArray[np.float64]
"""mAP at IoU 0.50, and mean over IoU 0.50, 0.55 … 0.95; NaN where there is nothing to find."""

ANY_AREA = [0, 1e10]  # px²; COCO's "all"
RESAMPLES = 1000
COVERAGE = 0.95
BLOCK_FRAMES = 10
"""Neighbouring frames show the same objects: they are drawn together, or intervals come out too
narrow (Künsch, "The Jackknife and the Bootstrap for General Stationary Observations", 1989)."""
FEWEST_BLOCKS = 5
FIRST_ID = 1  # 0 means: matched to nothing


class ClassPrecision(NamedTuple):
    """A class: its number, boxes of it in the truth, AP at IoU 0.50 and over 0.50 to 0.95."""

    number: int
    boxes: int
    ap50: float
    ap: float


class Matches:
    """Detections of a clip matched to the truth, frame by frame, by pycocotools.

    Precision follows the COCO protocol: 101 points of recall, at most 100 objects in a frame, the
    mean over the classes that are in the truth. Those with fewer than ``least_boxes`` are left out:
    a detector's slip on one frame would weigh as much as a class that is on all of them.

    Raises:
        DataError: Numbers of frames differ, no class is in the truth often enough, or pycocotools
            is not installed.
    """

    def __init__(
        self, truth: Sequence[Detections], found: Sequence[Detections], least_boxes: int = 1
    ) -> None:
        if len(truth) != len(found):
            raise DataError(
                f"got detections of {len(found)} frames for {len(truth)}; give as many of both"
            )
        self.frames = len(truth)
        self._truth, self._found = Detections.joined(truth), Detections.joined(found)
        numbers, counts = np.unique(self._truth.classes, return_counts=True)
        common = counts >= least_boxes
        if not common.any():
            raise DataError(
                f"got {counts.sum()} objects in {len(truth)} source frames and no class with "
                f"{least_boxes} of them; lower --confidence or --least-boxes, or take another clip"
            )
        self.rare_boxes = int(counts[~common].sum())
        self._boxes = dict(zip(numbers[common].tolist(), counts[common].tolist(), strict=True))
        try:
            from pycocotools.cocoeval import COCOeval
        except ImportError as error:
            raise DataError(
                "mAP needs pycocotools, which is not installed; pip install 'edgecar[eval]'"
            ) from error
        with redirect_stdout(io.StringIO()):  # it prints what it does
            boxes = (_coco(each, list(self._boxes)) for each in (truth, found))
            self._evaluation = COCOeval(*boxes, "bbox")
            settings = self._evaluation.params
            settings.areaRng, settings.areaRngLbl = [ANY_AREA], ["all"]
            settings.maxDets = [MOST_OBJECTS]
            self._evaluation.evaluate()
        self._by_frame = np.empty((len(self._boxes), self.frames), object)
        self._by_frame.ravel()[:] = self._evaluation.evalImgs

    def precision(self, frames: Frames | None = None) -> Pair:
        """Return the precision over all frames, or over a resample of them."""
        averages = self._averages(frames)
        there = averages[averages[:, 0] >= 0]  # -1: the class is in none of the frames
        return there.mean(axis=0) if len(there) else np.full(2, np.nan)

    def by_class(self) -> list[ClassPrecision]:
        """Return the precision of every counted class, the one with most boxes first."""
        averages = self._averages(None).tolist()
        listed = [
            ClassPrecision(number, boxes, *pair)
            for (number, boxes), pair in zip(self._boxes.items(), averages, strict=True)
        ]
        return sorted(listed, key=lambda entry: -entry.boxes)

    def marks(self, frame: int, confidence: float) -> Marks:
        """Return objects found and missed, and false detections, in one frame at IoU 0.50.

        Detections below the confidence do not count. Matching takes higher scores first, so that
        the others are matched as they would be without them.
        """
        found: list[int] = []
        missed: list[int] = []
        false: list[int] = []
        for entry in self._by_frame[:, frame]:
            if entry is None:  # nothing of this class in the truth, and nothing detected
                continue
            matches = zip(entry["dtIds"], entry["dtMatches"][0], entry["dtScores"], strict=True)
            sure = {number: match for number, match, score in matches if score >= confidence}
            for number, match in sure.items():
                (found if match > 0 else false).append(number)
            for number, match in zip(entry["gtIds"], entry["gtMatches"][0], strict=True):
                if int(match) not in sure:
                    missed.append(number)
        taken = (found, self._found), (missed, self._truth), (false, self._found)
        return Marks(*(all_.taken(np.array(ids, np.int64) - FIRST_ID) for ids, all_ in taken))

    def _averages(self, frames: Frames | None) -> NDArray[np.float64]:
        """Return AP at 0.50 and its mean over IoUs, ``(classes, 2)``; -1 if a class is absent."""
        drawn = self._by_frame if frames is None else self._by_frame[:, frames]
        self._evaluation.evalImgs = list(drawn.ravel())
        with redirect_stdout(io.StringIO()):
            self._evaluation.accumulate()
        # (IoUs, points of recall, classes, areas, most objects)
        precision = self._evaluation.eval["precision"][:, :, :, 0, 0].mean(axis=1)
        return np.stack([precision[0], precision.mean(axis=0)], axis=1)


def _coco(frames: Sequence[Detections], classes: list[int]) -> Any:
    """Return boxes as pycocotools takes them, numbered through all frames."""
    from pycocotools.coco import COCO

    annotations = [
        {
            "image_id": index,
            "category_id": number,
            "bbox": [left, top, right - left, bottom - top],
            "area": (right - left) * (bottom - top),
            "iscrowd": 0,
            "score": score,
        }
        for index, frame in enumerate(frames)
        for (left, top, right, bottom), score, number in zip(
            frame.boxes.tolist(), frame.scores.tolist(), frame.classes.tolist(), strict=True
        )
    ]
    boxes = COCO()
    boxes.dataset = {
        "images": [{"id": index} for index in range(len(frames))],
        "categories": [{"id": number} for number in classes],
        "annotations": [{"id": i, **entry} for i, entry in enumerate(annotations, FIRST_ID)],
    }
    boxes.createIndex()
    return boxes


def drawn_frames(count: int, resamples: int = RESAMPLES, seed: int = 0) -> list[Frames]:
    """Resample ``count`` frames in order of time, in runs of neighbours from random places.

    Runs are 10 frames long, or as long as five of them fit in; the last frame's neighbour is the
    first. Every resample has ``count`` frames.
    """
    length = max(1, min(BLOCK_FRAMES, count // FEWEST_BLOCKS))
    random = np.random.default_rng(seed)
    starts = random.integers(0, count, (resamples, math.ceil(count / length), 1))
    runs = (starts + np.arange(length)) % count
    return list(runs.reshape(resamples, -1)[:, :count])


def resampled(matches: Matches, draws: Sequence[Frames]) -> NDArray[np.float64]:
    """Return the precision of every resample, ``(resamples, 2)``."""
    return np.array([matches.precision(frames) for frames in draws])


def interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """Return the ends of the middle 95 % of the values, ignoring NaN.

    Example:
        >>> [round(end) for end in interval(np.arange(1001.0))]
        [25, 975]
    """
    outside = 50 * (1 - COVERAGE)
    low, high = np.nanpercentile(values, [outside, 100 - outside])
    return float(low), float(high)
