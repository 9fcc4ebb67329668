"""Sample frames of a report: words for each, and the pictures that the page's template shows."""

import base64
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from edgecar.errors import MediaError
from edgecar.evaluate.metrics import Luma, capped_psnr
from edgecar.evaluate.sample_frames import Boxes, Kind, SampleFrame
from edgecar.evaluate.tables import QUANTISERS
from edgecar.media.color import Bgr, bgr_from_frame

BUDGET_LETTERS = 7_000_000
"""Length of all data URIs together, for a page of less than 8 MB."""
NARROW_PX, WIDE_PX = 480, 960
"""Widths of a frame on the page; those up to 360 px are shown narrow."""
LABEL_PX = 12  # height of letters beside boxes, as shown

BLOCK_PX = 16
CROP_PX = (66, 88)  # height and width; four times as large, three fit side by side
LOSSLESS_PX = 160_000
"""Frames up to a little more than CIF are shown without loss."""
LADDER = ((960, 95), (960, 85), (640, 80), (480, 70), (320, 50))
"""Width in pixels and WebP quality, tried in this order until a frame's pictures fit."""
LOSSLESS = 101  # OpenCV's WebP quality for lossless

NAMES = ("source", "coded", "restored")


class Words(NamedTuple):
    """A frame in words."""

    title: str
    place: str
    figures: str


def described(sample: SampleFrame, kind: Kind, codec: str) -> Words:
    """Describe a frame of the best or the worst, coded with a codec or ``jpeg``."""
    quantiser = f"{QUANTISERS.get(codec, 'quality')} {sample.quantiser}"
    number = "" if codec == "jpeg" else f"frame {sample.index}"
    place = ", ".join(filter(None, (sample.clip, quantiser, sample.variant, number)))
    if sample.boxes:
        count, changed = abs(round(sample.gain)), "fewer" if sample.gain > 0 else "more"
        title = f"{sample.network}: {count} mistake{'s' * (count != 1)} {changed}"
        coded, restored = (
            ", ".join(f"{len(found.scores)} {word}" for word, found in vars(marks).items())
            for marks in (sample.boxes.coded, sample.boxes.restored)
        )
        objects = len(sample.boxes.source.scores)
        return Words(title, place, f"{objects} objects; coded: {coded}; restored: {restored}")
    verb = "gains" if sample.gain >= 0 else "loses"
    extent = "most" if (kind == "best") == (sample.gain >= 0) else "least"
    before, after = (capped_psnr(sample.source.y, f.y) for f in (sample.coded, sample.restored))
    figures = f"{sample.gain:+.2f} dB of luma PSNR, {before:.2f} to {after:.2f} dB"
    return Words(f"{sample.network} {verb} {extent}", place, figures)


