"""Sample frames: those that a network gains most and least on, kept while it is measured."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from edgecar.evaluate.detector_decoders import Detections
from edgecar.evaluate.metrics import PSNR_CAP_DB, Luma, psnr
from edgecar.media.frame import Colour, Frame, chroma_size

MOST = 8
"""Frames to keep for up to four networks, so that the page stays readable."""
GREY = 128  # chroma code of no colour
Kind = Literal["best", "worst"]


@dataclass(frozen=True)
class Subject:
    """Origin of a frame.

    Attributes:
        clip: Name of the clip or picture.
        quantiser: CRF, QP or JPEG quality.
        network: Name of the network or post-filter.
        variant: Anything else about the coding, in words.
    """

    clip: str
    quantiser: int
    network: str
    variant: str = ""


@dataclass(frozen=True)
class Marks:
    """Detections on one frame, compared with the objects on its source.

    Attributes:
        found: Detections that match an object.
        missed: Objects that no detection matches.
        false: Detections that match no object.
    """

    found: Detections
    missed: Detections
    false: Detections

    @property
    def mistakes(self) -> int:
        """Number of missed objects and false detections."""
        return len(self.missed.scores) + len(self.false.scores)


@dataclass(frozen=True)
class Boxes:
    """Detections on the three pictures of a sample frame, and the names of their classes."""

    source: Detections
    coded: Marks
    restored: Marks
    names: dict[int, str]


@dataclass(frozen=True, eq=False)
class SampleFrame:
    """One frame before coding, after it, and restored.

    Attributes:
        subject: Origin of the frame.
        index: Number of the frame in its clip.
        gain: Gain in dB of luma PSNR; if ``boxes`` are given, the number of mistakes fewer.
        source: The frame before coding.
        coded: The decoded frame.
        restored: The restored frame; its chroma may be that of ``coded``.
        boxes: Detections of a detector.
    """

    subject: Subject
    index: int
    gain: float
    source: Frame
    coded: Frame
    restored: Frame
    boxes: Boxes | None = None

    @property
    def key(self) -> tuple[Subject, int]:
        """Unique key of the frame."""
        return self.subject, self.index


class SampleFrames:
    """Keeps, for every network, the frames that it gains most and least on.

    It keeps at most one frame of each kind from a clip, and `MOST` frames in all, so that memory
    does not grow with the size of the study.

    Args:
        networks: Number of networks in the study.
        most: Frames to keep in all, but at least two for every network.
    """

    def __init__(self, networks: int, most: int = MOST) -> None:
        self._clips = max(1, most // (2 * max(1, networks)))
        self._kept: dict[Kind, dict[str, list[SampleFrame]]] = {"best": {}, "worst": {}}

    def wants(self, subject: Subject, gain: float) -> bool:
        """Return True if a frame with this gain would be kept."""
        return bool(self._places(subject, gain))

    def offer(self, sample: SampleFrame) -> None:
        """Keep a frame if it is among the extremes, in place of a lesser one."""
        for kind in self._places(sample.subject, sample.gain):
            kept = self._kept[kind].setdefault(sample.subject.network, [])
            others = [other for other in kept if other.subject.clip != sample.subject.clip]
            ordered = sorted([*others, sample], key=lambda one: _SIGNS[kind] * one.gain)
            kept[:] = ordered[: self._clips]

    def watched(
        self,
        subject: Subject,
        sources: Sequence[Frame],
        coded: Sequence[Frame],
        indices: Iterable[int],
        pictures: Iterable[Luma],
    ) -> Iterator[Luma]:
        """Pass restored pictures through, keeping those with extreme gains.

        Args:
            subject: Origin of the pictures.
            sources: All frames of the clip.
            coded: All decoded frames.
            indices: Numbers of the restored frames.
            pictures: Restored luma of each.

        Raises:
            DataError: A picture has another size than its source.
        """
        for index, picture in zip(indices, pictures, strict=True):
            self.look_at(subject, index, sources[index], coded[index], picture)
            yield picture

    def look_at(
        self, subject: Subject, index: int, source: Frame, coded: Frame, restored: Luma
    ) -> None:
        """Keep a frame if its gain in PSNR is extreme.

        Args:
            subject: Origin of the frame.
            index: Number of the frame in its clip.
            source: The frame before coding.
            coded: The decoded frame.
            restored: ``(H, W)`` luma.

        Raises:
            DataError: ``restored`` has another size than ``source``.
        """
        after_db, before_db = (
            min(PSNR_CAP_DB, psnr(source.y, luma)) for luma in (restored, coded.y)
        )
        gain = after_db - before_db
        if self.wants(subject, gain):
            # A copy, because filters return views of all their frames at once.
            cleaned = coded.with_luma(np.array(restored))
            self.offer(SampleFrame(subject, index, gain, source, coded, cleaned))

    def best(self) -> list[SampleFrame]:
        """Return the frames gained most on, highest gain first; networks take turns."""
        return _in_turns(self._kept["best"])

    def worst(self) -> list[SampleFrame]:
        """Return the frames gained least on, lowest gain first, without those in `best`."""
        best = {sample.key for sample in self.best()}
        return [sample for sample in _in_turns(self._kept["worst"]) if sample.key not in best]

    def _places(self, subject: Subject, gain: float) -> list[Kind]:
        """Return the lists that a frame with this gain belongs to."""
        return [kind for kind in _SIGNS if self._surpasses(kind, subject, gain)]

    def _surpasses(self, kind: Kind, subject: Subject, gain: float) -> bool:
        """Return True if a frame comes before the one it would replace, or there is room."""
        kept, sign = self._kept[kind].get(subject.network, []), _SIGNS[kind]
        for sample in kept:
            if sample.subject.clip == subject.clip:
                return sign * gain < sign * sample.gain
        return len(kept) < self._clips or sign * gain < sign * kept[-1].gain


_SIGNS: dict[Kind, int] = {"best": -1, "worst": 1}
"""Sign by which gains are sorted, the most extreme first."""


def _in_turns(kept: dict[str, list[SampleFrame]]) -> list[SampleFrame]:
    longest = max(map(len, kept.values()), default=0)
    return [own[turn] for turn in range(longest) for own in kept.values() if turn < len(own)]


def frame_of_luma(luma: Luma) -> Frame:
    """Return a grey picture as a frame.

    Args:
        luma: ``(H, W)`` uint8, full range.
    """
    chroma = np.full(chroma_size((luma.shape[0], luma.shape[1])), GREY, np.uint8)
    return Frame(luma, chroma, chroma, colour=Colour(full_range=True))
