"""Pictures of sample frames: the most changed blocks, maps of the error, and data URIs."""

import base64
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

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
"""Frames up to a little more than CIF are shown without loss."""
LADDER = ((960, 95), (960, 85), (640, 80), (480, 70), (320, 50))
"""Width in pixels and WebP quality, tried in this order until a frame's pictures fit."""
LOSSLESS = 101  # OpenCV's WebP quality for lossless
MAP_QUALITY = 85
PERCENTILE = 99
LEAST_SCALE_CODES = 4
COLOURS = cv2.COLORMAP_INFERNO


class Rectangle(NamedTuple):
    """Edges in pixels; ``bottom`` and ``right`` are exclusive."""

    top: int
    left: int
    bottom: int
    right: int

    def cut(self, picture: Bgr) -> Bgr:
        """Return the pixels inside."""
        return picture[self.top : self.bottom, self.left : self.right]


class Spot(NamedTuple):
    """A block worth seeing enlarged.

    Attributes:
        block: The 16×16 px block, smaller at an edge of the frame.
        crop: The 66×88 px around it, or as much as the frame has.
    """

    block: Rectangle
    crop: Rectangle


def most_changed(source: Luma, coded: Luma, restored: Luma) -> tuple[Spot | None, Spot | None]:
    """Find the blocks whose squared error fell most and rose most.

    Args:
        source: Clean luma, ``(H, W)`` uint8.
        coded: Coded luma of the same size.
        restored: Restored luma of the same size.

    Returns:
        The better and the worse block; None where no block changed that way.
    """
    clean = source.astype(np.float32)
    fell = (coded - clean) ** 2 - (restored - clean) ** 2
    rows, columns = (math.ceil(side / BLOCK_PX) for side in fell.shape)
    padded = np.zeros((rows * BLOCK_PX, columns * BLOCK_PX), np.float32)
    padded[: fell.shape[0], : fell.shape[1]] = fell
    blocks = padded.reshape(rows, BLOCK_PX, columns, BLOCK_PX).sum(axis=(1, 3))
    better = _spot(divmod(int(blocks.argmax()), columns), source) if blocks.max() > 0 else None
    worse = _spot(divmod(int(blocks.argmin()), columns), source) if blocks.min() < 0 else None
    return better, worse


def _spot(place: tuple[int, int], picture: Luma) -> Spot:
    """Return a block and the crop that has it as near its middle as the frame's edges allow."""
    height, width = picture.shape
    row, column = (BLOCK_PX * number for number in place)
    block = Rectangle(row, column, min(row + BLOCK_PX, height), min(column + BLOCK_PX, width))
    high, wide = min(height, CROP_PX[0]), min(width, CROP_PX[1])
    top = min(max(0, row + BLOCK_PX // 2 - high // 2), height - high)
    left = min(max(0, column + BLOCK_PX // 2 - wide // 2), width - wide)
    return Spot(block, Rectangle(top, left, top + high, left + wide))


def error_maps(source: Luma, coded: Luma, restored: Luma) -> tuple[Bgr, Bgr, int]:
    """Colour the absolute errors before and after, both on one scale.

    The brightest colour is the 99th percentile of the errors before, so that a few bad pixels do
    not leave the rest dark.

    Args:
        source: Clean luma, ``(H, W)`` uint8.
        coded: Coded luma of the same size.
        restored: Restored luma of the same size.

    Returns:
        Map of the coded and of the restored frame, at most 480 px wide, and the error in codes that
        has the brightest colour.
    """
    before, after = (
        scaled(cv2.absdiff(source, other).astype(np.float32), MAP_WIDTH_PX)
        for other in (coded, restored)
    )
    scale = max(LEAST_SCALE_CODES, math.ceil(float(np.percentile(before, PERCENTILE))))
    codes = (np.clip(each * (255 / scale), 0, 255).astype(np.uint8) for each in (before, after))
    coloured_before, coloured_after = map(_coloured, codes)
    return coloured_before, coloured_after, scale


def legend_colours() -> Bgr:
    """Return one line with all colours of the error maps, no error first."""
    return _coloured(np.arange(256, dtype=np.uint8)[None])


def _coloured(codes: NDArray[np.uint8]) -> Bgr:
    return np.asarray(cv2.applyColorMap(codes, COLOURS), np.uint8)


def scaled(picture: NDArray[Any], width_px: int) -> NDArray[Any]:
    """Shrink a picture to this width if it is wider, by averaging pixels."""
    height, width = picture.shape[:2]
    if width <= width_px:
        return picture
    size = width_px, max(1, round(height * width_px / width))
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA))


def fitting(pictures: Sequence[Bgr], letters: int) -> tuple[list[str], int, str]:
    """Encode pictures of one size as finely as a budget allows.

    Args:
        pictures: ``(H, W, 3)`` each.
        letters: Budget for all data URIs together. The coarsest step is taken even if it is over.

    Returns:
        Data URIs, their width in pixels, and words for how they are coded.
    """
    height, width = pictures[0].shape[:2]
    lossless = [(width, LOSSLESS)] if height * width <= LOSSLESS_PX else []
    for most_px, quality in [*lossless, *LADDER]:
        uris = [webp(scaled(picture, most_px), quality) for picture in pictures]
        if sum(map(len, uris)) <= letters:
            break
    how = "without loss" if quality == LOSSLESS else f"WebP quality {quality}"
    return uris, min(width, most_px), how


def png(picture: Bgr) -> str:
    """Return a lossless data URI."""
    return _uri(picture, "png", [])


def webp(picture: Bgr, quality: int = MAP_QUALITY) -> str:
    """Return a data URI.

    Args:
        picture: ``(H, W, 3)``.
        quality: WebP quality, 1 to 100; 101 is lossless.
    """
    return _uri(picture, "webp", [cv2.IMWRITE_WEBP_QUALITY, quality])


def _uri(picture: Bgr, form: str, settings: Sequence[int]) -> str:
    done, data = cv2.imencode(f".{form}", picture, list(settings))
    if not done:
        raise MediaError(f"OpenCV cannot write {form}; install opencv-python-headless again")
    return f"data:image/{form};base64,{base64.b64encode(data.tobytes()).decode()}"
