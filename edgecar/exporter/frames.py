"""Pictures that a lower precision is calibrated and judged on, coded as the network sees them."""

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from edgecar.errors import DataError, ExportError
from edgecar.media.color import Bgr, bgr_from_frame, luma_from_bgr, paper_luma_from_bgr
from edgecar.media.frame import Frame, chroma_size
from edgecar.media.inputs import Pictures, open_input
from edgecar.media.live import LiveReader
from edgecar.media.pictures import jpeg_coded, read_picture
from edgecar.media.video_codec import VideoCodec, VideoCoding, video_coded
from edgecar.metadata import coder_of
from edgecar.spec import Coder

Picture = NDArray[np.uint8]
"""``(C, H, W)`` 8-bit codes."""

Item = TypeVar("Item")

# Photographs that come with scikit-image; a network that was judged on what its ranges were fitted
# to would be judged too kindly.
CALIBRATED_ON = ("brick", "camera", "chelsea", "coffee", "gravel", "moon")
JUDGED_ON = ("astronaut", "coins", "grass", "hubble_deep_field", "retina", "rocket")
MOST_PX = 256  # side of a picture: the ranges are those of larger ones, in a fraction of the time
LEAST_PX = 32
OWN_FRAMES = 12  # of a person's own, half of them to judge on
LEAST_FRAMES = 4
LEVELS: dict[Coder, tuple[int, int]] = {"jpeg": (10, 40), "h264": (29, 47), "hevc": (22, 37)}
"""Coarsest and finest JPEG quality, or CRF and QP, where weights do not say theirs."""
PAN_FRAMES, PAN_PX = 3, 2  # a slow pan: its last frame is predicted, like most frames of a video
MARGIN_PX = (PAN_FRAMES - 1) * PAN_PX


@dataclass(frozen=True)
class CodedPair:
    """A coded picture and its clean original."""

    coded: Picture
    clean: Picture


@dataclass(frozen=True)
class GateFrames:
    """Pictures that a lower precision is fitted to and judged on.

    Attributes:
        calibration: Coded pictures that ranges of activations are taken from.
        held: Others, with their originals.
        data: Description for people.
    """

    calibration: Sequence[Picture]
    held: Sequence[CodedPair]
    data: str

    @property
    def sha256(self) -> str:
        """SHA-256 of all pixels, in order."""
        digest = hashlib.sha256()
        for picture in (*self.calibration, *(p for h in self.held for p in (h.coded, h.clean))):
            digest.update(str(picture.shape).encode())
            digest.update(np.ascontiguousarray(picture).data)
        return digest.hexdigest()


def generated_frames(trained_on: str, channels: int, align_px: int) -> GateFrames:
    """Return photographs of scikit-image, coded with the coder that the weights are for.

    Args:
        trained_on: The degradation, the coder first (``h264 crf 29-47``); JPEG if it names none.
        channels: 1 (luma) or 3 (RGB).
        align_px: Sides are multiples of this.

    Raises:
        ExportError: scikit-image is not installed.
    """
    coder, levels = _coding_of(trained_on)
    fitted, judged = (
        [
            _pair(_cut(_planes(photo(name), channels, limited=True), align_px), coder, level)
            for name, level in zip(names, _spread(levels, len(names)), strict=True)
        ]
        for names in (CALIBRATED_ON, JUDGED_ON)
    )
    low, high = levels
    data = f"photographs of scikit-image, {coder} {low}-{high}"
    return GateFrames([pair.coded for pair in fitted], judged, data)


