"""Decoders of detector outputs: heads of YOLOX, YOLOv5, YOLOv8, FastestDet, and named outputs.

Layouts are those that the exporters of the families write: YOLOX (Ge et al., 2021), YOLOv5 and 7,
YOLOv8, 11 and 26 (Ultralytics), FastestDet (Ma, 2022), RT-DETR, D-FINE and DEIM, and torchvision.
"""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from edgecar.errors import EngineError
from edgecar.spec import Size

Floats = NDArray[np.float32]
Outputs = Mapping[str, NDArray[Any]]

STRIDES_PX = ((8, 16, 32), (8, 16, 32, 64))
"""Strides of a YOLO's grids; the second set belongs to the variants for large pictures."""
ANCHORS_V5 = 3  # boxes in a cell
NAMED = ("boxes", "labels", "scores")
NMS_IOU = 0.45  # as the demos of YOLOX and YOLOv5
MAP_AXES = 4  # batch, channels, rows, columns
FASTESTDET_BOX = 5  # channels before those of the classes: objectness, offsets, sides
FASTESTDET_POWERS = 0.6, 0.4  # of objectness and of the class
END_TO_END_VALUES = 6  # left, top, right, bottom, score, class


@dataclass(frozen=True)
class Detections:
    """Objects found in one frame, best first.

    Attributes:
        boxes: ``(N, 4)`` float32: left, top, right, bottom in pixels.
        scores: ``(N,)`` float32, 0 to 1.
        classes: ``(N,)`` int64, from 0.
    """

    boxes: Floats
    scores: Floats
    classes: NDArray[np.int64]

    def at_least(self, score: float) -> "Detections":
        """Keep detections with at least this score."""
        return self.taken(self.scores >= score)

    def of_classes(self, numbers: Collection[int]) -> "Detections":
        """Keep detections of these classes."""
        return self.taken(np.isin(self.classes, list(numbers)))

    def best(self, count: int) -> "Detections":
        """Keep the best by score; equal scores keep their order."""
        return self.taken(np.argsort(-self.scores, kind="stable")[:count])

    def scaled(self, factors: tuple[float, float], shift_px: tuple[float, float]) -> "Detections":
        """Move boxes by ``shift_px`` (x, y), then multiply them by ``factors`` (x, y)."""
        shift, factor = (np.array([*each, *each], np.float32) for each in (shift_px, factors))
        return Detections((self.boxes + shift) * factor, self.scores, self.classes)

    def clipped(self, size: Size) -> "Detections":
        """Clip boxes to a frame of ``(height, width)``, and drop those outside."""
        boxes = np.clip(self.boxes, 0, np.array([*size[::-1], *size[::-1]], np.float32))
        inside = np.flatnonzero((boxes[:, 2:] > boxes[:, :2]).all(axis=1))
        return Detections(boxes, self.scores, self.classes).taken(inside)

    @staticmethod
    def joined(frames: Sequence["Detections"]) -> "Detections":
        """Return the detections of all frames, in order."""
        parts = zip(*((each.boxes, each.scores, each.classes) for each in frames), strict=True)
        return Detections(*map(np.concatenate, parts))

    def taken(self, which: NDArray[Any]) -> "Detections":
        """Keep detections by their numbers, or where a mask is True."""
        return Detections(self.boxes[which], self.scores[which], self.classes[which])


@dataclass(frozen=True)
class Head:
    """Input format of a family of detectors, and the decoder of its outputs.

    Frames are scaled into the corner or the centre of the input, the rest grey, or each side by
    itself. The decoder takes outputs and ``(height, width)`` of the input, and gives boxes in its
    pixels.
    """

    name: str
    decode: Callable[[Outputs, Size], Detections]
    colours: Literal["bgr", "rgb"] = "rgb"
    full_scale: float = 1.0  # input value of code 255
    fit: Literal["corner", "centre", "stretch"] = "centre"
    classes: int | None = None  # None: the outputs do not tell
    overlaps: bool = True  # boxes of one object are left to suppress


def head_of(outputs: Outputs, size: Size) -> Head:
    """Recognise the head from its outputs for one picture of noise.

    YOLOX graphs whose boxes are yet to be decoded are told from others by the logarithms of sizes
    among them, some of which are below 0.
    """
    if {name.lower() for name in outputs} >= set(NAMED):
        return Head("boxes, labels, scores", _named, fit="stretch", overlaps=False)
    if len(outputs) == 1:
        (values,) = outputs.values()
        if values.ndim == MAP_AXES and values.shape[1] > FASTESTDET_BOX:
            classes = values.shape[1] - FASTESTDET_BOX
            return Head("FastestDet", _of_map, "bgr", fit="stretch", classes=classes)
    grids = [name for name, values in outputs.items() if values.ndim == 3 and len(values) == 1]
    head = _head_of_grid(outputs[grids[0]], grids[0], size) if len(grids) == 1 else None
    if head is not None:
        return head
    shapes = ", ".join(f"{name} {'x'.join(map(str, v.shape))}" for name, v in outputs.items())
    raise EngineError(
        f"the detector's head is not understood: at {size[1]}x{size[0]} it gives {shapes}; need "
        "outputs as YOLOX, YOLOv5, YOLOv8, YOLO11 or FastestDet export them, or outputs named "
        "boxes, labels, scores"
    )


