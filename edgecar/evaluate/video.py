"""The video study: what networks and post-filters make of clips coded as H.264 or HEVC."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol, TypedDict

import numpy as np

from edgecar.errors import SettingsError
from edgecar.evaluate.clips import Clip
from edgecar.evaluate.encodes import Encodes
from edgecar.evaluate.metrics import PSNR_CAP_DB, Luma, Window, psnr, ssim
from edgecar.evaluate.sample_frames import SampleFrames, Subject
from edgecar.media.frame import Frame
from edgecar.media.video_codec import CodedClip, VideoCodec, VideoCoding
from edgecar.runtime.restorer import Restorer

SSIM_WINDOW: Window = "gaussian"
SSIM_FRAMES = 10
"""SSIM takes as long as a small network, so it is measured on at most so many frames of a clip."""


class VideoRow(TypedDict):
    """One network or post-filter on one clip at one quantiser; means over frames, on luma.

    ``in`` is the coded clip, ``out`` the restored one, both against the source. PSNR in dB is the
    mean over ``frames`` frames, a frame equal to its source counting 100 dB; SSIM has the Gaussian
    11×11 window and is the mean over at most 10 of them, evenly spaced. ``worst_frame_gain_db`` is
    the lowest PSNR gain of a frame. ``quantiser`` is CRF for ``h264`` and QP for ``hevc``; ``kbps``
    the rate of the coded clip at 25 frames a second.
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
    worst_frame_gain_db: float


class Method(Protocol):
    """What is evaluated: a network or a post-filter."""

    @property
    def name(self) -> str:
        """What rows call it."""
        ...

    def restored(
        self, coded: CodedClip, coding: VideoCoding, indices: Sequence[int]
    ) -> Iterable[Luma]:
        """Luma of the restored frames with these indices, ``(H, W)`` uint8 each."""
        ...


class NetworkMethod:
    """A network, which sees decoded frames one by one and is not told how they were coded.

    Args:
        restorer: Stays the caller's to close.
        name: What rows call it; the artifact's model if None.
    """

    def __init__(self, restorer: Restorer, name: str | None = None) -> None:
        self.name = name or restorer.metadata.model
        self._restorer = restorer

    def restored(
        self, coded: CodedClip, coding: VideoCoding, indices: Sequence[int]
    ) -> Iterator[Luma]:
        """Luma of the restored frames with these indices, ``(H, W)`` each."""
        return (frame.y for frame in self.frames(coded, coding, indices))

    def frames(
        self, coded: CodedClip, coding: VideoCoding, indices: Sequence[int]
    ) -> Iterator[Frame]:
        """The restored frames with these indices."""
        del coding  # blind
        return (self._restorer.restore(coded.frames[index]) for index in indices)

    def setting(self, coding: VideoCoding) -> str:
        """All that its output depends on besides the frames."""
        del coding
        return f"{self._restorer.metadata} {self._restorer.engine.info}"


def evaluate_video(
    clips: Iterable[Clip],
    codec: VideoCodec,
    quantisers: Sequence[int],
    methods: Sequence[Method],
    every: int = 1,
    sample_frames: SampleFrames | None = None,
) -> Iterator[VideoRow]:
    """Code every clip at every quantiser (medium, key frames at most 60 apart) and restore it.

    A clip is decoded once and coded once for all methods.

    Args:
        clips: Sources.
        codec: Coder.
        quantisers: CRF for ``h264``, QP for ``hevc``; 0 to 51.
        methods: Networks and post-filters.
        every: Measure frames 0, N, 2N and so on.
        sample_frames: Keeps the frames with most and least gain.

    Yields:
        A row per clip, quantiser and method, in this order.

    Raises:
        SettingsError: ``every`` is below 1.
        MediaError: A clip cannot be decoded or coded; a quantiser is out of range.
        DataError: A method changes the size, or a clip is smaller than the window of SSIM.
    """
    if every < 1:
        raise SettingsError(f"every is {every}; need at least 1, which measures all frames")
    codings = [VideoCoding(codec, quantiser) for quantiser in quantisers]
    for clip in clips:
        frames = clip.load()
        # Coding of the next goes on while networks restore this one.
        for coding, coded in zip(codings, Encodes(clip.name, frames).ahead(codings), strict=True):
            yield from evaluate_coded(
                clip.name, frames, coding, coded, methods, every, sample_frames
            )


def evaluate_coded(
    name: str,
    frames: Sequence[Frame],
    coding: VideoCoding,
    coded: CodedClip,
    methods: Sequence[Method],
    every: int = 1,
    sample_frames: SampleFrames | None = None,
) -> Iterator[VideoRow]:
    """Restore one coded clip by every method; see `evaluate_video`.

    Args:
        name: Goes into the rows.
        frames: The source.
        coding: Coder and settings.
        coded: What they made of it.
        methods: Networks and post-filters.
        every: Measure frames 0, N, 2N and so on.
        sample_frames: Keeps the frames with most and least gain.
    """
    indices = range(0, len(frames), every)
    clean = [frames[index].y for index in indices]
    psnr_in, ssim_in = scores(clean, [coded.frames[index].y for index in indices])
    for method in methods:
        pictures = method.restored(coded, coding, indices)
        if sample_frames:
            subject = Subject(name, coding.quantiser, method.name)
            pictures = sample_frames.watched(subject, frames, coded.frames, indices, pictures)
        psnr_out, ssim_out = scores(clean, pictures)
        yield VideoRow(
            network=method.name,
            codec=coding.codec,
            clip=name,
            quantiser=coding.quantiser,
            frames=len(indices),
            kbps=coded.kbps,
            psnr_in=float(np.mean(psnr_in)),
            psnr_out=float(np.mean(psnr_out)),
            ssim_in=ssim_in,
            ssim_out=ssim_out,
            worst_frame_gain_db=float(np.min(np.subtract(psnr_out, psnr_in))),
        )


def scores(clean: Sequence[Luma], pictures: Iterable[Luma]) -> tuple[list[float], float]:
    """PSNR in dB of every picture, 100 for an equal one, and mean SSIM of at most 10.

    Args:
        clean: Luma of the source, ``(H, W)`` uint8 each.
        pictures: As many to judge.

    Raises:
        DataError: A picture has another size, or one smaller than the window of SSIM.
    """
    with_ssim = set(_evenly_spaced(len(clean), SSIM_FRAMES))
    decibels: list[float] = []
    likenesses: list[float] = []
    for index, (reference, picture) in enumerate(zip(clean, pictures, strict=True)):
        decibels.append(min(PSNR_CAP_DB, psnr(reference, picture)))
        if index in with_ssim:
            likenesses.append(ssim(reference, picture, window=SSIM_WINDOW))
    return decibels, float(np.mean(likenesses))


def _evenly_spaced(count: int, most: int) -> list[int]:
    """At most ``most`` of ``range(count)``, the first and last included.

    Example:
        >>> _evenly_spaced(7, 4)
        [0, 2, 4, 6]
    """
    return [round(place) for place in np.linspace(0, count - 1, min(count, most))]
