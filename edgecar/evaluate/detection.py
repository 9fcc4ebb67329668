"""The detection study: an object detector on coded and on restored clips.

The protocol of Aqqa and Shah, "CAR-CNN", VISAPP 2020, section 5.2: what the detector finds on the
source is the truth; it runs again on the coded clip and on the output of FFmpeg's post-filters and
of networks.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol, TypedDict

import numpy as np
from numpy.typing import NDArray

from edgecar.errors import SettingsError
from edgecar.evaluate.average_precision import Matches, Pair, drawn_frames, interval, resampled
from edgecar.evaluate.clips import Clip
from edgecar.evaluate.detector import LOWEST_SCORE, Detector
from edgecar.evaluate.detector_decoders import Detections
from edgecar.evaluate.encodes import Encodes, frames_sha256
from edgecar.evaluate.sample_frames import Boxes, SampleFrame, SampleFrames, Subject
from edgecar.files import atomic_write, cache_folder
from edgecar.media.color import bgr_from_frame
from edgecar.media.frame import Frame
from edgecar.media.video_codec import CodedClip, VideoCoding

CODED = "coded"
SPP = "spp"
FORMAT = "1"
"""Version of stored detections: raise it when frames are prepared for detectors in another way."""

Interval = tuple[float, float]


class ClassRow(TypedDict):
    """One class: boxes of it in the truth, mAP at IoU 0.50 and over 0.50 to 0.95."""

    name: str
    boxes: int
    map50: float
    map: float


class DetectionRow(TypedDict):
    """Precision of a detector on one clip at one quantiser, after one network or post-filter.

    ``network`` is ``coded`` for the clip as it was decoded. mAP is from 0 to 1, ``map50`` at IoU
    0.50 and ``map`` the mean over 0.50 to 0.95, against the ``boxes`` that the detector finds in
    ``frames`` frames of the source with at least ``confidence``; ``rare_boxes`` are those of
    classes with fewer than ``least_boxes``, which are left out. ``over_`` is the difference to the
    coded clip and to ``spp``, None where there is none. Intervals hold 95 % of 1000 resamples of
    the frames, the same ones for both sides of a difference. ``kbps`` is at 25 frames a second.
    """

    network: str
    detector: str
    head: str
    confidence: float
    least_boxes: int
    codec: str
    clip: str
    quantiser: int
    kbps: float
    frames: int
    boxes: int
    rare_boxes: int
    map50: float
    map50_interval: Interval
    map: float
    map_interval: Interval
    over_coded50: float | None
    over_coded50_interval: Interval | None
    over_coded: float | None
    over_coded_interval: Interval | None
    over_spp50: float | None
    over_spp50_interval: Interval | None
    over_spp: float | None
    over_spp_interval: Interval | None
    classes: list[ClassRow]


class Cleaner(Protocol):
    """A network or post-filter that is evaluated."""

    @property
    def name(self) -> str:
        """Name in the rows."""
        ...

    def frames(
        self, coded: CodedClip, coding: VideoCoding, indices: Sequence[int]
    ) -> Iterable[Frame]:
        """Yield the restored frames with these indices."""
        ...

    def setting(self, coding: VideoCoding) -> str:
        """Return everything that the output depends on besides the frames."""
        ...


class AsDecoded:
    """The coded clip itself, unchanged."""

    name = CODED

    def frames(
        self, coded: CodedClip, coding: VideoCoding, indices: Sequence[int]
    ) -> Iterator[Frame]:
        """Yield the decoded frames with these indices."""
        del coding
        return (coded.frames[index] for index in indices)

    def setting(self, coding: VideoCoding) -> str:
        """Return nothing."""
        del coding
        return ""


@dataclass(frozen=True)
class Study:
    """Settings of the study.

    Attributes:
        detector: Detector to run.
        confidence: Lowest score of a detection on the source that counts as an object.
        least_boxes: Classes with fewer objects on the source are left out.
        every: Detect on frames 0, N, 2N and so on.
        seed: Seed of the resamples.
    """

    detector: Detector
    confidence: float = 0.25
    least_boxes: int = 10
    every: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        if not LOWEST_SCORE <= self.confidence < 1:
            raise SettingsError(
                f"confidence is {self.confidence}; need {LOWEST_SCORE} to 1, as 0.25"
            )
        if self.every < 1:
            raise SettingsError(f"every is {self.every}; need at least 1, which takes all frames")


def evaluate_detection(
    clips: Iterable[Clip],
    codings: Sequence[VideoCoding],
    cleaners: Sequence[Cleaner],
    study: Study,
    sample_frames: SampleFrames | None = None,
) -> Iterator[DetectionRow]:
    """Detect on every clip, coded in every way, as it is decoded and after every cleaner.

    Detections are stored in the cache, so that a study that is run again makes only missing ones.

    Args:
        clips: Source clips.
        codings: Coders and their settings.
        cleaners: Networks and post-filters; ``spp``, if it is among them, comes first.
        study: Detector and settings.
        sample_frames: Collects the frames where mistakes fall most and rise most.

    Yields:
        A row per clip, coding and cleaner, in this order, the coded clip before all cleaners.

    Raises:
        MediaError: A clip cannot be decoded or coded.
        DataError: The detector finds nothing in a source.
        EngineError: The detector or a network fails.
    """
    for clip in clips:
        source = _Source(clip.name, clip.load(), study)
        found = source.detections(source.key, (source.frames[index] for index in source.indices))
        truth = [each.at_least(study.confidence) for each in found]
        draws = drawn_frames(len(truth), seed=study.seed)
        for coding in codings:
            coded = _Coded(source, coding)
            measured: dict[str, _Measured] = {}
            for cleaner in (AsDecoded(), *cleaners):
                matches = Matches(truth, coded.found_by(cleaner), study.least_boxes)
                own = _Measured(matches, matches.precision(), resampled(matches, draws))
                if sample_frames and cleaner.name != CODED:
                    before = measured[CODED].matches
                    _sample(sample_frames, coded, cleaner, truth, before, matches)
                yield _row(coded, cleaner.name, own, measured)
                measured[cleaner.name] = own


@dataclass(frozen=True)
class _Source:
    """A clip before coding."""

    name: str
    frames: list[Frame]
    study: Study

    @cached_property
    def key(self) -> str:
        """Key of the frames that the detector sees."""
        shown = f"{self.study.detector.sha256} {self.study.detector.size} {self.study.every}"
        words = f"{FORMAT} {shown} {frames_sha256(self.frames)}"
        return hashlib.sha256(words.encode()).hexdigest()

    @property
    def indices(self) -> range:
        """Numbers of the frames that the detector sees."""
        return range(0, len(self.frames), self.study.every)

    def detections(self, key: str, frames: Iterable[Frame]) -> list[Detections]:
        """Return the detections on these frames, read from the file of ``key`` if there is one."""
        path = _path(key, ".npz")
        if not path.exists():
            found = [self.study.detector(bgr_from_frame(frame)) for frame in frames]
            with atomic_write(path) as temporary:
                np.savez_compressed(
                    temporary,
                    counts=np.array([len(each.scores) for each in found]),
                    boxes=np.concatenate([each.boxes for each in found]),
                    scores=np.concatenate([each.scores for each in found]),
                    classes=np.concatenate([each.classes for each in found]),
                )
        with np.load(path) as table:
            ends = np.cumsum(table["counts"])[:-1]
            parts = (np.split(table[name], ends) for name in ("boxes", "scores", "classes"))
            return [Detections(*each) for each in zip(*parts, strict=True)]


@dataclass(frozen=True)
class _Coded:
    """A clip after a coder, which runs when it is first needed."""

    source: _Source
    coding: VideoCoding

    @cached_property
    def clip(self) -> CodedClip:
        """The clip, coded and decoded."""
        return Encodes(self.source.name, self.source.frames).coded(self.coding)

    @property
    def kbps(self) -> float:
        """Rate of the coded clip, stored beside the detections."""
        path = _path(f"{self.source.key} {self.coding}", ".txt")
        if not path.exists():
            with atomic_write(path) as temporary:
                temporary.write_text(repr(self.clip.kbps), encoding="utf-8")
        return float(path.read_text(encoding="utf-8"))

    def found_by(self, cleaner: Cleaner) -> list[Detections]:
        """Return the detections on the output of a cleaner."""
        key = f"{self.source.key} {self.coding} {cleaner.name} {cleaner.setting(self.coding)}"

        def shown() -> Iterator[Frame]:  # nothing is coded for stored detections
            yield from cleaner.frames(self.clip, self.coding, self.source.indices)

        return self.source.detections(key, shown())


def _path(key: str, suffix: str) -> Path:
    return cache_folder("detections") / f"{hashlib.sha256(key.encode()).hexdigest()}{suffix}"


def _sample(
    sample_frames: SampleFrames,
    coded: _Coded,
    cleaner: Cleaner,
    truth: Sequence[Detections],
    before: Matches,
    after: Matches,
) -> None:
    """Offer the frames of a clip whose mistakes change most; only these are restored again.

    A frame with as many mistakes as before is not kept: nothing could be seen on it.
    """
    source = coded.source
    study = source.study
    counted = {entry.number for entry in after.by_class()}
    subject = Subject(source.name, coded.coding.quantiser, cleaner.name)
    marks = [
        (before.marks(place, study.confidence), after.marks(place, study.confidence))
        for place in range(after.frames)
    ]
    fewer = [was.mistakes - now.mistakes for was, now in marks]
    for place in dict.fromkeys((int(np.argmax(fewer)), int(np.argmin(fewer)))):
        if not fewer[place] or not sample_frames.wants(subject, fewer[place]):
            continue
        index = source.indices[place]
        names = {number: study.detector.class_name(number) for number in counted}
        boxes = Boxes(truth[place].of_classes(counted), *marks[place], names)
        (restored,) = cleaner.frames(coded.clip, coded.coding, [index])
        frames = source.frames[index], coded.clip.frames[index], restored
        sample_frames.offer(SampleFrame(subject, index, float(fewer[place]), *frames, boxes))


@dataclass(frozen=True)
class _Measured:
    """Precision of one cleaner on a coded clip, over all frames and over resamples."""

    matches: Matches
    precision: Pair
    resamples: NDArray[np.float64]


def _row(coded: _Coded, name: str, own: _Measured, others: Mapping[str, _Measured]) -> DetectionRow:
    study = coded.source.study
    classes = own.matches.by_class()
    over_coded, over_spp = (_over(own, others.get(other)) for other in (CODED, SPP))
    interval50, interval_all = _intervals(own.resamples)
    return DetectionRow(
        network=name,
        detector=study.detector.name,
        head=study.detector.head.name,
        confidence=study.confidence,
        least_boxes=study.least_boxes,
        codec=coded.coding.codec,
        clip=coded.source.name,
        quantiser=coded.coding.quantiser,
        kbps=coded.kbps,
        frames=own.matches.frames,
        boxes=sum(entry.boxes for entry in classes),
        rare_boxes=own.matches.rare_boxes,
        map50=float(own.precision[0]),
        map50_interval=interval50,
        map=float(own.precision[1]),
        map_interval=interval_all,
        over_coded50=over_coded[0][0],
        over_coded50_interval=over_coded[0][1],
        over_coded=over_coded[1][0],
        over_coded_interval=over_coded[1][1],
        over_spp50=over_spp[0][0],
        over_spp50_interval=over_spp[0][1],
        over_spp=over_spp[1][0],
        over_spp_interval=over_spp[1][1],
        classes=[
            ClassRow(
                name=study.detector.class_name(entry.number),
                boxes=entry.boxes,
                map50=entry.ap50,
                map=entry.ap,
            )
            for entry in classes
        ],
    )


Difference = tuple[float | None, Interval | None]


def _over(own: _Measured, other: _Measured | None) -> tuple[Difference, Difference]:
    """Return the gain over another cleaner at IoU 0.50 and over all, None if there is no other."""
    if other is None:
        return (None, None), (None, None)
    at50, over_all = own.precision - other.precision
    interval50, interval_all = _intervals(own.resamples - other.resamples)
    return (float(at50), interval50), (float(over_all), interval_all)


def _intervals(resamples: NDArray[np.float64]) -> tuple[Interval, Interval]:
    """Return the intervals at IoU 0.50 and over all."""
    return interval(resamples[:, 0]), interval(resamples[:, 1])
