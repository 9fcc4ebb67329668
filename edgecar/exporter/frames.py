"""Pictures that a lower precision is calibrated and judged on, coded as the network sees them."""

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from edgecar.errors import DataError, ExportError
from edgecar.media.coding import picture_coding
from edgecar.media.color import Bgr, bgr_from_frame, luma_from_bgr, paper_luma_from_bgr
from edgecar.media.frame import Frame, chroma_size
from edgecar.media.inputs import Pictures, open_input
from edgecar.media.live import LiveReader
from edgecar.media.pictures import jpeg_coded, read_picture
from edgecar.media.quantiser import (
    SlowQuantiser,
    quantiser_from_jpeg_quality,
    quantiser_from_qp,
)
from edgecar.media.video_codec import VideoCodec, VideoCoding, video_coded
from edgecar.metadata import coder_of
from edgecar.spec import MIDDLE_QUANTISER, Coder

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
ANSWER_QUANTISER = 0.65
"""Quantiser that known answers are coded near: JPEG quality 70, CRF 33. At the finest, networks are
the identity, which any engine computes; at the coarsest, they change little beside what coding did.
Here a wrong residual costs most, and the middle, for engines that ignore quantisers, is far."""


class CodedPicture(NamedTuple):
    """A coded picture, and the quantiser that it was coded with."""

    codes: Picture
    quantiser: float = MIDDLE_QUANTISER


@dataclass(frozen=True)
class CodedPair:
    """A coded picture, its clean original, and the quantiser that it was coded with."""

    coded: Picture
    clean: Picture
    quantiser: float = MIDDLE_QUANTISER


@dataclass(frozen=True)
class GateFrames:
    """Coded pictures to fit a lower precision to, others to judge it on, and a description."""

    calibration: Sequence[CodedPicture]
    held: Sequence[CodedPair]
    data: str

    @property
    def sha256(self) -> str:
        """SHA-256 of all pixels, in order."""
        digest = hashlib.sha256()
        held = (picture for pair in self.held for picture in (pair.coded, pair.clean))
        for picture in (*(seen.codes for seen in self.calibration), *held):
            digest.update(str(picture.shape).encode())
            digest.update(np.ascontiguousarray(picture).data)
        return digest.hexdigest()


def generated_frames(trained_on: str, channels: int, align_px: int) -> GateFrames:
    """Return photographs of scikit-image, coded with the coder that the weights are for."""
    coder, (low, high) = _coding_of(trained_on)
    fitted, judged = (
        _coded(
            [_cut(_planes(photo(name), channels, limited=True), align_px) for name in names],
            coder,
            (low, high),
        )
        for names in (CALIBRATED_ON, JUDGED_ON)
    )
    data = f"photographs of scikit-image, {coder} {low}-{high}"
    return GateFrames([CodedPicture(p.coded, p.quantiser) for p in fitted], judged, data)


def coded_photo(trained_on: str, channels: int, align_px: int, side_px: int) -> CodedPair:
    """Return a square of one photograph, coded where a wrong engine loses most.

    That is near `ANSWER_QUANTISER`, or as near to it as the range of the weights comes.
    """
    coder, levels = _coding_of(trained_on)
    planes = _cut(_planes(photo(JUDGED_ON[0]), channels, limited=True), align_px)
    pair = _coded_at(planes, coder, _nearest_level(coder, levels, ANSWER_QUANTISER))
    height, width = pair.clean.shape[1:]
    # Below the middle, where that photograph has all colours and levels.
    left = min(width // 2, width - side_px)
    coded, clean = (
        np.ascontiguousarray(picture[:, height - side_px :, left : left + side_px])
        for picture in (pair.coded, pair.clean)
    )
    return CodedPair(coded, clean, pair.quantiser)


def own_frames(source: Path, trained_on: str, channels: int, align_px: int) -> GateFrames:
    """Return a user's own frames: every other one to fit to as it is, the rest to judge on.

    Nobody has the clean originals of what a camera sent. What is judged on is therefore coded once
    more, with the coder that the weights are for, and stands for its own original. Photographs
    judge besides: ranges fitted to odd frames must not harm ordinary ones.
    """
    pictures = [(_cut(picture, align_px), told) for picture, told in _read(source, channels)]
    if len(pictures) < LEAST_FRAMES:
        raise DataError(
            f"{source} holds {len(pictures)} frames, calibration needs at least {LEAST_FRAMES}; "
            "give a folder of more pictures, or a clip"
        )
    own = _coded([picture for picture, _ in pictures[1::2]], *_coding_of(trained_on))
    ordinary = generated_frames(trained_on, channels, align_px)
    data = f"{len(pictures)} frames of {source.name}, coded once more, and {ordinary.data}"
    as_they_are = [CodedPicture(_without_margin(seen), told) for seen, told in pictures[::2]]
    return GateFrames(as_they_are, [*own, *ordinary.held], data)


def _coding_of(trained_on: str) -> tuple[Coder, tuple[int, int]]:
    """Return the coder, and the range of its quality, that weights are for."""
    coder: Coder = coder_of(trained_on) or "jpeg"
    said = re.search(r"(\d+)-(\d+)$", trained_on)
    return coder, (int(said[1]), int(said[2])) if said else LEVELS[coder]


def photo(name: str) -> Bgr:
    """Return a photograph of scikit-image."""
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
    """Return luma of limited or full range, or RGB."""
    if channels == 3:
        return np.ascontiguousarray(bgr[..., ::-1].transpose(2, 0, 1))
    return (paper_luma_from_bgr(bgr) if limited else luma_from_bgr(bgr))[None]


def _cut(picture: Picture, align_px: int) -> Picture:
    """Return the middle of a picture, with a margin to pan over."""
    height, width = picture.shape[1:]
    if min(height, width) - MARGIN_PX < max(LEAST_PX, align_px):
        raise DataError(
            f"a frame is {width}x{height} px, calibration needs at least "
            f"{max(LEAST_PX, align_px) + MARGIN_PX} px each way; give larger ones"
        )
    cut = [slice(None)]
    for room in (height - MARGIN_PX, width - MARGIN_PX):
        side = min(MOST_PX, room) // align_px * align_px or align_px
        start = (room - side) // 2
        cut.append(slice(start, start + side + MARGIN_PX))
    return np.ascontiguousarray(picture[tuple(cut)])


def _without_margin(picture: Picture) -> Picture:
    return np.ascontiguousarray(picture[:, MARGIN_PX:, MARGIN_PX:])


def _coded(pictures: Sequence[Picture], coder: Coder, levels: tuple[int, int]) -> list[CodedPair]:
    """Code pictures at quantisers that are spread evenly over a range, without their margin."""
    first, last = (quantiser_of_level(coder, level) for level in levels)
    spread = np.linspace(first, last, len(pictures))
    return [
        _coded_at(picture, coder, _nearest_level(coder, levels, wanted))
        for picture, wanted in zip(pictures, spread, strict=True)
    ]


def _coded_at(picture: Picture, coder: Coder, level: int) -> CodedPair:
    """Code a picture without its margin; colour always as JPEG."""
    clean = _without_margin(picture)
    if len(picture) == 3 and coder != "jpeg":
        coder, level = "jpeg", LEVELS["jpeg"][1]
    if len(picture) == 3:
        bgr = np.ascontiguousarray(clean[::-1].transpose(1, 2, 0))
        _, code = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, level])
        decoded = np.asarray(cv2.imdecode(code, cv2.IMREAD_COLOR), np.uint8)
        coded = np.ascontiguousarray(decoded[..., ::-1].transpose(2, 0, 1))
    elif coder == "jpeg":
        coded = jpeg_coded(clean[0], level)[None]
    else:
        panned = _panned(picture[0], coder, level)
        return CodedPair(panned.codes, clean, panned.quantiser)
    return CodedPair(coded, clean, quantiser_of_level(coder, level))