def _head_of_grid(values: NDArray[Any], name: str, size: Size) -> Head | None:
    """Recognise a head with one output: a row a cell, or a column a cell."""
    _, rows, columns = values.shape

    def floats(outputs: Outputs) -> Floats:
        values: Floats = outputs[name][0].astype(np.float32)
        return values

    def plain(outputs: Outputs, _: Size) -> Detections:
        values = floats(outputs)
        return _best_class(values[:, :2], values[:, 2:4], values[:, 4:5] * values[:, 5:])

    def of_cells(outputs: Outputs, size: Size) -> Detections:
        """Centre and size (a logarithm) by the cells of the grids."""
        values = floats(outputs)
        places, steps = [], []
        for stride in strides:
            y, x = np.mgrid[: size[0] // stride, : size[1] // stride]
            places.append(np.stack([x.ravel(), y.ravel()], axis=1))
            steps.append(np.full((x.size, 1), stride))
        step = np.concatenate(steps).astype(np.float32)
        centres = (values[:, :2] + np.concatenate(places).astype(np.float32)) * step
        return _best_class(centres, np.exp(values[:, 2:4]) * step, values[:, 4:5] * values[:, 5:])

    def without_objectness(outputs: Outputs, _: Size) -> Detections:
        values = floats(outputs).T
        return _best_class(values[:, :2], values[:, 2:4], values[:, 4:])

    def end_to_end(outputs: Outputs, _: Size) -> Detections:
        values = floats(outputs)
        return Detections(values[:, :4], values[:, 4], values[:, 5].astype(np.int64))

    for strides in STRIDES_PX:
        cells = sum(math.prod(side // stride for side in size) for stride in strides)
        if rows == cells and columns > 5:
            raw = bool((values[0, :, 2:4] < 0).any())
            decode = of_cells if raw else plain
            return Head("YOLOX", decode, "bgr", 255.0, "corner", columns - 5)
        if rows == ANCHORS_V5 * cells and columns > 5:
            return Head("YOLOv5", plain, classes=columns - 5)
        if columns == cells and rows > 4:
            return Head("YOLOv8/11", without_objectness, classes=rows - 4)
    if columns == END_TO_END_VALUES:
        return Head("YOLO, end to end", end_to_end, overlaps=False)
    return None


def _of_map(outputs: Outputs, size: Size) -> Detections:
    """One map of FastestDet: a box a cell, whose centre may be in a cell beside it."""
    (values,) = (each[0].astype(np.float32) for each in outputs.values())
    rows, columns = values.shape[1:]
    cells = np.mgrid[:rows, :columns][::-1].reshape(2, -1).astype(np.float32)
    flat = values.reshape(len(values), -1)
    input_px = np.array(size[::-1], np.float32)
    centres = (cells + np.tanh(flat[1:3])).T / np.array([columns, rows], np.float32) * input_px
    sides = (1 / (1 + np.exp(-flat[3:FASTESTDET_BOX]))).T * input_px
    objectness, shares = FASTESTDET_POWERS
    scores = flat[:1] ** objectness * flat[FASTESTDET_BOX:] ** shares
    return _best_class(centres, sides, scores.T)


def _best_class(centres: Floats, sides: Floats, scores: Floats) -> Detections:
    classes = scores.argmax(axis=1)
    boxes = np.concatenate([centres - sides / 2, centres + sides / 2], axis=1)
    return Detections(boxes, scores[np.arange(len(scores)), classes], classes.astype(np.int64))


def _named(outputs: Outputs, _: Size) -> Detections:
    """Boxes in pixels of the input, with or without an axis for the batch."""
    by_name = {name.lower(): values for name, values in outputs.items()}
    boxes, labels, scores = (by_name[name] for name in NAMED)
    return Detections(
        boxes.reshape(-1, 4).astype(np.float32),
        scores.reshape(-1).astype(np.float32),
        labels.reshape(-1).astype(np.int64),
    )


def without_overlaps(found: Detections) -> Detections:
    """Suppress overlaps within each class (IoU above 0.45), best first."""
    if not len(found.scores):
        return found
    rectangles = found.boxes.astype(np.float64)
    rectangles[:, 2:] = found.boxes[:, 2:] - found.boxes[:, :2]
    kept = cv2.dnn.NMSBoxesBatched(
        rectangles.tolist(), found.scores.tolist(), found.classes.tolist(), 0.0, NMS_IOU
    )
    return found.taken(np.asarray(kept, np.int64).reshape(-1))
