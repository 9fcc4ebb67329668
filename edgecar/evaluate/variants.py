"""The papers' settings of the coders: twelve variants of H.264, and six ways to code HEVC.

Aqqa and Shah, "CAR-CNN", VISAPP 2020, section 4.1, code surveillance video at four CRFs under three
limits of the rate; Yue et al., "GL-Fusion", compare BD-rates of all-intra, low-delay and
random-access HEVC.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

import numpy as np

from edgecar.evaluate.clips import Clip
from edgecar.evaluate.encodes import Encodes
from edgecar.evaluate.metrics import PSNR_CAP_DB, Luma, flicker, psnr_b
from edgecar.evaluate.sample_frames import SampleFrames, Subject
from edgecar.evaluate.video import Method, scores
from edgecar.media.frame import Frame
from edgecar.media.video_codec import RATE_FPS, CodedClip, VideoCodec, VideoCoding
from edgecar.spec import Size

LIMITS_MBPS = (2.0, 1.5, 1.0)
"""Of 1080p video at 30 frames a second."""
LIMITS_MEANT_AT = (1080 * 1920, 30)  # px, frames a second
CRFS = (29, 35, 41, 47)
QPS = (22, 27, 32, 37)

STRUCTURES: dict[str, tuple[int, int | None]] = {
    "all-intra": (1, 0),
    "low-delay": (10_000, 0),  # one key frame, then P-frames
    "random-access": (32, None),  # B-frames as the preset has them
}
"""Frames from one key frame to the next, and B-frames in a row, by name."""
DEFAULT = "default"


@dataclass(frozen=True)
class Variant:
    """One way to code a clip.

    Attributes:
        coding: What the coder is told.
        limit_mbps: What ``coding.max_kbps`` is at 1080p and 30 frames a second; None: no limit.
        structure: One of `STRUCTURES`, or ``default``.
    """

    coding: VideoCoding
    limit_mbps: float | None = None
    structure: str = DEFAULT

    @property
    def key(self) -> tuple[Any, ...]:
        """What rows tell variants apart by."""
        coding = self.coding
        return coding.quantiser, self.limit_mbps, self.structure, coding.in_loop_filters

    @property
    def words(self) -> str:
        """What the quantiser does not say of it.

        Example:
            >>> Variant(VideoCoding("h264", 41, max_kbps=100), limit_mbps=1.5).words
            'limit 1.5 Mb/s'
        """
        limit = [] if self.limit_mbps is None else [f"limit {self.limit_mbps:g} Mb/s"]
        structure = [] if self.structure == DEFAULT else [self.structure]
        filters = [] if self.coding.in_loop_filters else ["without the coder's filters"]
        return ", ".join([*limit, *structure, *filters])


class VariantRow(TypedDict):
    """One network or post-filter on one clip in one variant; means over frames, on luma.

    As `edgecar.evaluate.video.VideoRow`, and besides: ``limit_mbps`` as the paper has it and
    ``max_kbps`` what it is at the clip's size and at 25 frames a second, both None without a limit;
    PSNR-B in dB; ``flicker`` in codes, the mean over the frames
    that are measured and their successors, None where the source never stands still.
    """

    network: str
    codec: str
    clip: str
    quantiser: int
    limit_mbps: float | None
    max_kbps: int | None
    structure: str
    in_loop_filters: bool
    frames: int
    kbps: float
    psnr_in: float
    psnr_out: float
    ssim_in: float
    ssim_out: float
    psnrb_in: float
    psnrb_out: float
    flicker_in: float | None
    flicker_out: float | None


def scaled_kbps(limit_mbps: float, size: Size) -> int:
    """A limit for 1080p at 30 frames a second, by pixels a second, at 25 frames a second.

    Example:
        >>> scaled_kbps(2.0, (1080, 1920)), scaled_kbps(1.0, (540, 960))
        (1667, 208)
    """
    pixels, fps = LIMITS_MEANT_AT
    share = size[0] * size[1] * float(RATE_FPS) / (pixels * fps)
    return max(1, round(1000 * limit_mbps * share))


def h264_variants(size: Size, crfs: Sequence[int] = CRFS) -> list[Variant]:
    """The twelve of the paper for frames of ``(height, width)``: each limit with each CRF."""
    return [
        Variant(VideoCoding("h264", crf, max_kbps=scaled_kbps(limit, size)), limit)
        for limit in LIMITS_MBPS
        for crf in crfs
    ]


def hevc_variants(size: Size, qps: Sequence[int] = QPS) -> list[Variant]:
    """All-intra, low-delay and random-access, with the coder's filters and without, at each QP."""
    del size  # constant QP has no limit
    return [
        Variant(
            VideoCoding("hevc", qp, gop=gop, b_frames=b_frames, in_loop_filters=filters),
            structure=structure,
        )
        for structure, (gop, b_frames) in STRUCTURES.items()
        for filters in (True, False)
        for qp in qps
    ]


VARIANTS = {"h264": h264_variants, "hevc": hevc_variants}


