"""The studies of quality: JPEG, video and the papers' variants, before and after restoration."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any, Literal

import numpy as np

from edgecar.errors import DataError, SettingsError
from edgecar.evaluate.clips import Clip, Pictures, frame_of_luma
from edgecar.evaluate.encodes import Source
from edgecar.evaluate.metrics import PSNR_CAP_DB, Luma, Window, capped_psnr, flicker, psnr_b, ssim
from edgecar.evaluate.sample_frames import SampleFrames, sample_of
from edgecar.evaluate.study import AsDecoded, Coded, JpegCoding, Method, Row, row_key, run
from edgecar.evaluate.tables import gain_db, grouped
from edgecar.evaluate.variants import variants
from edgecar.media.video_codec import VideoCodec, VideoCoding

SSIM_FRAMES = 10
"""Most frames of a clip that SSIM is measured on, because it takes as long as a small network."""
MEASURES = {
    "jpeg": ("psnr", "ssim", "psnrb"),
    "video": ("psnr", "ssim"),
    "variants": ("psnr", "ssim", "psnrb", "flicker"),
}
Scores = dict[str, dict[int, float]]
"""Value of each measure by the number of the frame."""


def evaluate_jpeg(
    pictures: Pictures,
    set_name: str,
    qualities: Sequence[int],
    methods: Sequence[Method],
    sample_frames: SampleFrames | None = None,
) -> Iterator[Row]:
    """Code every picture at every JPEG quality, restore it, and average PSNR, SSIM and PSNR-B.

    SSIM has the uniform 7×7 window, so that rows compare with table 6 of the MSFAN paper.

    Args:
        pictures: Name and clean luma of each picture.
        set_name: Name of the set in the rows; ``Classic5`` and ``LIVE1`` have published values.
        qualities: JPEG qualities, 1 to 100.
        methods: Networks.
        sample_frames: Collects the pictures with most and least gain.

    Raises:
        DataError: There is no picture, or a method changes the size.
    """
    if not pictures:
        raise DataError(f"set {set_name} holds no picture; give a folder with some")
    codings = [(JpegCoding(q), {"set": set_name, "quality": q}) for q in qualities]
    names, lumas = zip(*pictures, strict=True)
    source = Source(set_name, list(map(frame_of_luma, lumas)), names)
    return run([source], lambda _: codings, methods, _Quality("jpeg", 1, sample_frames))


def evaluate_video(
    clips: Iterable[Clip],
    codec: VideoCodec,
    quantisers: Sequence[int],
    methods: Sequence[Method],
    every: int = 1,
    sample_frames: SampleFrames | None = None,
) -> Iterator[Row]:
    """Code every clip at every quantiser (medium, key frames at most 60 apart) and restore it.

    Args:
        clips: Source clips.
        codec: Coder.
        quantisers: CRF for ``h264``, QP for ``hevc``; 0 to 51.
        methods: Networks and post-filters.
        every: Measure frames 0, N, 2N and so on; SSIM (Gaussian) at most 10 of them.
        sample_frames: Collects the frames with most and least gain.

    Yields:
        A row per clip, quantiser and method, in this order.

    Raises:
        SettingsError: ``every`` is below 1.
        MediaError: A clip cannot be decoded or coded; a quantiser is out of range.
        DataError: A method changes the size, or a clip is smaller than the window of SSIM.
    """
    codings = [VideoCoding(codec, quantiser) for quantiser in quantisers]

    def codings_of(source: Source) -> Iterator[tuple[VideoCoding, Row]]:
        for coding in codings:
            yield coding, {"codec": codec, "clip": source.name, "quantiser": coding.quantiser}

    sources = (Source(clip.name, clip.load()) for clip in clips)
    return run(sources, codings_of, methods, _Quality("video", every, sample_frames))


def evaluate_variants(
    clips: Iterable[Clip],
    codec: VideoCodec,
    quantisers: Sequence[int],
    methods: Sequence[Method],
    every: int = 1,
    done: Collection[tuple[Any, ...]] = (),
    sample_frames: SampleFrames | None = None,
) -> Iterator[Row]:
    """Code every clip in every variant of the papers and restore it.

    PSNR-B is measured too, and flicker from each measured frame to the next of the clip. ``done``
    has the keys (`row_key`) of rows to leave out; the rest is as in `evaluate_video`.
    """

    def codings_of(source: Source) -> Iterator[tuple[VideoCoding, Row]]:
        for coding, columns in variants(codec, source.frames[0].size, quantisers):
            yield coding, {"clip": source.name, **columns}

    sources = (Source(clip.name, clip.load()) for clip in clips)
    return run(sources, codings_of, methods, _Quality("variants", every, sample_frames), done)


def extremes(rows: Iterable[Mapping[str, Any]]) -> set[tuple[Any, ...]]:
    """Return the keys of the rows of variants that each network gains most and least on."""
    return {row_key(end(own, key=gain_db)) for own in grouped(rows).values() for end in (max, min)}


class _Quality:
    """Measures luma of coded and restored frames; offers frames to be shown."""

    def __init__(
        self,
        kind: Literal["jpeg", "video", "variants"],
        every: int,
        sample_frames: SampleFrames | None,
    ) -> None:
        if every < 1:
            raise SettingsError(f"every is {every}; need at least 1, which measures all frames")
        self._kind, self._every, self._sample_frames = kind, every, sample_frames
        self._coded: Coded | None = None
        self._before: Scores = {}

    def __call__(self, coded: Coded, method: Method, row: Row) -> Row:
        if coded is not self._coded:  # all methods share what was measured of it
            self._before = self._scores(coded, AsDecoded())
            self._coded = coded
        after = self._scores(coded, method, row)
        found: Row = {
            f"{measure}_{end}": fmean(scores[measure].values()) if scores[measure] else None
            for measure in MEASURES[self._kind]
            for end, scores in (("in", self._before), ("out", after))
        }
        if self._kind != "jpeg":
            found |= {"frames": len(after["psnr"]), "kbps": coded.clip.kbps}
        if self._kind != "variants":
            worst = "worst_picture_gain_db" if self._kind == "jpeg" else "worst_frame_gain_db"
            before = self._before["psnr"]
            found[worst] = min(db - before[i] for i, db in after["psnr"].items())
        return found

    def _scores(self, coded: Coded, method: Method, row: Row | None = None) -> Scores:
        """Score pictures as they come, and offer those of a row to be shown; two are kept."""
        sources, jpeg = coded.source.frames, self._kind == "jpeg"
        scores: Scores = {measure: {} for measure in MEASURES[self._kind]}
        measured = range(0, len(sources), self._every)
        spread = np.linspace(0, len(measured) - 1, min(len(measured), SSIM_FRAMES))
        with_ssim = measured if jpeg else {measured[round(place)] for place in spread}
        successors = {i + 1 for i in measured if "flicker" in scores and i + 1 < len(sources)}
        indices = sorted({*measured, *successors})
        last: Luma = np.empty((0, 0), np.uint8)
        for index, frame in zip(indices, method.frames(coded, indices), strict=True):
            clean, picture = sources[index].y, frame.y
            if index in measured:
                scores["psnr"][index] = capped_psnr(clean, picture)
                if index in with_ssim:
                    window: Window = "uniform" if jpeg else "gaussian"
                    scores["ssim"][index] = ssim(clean, picture, window=window)
                if "psnrb" in scores:
                    scores["psnrb"][index] = min(PSNR_CAP_DB, psnr_b(clean, picture))
                if row and self._sample_frames:
                    gain = scores["psnr"][index] - self._before["psnr"][index]
                    # A copy, because filters return views of all their frames at once.
                    restored = coded.clip.frames[index].with_luma(picture.copy())
                    self._sample_frames.offer(sample_of(coded, row, index, gain, restored))
            if "flicker" in scores and index - 1 in measured:
                change = flicker(sources[index - 1].y, clean, last, picture)
                if change is not None:
                    scores["flicker"][index] = change
            last = picture
        return scores
