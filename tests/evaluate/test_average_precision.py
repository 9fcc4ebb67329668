"""Average precision in one ranking, its intervals, and marks of frames."""

import contextlib
import io

import numpy as np
import pytest

from edgecar.errors import DataError
from edgecar.evaluate.average_precision import Ranking, drawn, interval, marks
from edgecar.evaluate.detector_decoders import Detections

BOX = (10, 10, 30, 30)


def frame(*objects) -> Detections:
    """Objects as ``(box, score, class)``."""
    boxes = np.array([box for box, *_ in objects], np.float32).reshape(-1, 4)
    scores = np.array([score for _, score, _ in objects], np.float32)
    return Detections(boxes, scores, np.array([number for *_, number in objects], np.int64))


def moved(box, pixels):
    left, top, right, bottom = box
    return left + pixels, top, right + pixels, bottom


def drawn_scene(seed: int, count: int = 12) -> tuple[list[Detections], list[Detections]]:
    """Truth, and what a poor detector makes of it: boxes moved, missed and made up."""
    random = np.random.default_rng(seed)
    truth, found = [], []
    for _ in range(count):
        boxes = [(moved(BOX, 40 * place), 0.9, int(random.integers(3))) for place in range(4)]
        guessed = [
            (moved(box, random.uniform(0, 12)), random.random(), number)
            for box, _, number in boxes
            if random.random() < 0.8
        ]
        guessed.append((moved(BOX, 300), random.random(), int(random.integers(3))))
        truth.append(frame(*boxes))
        found.append(frame(*guessed))
    return truth, found


def precise(truth, found):
    each = Ranking(truth, found).precision()
    return each[0], each.mean()


@pytest.mark.parametrize(
    ("pixels", "ap50", "ap"),
    [
        (0, 1, 1.0),
        # 20 px wide, moved by 2: IoU 18 / 22 = 0.82 passes 0.50 to 0.80, seven of ten.
        (2, 1, 0.7),
        (6, 1, 0.1),  # 14 / 26 = 0.54
        (8, 0, 0.0),  # 12 / 28 = 0.43
    ],
)
def test_how_well_a_box_must_fit(pixels, ap50, ap):
    found = [frame((moved(BOX, pixels), 0.8, 7))]  # classes do not matter
    assert precise([frame((BOX, 1, 0))], found) == pytest.approx((ap50, ap))


def test_by_hand():
    """Two objects; found by falling score: one, a wrong one, the other.

    Precision is 1 to recall 0.5 and 2/3 beyond: 51 of the 101 points of recall at 1, 50 at 2/3.
    """
    truth = [frame((BOX, 1, 0)), frame((moved(BOX, 50), 1, 0))]
    found = [
        frame((moved(BOX, 200), 0.8, 0), (BOX, 0.9, 0)),  # not sorted; frames make one ranking
        frame((moved(BOX, 50), 0.7, 0)),
    ]
    assert precise(truth, found)[0] == pytest.approx((51 + 50 * 2 / 3) / 101)


