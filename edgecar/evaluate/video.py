"""Studies of clips coded as H.264 or HEVC, and restored by networks and post-filters."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypedDict

import numpy as np

from edgecar.errors import SettingsError
from edgecar.evaluate.clips import Clip
from edgecar.evaluate.encodes import Encodes
from edgecar.evaluate.metrics import PSNR_CAP_DB, Luma, Window, flicker, psnr, psnr_b, ssim
from edgecar.evaluate.sample_frames import SampleFrames, Subject
from edgecar.evaluate.variants import VARIANTS, Variant
from edgecar.media.frame import Frame
from edgecar.media.video_codec import CodedClip, VideoCodec, VideoCoding
from edgecar.runtime.restorer import Restorer
from edgecar.spec import Size

SSIM_WINDOW: Window = "gaussian"
SSIM_FRAMES = 10
"""Most frames of a clip that SSIM is measured on, because it takes as long as a small network."""


class CodedRow(TypedDict):
    """One network or post-filter on one coded clip; means over frames, on luma.

    ``in`` is the coded clip, ``out`` the restored one, both compared with the source. PSNR in dB is
    the mean over ``frames`` frames, where a frame equal to its source counts 100 dB; SSIM has the
    Gaussian 11×11 window and is the mean over at most 10 of them, evenly spaced. ``quantiser`` is
    CRF for ``h264`` and QP for ``hevc``; ``kbps`` is the coded rate at 25 frames a second.
    """

    network: str
    codec: str
    clip: str
    quantiser: int
    frames: int
    kbps: float
    psnr_in: float
    psnr_out: float
    ssim_in: float
    ssim_out: float


class VideoRow(CodedRow):
    """A row of `evaluate_video`; ``worst_frame_gain_db`` is the lowest PSNR gain of a frame."""

    worst_frame_gain_db: float


class VariantRow(CodedRow):
    """A row of `evaluate_variants`.

    ``limit_mbps`` is the limit as the paper has it and ``max_kbps`` the same at the clip's size and
    25 frames a second, both None without a limit; PSNR-B is in dB; ``flicker`` is in codes, the
    mean over the measured frames and their successors, None where the source never stands still.
    """

    limit_mbps: float | None
    max_kbps: int | None
    structure: str
    in_loop_filters: bool
    psnrb_in: float
    psnrb_out: float
    flicker_in: float | None
    flicker_out: float | None


class Method(Protocol):
    """A network or post-filter that is evaluated."""

    @property
    def name(self) -> str:
        """Name in the rows."""
        ...

    def restored(
        self, coded: CodedClip, coding: VideoCoding, indices: Sequence[int]
    ) -> Iterable[Luma]:
        """Return the luma of the restored frames with these indices, ``(H, W)`` uint8 each."""
        ...


class NetworkMethod:
    """A network, which sees decoded frames one by one and is not told how they were coded.

    Args:
        restorer: Restorer of the network; the caller closes it.
        name: Name in the rows; None: the artifact's model.
    """

    def __init__(self, restorer: Restorer, name: str | None = None) -> None:
        self.name = name or restorer.metadata.model
        self._restorer = restorer

    def restored(
        self, coded: CodedClip, coding: VideoCoding, indices: Sequence[int]
    ) -> Iterator[Luma]:
        """Yield the luma of the restored frames with these indices, ``(H, W)`` each."""
        return (frame.y for frame in self.frames(coded, coding, indices))

    def frames(
        self, coded: CodedClip, coding: VideoCoding, indices: Sequence[int]
    ) -> Iterator[Frame]:
        """Yield the restored frames with these indices."""
        del coding  # blind
        return (self._restorer.restore(coded.frames[index]) for index in indices)

    def luma(self, coded: Luma) -> Luma:
        """Return a coded grey picture restored."""
        return self._restorer.luma(coded)

    def setting(self, coding: VideoCoding) -> str:
        """Return everything that the output depends on besides the frames."""
        del coding
        return f"{self._restorer.metadata} {self._restorer.engine.info}"


def row_key(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return clip, variant and network of a row."""
    variant = row["quantiser"], row["limit_mbps"], row["structure"], row["in_loop_filters"]
    return row["clip"], variant, row["network"]


