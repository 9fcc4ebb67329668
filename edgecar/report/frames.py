"""Sample frames for a report: words for each, and the data that the page's template shows."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from edgecar.evaluate.detector_decoders import Detections
from edgecar.evaluate.metrics import PSNR_CAP_DB, psnr
from edgecar.evaluate.sample_frames import Boxes, Kind, Marks, SampleFrame
from edgecar.evaluate.tables import QUANTISERS
from edgecar.media.color import bgr_from_frame
from edgecar.report.pictures import Spot, error_maps, fitting, most_changed, png, webp

MOST_SHOWN = 12
BUDGET_LETTERS = 7_000_000
"""Length of all data URIs together, for a page of less than 8 MB."""
NARROW_PX, WIDE_PX = 480, 960
"""Widths of a frame on the page; those up to 360 px are shown narrow."""
LABEL_PX = 12  # height of letters beside boxes, as shown


class Words(NamedTuple):
    """A frame in words.

    Attributes:
        title: The network and its effect on the frame.
        place: Clip, quantiser and number of the frame.
        figures: Measurements of the frame.
    """

    title: str
    place: str
    figures: str


def described(sample: SampleFrame, kind: Kind, study: str) -> Words:
    """Describe a frame.

    Args:
        sample: The frame.
        kind: Its list, the best or the worst.
        study: Codec or ``jpeg``.
    """
    subject, gain = sample.subject, sample.gain
    variant = f", {subject.variant}" if subject.variant else ""
    number = "" if study == "jpeg" else f", frame {sample.index}"
    quantiser = f"{QUANTISERS.get(study, 'quality')} {subject.quantiser}"
    place = f"{subject.clip}, {quantiser}{variant}{number}"
    if sample.boxes:
        count, changed = abs(round(gain)), "fewer" if gain > 0 else "more"
        title = f"{subject.network}: {count} mistake{'s' * (count != 1)} {changed}"
        coded, restored = map(in_words, (sample.boxes.coded, sample.boxes.restored))
        objects = len(sample.boxes.source.scores)
        return Words(title, place, f"{objects} objects; coded: {coded}; restored: {restored}")
    verb = "gains" if gain >= 0 else "loses"
    extent = "most" if (kind == "best") == (gain >= 0) else "least"
    before, after = (
        min(PSNR_CAP_DB, psnr(sample.source.y, frame.y))
        for frame in (sample.coded, sample.restored)
    )
    figures = f"{gain:+.2f} dB of luma PSNR, {before:.2f} to {after:.2f} dB"
    return Words(f"{subject.network} {verb} {extent}", place, figures)


def in_words(marks: Marks) -> str:
    """Count the detections of each kind."""
    return ", ".join(f"{len(found.scores)} {word}" for word, found in _kinds(marks))


def _kinds(marks: Marks) -> list[tuple[str, Detections]]:
    return [("found", marks.found), ("missed", marks.missed), ("false", marks.false)]


def chosen(
    best: Sequence[SampleFrame], worst: Sequence[SampleFrame]
) -> list[tuple[SampleFrame, Kind]]:
    """Return the frames that a page has room for, those with most gain first."""
    half = MOST_SHOWN // 2 if len(best) + len(worst) > MOST_SHOWN else None
    shown: list[tuple[SampleFrame, Kind]] = [(sample, "best") for sample in best[:half]]
    return [*shown, *((sample, "worst") for sample in worst[:half])]


def articles(
    shown: Iterable[tuple[SampleFrame, Kind]], study: str, letters: int
) -> Iterator[dict[str, Any]]:
    """Yield what the template shows of each frame.

    Args:
        shown: Frames in order.
        study: Codec or ``jpeg``.
        letters: Budget for the data URIs of one frame.
    """
    for sample, kind in shown:
        words = described(sample, kind, study)
        near = None if sample.boxes else _enlarged(sample)
        spent = 0 if near is None else near.pop("letters")
        yield {"words": words, "near": near, **_compared(sample, letters - spent)}


def _compared(sample: SampleFrame, letters: int) -> dict[str, Any]:
    """Return the three whole frames, and the boxes to draw over each."""
    frames = sample.source, sample.coded, sample.restored
    uris, width, how = fitting([bgr_from_frame(frame) for frame in frames], letters)
    height, full_width = sample.source.size
    shown_px = NARROW_PX if width <= NARROW_PX * 3 // 4 else WIDE_PX
    label_px = LABEL_PX * full_width / shown_px
    overlays = _overlays(sample.boxes, label_px) if sample.boxes else [[], [], []]
    sides = [
        {"name": name, "uri": uri, "boxes": boxes}
        for name, uri, boxes in zip(("source", "coded", "restored"), uris, overlays, strict=True)
    ]
    own = "at its size" if width == full_width else f"scaled from {full_width} px to {width} px"
    too = "" if sample.boxes else "; luma is restored, colour is that of the coded frame"
    return {
        "sides": sides,
        "size": (full_width, height),
        "label_px": label_px,
        "width": "narrow" if shown_px == NARROW_PX else "wide",
        "caption": f"Whole frame {own}, {how}{too}.",
    }


def _overlays(boxes: Boxes, label_px: float) -> list[list[dict[str, Any]]]:
    """Return the boxes of source, coded and restored frame.

    Each kind has a place for its label, so that boxes on one object can all be read: objects and
    those found above the box, those missed below it, false ones inside.
    """
    sides = [[("object", boxes.source)], _kinds(boxes.coded), _kinds(boxes.restored)]
    made: list[list[dict[str, Any]]] = []
    for marked in sides:
        overlay: list[dict[str, Any]] = []
        for word, found in marked:
            rows = zip(found.boxes.tolist(), found.scores, found.classes, strict=True)
            for (left, top, right, bottom), score, number in rows:
                above = top - 0.3 * label_px if top > label_px else top + label_px
                feet = {"missed": bottom - 0.3 * label_px, "false": top + label_px}
                name = boxes.names.get(int(number), f"class {number}")
                sure = "" if word in ("missed", "object") else f" {score:.2f}"
                overlay.append(
                    {
                        "word": word,
                        "label": f"{word} {name}{sure}",
                        "x": left,
                        "y": top,
                        "width": right - left,
                        "height": bottom - top,
                        "foot": feet.get(word, above),
                    }
                )
        made.append(overlay)
    return made


def _enlarged(sample: SampleFrame) -> dict[str, Any]:
    """Return the blocks that changed most, and the errors of the whole frame."""
    luma = sample.source.y, sample.coded.y, sample.restored.y
    spots = zip(("better", "worse"), most_changed(*luma), strict=True)
    crops: list[dict[str, Any]] = [
        {"word": word, "spot": spot, "sides": _crops(sample, spot)} for word, spot in spots
    ]
    before, after, scale_codes = error_maps(*luma)
    maps = {"coded": webp(before), "restored": webp(after)}
    uris = [*maps.values(), *(side["uri"] for crop in crops for side in crop["sides"])]
    letters = sum(map(len, uris))
    return {"crops": crops, "maps": maps, "scale_codes": scale_codes, "letters": letters}


def _crops(sample: SampleFrame, spot: Spot | None) -> list[dict[str, str]]:
    """Return the three pictures of a crop; PSNR is that of its block."""
    if spot is None:
        return []
    clean = spot.block.cut(sample.source.y)
    sides: list[dict[str, str]] = []
    for name in ("source", "coded", "restored"):
        frame = getattr(sample, name)
        decibels = min(PSNR_CAP_DB, psnr(clean, spot.block.cut(frame.y)))
        words = name if name == "source" else f"{name}: {decibels:.2f} dB"
        sides.append(
            {"name": name, "words": words, "uri": png(spot.crop.cut(bgr_from_frame(frame)))}
        )
    return sides
