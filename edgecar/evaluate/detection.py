"""The detection study: object detectors on coded and on restored frames.

As in Aqqa and Shah, "CAR-CNN", VISAPP 2020, section 5.2, what a detector finds on the source is the
truth, unless people marked the objects; it runs again on the coded frames and on the output of
FFmpeg's post-filters and of networks. Unlike there, all clips make one ranking: means of clips are
ruled by classes that are hardly ever seen.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgecar.errors import DataError, SettingsError
from edgecar.evaluate.average_precision import Counts, Ranking, drawn, interval, marks
from edgecar.evaluate.clips import Clip, load_colour_pictures, spread
from edgecar.evaluate.detector import LOWEST_SCORE, Detector
from edgecar.evaluate.detector_decoders import Detections
from edgecar.evaluate.encodes import Source
from edgecar.evaluate.marked import ground_truth_of, labels_of, mot_boxes, yolo_boxes
from edgecar.evaluate.sample_frames import Boxes, SampleFrames, sample_of
from edgecar.evaluate.study import CODED, AsDecoded, Coded, Coding, JpegCoding, Method, Row
from edgecar.evaluate.tables import MEAN_OF
from edgecar.files import atomic_write, cache_folder
from edgecar.media.color import bgr_from_frame
from edgecar.media.frame import Frame
from edgecar.media.video_codec import VideoCoding

SPP = "spp"
FORMAT = "3"
"""Version of stored detections: raise it when frames are prepared for detectors in another way."""
PERSON = "person"
GROUPS: dict[str, set[str]] = {
    "all": set(),  # every class
    PERSON: {PERSON, "pedestrian"},
    "vehicles": {"car", "truck", "bus", "motorcycle", "motorbike", "bicycle"},
}
"""Classes that are pooled, by the name of the group; a truck called a bus is found."""


@dataclass(frozen=True)
class Study:
    """Settings of the study.

    Attributes:
        detectors: Detectors to run, of different families where possible.
        people: Take boxes that people marked (`edgecar.evaluate.marked`) for the truth.
        confidence: Lowest score of a detection on the source that counts as an object.
        least_boxes: Groups of classes with fewer objects are left out.
        frames_per_clip: Frames to detect on, spread evenly over each clip; pictures all count.
        seed: Seed of the resamples.
    """

    detectors: Sequence[Detector]
    people: bool = False
    confidence: float = 0.25
    least_boxes: int = 10
    frames_per_clip: int = 50
    seed: int = 0

    def __post_init__(self) -> None:
        if not LOWEST_SCORE <= self.confidence < 1:
            raise SettingsError(
                f"confidence is {self.confidence}; need {LOWEST_SCORE} to 1, as 0.25"
            )
        names = [detector.name for detector in self.detectors]
        if not names or len(set(names)) < len(names):
            raise SettingsError(f"got detectors {names}; give one or more, of different names")


@dataclass
class _Collected:
    """Detections of all clips, frame by frame, and what was coded."""

    truth: dict[Detector, list[Detections]] = field(default_factory=dict)
    found: dict[tuple[Detector, Coding, str], list[Detections]] = field(default_factory=dict)
    kbps: dict[Coding, list[float]] = field(default_factory=dict)
    clips: list[str] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    groups: list[str] = field(default_factory=lambda: list(GROUPS))


@dataclass(frozen=True)
class _Measured:
    """Objects, AP at IoU 0.50 and over 0.50 to 0.95, and AP at 0.50 of every resample."""

    boxes: int
    ap50: float
    ap: float
    resamples: NDArray[np.float64]


def evaluate_detection(
    clips: Sequence[Clip],
    codings: Sequence[Coding],
    methods: Sequence[Method],
    study: Study,
    sample_frames: SampleFrames | None = None,
    progress: Callable[[int, int], object] = lambda _done, _all: None,
) -> list[Row]:
    """Detect on every clip, coded in every way, as it is decoded and after every method.

    Rows come by detector, then by group of classes (`GROUPS`), and last the means over detectors.
    AP, from 0 to 1, is that of all frames of all clips in one ranking. Differences are to the coded
    frames and to ``spp``, None where there is none. Intervals hold 95 % of 1000 resamples of clips
    and of runs of frames, the same ones for both sides of a difference. Detections are stored in
    the cache, so that a study that is run again makes only missing ones.

    Args:
        clips: Source clips; folders of pictures, each of which counts as a clip, for `JpegCoding`.
        codings: Coders and their settings, all of video or all of JPEG.
        methods: Networks and post-filters.
        study: Detectors and settings.
        sample_frames: Collects the frames where the first detector's mistakes change most.
        progress: Called with the number of codings and methods of clips done, and of all.

    Raises:
        MediaError: A clip cannot be decoded or coded.
        DataError: There are too few objects on the sources, or no boxes that people marked.
        EngineError: A detector or a network fails.
    """
    collected = _Collected()
    every: list[Method] = [AsDecoded(), *methods]
    count = len(clips) * len(codings) * len(every)
    pictures = isinstance(codings[0], JpegCoding)
    for number, clip in enumerate(clips):
        source, indices = _source(clip, study, pictures, collected)
        for place, coding in enumerate(codings):
            coded = Coded(source, coding)
            for step, method in enumerate(every):
                _collect(coded, method, indices, study, collected)
                if sample_frames and method.name != CODED:
                    _sample(sample_frames, coded, method, indices, study, collected)
                progress((number * len(codings) + place) * len(every) + step + 1, count)
    return list(_rows(collected, study))


def _collect(
    coded: Coded, method: Method, indices: Sequence[int], study: Study, collected: _Collected
) -> None:
    """Detect on frames of a coded clip after a method."""
    coding = coded.coding
    found, kbps = _detections(
        study.detectors,
        coded.source,
        indices,
        f"{coding} {method.name} {method.setting(coding)}",
        lambda: method.frames(coded, indices),
        lambda: coded.clip.kbps,
    )
    for detector, own in zip(study.detectors, found, strict=True):
        collected.found.setdefault((detector, coding, method.name), []).extend(own)
    if method.name == CODED:
        collected.kbps.setdefault(coding, []).append(kbps)


def people_marked(clip: Clip, pictures: bool) -> bool:
    """Return True if there are boxes that people marked on a clip or on a folder of pictures."""
    return bool(labels_of(clip.path) if pictures else ground_truth_of(clip.path))


def _source(
    clip: Clip, study: Study, pictures: bool, collected: _Collected
) -> tuple[Source, list[int]]:
    """Load a clip, choose its frames, and collect the truth on them."""
    paths: Sequence[Path] = []
    if pictures:
        paths, frames = load_colour_pictures(clip.path, clip.frames)
        numbers = list(range(len(frames)))
        indices = numbers
    else:
        numbers, frames = clip.numbered()
        indices = spread(len(frames), study.frames_per_clip)
    source = Source(clip.name, frames, [path.stem for path in paths])
    collected.clips.append(clip.name)
    collected.lengths += [1] * len(indices) if pictures else [len(indices)]
    if not study.people:
        clean = [frames[index] for index in indices]
        found, _ = _detections(study.detectors, source, indices, "", lambda: clean, lambda: 0.0)
        objects = [[each.at_least(study.confidence) for each in own] for own in found]
    elif (labels := labels_of(clip.path) if pictures else ground_truth_of(clip.path)) is None:
        raise DataError(f"{clip.path} has no boxes that people marked; add them or leave it out")
    elif pictures:
        pairs = zip(paths, frames, strict=True)
        objects = [[yolo_boxes(labels / f"{path.stem}.txt", one.size) for path, one in pairs]]
        objects *= len(study.detectors)
    else:
        collected.groups = [PERSON]
        shown, scale = [numbers[index] for index in indices], 0.5 if clip.halve else 1
        objects = [mot_boxes(labels, shown, _person(each), scale) for each in study.detectors]
    for detector, own in zip(study.detectors, objects, strict=True):
        collected.truth.setdefault(detector, []).extend(own)
    return source, indices


def _person(detector: Detector) -> int:
    numbers = _numbers_of(detector, PERSON)
    if not numbers:
        raise DataError(f"detector {detector.name} knows no person; give one that does")
    return numbers[0]


def _numbers_of(detector: Detector, group: str) -> list[int]:
    return [number for number, name in detector.class_names.items() if name in GROUPS[group]]


def _detections(
    detectors: Sequence[Detector],
    source: Source,
    indices: Sequence[int],
    words: str,
    frames: Callable[[], Iterable[Frame]],
    kbps: Callable[[], float],
) -> tuple[list[list[Detections]], float]:
    """Return each detector's detections on frames and the rate of the clip, from files if there.

    ``words`` are everything besides source, frames and detector that the pictures depend on.
    Nothing is coded or restored for stored detections, and once for all detectors otherwise.
    """

    def path_of(detector: Detector) -> Path:
        named = f"{FORMAT} {source.sha256} {indices} {detector.sha256} {detector.size} {words}"
        return cache_folder("detections") / f"{hashlib.sha256(named.encode()).hexdigest()}.npz"

    paths = [path_of(detector) for detector in detectors]
    missing = {path: one for path, one in zip(paths, detectors, strict=True) if not path.exists()}
    made: dict[Path, list[Detections]] = {path: [] for path in missing}
    for frame in frames() if missing else ():
        picture = bgr_from_frame(frame)
        for path, detector in missing.items():
            made[path].append(detector(picture))
    for path, own in made.items():
        with atomic_write(path) as temporary:
            counts = [len(each.scores) for each in own]
            arrays = vars(Detections.joined(own))
            np.savez_compressed(temporary, counts=counts, kbps=kbps(), **arrays)
    found: list[list[Detections]] = []
    for path in paths:
        with np.load(path) as table:
            ends = np.cumsum(table["counts"])[:-1]
            parts = (np.split(table[name], ends) for name in ("boxes", "scores", "classes"))
            found.append([Detections(*each) for each in zip(*parts, strict=True)])
            rate = float(table["kbps"])
    return found, rate


def _rows(collected: _Collected, study: Study) -> Iterator[Row]:
    """Yield the rows of each detector and of their mean."""
    draws = drawn(collected.lengths, seed=study.seed)
    by_group: dict[str, list[dict[tuple[Coding, str], _Measured]]] = {}
    for detector in study.detectors:
        there: dict[str, dict[tuple[Coding, str], _Measured]] = {}
        for group in collected.groups:
            measured = _measured(collected, detector, group, study.least_boxes, draws)
            if measured:
                there[group] = measured
                by_group.setdefault(group, []).append(measured)
        if not there:
            raise DataError(
                f"{detector.name}: got fewer than {study.least_boxes} objects on the sources; "
                "lower --confidence or --least-boxes, or take other clips"
            )
        for group, measured in there.items():
            names = detector.name, detector.head.name
            yield from _rows_of(collected, study, names, group, measured)
    for group, each in by_group.items():
        if 1 < len(each) == len(study.detectors):
            heads = ", ".join(detector.head.name for detector in study.detectors)
            mean = {key: _mean([one[key] for one in each]) for key in each[0]}
            yield from _rows_of(collected, study, (f"{MEAN_OF}{len(each)}", heads), group, mean)


def _measured(
    collected: _Collected, detector: Detector, group: str, least_boxes: int, draws: list[Counts]
) -> dict[tuple[Coding, str], _Measured]:
    """Measure one group of classes; nothing where there are too few objects of it."""
    numbers = _numbers_of(detector, group)

    def of_group(frames: list[Detections]) -> list[Detections]:
        return [each.of_classes(numbers) if GROUPS[group] else each for each in frames]

    truth = of_group(collected.truth[detector])
    if sum(int((each.scores > 0).sum()) for each in truth) < max(1, least_boxes):
        return {}
    measured: dict[tuple[Coding, str], _Measured] = {}
    for (who, coding, method), found in collected.found.items():
        if who is detector:
            ranking = Ranking(truth, of_group(found))
            precision = ranking.precision()
            measured[coding, method] = _Measured(
                ranking.boxes,
                float(precision[0]),
                float(precision.mean()),
                ranking.resampled(draws),
            )
    return measured


def _mean(each: list[_Measured]) -> _Measured:
    return _Measured(
        round(float(np.mean([one.boxes for one in each]))),
        float(np.mean([one.ap50 for one in each])),
        float(np.mean([one.ap for one in each])),
        np.mean([one.resamples for one in each], axis=0),
    )


def _rows_of(
    collected: _Collected,
    study: Study,
    names: tuple[str, str],
    group: str,
    measured: dict[tuple[Coding, str], _Measured],
) -> Iterator[Row]:
    """Yield the rows of a detector, or of the mean of detectors, on a group of classes."""
    for (coding, method), own in measured.items():
        video = isinstance(coding, VideoCoding)
        row: Row = {
            "network": method,
            "detector": names[0],
            "head": names[1],
            "objects": group,
            "truth": "people" if study.people else "detector",
            "confidence": study.confidence,
            "codec": coding.codec if isinstance(coding, VideoCoding) else "jpeg",
            "quantiser": coding.quantiser,
            "kbps": float(np.mean(collected.kbps[coding])) if video else None,
            "clips": collected.clips,
            "frames": sum(collected.lengths),
            "boxes": own.boxes,
            "ap50": own.ap50,
            "ap50_interval": interval(own.resamples),
            "ap": own.ap,
        }
        for name in (CODED, SPP):
            other = measured.get((coding, name), own)
            same = other is own
            row[f"over_{name}50"] = None if same else own.ap50 - other.ap50
            limits = interval(own.resamples - other.resamples)
            row[f"over_{name}50_interval"] = None if same else limits
            row[f"over_{name}"] = None if same else own.ap - other.ap
        row["recommendation"] = recommendation(row["over_coded50_interval"])
        yield row


def recommendation(limits: tuple[float, float] | None) -> str | None:
    """Return ``clean``, ``pass`` or ``either`` by the interval of the gain over the coded frames.

    Example:
        >>> [recommendation(each) for each in ((0.01, 0.03), (-0.03, -0.01), (-0.01, 0.02))]
        ['clean', 'pass', 'either']
    """
    if limits is None:
        return None
    return "clean" if limits[0] > 0 else "pass" if limits[1] < 0 else "either"


def _sample(
    sample_frames: SampleFrames,
    coded: Coded,
    method: Method,
    indices: Sequence[int],
    study: Study,
    collected: _Collected,
) -> None:
    """Offer the frames of a clip whose mistakes change most; only these are restored again.

    A frame with as many mistakes as before is not kept: nothing could be seen on it.
    """
    detector, coding = study.detectors[0], coded.coding
    truth, before, after = (
        frames[-len(indices) :]
        for frames in (
            collected.truth[detector],
            collected.found[detector, coding, CODED],
            collected.found[detector, coding, method.name],
        )
    )
    pairs = [
        (marks(objects, was, study.confidence), marks(objects, now, study.confidence))
        for objects, was, now in zip(truth, before, after, strict=True)
    ]
    fewer = [was.mistakes - now.mistakes for was, now in pairs]
    row = {"network": method.name}
    for place in {int(np.argmax(fewer)), int(np.argmin(fewer))}:
        gain, index = float(fewer[place]), indices[place]
        if gain and sample_frames.wants(method.name, coded.source.name, gain):
            objects = truth[place].taken(truth[place].scores > 0)
            boxes = Boxes(objects, *pairs[place], detector.class_names)
            (restored,) = method.frames(coded, [index])
            sample_frames.offer(sample_of(coded, row, index, gain, restored, boxes))