def quantiser_of_level(coder: Coder, level: float) -> float:
    """Return the quantiser of a quality of JPEG, a CRF of H.264 or a QP of HEVC."""
    if coder == "jpeg":
        return quantiser_from_jpeg_quality(round(level))
    return quantiser_from_qp(level)


def _nearest_level(coder: Coder, levels: tuple[int, int], quantiser: float) -> int:
    """Return the quality, CRF or QP in a range whose quantiser is nearest."""
    inside = range(min(levels), max(levels) + 1)
    return min(inside, key=lambda level: abs(quantiser_of_level(coder, level) - quantiser))


def _panned(luma: NDArray[np.uint8], coder: VideoCodec, level: int) -> CodedPicture:
    """Return the last frame of a short pan that ends at the lower right of ``luma``."""
    height, width = (side - MARGIN_PX for side in luma.shape)
    even = (height + height % 2, width + width % 2)  # 4:2:0 has no odd sides
    frames = []
    for start in range(0, MARGIN_PX + 1, PAN_PX):
        seen = luma[start : start + height, start : start + width]
        y = np.pad(seen, [(0, e - s) for e, s in zip(even, seen.shape, strict=True)], mode="edge")
        grey = np.full(chroma_size(even), 128, np.uint8)
        frames.append(Frame(np.ascontiguousarray(y), grey, grey))
    clip = video_coded(frames, VideoCoding(coder, level, b_frames=0))
    codes = np.ascontiguousarray(clip.frames[-1].y[:height, :width])[None]
    return CodedPicture(codes, clip.quantisers[-1])


def _read(source: Path, channels: int) -> list[CodedPicture]:
    """Read up to `OWN_FRAMES` frames, spread over a folder or clip, as a runtime would."""
    with open_input(source, read_coding=True) as found:
        if isinstance(found, LiveReader):
            raise DataError(f"{source} is live; calibrate on a clip recorded from it")
        if isinstance(found, Pictures):
            paths = spread_over(found.paths, OWN_FRAMES)
            pictures = [_planes(read_picture(path), channels, limited=False) for path in paths]
            codings = [picture_coding(path.read_bytes()) for path in paths]
            return [
                CodedPicture(picture, _known(coding.quantiser))
                for picture, coding in zip(pictures, codings, strict=True)
            ]
        slow = SlowQuantiser()  # which has to see every frame
        every = ((frame, slow.after(frame.coding.qp)) for frame in found)
        frames = spread_over(every, OWN_FRAMES)
    return [
        CodedPicture(
            _planes(bgr_from_frame(frame), 3, limited=False)
            if channels == 3
            else np.ascontiguousarray(frame.y)[None],
            _known(frame.coding.quantiser if quantiser is None else quantiser),
        )
        for frame, quantiser in frames
    ]


def _known(quantiser: float | None) -> float:
    return MIDDLE_QUANTISER if quantiser is None else quantiser


def spread_over(items: Iterable[Item], count: int) -> list[Item]:
    """Return at least half of ``count`` items and at most that, evenly spaced, or all of fewer.

    Example:
        >>> spread_over(range(100), 6)
        [0, 32, 64, 96]
    """
    kept: list[Item] = []
    step = 1
    for number, item in enumerate(items):
        if number % step == 0 and len(kept) == count:
            kept, step = kept[::2], 2 * step
        if number % step == 0:
            kept.append(item)
    return kept
