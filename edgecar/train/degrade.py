"""Coders that a network learns to undo: ranges of their settings, and pairs of JPEG pictures.

The same state of the random generator gives the same pair.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Protocol, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from edgecar.errors import SettingsError
from edgecar.media.color import paper_luma_from_bgr
from edgecar.media.pictures import JpegCoder, jpeg_coded
from edgecar.media.quantiser import HIGHEST_QUANTISER, quantiser_from_jpeg_quality
from edgecar.media.video_codec import RATE_FPS, VideoCodec, VideoCoding
from edgecar.spec import MIDDLE_QUANTISER, Size

Luma = NDArray[np.uint8]
Bgr = NDArray[np.uint8]

FULL_HD_PX = 1920 * 1080
FULL_HD_FPS = 30
LEAST_SIDE_PX = 64  # of clips: the smallest cut-outs are a sixth of it, soft edges included


@dataclass(frozen=True)
class Pair:
    """A coded picture, its clean original, ``(H, W)`` uint8 each, and the quantiser, 0 to 1."""

    coded: Luma
    clean: Luma
    quantiser: float = MIDDLE_QUANTISER

    @property
    def mse(self) -> float:
        """Mean squared error of the coded picture, of 1.0."""
        return cv2.norm(self.coded, self.clean, cv2.NORM_L2SQR) / self.clean.size / 255**2


class PairSource(Protocol):
    """Source of training pictures."""

    def pair(self, rng: np.random.Generator) -> Pair: ...


HeldOut = dict[str, list[Pair]]
"""Pairs to validate on, by how coarsely they are coded: ``q10``, ``crf 35``."""


@dataclass(frozen=True)
class JpegRange:
    """JPEG at a quality drawn anew for every picture.

    Attributes:
        quality: Lowest and highest, 1 to 100, inclusive.
        coders: Libraries to draw from.
        coarse_share: Share of the draws in the coarser half of the range.
        shrunk: Share of photographs that are made smaller first, by a factor down to a half. Many
            were JPEGs before, and what that left becomes finer.
    """

    coder: ClassVar[Literal["jpeg"]] = "jpeg"
    levels: ClassVar[tuple[int, ...]] = (5, 10, 20, 30, 40, 60, 80, 90, 95, 98, 100)

    quality: tuple[int, int] = (10, 40)
    coders: tuple[JpegCoder, ...] = ("opencv", "pillow")
    coarse_share: float = 0.5
    shrunk: float = 0.0

    def __post_init__(self) -> None:
        _check_range("quality", self.quality, 1, 100)
        _check_shares(coarse_share=self.coarse_share, shrunk=self.shrunk)
        _check_filled("coders", self.coders)
        unknown = sorted(set(self.coders) - set(get_args(JpegCoder)))
        if unknown:
            known = " and ".join(get_args(JpegCoder))
            raise SettingsError(f"no JPEG coder is called {unknown[0]!r}; use {known}")

    @property
    def name(self) -> str:
        """Short description, stored with the weights: ``jpeg 10-40``."""
        return f"jpeg {self.quality[0]}-{self.quality[1]}"

    def validation_levels(self) -> tuple[int, ...]:
        """Return the qualities to validate at."""
        return _within(self.levels, self.quality)

    def quality_drawn(self, rng: np.random.Generator) -> int:
        """Draw the quality of one picture."""
        return _drawn_within(self.quality, self.coarse_share, rng)


@dataclass(frozen=True)
class _VideoRange:
    """Video at settings drawn anew for every clip, each from a list or between two ends.

    Clips are real ones, or made of photographs: half of these by a fixed camera with things moving
    in front of it, half by a camera that pans, zooms and turns.

    Attributes:
        quantiser: Lowest and highest CRF (H.264) or QP (HEVC), inclusive.
        coarse_share: Share of the draws in the coarser half of that range.
        real: Share of pairs from real clips.
        draws: Number of times that each real clip is coded.
        presets: Presets of the coder.
        gops: Frames from one key frame to the next.
        b_frames: Consecutive B-frames at most.
        clips: Number of clips made of photographs that are coded and kept on disk.
        frames: Number of frames in such a clip.
        every: One frame in so many is kept, of all clips; neighbours are much alike.
        size: ``(height, width)`` of the clips made of photographs.
        noise: Highest standard deviation of a camera's noise, in codes of luma; some have none.
    """

    levels: ClassVar[tuple[int, ...]]

    quantiser: tuple[int, int] = (22, 48)
    coarse_share: float = 0.5
    real: float = 0.0
    draws: int = 5
    presets: tuple[str, ...] = ("veryfast", "medium")
    gops: tuple[int, ...] = (12, 60)
    b_frames: tuple[int, ...] = (0, 3)
    clips: int = 400
    frames: int = 18
    every: int = 3
    size: Size = (256, 384)
    noise: float = 5.0

    def __post_init__(self) -> None:
        _check_range("quantiser", self.quantiser, 0, HIGHEST_QUANTISER)
        _check_shares(coarse_share=self.coarse_share, real=self.real)
        for name in ("presets", "gops", "b_frames"):
            _check_filled(name, getattr(self, name))
        if min(self.clips, self.frames, self.every, self.draws) < 1:
            raise SettingsError("clips, draws, frames and every must be at least 1")
        if len(self.size) != 2 or min(self.size) < LEAST_SIDE_PX or any(s % 2 for s in self.size):
            raise SettingsError(
                f"size is {list(self.size)}; need height and width, even, {LEAST_SIDE_PX} or more"
            )

    def validation_levels(self) -> tuple[int, ...]:
        """Return the CRFs or QPs to validate at."""
        return _within(self.levels, self.quantiser)

    def _drawn(self, codec: VideoCodec, rng: np.random.Generator) -> VideoCoding:
        return VideoCoding(
            codec,
            quantiser=_drawn_within(self.quantiser, 1 - self.coarse_share, rng),
            preset=str(rng.choice(self.presets)),
            gop=int(rng.choice(self.gops)),
            b_frames=int(rng.choice(self.b_frames)),
        )


@dataclass(frozen=True)
class H264Range(_VideoRange):
    """H.264 by libx264 at a constant rate factor, some of it under a limit of the rate.

    Attributes:
        limits_mbps: Highest rates in Mbit/s for 1080p at 30 frames a second, scaled to the size of
            the clips; 0 is no limit. The CAR-CNN study uses 2, 1.5 and 1.
    """

    coder: ClassVar[Literal["h264"]] = "h264"
    levels: ClassVar[tuple[int, ...]] = (23, 29, 35, 41, 47)

    limits_mbps: tuple[float, ...] = (*[0.0] * 6, 2.0, 1.5, 1.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_filled("limits_mbps", self.limits_mbps)

    @property
    def name(self) -> str:
        """Short description, stored with the weights: ``h264 crf 29-47``."""
        return f"h264 crf {self.quantiser[0]}-{self.quantiser[1]}"

    def coding(self, rng: np.random.Generator, size: Size | None = None) -> VideoCoding:
        """Draw the settings of one clip of a size, by default that of the degradation."""
        limit = float(rng.choice(self.limits_mbps))
        height, width = size or self.size
        share = height * width / FULL_HD_PX * float(RATE_FPS) / FULL_HD_FPS
        max_kbps = max(1, round(1000 * limit * share)) if limit else None
        return replace(self._drawn("h264", rng), max_kbps=max_kbps)


@dataclass(frozen=True)
class HevcRange(_VideoRange):
    """HEVC by libx265 at a constant QP.

    Attributes:
        unfiltered: Share of clips without deblocking and sample-adaptive offset.
    """

    coder: ClassVar[Literal["hevc"]] = "hevc"
    levels: ClassVar[tuple[int, ...]] = (22, 27, 32, 37, 42)

    quantiser: tuple[int, int] = (20, 38)
    clips: int = 250
    unfiltered: float = 0.15

    @property
    def name(self) -> str:
        """Short description, stored with the weights: ``hevc qp 22-37``."""
        return f"hevc qp {self.quantiser[0]}-{self.quantiser[1]}"

    def coding(self, rng: np.random.Generator, _size: Size | None = None) -> VideoCoding:
        """Draw the settings of one clip."""
        filters = bool(rng.random() >= self.unfiltered)
        return replace(self._drawn("hevc", rng), in_loop_filters=filters)


VideoRange = H264Range | HevcRange
Degradation = JpegRange | VideoRange


class JpegPairs:
    """Photographs, turned, mirrored and coded as JPEG."""

    def __init__(self, photos: Sequence[Bgr], degradation: JpegRange) -> None:
        self._photos = [paper_luma_from_bgr(photo) for photo in photos]
        self._degradation = degradation

    def pair(self, rng: np.random.Generator) -> Pair:
        photo = self._photos[rng.integers(len(self._photos))]
        # Before coding, because coders favour directions.
        clean = np.ascontiguousarray(turned(photo, rng))
        if rng.random() < self._degradation.shrunk:
            factor = float(rng.uniform(0.5, 1))
            smaller = cv2.resize(clean, None, None, factor, factor, cv2.INTER_AREA)
            clean = np.asarray(smaller, np.uint8)
        quality = self._degradation.quality_drawn(rng)
        coder = rng.choice(self._degradation.coders)
        return _jpeg_pair(clean, quality, coder)


def jpegs_held_out(photos: Sequence[Bgr], degradation: JpegRange) -> HeldOut:
    """Return each photograph at each quality to validate at."""
    lumas = [paper_luma_from_bgr(photo) for photo in photos]
    return {
        f"q{quality}": [_jpeg_pair(luma, quality) for luma in lumas]
        for quality in degradation.validation_levels()
    }


def _jpeg_pair(clean: Luma, quality: int, coder: JpegCoder = "opencv") -> Pair:
    coded = jpeg_coded(clean, quality, coder)
    return Pair(coded, clean, quantiser_from_jpeg_quality(quality))


def turned(photo: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Turn or mirror a picture, ``(H, W)`` or ``(H, W, C)``, in one of eight ways, as a view."""
    photo = np.rot90(photo, int(rng.integers(4)))
    return photo[:, ::-1] if rng.integers(2) else photo


