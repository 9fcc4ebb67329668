"""Boxes that people marked: YOLO labels of pictures, and MOT ground truth of clips."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgecar.errors import DataError
from edgecar.evaluate.detector_decoders import Detections
from edgecar.spec import Size

MOT_COLUMNS = 9  # frame, identity, left, top, width, height, confidence, class, visibility
MOT_PEDESTRIAN = 1
LEAST_VISIBLE = 0.25
"""Pedestrians of whom less is seen are ignored: neither finding nor missing them counts."""


def labels_of(pictures: Path) -> Path | None:
    """Return the folder with the YOLO labels of a folder of pictures, or None.

    It is the folder itself, or ``labels`` where pictures lie in ``images`` or ``images/NAME``.
    """
    places = pictures.parent / "labels", pictures.parents[1] / "labels" / pictures.name, pictures
    return next((place for place in places if any(place.glob("*.txt"))), None)


def ground_truth_of(clip: Path) -> Path | None:
    """Return the MOT ground truth of a clip or of a folder of its frames, or None.

    It is ``CLIP.gt.txt`` beside ``CLIP.mp4``, or ``gt.txt`` or ``gt/gt.txt`` in the folder of
    frames or beside it, as MOTChallenge has it.
    """
    places = [clip.with_suffix(".gt.txt")]
    if clip.is_dir():
        places += [each / "gt.txt" for each in (clip, clip / "gt", clip.parent / "gt")]
    return next((place for place in places if place.is_file()), None)


def yolo_boxes(path: Path, size: Size) -> Detections:
    """Read the label file of a picture of ``(height, width)``: class, centre and size in shares.

    Without a file the picture has no object. Class numbers are those of the detector.

    Raises:
        DataError: The file is no table of five columns.
    """
    table = _table(path, 5, " ") if path.exists() else np.empty((0, 5))
    centres, sides = table[:, 1:3], table[:, 3:5]
    shares = np.concatenate([centres - sides / 2, centres + sides / 2], axis=1)
    boxes = (shares * [*size[::-1], *size[::-1]]).astype(np.float32)
    return Detections(boxes, np.ones(len(boxes), np.float32), table[:, 0].astype(np.int64))


def mot_boxes(
    path: Path, numbers: Sequence[int], person: int, scale: float = 1
) -> list[Detections]:
    """Read pedestrians from a ground-truth file of MOTChallenge.

    Rows that the file marks as not to be considered (confidence 0), other classes and hardly
    visible pedestrians are ignored objects, with a score of 0.

    Args:
        path: File with columns frame (from 1), identity, left, top, width, height, confidence,
            class and visibility.
        numbers: Frames to read, from 0.
        person: Class number to give to pedestrians.
        scale: Factor from pixels of the file to pixels of the frames.

    Raises:
        DataError: The file is no such table.
    """
    table = _table(path, MOT_COLUMNS, ",")
    boxes = table[:, 2:6].copy()
    boxes[:, 2:] += boxes[:, :2]
    boxes -= 1  # the first pixel has number 1
    counts = (table[:, 6] > 0) & (table[:, 7] == MOT_PEDESTRIAN) & (table[:, 8] >= LEAST_VISIBLE)
    classes = np.full(len(table), person)
    every = Detections((boxes * scale).astype(np.float32), counts.astype(np.float32), classes)
    return [every.taken(table[:, 0] == number + 1) for number in numbers]


def _table(path: Path, columns: int, separator: str) -> NDArray[np.float64]:
    try:
        lines = [line for line in path.read_text("utf-8").splitlines() if line.strip()]
        rows = [line.split(None if separator == " " else separator)[:columns] for line in lines]
        table = np.array(rows, np.float64).reshape(-1, columns)
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path} is no table of {columns} numbers a line; mark the frames again or move it away"
        ) from error
    return table
