"""Frames worth looking at: those that a network gains most and least on, kept while it measures."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from edgecar.evaluate.detector_decoders import Detections
from edgecar.evaluate.metrics import PSNR_CAP_DB, Luma, psnr
from edgecar.media.frame import Colour, Frame, chroma_size

MOST = 8
"""Frames to keep, if there are not more networks than half of it: a page that one still reads."""
GREY = 128  # chroma code of no colour


@dataclass(frozen=True)
class Subject:
    """What is being looked at.

    Attributes:
        clip: Or picture.
        quantiser: CRF, QP or JPEG quality.
        network: Or post-filter.
        variant: What else there is to say of the coding, in words.
    """

    clip: str
    quantiser: int
    network: str
    variant: str = ""


@dataclass(frozen=True)
class Marks:
    """What a detector says of one frame, held against what it says of the source.

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
        """Objects missed and objects that are not there."""
        return len(self.missed.scores) + len(self.false.scores)


@dataclass(frozen=True)
class Boxes:
    """Detections on the three pictures of an exhibit, and what their classes are called."""

    source: Detections
    coded: Marks
    restored: Marks
    names: dict[int, str]


@dataclass(frozen=True, eq=False)
class SampleFrame:
    """One frame before coding, after it, and restored.

    Attributes:
        subject: Where it comes from.
        index: Of the frame in its clip.
        gain: In dB of luma PSNR, or mistakes fewer if ``boxes`` are given.
        source: Before coding.
        coded: As decoded.
        restored: Its luma is the network's; its chroma may be that of ``coded``.
        boxes: Of a detector.
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
        """No two frames share it."""
        return self.subject, self.index


class SampleFrames:
    """Keeps, for every network, the frames that it gains most and least on.

    No more than one of each kind from a clip, and from no more clips than make `MOST` frames in
    all, so that memory does not grow with what is measured.

    Args:
        networks: How many will be shown.
        most: Frames to keep in all; two for every network at least.
    """

    def __init__(self, networks: int, most: int = MOST) -> None:
        self._clips = max(1, most // (2 * max(1, networks)))
        self._best: dict[str, list[SampleFrame]] = {}
        self._worst: dict[str, list[SampleFrame]] = {}

    def wants(self, subject: Subject, gain: float) -> bool:
        """Whether a frame with this gain would be kept."""
        return self._is_best(subject, gain) or self._is_worst(subject, gain)

    def offer(self, exhibit: SampleFrame) -> None:
        """Keep a frame, if it is among the extremes, in the place of a lesser one."""
        subject, gain = exhibit.subject, exhibit.gain
        if self._is_best(subject, gain):
            _put(self._best.setdefault(subject.network, []), exhibit, self._clips, -1)
        if self._is_worst(subject, gain):
            _put(self._worst.setdefault(subject.network, []), exhibit, self._clips, 1)

    def watched(
        self,
        subject: Subject,
        sources: Sequence[Frame],
        coded: Sequence[Frame],
        indices: Iterable[int],
        pictures: Iterable[Luma],
    ) -> Iterator[Luma]:
        """The same pictures, looked at as they pass.

        Args:
            subject: What they are.
            sources: All frames of the clip.
            coded: The same, as decoded.
            indices: Which of them were restored.
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
        """Keep a frame, if its PSNR makes it worth it.

        Args:
            subject: Where it comes from.
            index: Of the frame in its clip.
            source: Before coding.
            coded: As decoded.
            restored: ``(H, W)`` luma.

        Raises:
            DataError: ``restored`` has another size than ``source``.
        """
        after_db, before_db = (
            min(PSNR_CAP_DB, psnr(source.y, luma)) for luma in (restored, coded.y)
        )
        gain = after_db - before_db
        if self.wants(subject, gain):
            # A copy: filters give views of all their frames at once.
            cleaned = coded.with_luma(np.array(restored))
            self.offer(SampleFrame(subject, index, gain, source, coded, cleaned))

    def best(self) -> list[SampleFrame]:
        """Most gained first; those of all networks take turns."""
        return _in_turns(self._best)

    def worst(self) -> list[SampleFrame]:
        """Most lost, or least gained, first, without those that are among the best."""
        best = {exhibit.key for exhibit in self.best()}
        return [exhibit for exhibit in _in_turns(self._worst) if exhibit.key not in best]

    def _is_best(self, subject: Subject, gain: float) -> bool:
        return _surpasses(self._best.get(subject.network, []), subject, gain, self._clips, -1)

    def _is_worst(self, subject: Subject, gain: float) -> bool:
        return _surpasses(self._worst.get(subject.network, []), subject, gain, self._clips, 1)


def _surpasses(
    kept: Sequence[SampleFrame], subject: Subject, gain: float, most: int, sign: int
) -> bool:
    """Whether a frame comes before the one that it would replace; ``sign`` 1: lowest first."""
    for exhibit in kept:
        if exhibit.subject.clip == subject.clip:
            return sign * gain < sign * exhibit.gain
    return len(kept) < most or sign * gain < sign * kept[-1].gain


def _put(kept: list[SampleFrame], exhibit: SampleFrame, most: int, sign: int) -> None:
    """In order, one a clip, no more than ``most``."""
    others = [other for other in kept if other.subject.clip != exhibit.subject.clip]
    kept[:] = sorted([*others, exhibit], key=lambda one: sign * one.gain)[:most]


def _in_turns(kept: dict[str, list[SampleFrame]]) -> list[SampleFrame]:
    longest = max(map(len, kept.values()), default=0)
    return [own[turn] for turn in range(longest) for own in kept.values() if turn < len(own)]


def frame_of_luma(luma: Luma) -> Frame:
    """A grey picture as a frame.

    Args:
        luma: ``(H, W)`` uint8, full range.
    """
    height, width = luma.shape
    chroma = np.full(chroma_size((height, width)), GREY, np.uint8)
    return Frame(luma, chroma, chroma, colour=Colour(full_range=True))