def extremes(rows: Iterable[Mapping[str, Any]]) -> set[tuple[Any, ...]]:
    """Return the keys of the rows that each network gains most and least on."""
    by_network: dict[str, list[tuple[float, tuple[Any, ...]]]] = {}
    for row in rows:
        gain_db = row["psnr_out"] - row["psnr_in"]
        by_network.setdefault(row["network"], []).append((gain_db, row_key(row)))
    ends = (end(own, key=lambda one: one[0]) for own in by_network.values() for end in (max, min))
    return {key for _, key in ends}


def evaluate_video(
    clips: Iterable[Clip],
    codec: VideoCodec,
    quantisers: Sequence[int],
    methods: Sequence[Method],
    every: int = 1,
    sample_frames: SampleFrames | None = None,
) -> Iterator[VideoRow]:
    """Code every clip at every quantiser (medium, key frames at most 60 apart) and restore it.

    Args:
        clips: Source clips.
        codec: Coder.
        quantisers: CRF for ``h264``, QP for ``hevc``; 0 to 51.
        methods: Networks and post-filters.
        every: Measure frames 0, N, 2N and so on.
        sample_frames: Collects the frames with most and least gain.

    Yields:
        A row per clip, quantiser and method, in this order.

    Raises:
        SettingsError: ``every`` is below 1.
        MediaError: A clip cannot be decoded or coded; a quantiser is out of range.
        DataError: A method changes the size, or a clip is smaller than the window of SSIM.
    """
    if every < 1:
        raise SettingsError(f"every is {every}; need at least 1, which measures all frames")
    plain = [Variant(VideoCoding(codec, quantiser)) for quantiser in quantisers]
    for row, _, before, after in _measured(
        clips, lambda _: plain, methods, every, sample_frames=sample_frames
    ):
        gains = np.subtract(after.psnr, before.psnr)
        yield {**row, "worst_frame_gain_db": float(np.min(gains))}


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
        clips: Source clips.
        codec: Coder, which decides the variants.
        quantisers: CRF for ``h264``, QP for ``hevc``.
        methods: Networks and post-filters.
        every: Measure frames 0, N, 2N and so on; flicker from each to the next of the clip.
        done: Keys (`row_key`) of rows to leave out because they exist.
        sample_frames: Collects the frames with most and least gain.

    Yields:
        A row per clip, variant and method, in this order.

    Raises:
        MediaError: A clip cannot be decoded or coded.
        DataError: A method changes the size, or a clip is smaller than the window of SSIM.
    """
    for row, variant, before, after in _measured(
        clips, lambda size: VARIANTS[codec](size, quantisers), methods, every, done, sample_frames,
        artifacts=True,
    ):  # fmt: skip
        yield {
            **row,
            "limit_mbps": variant.limit_mbps,
            "max_kbps": variant.coding.max_kbps,
            "structure": variant.structure,
            "in_loop_filters": variant.coding.in_loop_filters,
            "psnrb_in": before.mean_psnr_b,
            "psnrb_out": after.mean_psnr_b,
            "flicker_in": before.mean_flicker,
            "flicker_out": after.mean_flicker,
        }


@dataclass(frozen=True)
class _Scores:
    """Scores of one clip by frame: PSNR and PSNR-B in dB, SSIM, flicker in codes."""

    psnr: list[float]
    ssim: list[float]
    psnr_b: list[float]
    flicker: list[float]

    @property
    def mean_psnr_b(self) -> float:
        return float(np.mean(np.minimum(self.psnr_b, PSNR_CAP_DB)))

    @property
    def mean_flicker(self) -> float | None:
        return float(np.mean(self.flicker)) if self.flicker else None


Measured = tuple[CodedRow, Variant, _Scores, _Scores]


def _measured(
    clips: Iterable[Clip],
    variants_of: Callable[[Size], Sequence[Variant]],
    methods: Sequence[Method],
    every: int,
    done: Collection[tuple[Any, ...]] = (),
    sample_frames: SampleFrames | None = None,
    artifacts: bool = False,
) -> Iterator[Measured]:
    """Run a study: each clip is decoded once, and coded once in each variant for all methods.

    Coders work on the next variant while networks restore this one. With ``artifacts``, PSNR-B and
    flicker are measured too.

    Yields:
        The row, the variant, and the scores of the coded and of the restored clip.
    """
    for clip in clips:
        frames = clip.load()
        left = {
            variant: [m for m in methods if (clip.name, variant.key, m.name) not in done]
            for variant in variants_of(frames[0].size)
        }
        todo = [variant for variant, own in left.items() if own]
        ahead = Encodes(clip.name, frames).ahead(variant.coding for variant in todo)
        measured = range(0, len(frames), every)
        successors = {index + 1 for index in measured if artifacts and index + 1 < len(frames)}
        indices = sorted({*measured, *successors})
        for variant, coded in zip(todo, ahead, strict=True):
            coding = variant.coding
            decoded = (coded.frames[index].y for index in indices)
            before = _scores(frames, indices, measured, decoded, artifacts)
            for method in left[variant]:
                pictures = method.restored(coded, coding, indices)
                if sample_frames:
                    subject = Subject(clip.name, coding.quantiser, method.name, variant.words)
                    pictures = sample_frames.watched(
                        subject, frames, coded.frames, indices, pictures
                    )
                after = _scores(frames, indices, measured, pictures, artifacts)
                row = CodedRow(
                    network=method.name,
                    codec=coding.codec,
                    clip=clip.name,
                    quantiser=coding.quantiser,
                    frames=len(measured),
                    kbps=coded.kbps,
                    psnr_in=float(np.mean(before.psnr)),
                    psnr_out=float(np.mean(after.psnr)),
                    ssim_in=float(np.mean(before.ssim)),
                    ssim_out=float(np.mean(after.ssim)),
                )
                yield row, variant, before, after


def _scores(
    frames: Sequence[Frame],
    indices: Sequence[int],
    measured: range,
    pictures: Iterable[Luma],
    artifacts: bool,
) -> _Scores:
    """Score pictures as they come; no more than two are kept.

    Args:
        frames: All frames of the source.
        indices: Numbers of the pictures, rising: those measured, and successors for flicker.
        measured: Numbers of the frames to measure.
        pictures: Luma of each index, ``(H, W)`` uint8.
        artifacts: Measure PSNR-B and flicker, too.
    """
    with_ssim = {measured[place] for place in _evenly_spaced(len(measured), SSIM_FRAMES)}
    scores = _Scores([], [], [], [])
    last: Luma | None = None
    for index, picture in zip(indices, pictures, strict=True):
        clean = frames[index].y
        if index in measured:
            scores.psnr.append(min(PSNR_CAP_DB, psnr(clean, picture)))
            if index in with_ssim:
                scores.ssim.append(ssim(clean, picture, window=SSIM_WINDOW))
            if artifacts:
                scores.psnr_b.append(psnr_b(clean, picture))
        if artifacts and last is not None and index - 1 in measured:
            change = flicker(frames[index - 1].y, clean, last, picture)
            scores.flicker.extend([] if change is None else [change])
        last = picture
    return scores


def _evenly_spaced(count: int, most: int) -> list[int]:
    """Return at most ``most`` of ``range(count)``, the first and last included.

    Example:
        >>> _evenly_spaced(7, 4)
        [0, 2, 4, 6]
    """
    return [round(place) for place in np.linspace(0, count - 1, min(count, most))]
