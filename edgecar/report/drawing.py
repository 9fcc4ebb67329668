"""Detections drawn on a frame: found, missed and false, in words as well as in colours."""

from collections.abc import Iterator, Sequence

import cv2

from edgecar.evaluate.detector_decoders import Detections
from edgecar.evaluate.sample_frames import Boxes, Marks, SampleFrame
from edgecar.media.color import Bgr, bgr_from_frame
from edgecar.report.pictures import scaled

Box = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels."""

OBJECT, FOUND, MISSED, FALSE = "object", "found", "missed", "false"
# Okabe and Ito, blue first: told apart with any colour vision.
COLOURS = {
    OBJECT: (255, 255, 255),
    FOUND: (115, 158, 0),
    MISSED: (0, 159, 230),
    FALSE: (167, 121, 204),
}
FONT, LETTERS, LINE_PX = cv2.FONT_HERSHEY_SIMPLEX, 0.42, 2
DASH_PX = 6
PAD_PX = 2
DARK = (0, 0, 0)


def drawn(exhibit: SampleFrame, boxes: Boxes, width_px: int) -> tuple[Bgr, Bgr, Bgr]:
    """Source, coded and restored frame with what is detected on each.

    Args:
        exhibit: Gives the frames.
        boxes: What to draw.
        width_px: Frames are scaled to this width first, if they are wider, so that lines and
            letters stay sharp.
    """
    source, coded, restored = (
        scaled(bgr_from_frame(frame), width_px).copy()
        for frame in (exhibit.source, exhibit.coded, exhibit.restored)
    )
    factor = source.shape[1] / exhibit.source.size[1]
    _draw(source, [(OBJECT, boxes.source)], boxes.names, factor)
    for picture, marks in ((coded, boxes.coded), (restored, boxes.restored)):
        _draw(picture, list(_marked(marks)), boxes.names, factor)
    return source, coded, restored


def in_words(marks: Marks) -> str:
    """How many there are of each.

    Example:
        >>> import numpy as np
        >>> none = Detections(np.empty((0, 4), np.float32), np.empty(0), np.empty(0, np.int64))
        >>> in_words(Marks(none, none, none))
        '0 found, 0 missed, 0 false'
    """
    return ", ".join(f"{len(each.scores)} {word}" for word, each in _marked(marks))


def _marked(marks: Marks) -> Iterator[tuple[str, Detections]]:
    yield FOUND, marks.found
    yield MISSED, marks.missed
    yield FALSE, marks.false


def _draw(
    picture: Bgr, marked: Sequence[tuple[str, Detections]], names: dict[int, str], factor: float
) -> None:
    """Boxes, and then words beside them; missed ones, which nobody saw, have dashed lines."""
    labels: list[tuple[str, Box, str]] = []
    for word, detections in marked:
        scaled_boxes = detections.boxes * factor
        for edges, score, number in zip(
            scaled_boxes, detections.scores, detections.classes, strict=True
        ):
            left, top, right, bottom = (round(float(edge)) for edge in edges)
            box = left, top, right, bottom
            if word == MISSED:
                _dashed(picture, box)
            else:
                cv2.rectangle(picture, box[:2], box[2:], COLOURS[word], LINE_PX)
            name = names.get(int(number), f"class {number}")
            sure = "" if word in (MISSED, OBJECT) else f" {score:.2f}"
            labels.append((f"{word} {name}{sure}", box, word))
    placed: list[Box] = []
    for text, box, word in labels:
        placed.append(_label(picture, text, box, COLOURS[word], placed))


def _dashed(picture: Bgr, box: Box) -> None:
    left, top, right, bottom = box
    for start in range(left, right, 2 * DASH_PX):
        for y in (top, bottom):
            end = min(start + DASH_PX, right)
            cv2.line(picture, (start, y), (end, y), COLOURS[MISSED], LINE_PX)
    for start in range(top, bottom, 2 * DASH_PX):
        for x in (left, right):
            end = min(start + DASH_PX, bottom)
            cv2.line(picture, (x, start), (x, end), COLOURS[MISSED], LINE_PX)


def _label(
    picture: Bgr, text: str, box: Box, colour: tuple[int, int, int], placed: Sequence[Box]
) -> Box:
    """Dark letters on the colour: above the box or, if that place is taken or outside, below it.

    Returns:
        Where it is.
    """
    letters = text.encode("ascii", "replace").decode()  # its font has no others
    (width, letters_height), base = cv2.getTextSize(letters, FONT, LETTERS, 1)
    width, height = width + 2 * PAD_PX, letters_height + base + 2 * PAD_PX
    left = max(0, min(box[0], picture.shape[1] - width))
    tops = (box[1] - height, box[3], box[1])
    places = [(left, top, left + width, top + height) for top in tops]
    inside = [p for p in places if p[1] >= 0 and p[3] <= picture.shape[0]] or places[-1:]
    free = [p for p in inside if not any(_overlap(p, other) for other in placed)]
    place = (free or inside)[0]
    cv2.rectangle(picture, place[:2], place[2:], colour, cv2.FILLED)
    foot = place[0] + PAD_PX, place[1] + letters_height + PAD_PX
    cv2.putText(picture, letters, foot, FONT, LETTERS, DARK, 1, cv2.LINE_AA)
    return place


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