def coded_photo(trained_on: str, channels: int, align_px: int, side_px: int) -> CodedPair:
    """Return a square of one photograph, coded as finely as the weights are made for.

    There a lower precision loses most against the original.

    Args:
        trained_on: Degradation that the weights undo, the coder first; JPEG if it names none.
        channels: 1 (luma) or 3 (RGB).
        align_px: Alignment of the network.
        side_px: Side of the square, a multiple of ``align_px``.

    Raises:
        ExportError: scikit-image is not installed.
    """
    coder, levels = _coding_of(trained_on)
    planes = _cut(_planes(photo(JUDGED_ON[0]), channels, limited=True), align_px)
    pair = _pair(planes, coder, max(levels) if coder == "jpeg" else min(levels))
    coded, clean = (
        np.ascontiguousarray(_coloured_edges(picture, side_px))
        for picture in (pair.coded, pair.clean)
    )
    return CodedPair(coded, clean)


def _coloured_edges(picture: Picture, side_px: int) -> Picture:
    """Cut out a square, below the middle, where that photograph has all colours and levels."""
    height, width = picture.shape[1:]
    left = min(width // 2, width - side_px)
    return picture[:, height - side_px :, left : left + side_px]


def own_frames(source: Path, trained_on: str, channels: int, align_px: int) -> GateFrames:
    """Return a user's own frames: every other one to fit to as it is, the rest to judge on.

    Nobody has the clean originals of what a camera sent. What is judged on is therefore coded once
    more, with the coder that the weights are for, and stands for its own original. Photographs
    judge besides: ranges fitted to odd frames must not harm ordinary ones.

    Args:
        source: A folder of pictures, a picture or a video file.
        trained_on: Degradation, the coder first; JPEG if it names none.
        channels: 1 (luma) or 3 (RGB).
        align_px: Sides are multiples of this.

    Raises:
        DataError: There are too few frames, or they are too small.
        MediaError: They cannot be read.
    """
    pictures = [_cut(picture, align_px) for picture in _read(source, channels)]
    if len(pictures) < LEAST_FRAMES:
        raise DataError(
            f"{source} holds {len(pictures)} frames, calibration needs at least {LEAST_FRAMES}; "
            "give a folder of more pictures, or a clip"
        )
    coder, levels = _coding_of(trained_on)
    judged = pictures[1::2]
    own = [
        _pair(picture, coder, level)
        for picture, level in zip(judged, _spread(levels, len(judged)), strict=True)
    ]
    ordinary = generated_frames(trained_on, channels, align_px)
    data = f"{len(pictures)} frames of {source.name}, coded once more, and {ordinary.data}"
    as_they_are = [_without_margin(picture) for picture in pictures[::2]]
    return GateFrames(as_they_are, [*own, *ordinary.held], data)


def _coding_of(trained_on: str) -> tuple[Coder, tuple[int, int]]:
    """Coder and range of its quality that weights are for."""
    coder: Coder = coder_of(trained_on) or "jpeg"
    said = re.search(r"(\d+)-(\d+)$", trained_on)
    return coder, (int(said[1]), int(said[2])) if said else LEVELS[coder]


def _spread(levels: tuple[int, int], count: int) -> list[int]:
    return [round(level) for level in np.linspace(*levels, count)]


def photo(name: str) -> Bgr:
    """Return a photograph of scikit-image.

    Raises:
        ExportError: scikit-image is not installed.
    """
    try:
        from skimage import data
    except ImportError as error:
        raise ExportError(
            "scikit-image is needed for its photographs; install it: pip install 'edgecar[train]'"
        ) from error
    rgb: NDArray[np.uint8] = getattr(data, name)()
    rgb = np.repeat(rgb[..., None], 3, axis=2) if rgb.ndim == 2 else rgb
    return np.ascontiguousarray(rgb[..., ::-1])


def _planes(bgr: Bgr, channels: int, *, limited: bool) -> Picture:
    """Luma of limited or full range, or RGB."""
    if channels == 3:
        return np.ascontiguousarray(bgr[..., ::-1].transpose(2, 0, 1))
    return (paper_luma_from_bgr(bgr) if limited else luma_from_bgr(bgr))[None]


def _cut(picture: Picture, align_px: int) -> Picture:
    """The middle of a picture, with a margin to pan over."""
    room = [side - MARGIN_PX for side in picture.shape[1:]]
    if min(room) < max(LEAST_PX, align_px):
        height, width = picture.shape[1:]
        raise DataError(
            f"a frame is {width}x{height} px, calibration needs at least "
            f"{max(LEAST_PX, align_px) + MARGIN_PX} px each way; give larger ones"
        )
    sides = [min(MOST_PX, side) // align_px * align_px or align_px for side in room]
    top, left = ((free - kept) // 2 for free, kept in zip(room, sides, strict=True))
    height, width = (side + MARGIN_PX for side in sides)
    return np.ascontiguousarray(picture[:, top : top + height, left : left + width])


def _pair(picture: Picture, coder: Coder, level: int) -> CodedPair:
    """A picture after a coder, without the margin of `_cut`; colour is always coded as JPEG."""
    clean = _without_margin(picture)
    if len(picture) == 3:
        quality = level if coder == "jpeg" else LEVELS["jpeg"][1]
        return CodedPair(_colour_jpeg(clean, quality), clean)
    if coder == "jpeg":
        return CodedPair(jpeg_coded(clean[0], level)[None], clean)
    return CodedPair(_panned(picture[0], coder, level)[None], clean)


def _without_margin(picture: Picture) -> Picture:
    return np.ascontiguousarray(picture[:, MARGIN_PX:, MARGIN_PX:])


def _colour_jpeg(rgb: Picture, quality: int) -> Picture:
    bgr = np.ascontiguousarray(rgb[::-1].transpose(1, 2, 0))
    _, code = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    decoded = np.asarray(cv2.imdecode(code, cv2.IMREAD_COLOR), np.uint8)
    return np.ascontiguousarray(decoded[..., ::-1].transpose(2, 0, 1))


def _panned(luma: NDArray[np.uint8], coder: VideoCodec, quantiser: int) -> NDArray[np.uint8]:
    """The last frame of a short pan that ends at the lower right of ``luma``."""
    height, width = (side - MARGIN_PX for side in luma.shape)
    even = (height + height % 2, width + width % 2)  # 4:2:0 has no odd sides
    frames = []
    for start in range(0, MARGIN_PX + 1, PAN_PX):
        seen = luma[start : start + height, start : start + width]
        y = np.pad(seen, [(0, e - s) for e, s in zip(even, seen.shape, strict=True)], mode="edge")
        grey = np.full(chroma_size(even), 128, np.uint8)
        frames.append(Frame(np.ascontiguousarray(y), grey, grey))
    last = video_coded(frames, VideoCoding(coder, quantiser, b_frames=0)).frames[-1]
    return np.ascontiguousarray(last.y[:height, :width])


def _read(source: Path, channels: int) -> list[Picture]:
    """Up to `OWN_FRAMES` frames, spread over a folder or clip."""
    with open_input(source) as found:
        if isinstance(found, LiveReader):
            raise DataError(f"{source} is live; calibrate on a clip recorded from it")
        if isinstance(found, Pictures):
            paths = spread_over(found.paths, OWN_FRAMES)
            return [_planes(read_picture(path), channels, limited=False) for path in paths]
        frames = spread_over(found, OWN_FRAMES)
    if channels == 3:
        return [_planes(bgr_from_frame(frame), 3, limited=False) for frame in frames]
    return [np.ascontiguousarray(frame.y)[None] for frame in frames]


def spread_over(items: Iterable[Item], count: int) -> list[Item]:
    """At least half of ``count`` items and at most that, evenly spaced; all if there are fewer.

    Example:
        >>> spread_over(range(100), 6)
        [0, 32, 64, 96]
    """
    kept: list[Item] = []
    step = 1
    for number, item in enumerate(items):
        if number % step:
            continue
        if len(kept) == count:
            kept, step = kept[::2], 2 * step
            if number % step:
                continue
        kept.append(item)
    return kept