def by_pycocotools(truth, found):
    """Return AP at 0.50 and over 0.50 to 0.95 of boxes that are all of one class."""
    coco = pytest.importorskip("pycocotools.coco", reason="pycocotools is not installed")
    from pycocotools.cocoeval import COCOeval

    def listed(frames):
        boxes = [
            {"image_id": place, "category_id": 1, "iscrowd": 0, "score": score,
             "bbox": [left, top, right - left, bottom - top],
             "area": (right - left) * (bottom - top)}
            for place, each in enumerate(frames)
            for (left, top, right, bottom), score in zip(
                each.boxes.tolist(), each.scores.tolist(), strict=True
            )
        ]  # fmt: skip
        made = coco.COCO()
        made.dataset = {
            "images": [{"id": place} for place in range(len(frames))],
            "categories": [{"id": 1}],
            "annotations": [{"id": number, **box} for number, box in enumerate(boxes, 1)],
        }
        made.createIndex()
        return made

    with contextlib.redirect_stdout(io.StringIO()):
        judge = COCOeval(listed(truth), listed(found), "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    return judge.stats[1], judge.stats[0]


@pytest.mark.parametrize("seed", range(4))
def test_pycocotools_says_the_same(seed):
    truth, found = drawn_scene(seed, 30)
    assert precise(truth, found) == pytest.approx(by_pycocotools(truth, found))


def test_an_ignored_object_counts_neither_way():
    truth = [frame((BOX, 1, 0), (moved(BOX, 100), 0, 0))]
    on_it = frame((moved(BOX, 100), 0.9, 0), (moved(BOX, 102), 0.8, 0), (BOX, 0.7, 0))
    assert precise(truth, [on_it]) == pytest.approx((1, 1))
    assert Ranking(truth, [frame()]).boxes == 1
    assert precise(truth, [frame()]) == (0, 0)
    judged = marks(truth[0], frame((moved(BOX, 100), 0.9, 0)), 0.25)
    assert (len(judged.missed.scores), len(judged.false.scores)) == (1, 0)


def test_a_resample_is_what_its_frames_would_give():
    truth, found = drawn_scene(3)
    taken = np.array([0, 0, 3, 11, 5, 5, 5, 2, 9, 1, 0, 4])
    again = Ranking([truth[i] for i in taken], [found[i] for i in taken]).precision()[0]
    ranking = Ranking(truth, found)
    whole, resample = ranking.resampled([np.ones(12, int), np.bincount(taken, minlength=12)])
    assert whole == pytest.approx(ranking.precision()[0])
    assert resample == pytest.approx(again) != pytest.approx(whole)


@pytest.mark.parametrize(("count", "length"), [(1, 1), (2, 1), (7, 1), (49, 9), (60, 10)])
def test_frames_of_a_clip_are_drawn_with_their_neighbours(count, length):
    draws = np.array(drawn([count], resamples=200, seed=4))
    assert draws.shape == (200, count)
    assert (draws.sum(axis=1) == count).all()
    # A frame and the next one are drawn equally often, but where a run begins or ends.
    changes = (draws != np.roll(draws, 1, axis=1)).sum(axis=1)
    runs = -(-count // length)
    assert changes.max() <= 2 * runs
    assert draws.sum(axis=0).min() > 0.6 * 200  # each is drawn 200 times, ± 45 or so
    assert (np.array(drawn([count], 200, 4)) == draws).all()
    if count > 2:
        assert (np.array(drawn([count], 200, 5)) != draws).any()


def test_clips_are_drawn_whole_times_and_pictures_are_clips():
    draws = np.array(drawn([30, 20, 50], resamples=300))
    parts = [part.sum(axis=1) for part in np.split(draws, [30, 50], axis=1)]
    times = [part // length for part, length in zip(parts, (30, 20, 50), strict=True)]
    assert all((part % length == 0).all() for part, length in zip(parts, (30, 20, 50), strict=True))
    assert (np.sum(times, axis=0) == 3).all()
    assert {0, 1, 2, 3} == set(times[0].tolist())
    pictures = np.array(drawn([1] * 40, resamples=300))
    assert (pictures.sum(axis=1) == 40).all()
    assert pictures.max() > 2


@pytest.mark.slow
def test_an_interval_holds_the_truth_of_frames_that_were_not_seen():
    """Of 24 samples of 40 frames, the interval holds the AP of 400 in most.

    It should in 23; fewer than 17 have a chance below 1 in 10,000 if it is right.
    """
    truth, found = drawn_scene(0, 400)
    whole = Ranking(truth, found).precision()[0]
    held = 0
    for part in range(24):
        indices = np.random.default_rng(part).integers(0, 400, 40)
        ranking = Ranking([truth[i] for i in indices], [found[i] for i in indices])
        low, high = interval(ranking.resampled(drawn([40], 300, part)))
        assert low < high
        held += low <= whole <= high
    assert held >= 17


def test_resamples_without_any_object_are_passed_over():
    ranking = Ranking(
        [frame((BOX, 1, 0)), frame(), frame()], [frame((BOX, 0.9, 0)), frame(), frame()]
    )
    values = ranking.resampled([np.array([0, 2, 1]), np.array([2, 1, 0])])
    assert np.isnan(values).tolist() == [True, False]
    assert interval(values) == (pytest.approx(1), pytest.approx(1))


def test_what_cannot_be_measured_is_explained():
    with pytest.raises(DataError, match="got detections of 1 frames for 2"):
        Ranking([frame(), frame()], [frame()])
    with pytest.raises(DataError, match="got no object in 2 frames"):
        Ranking([frame(), frame((BOX, 0, 0))], [frame(), frame()])


def test_marks_of_a_frame_are_found_missed_and_false():
    objects = [(10, 10, 20, 20), (30, 10, 40, 20), (50, 10, 60, 20)]
    truth = frame(*zip(objects, (1, 1, 1), (0, 0, 1), strict=True))
    seen = frame(
        ((10, 10, 20, 19), 0.9, 0),
        (objects[1], 0.2, 0),  # too unsure to count
        ((80, 10, 90, 20), 0.6, 0),
        (objects[2], 0.7, 0),  # of another class, which is not compared
    )
    judged = marks(truth, seen, 0.25)
    assert judged.found.boxes[:, 0].tolist() == [10, 50]
    assert judged.found.scores == pytest.approx([0.9, 0.7])
    assert judged.missed.boxes[:, 0].tolist() == [30]
    assert judged.false.boxes[:, 0].tolist() == [80]
    assert judged.mistakes == 2
    nothing = marks(truth, frame(), 0.25)
    assert (len(nothing.found.scores), len(nothing.missed.scores), nothing.mistakes) == (0, 3, 3)


def test_marks_do_not_depend_on_detections_that_are_too_unsure():
    seen = frame((BOX, 0.1, 0), ((10, 10, 30, 26), 0.8, 0))  # the better fit is the unsure one
    for found in (seen, seen.at_least(0.25)):
        judged = marks(frame((BOX, 1, 0)), found, 0.25)
        assert judged.found.boxes.tolist() == [[10, 10, 30, 26]]
        assert judged.mistakes == 0