def articles(samples: Sequence[tuple[SampleFrame, Kind]], codec: str) -> Iterator[dict[str, Any]]:
    """Yield what the template shows of each frame."""
    for sample, kind in samples:
        frames = [sample.source, sample.coded, sample.restored]
        pictures = [bgr_from_frame(frame) for frame in frames]
        lumas = [frame.y for frame in frames]
        crops = [
            _crop(word, spot, pictures, lumas)
            for word, spot in zip(("better", "worse"), most_changed(*lumas), strict=True)
            if not sample.boxes
        ]
        spent = sum(len(side["uri"]) for crop in crops for side in crop["sides"])
        uris, width, how = fitting(pictures, BUDGET_LETTERS // len(samples) - spent)
        height, full_width = sample.source.size
        narrow = width <= NARROW_PX * 3 // 4
        label_px = LABEL_PX * full_width / (NARROW_PX if narrow else WIDE_PX)
        own = "at its size" if width == full_width else f"scaled from {full_width} px to {width} px"
        too = "" if sample.boxes else "; luma is restored, colour is that of the coded frame"
        yield {
            "words": described(sample, kind, codec),
            "sides": list(zip(NAMES, uris, _overlays(sample.boxes, label_px), strict=True)),
            "size": (full_width, height),
            "label_px": label_px,
            "width": "narrow" if narrow else "wide",
            "caption": f"Whole frame {own}, {how}{too}.",
            "crops": crops,
        }


def _overlays(boxes: Boxes | None, label_px: float) -> list[list[dict[str, Any]]]:
    """Return the boxes of source, coded and restored frame.

    Each kind has a place for its label, so that boxes on one object can all be read: objects and
    those found above the box, those missed below it, false ones inside.
    """
    if boxes is None:
        return [[], [], []]
    overlays: list[list[dict[str, Any]]] = []
    for kinds in ({"object": boxes.source}, vars(boxes.coded), vars(boxes.restored)):
        overlay: list[dict[str, Any]] = []
        for word, found in kinds.items():
            rows = zip(found.boxes.tolist(), found.scores, found.classes.tolist(), strict=True)
            for (left, top, right, bottom), score, number in rows:
                above = top - 0.3 * label_px if top > label_px else top + label_px
                feet = {"missed": bottom - 0.3 * label_px, "false": top + label_px}
                sure = "" if word in ("missed", "object") else f" {score:.2f}"
                label = f"{word} {boxes.names.get(number, f'class {number}')}{sure}"
                foot = feet.get(word, above)
                place = {"x": left, "y": top, "width": right - left, "height": bottom - top}
                overlay.append({"word": word, "label": label, "foot": foot, **place})
        overlays.append(overlay)
    return overlays


class Rectangle(NamedTuple):
    """Edges in pixels; the last two are exclusive."""

    top: int
    left: int
    bottom: int
    right: int

    def cut(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return picture[self.top : self.bottom, self.left : self.right]


Spot = tuple[Rectangle, Rectangle]
"""A block worth seeing enlarged, 16×16 px or less at an edge, and the 66×88 px around it."""


def most_changed(source: Luma, coded: Luma, restored: Luma) -> tuple[Spot | None, Spot | None]:
    """Find the blocks whose squared error fell most and rose most; None where none did."""
    clean = source.astype(np.float32)
    fell = (coded - clean) ** 2 - (restored - clean) ** 2
    rows, columns = (math.ceil(side / BLOCK_PX) for side in fell.shape)
    padded = np.zeros((rows * BLOCK_PX, columns * BLOCK_PX), np.float32)
    padded[: fell.shape[0], : fell.shape[1]] = fell
    blocks = padded.reshape(rows, BLOCK_PX, columns, BLOCK_PX).sum(axis=(1, 3))

    def spot(number: int) -> Spot:
        """Have the block as near the middle of the crop as the frame's edges allow."""
        height, width = source.shape
        row, column = (BLOCK_PX * place for place in divmod(number, columns))
        block = Rectangle(row, column, min(row + BLOCK_PX, height), min(column + BLOCK_PX, width))
        high, wide = min(height, CROP_PX[0]), min(width, CROP_PX[1])
        top = min(max(0, row + BLOCK_PX // 2 - high // 2), height - high)
        left = min(max(0, column + BLOCK_PX // 2 - wide // 2), width - wide)
        return block, Rectangle(top, left, top + high, left + wide)

    better = spot(int(blocks.argmax())) if blocks.max() > 0 else None
    worse = spot(int(blocks.argmin())) if blocks.min() < 0 else None
    return better, worse


def _crop(
    word: str, spot: Spot | None, pictures: Sequence[Bgr], lumas: Sequence[Luma]
) -> dict[str, Any]:
    """Return the three pictures of a crop; PSNR is that of the luma of its block."""
    if spot is None:
        return {"word": word, "sides": []}
    block, crop = spot
    clean, *judged = (block.cut(luma) for luma in lumas)
    figures = ["", *(f": {capped_psnr(clean, luma):.2f} dB" for luma in judged)]
    sides = [
        {"name": name, "words": f"{name}{figure}", "uri": data_uri(crop.cut(picture), None)}
        for name, figure, picture in zip(NAMES, figures, pictures, strict=True)
    ]
    return {"word": word, "block": block, "crop": crop, "sides": sides}


def scaled(picture: NDArray[Any], width_px: int) -> NDArray[Any]:
    """Shrink a picture to this width if it is wider, by averaging pixels."""
    height, width = picture.shape[:2]
    if width <= width_px:
        return picture
    size = width_px, max(1, round(height * width_px / width))
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA))


def fitting(pictures: Sequence[Bgr], letters: int) -> tuple[list[str], int, str]:
    """Encode pictures of one size as finely as a budget for their data URIs allows.

    The coarsest step is taken even if it is over. Width and coding are told, too.
    """
    height, width = pictures[0].shape[:2]
    lossless = [(width, LOSSLESS)] if height * width <= LOSSLESS_PX else []
    for most_px, quality in [*lossless, *LADDER]:
        uris = [data_uri(scaled(picture, most_px), quality) for picture in pictures]
        if sum(map(len, uris)) <= letters:
            break
    how = "without loss" if quality == LOSSLESS else f"WebP quality {quality}"
    return uris, min(width, most_px), how


def data_uri(picture: Bgr, quality: int | None = 85) -> str:
    """Return a data URI: WebP of quality 1 to 100, lossless at 101, or PNG without a quality."""
    form = "png" if quality is None else "webp"
    settings = [] if quality is None else [cv2.IMWRITE_WEBP_QUALITY, quality]
    done, data = cv2.imencode(f".{form}", picture, settings)
    if not done:
        raise MediaError(f"OpenCV cannot write {form}; install opencv-python-headless again")
    return f"data:image/{form};base64,{base64.b64encode(data.tobytes()).decode()}"