def row_key(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """Clip, variant and network of a row."""
    variant = row["quantiser"], row["limit_mbps"], row["structure"], row["in_loop_filters"]
    return row["clip"], variant, row["network"]


def extremes(rows: Iterable[Mapping[str, Any]]) -> set[tuple[Any, ...]]:
    """Keys of the rows that each network gains most and least on."""
    by_network: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        by_network.setdefault(row["network"], []).append(row)

    def gain_db(row: Mapping[str, Any]) -> float:
        gain: float = row["psnr_out"] - row["psnr_in"]
        return gain

    return {
        row_key(row)
        for own in by_network.values()
        for row in (max(own, key=gain_db), min(own, key=gain_db))
    }


def evaluate_variants(
    clips: Iterable[Clip],
    codec: VideoCodec,
    quantisers: Sequence[int],
    methods: Sequence[Method],
    every: int = 1,
    done: Collection[tuple[Any, ...]] = (),
    sample_frames: SampleFrames | None = None,
) -> Iterator[VariantRow]:
    """Code every clip in every variant and restore it.

    Args:
        clips: Sources.
        codec: Coder, which decides the variants.
        quantisers: CRF for ``h264``, QP for ``hevc``.
        methods: Networks and post-filters.
        every: Measure frames 0, N, 2N and so on; flicker from each to the next of the clip.
        done: Keys of rows (`row_key`) that there are already; they are passed over.
        sample_frames: Keeps the frames with most and least gain.

    Yields:
        A row per clip, variant and method, in this order.

    Raises:
        MediaError: A clip cannot be decoded or coded.
        DataError: A method changes the size, or a clip is smaller than the window of SSIM.
    """
    for clip in clips:
        frames: list[Frame] = clip.load()
        left = {
            variant: [m for m in methods if (clip.name, variant.key, m.name) not in done]
            for variant in VARIANTS[codec](frames[0].size, quantisers)
        }
        todo = [variant for variant, own in left.items() if own]
        # Coding of the next goes on while networks restore this one.
        ahead = Encodes(clip.name, frames).ahead(variant.coding for variant in todo)
        for variant, coded in zip(todo, ahead, strict=True):
            yield from _rows(clip.name, frames, variant, coded, left[variant], every, sample_frames)


def _rows(
    name: str,
    frames: Sequence[Frame],
    variant: Variant,
    coded: CodedClip,
    methods: Sequence[Method],
    every: int,
    sample_frames: SampleFrames | None,
) -> Iterator[VariantRow]:
    coding = variant.coding
    clip = _Clip(frames, every)
    before = clip.judged([coded.frames[index].y for index in clip.indices])
    for method in methods:
        pictures = method.restored(coded, coding, clip.indices)
        if sample_frames:
            subject = Subject(name, coding.quantiser, method.name, variant.words)
            pictures = sample_frames.watched(subject, frames, coded.frames, clip.indices, pictures)
        after = clip.judged(list(pictures))
        yield VariantRow(
            network=method.name,
            codec=coding.codec,
            clip=name,
            quantiser=coding.quantiser,
            limit_mbps=variant.limit_mbps,
            max_kbps=coding.max_kbps,
            structure=variant.structure,
            in_loop_filters=coding.in_loop_filters,
            frames=len(clip.measured),
            kbps=coded.kbps,
            psnr_in=before.psnr,
            psnr_out=after.psnr,
            ssim_in=before.ssim,
            ssim_out=after.ssim,
            psnrb_in=before.psnr_b,
            psnrb_out=after.psnr_b,
            flicker_in=before.flicker,
            flicker_out=after.flicker,
        )


@dataclass(frozen=True)
class _Judged:
    """Means over the frames of a clip."""

    psnr: float
    ssim: float
    psnr_b: float
    flicker: float | None


class _Clip:
    """Frames of a source that others are judged against.

    Args:
        frames: Of the whole clip.
        every: Measure frames 0, N, 2N and so on.
    """

    def __init__(self, frames: Sequence[Frame], every: int) -> None:
        self.measured = range(0, len(frames), every)
        firsts = range(0, len(frames) - 1, every)  # of neighbours, between which it may flicker
        self.indices = sorted({*self.measured, *(index + 1 for index in firsts)})
        self._firsts = firsts
        self._clean = {index: frames[index].y for index in self.indices}

    def judged(self, pictures: Sequence[Luma]) -> _Judged:
        """Means over the clip for luma at ``indices``."""
        seen = dict(zip(self.indices, pictures, strict=True))
        clean = [self._clean[index] for index in self.measured]
        own = [seen[index] for index in self.measured]
        decibels, likeness = scores(clean, own)
        blocks = [psnr_b(one, other) for one, other in zip(clean, own, strict=True)]
        return _Judged(
            float(np.mean(decibels)),
            likeness,
            float(np.mean(np.minimum(blocks, PSNR_CAP_DB))),
            self._mean_flicker(seen),
        )

    def _mean_flicker(self, seen: Mapping[int, Luma]) -> float | None:
        """Over all neighbours whose source stands still somewhere."""
        clean = self._clean
        changes = [flicker(clean[i], clean[i + 1], seen[i], seen[i + 1]) for i in self._firsts]
        known = [change for change in changes if change is not None]
        return float(np.mean(known)) if known else None