def _check_range(name: str, ends: tuple[int, int], low: int, high: int) -> None:
    whole = [end for end in ends if type(end) is int]
    if len(ends) != 2 or len(whole) != 2 or not low <= ends[0] <= ends[1] <= high:
        raise SettingsError(
            f"{name} is {list(ends)}; need two whole numbers within {low} to {high}"
        )


def _check_filled(name: str, choices: tuple[object, ...]) -> None:
    if not choices:
        raise SettingsError(f"{name} is []; need at least one to draw from")


def _check_shares(**shares: float) -> None:
    for name, share in shares.items():
        if not 0 <= share <= 1:
            raise SettingsError(f"{name} is {share}; need a share from 0 to 1")


def _within(levels: tuple[int, ...], ends: tuple[int, int]) -> tuple[int, ...]:
    """Return the levels between two ends, and if there is none, the ends."""
    inside = tuple(level for level in levels if ends[0] <= level <= ends[1])
    return inside or tuple(dict.fromkeys(ends))


def _drawn_within(ends: tuple[int, int], lower_share: float, rng: np.random.Generator) -> int:
    """Draw a whole number, inclusive; so large a share of the draws is in the lower half."""
    place = rng.random()
    if place < lower_share:
        half = place / lower_share / 2
    else:
        half = 0.5 + (place - lower_share) / (1 - lower_share) / 2
    return ends[0] + int(half * (ends[1] - ends[0] + 1))
