"""What to show of a frame: its most changed blocks, its errors in colour, and bytes for a page."""

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgecar.errors import MediaError
from edgecar.evaluate.metrics import Luma
from edgecar.media.color import Bgr

BLOCK_PX = 16
CROP_PX = (66, 88)  # height and width; four times as large, three fit side by side
MAP_WIDTH_PX = 480
LOSSLESS_PX = 160_000
"""Frames up to CIF and a little more are shown without loss."""
LADDER = ((960, 95), (960, 85), (640, 80), (480, 70), (320, 50))
"""Width in pixels and WebP quality of pictures of whole frames, until they fit."""
LOSSLESS = 101  # what OpenCV calls it
MAP_QUALITY = 85
PERCENTILE = 99
LEAST_SCALE_CODES = 4
LEGEND_SHADES = 256
COLOURS = cv2.COLORMAP_INFERNO

Rectangle = tuple[int, int, int, int]
"""Top, left, bottom, right in pixels."""


@dataclass(frozen=True)
class ErrorMaps:
    """Absolute errors of luma before and after, in the same colours.

    Attributes:
        coded: ``(h, w, 3)`` BGR, at most 480 px wide.
        restored: The same of the restored frame.
        scale_codes: Error that has the brightest colour, as all larger ones.
    """

    coded: Bgr
    restored: Bgr
    scale_codes: int


@dataclass(frozen=True)
class Spot:
    """A place to look at from near.

    Attributes:
        block: The 16×16 px that changed, or fewer at an edge of the frame.
        crop: 66×88 px around it, or as much of that as the frame has.
    """

    block: Rectangle
    crop: Rectangle


def most_changed(source: Luma, coded: Luma, restored: Luma) -> tuple[Spot | None, Spot | None]:
    """Where the squared error of a block fell most, and where it rose most.

    Args:
        source: Clean luma, ``(H, W)`` uint8.
        coded: The same after coding.
        restored: The same restored.

    Returns:
        A spot for each; None where no block changed that way.
    """
    clean = source.astype(np.float32)
    fell = (coded - clean) ** 2 - (restored - clean) ** 2
    height, width = (math.ceil(side / BLOCK_PX) for side in fell.shape)
    padded = np.zeros((height * BLOCK_PX, width * BLOCK_PX), np.float32)
    padded[: fell.shape[0], : fell.shape[1]] = fell
    blocks = padded.reshape(height, BLOCK_PX, width, BLOCK_PX).sum(axis=(1, 3))
    size = source.shape[0], source.shape[1]
    better = _spot(divmod(int(blocks.argmax()), width), size) if blocks.max() > 0 else None
    worse = _spot(divmod(int(blocks.argmin()), width), size) if blocks.min() < 0 else None
    return better, worse


def _spot(place: tuple[int, int], size: tuple[int, int]) -> Spot:
    """A block, and a rectangle with it as near to its middle as the edges of the frame let it."""
    block: list[tuple[int, int]] = []
    crop: list[tuple[int, int]] = []
    for number, side, wanted in zip(place, size, CROP_PX, strict=True):
        first = number * BLOCK_PX
        block.append((first, min(first + BLOCK_PX, side)))
        length = min(side, wanted)
        start = min(max(0, first + BLOCK_PX // 2 - length // 2), side - length)
        crop.append((start, start + length))
    return Spot(_rectangle(*block), _rectangle(*crop))


def _rectangle(rows: tuple[int, int], columns: tuple[int, int]) -> Rectangle:
    return rows[0], columns[0], rows[1], columns[1]


def cropped(picture: Bgr, rectangle: Rectangle) -> Bgr:
    """The pixels of a rectangle."""
    top, left, bottom, right = rectangle
    return picture[top:bottom, left:right]


def error_maps(source: Luma, coded: Luma, restored: Luma) -> ErrorMaps:
    """Errors before and after as colours that mean the same in both.

    The brightest is the 99th percentile of the errors before, so that a few bad pixels do not leave
    the rest dark.

    Args:
        source: Clean luma, ``(H, W)`` uint8.
        coded: The same after coding.
        restored: The same restored.
    """
    before, after = (
        _no_wider(cv2.absdiff(source, other).astype(np.float32), MAP_WIDTH_PX)
        for other in (coded, restored)
    )
    scale = max(LEAST_SCALE_CODES, math.ceil(float(np.percentile(before, PERCENTILE))))
    return ErrorMaps(_coloured(before, scale), _coloured(after, scale), scale)


def _coloured(errors: NDArray[np.float32], scale: int) -> Bgr:
    codes = np.clip(errors * (255 / scale), 0, 255).astype(np.uint8)
    return np.asarray(cv2.applyColorMap(codes, COLOURS), np.uint8)


def legend_colours() -> Bgr:
    """All colours of error maps in a line, no error first."""
    shades = np.arange(LEGEND_SHADES, dtype=np.uint8)[None]
    return np.asarray(cv2.applyColorMap(shades, COLOURS), np.uint8)


def scaled(picture: Bgr, width_px: int) -> Bgr:
    """The picture, no wider than this; a pixel of it is the mean of those that it stands for."""
    return np.asarray(_no_wider(picture, width_px), np.uint8)


def _no_wider(picture: NDArray[Any], width_px: int) -> NDArray[Any]:
    height, width = picture.shape[:2]
    if width <= width_px:
        return picture
    size = width_px, max(1, round(height * width_px / width))
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA))


def png(picture: Bgr) -> str:
    """As a data URI, without loss."""
    return _uri(picture, "png", [])


def webp(picture: Bgr, quality: int) -> str:
    """As a data URI.

    Args:
        picture: ``(H, W, 3)``.
        quality: 1 to 100; 101 is without loss.
    """
    return _uri(picture, "webp", [cv2.IMWRITE_WEBP_QUALITY, quality])


def _uri(picture: Bgr, form: str, settings: Sequence[int]) -> str:
    done, data = cv2.imencode(f".{form}", picture, list(settings))
    if not done:
        raise MediaError(f"OpenCV cannot write {form}; install opencv-python-headless again")
    return f"data:image/{form};base64,{base64.b64encode(data.tobytes()).decode()}"


def error_map_uri(picture: Bgr) -> str:
    """As a data URI: a map is read by its colours, which need not be exact."""
    return webp(picture, MAP_QUALITY)
