"""The detection study: an object detector on coded and on restored clips.

The protocol of Aqqa and Shah, "CAR-CNN", VISAPP 2020, section 5.2: what the detector finds on the
source is the truth; it runs again on the coded clip and on the output of FFmpeg's post-filters and
of networks.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgecar.errors import SettingsError
from edgecar.evaluate.average_precision import Matches, Pair, drawn_frames, interval, resampled
from edgecar.evaluate.clips import Clip
from edgecar.evaluate.detector import LOWEST_SCORE, Detector
from edgecar.evaluate.detector_decoders import Detections
from edgecar.evaluate.encodes import Source
from edgecar.evaluate.sample_frames import Boxes, SampleFrames, sample_of
from edgecar.evaluate.study import CODED, AsDecoded, Coded, Method, Row, run
from edgecar.files import atomic_write, cache_folder
from edgecar.media.color import bgr_from_frame
from edgecar.media.frame import Frame
from edgecar.media.video_codec import VideoCoding

SPP = "spp"
FORMAT = "2"
"""Version of stored detections: raise it when frames are prepared for detectors in another way."""


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
    methods: Sequence[Method],
    study: Study,
    sample_frames: SampleFrames | None = None,
) -> Iterator[Row]:
    """Detect on every clip, coded in every way, as it is decoded and after every method.

    mAP, from 0 to 1, is against what is found on the source; differences are to the coded clip and
    to ``spp``, None where there is none. Intervals hold 95 % of 1000 resamples of the frames, the
    same ones for both sides of a difference. Detections are stored in the cache, so that a study
    that is run again makes only missing ones.

    Args:
        clips: Source clips.
        codings: Coders and their settings.
        methods: Networks and post-filters; ``spp``, if it is among them, comes first.
        study: Detector and settings.
        sample_frames: Collects the frames where mistakes fall most and rise most.

    Raises:
        MediaError: A clip cannot be decoded or coded.
        DataError: The detector finds nothing in a source.
        EngineError: The detector or a network fails.
    """

    def codings_of(source: Source) -> Iterator[tuple[VideoCoding, Row]]:
        for coding in codings:
            columns = {"codec": coding.codec, "quantiser": coding.quantiser}
            yield coding, {"clip": source.name, **columns}

    sources = (Source(clip.name, clip.load()) for clip in clips)
    measure = _Detection(study, sample_frames)
    return run(sources, codings_of, [AsDecoded(), *methods], measure)


@dataclass(frozen=True)
class _Measured:
    """Precision after one method on a coded clip, over all frames and over resamples."""

    matches: Matches
    precision: Pair
    resamples: NDArray[np.float64]


class _Detection:
    """Measures detections; keeps the truth of one source and what was measured of one coding."""

    def __init__(self, study: Study, sample_frames: SampleFrames | None) -> None:
        self._study, self._sample_frames = study, sample_frames
        self._source: Source | None = None
        self._truth: list[Detections] = []
        self._coded: Coded | None = None
        self._measured: dict[str, _Measured] = {}

    def __call__(self, coded: Coded, method: Method, row: Row) -> Row:
        study, indices = self._study, range(0, len(coded.source.frames), self._study.every)
        if coded.source is not self._source:
            sources = [coded.source.frames[index] for index in indices]
            objects = self._detections(coded.source, "", lambda: sources, lambda: 0.0)[0]
            self._truth = [each.at_least(study.confidence) for each in objects]
            self._source = coded.source
        if coded is not self._coded:
            self._coded, self._measured = coded, {}
        found, kbps = self._detections(
            coded.source,
            f"{coded.coding} {method.name} {method.setting(coded.coding)}",
            lambda: method.frames(coded, indices),  # nothing is coded for stored detections
            lambda: coded.clip.kbps,
        )
        matches = Matches(self._truth, found, study.least_boxes)
        draws = drawn_frames(len(indices), seed=study.seed)
        own = _Measured(matches, matches.precision(), resampled(matches, draws))
        if self._sample_frames and method.name != CODED:
            self._sample(self._sample_frames, coded, method, row, matches)
        self._measured[method.name] = own
        classes = [
            {
                "name": study.detector.class_name(entry.number),
                "boxes": entry.boxes,
                "map50": entry.ap50,
                "map": entry.ap,
            }
            for entry in matches.by_class()
        ]
        return {
            "detector": study.detector.name,
            "head": study.detector.head.name,
            "confidence": study.confidence,
            "least_boxes": study.least_boxes,
            "kbps": kbps,
            "frames": matches.frames,
            "boxes": sum(entry["boxes"] for entry in classes),
            "rare_boxes": matches.rare_boxes,
            "classes": classes,
            **self._precision(own),
        }

    def _detections(
        self,
        source: Source,
        words: str,
        frames: Callable[[], Iterable[Frame]],
        kbps: Callable[[], float],
    ) -> tuple[list[Detections], float]:
        """Return detections on frames and the rate of the clip, from a file if there is one.

        ``words`` are everything besides source and detector that the frames depend on.
        """
        detector = self._study.detector
        of_source = f"{source.sha256} {detector.sha256} {detector.size} {self._study.every}"
        key = hashlib.sha256(f"{FORMAT} {of_source} {words}".encode()).hexdigest()
        path = cache_folder("detections") / f"{key}.npz"
        if not path.exists():
            made = [detector(bgr_from_frame(frame)) for frame in frames()]
            with atomic_write(path) as temporary:
                counts = [len(each.scores) for each in made]
                arrays = vars(Detections.joined(made))
                np.savez_compressed(temporary, counts=counts, kbps=kbps(), **arrays)
        with np.load(path) as table:
            ends = np.cumsum(table["counts"])[:-1]
            parts = (np.split(table[name], ends) for name in ("boxes", "scores", "classes"))
            return [Detections(*each) for each in zip(*parts, strict=True)], float(table["kbps"])

    def _precision(self, own: _Measured) -> Row:
        """Return mAP and its gains, at IoU 0.50 (``50``) and over 0.50 to 0.95, with intervals."""
        columns: Row = {}
        for place, suffix in enumerate(("50", "")):
            columns[f"map{suffix}"] = float(own.precision[place])
            columns[f"map{suffix}_interval"] = interval(own.resamples[:, place])
            for name in (CODED, SPP):
                gain, limits = None, None
                other = self._measured.get(name, own)
                if other is not own:
                    gain = float(own.precision[place] - other.precision[place])
                    limits = interval(own.resamples[:, place] - other.resamples[:, place])
                columns[f"over_{name}{suffix}"] = gain
                columns[f"over_{name}{suffix}_interval"] = limits
        return columns

    def _sample(
        self, sample_frames: SampleFrames, coded: Coded, method: Method, row: Row, after: Matches
    ) -> None:
        """Offer the frames of a clip whose mistakes change most; only these are restored again.

        A frame with as many mistakes as before is not kept: nothing could be seen on it.
        """
        study, before = self._study, self._measured[CODED].matches
        marks = [
            (before.marks(place, study.confidence), after.marks(place, study.confidence))
            for place in range(after.frames)
        ]
        fewer = [was.mistakes - now.mistakes for was, now in marks]
        for place in {int(np.argmax(fewer)), int(np.argmin(fewer))}:
            gain, index = float(fewer[place]), place * study.every
            if gain and sample_frames.wants(method.name, coded.source.name, gain):
                counted = [entry.number for entry in after.by_class()]
                objects = self._truth[place].of_classes(counted)
                boxes = Boxes(objects, *marks[place], study.detector.class_names)
                (restored,) = method.frames(coded, [index])
                sample_frames.offer(sample_of(coded, row, index, gain, restored, boxes))
