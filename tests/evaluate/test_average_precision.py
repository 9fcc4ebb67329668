"""Mean average precision and its intervals."""

from itertools import pairwise

import numpy as np
import pytest

pytest.importorskip("pycocotools", reason="pycocotools is not installed")

from edgecar.errors import DataError
from edgecar.evaluate.average_precision import Matches, drawn_frames, interval, resampled
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
    found = [frame((moved(BOX, pixels), 0.8, 0), (BOX, 0.1, 7))]  # of an absent class: no matter
    assert Matches([frame((BOX, 1, 0))], found).precision() == pytest.approx([ap50, ap])


def test_by_hand():
    """Two objects; found by falling score: one, a wrong one, the other.

    Precision is 1 to recall 0.5 and 2/3 beyond: 51 of the 101 points of recall at 1, 50 at 2/3.
    """
    truth = [frame((BOX, 1, 0), (moved(BOX, 50), 1, 0))]
    found = [frame((BOX, 0.9, 0), (moved(BOX, 200), 0.8, 0), (moved(BOX, 50), 0.7, 0))]
    assert Matches(truth, found).precision()[0] == pytest.approx((51 + 50 * 2 / 3) / 101)


def test_classes_count_alike_and_rare_ones_are_left_out():
    truth = [frame((BOX, 1, 3), (moved(BOX, 50), 1, 3), (moved(BOX, 100), 1, 5))]
    found = [frame((moved(BOX, 100), 0.9, 5), (moved(BOX, 100), 0.8, 1))]
    matches = Matches(truth, found)
    assert matches.precision() == pytest.approx([0.5, 0.5])
    assert [entry[:3] for entry in matches.by_class()] == [(3, 2, 0), (5, 1, pytest.approx(1))]
    assert matches.rare_boxes == 0
    matches = Matches(truth, found, least_boxes=2)
    assert matches.precision() == pytest.approx([0, 0])
    assert [entry[:2] for entry in matches.by_class()] == [(3, 2)]
    assert matches.rare_boxes == 1


def test_a_resample_is_what_its_frames_would_give():
    truth, found = drawn_scene(3)
    drawn = np.array([0, 0, 3, 11, 5, 5, 5, 2, 9, 1, 0, 4])
    again = Matches([truth[i] for i in drawn], [found[i] for i in drawn])
    matches = Matches(truth, found)
    assert matches.precision(drawn) == pytest.approx(again.precision())
    assert matches.precision(drawn) != pytest.approx(matches.precision())
    assert matches.precision(np.arange(12)) == pytest.approx(matches.precision())


@pytest.mark.parametrize(("count", "length"), [(1, 1), (2, 1), (7, 1), (49, 9), (60, 10)])
def test_frames_are_drawn_with_their_neighbours(count, length):
    draws = drawn_frames(count, resamples=200, seed=4)
    assert len(draws) == 200
    for frames in draws:
        assert len(frames) == count
        runs = frames[: count // length * length].reshape(-1, length)
        assert ((np.diff(runs, axis=1) % count) == 1 % count).all()
    counts = np.bincount(np.concatenate(draws), minlength=count)
    assert counts.min() > 0.6 * counts.mean()  # each is drawn 200 times, ± 45 or so
    assert (drawn_frames(count, 200, 4)[7] == draws[7]).all()
    if count > 2:
        assert any((a != b).any() for a, b in pairwise(draws))
        assert (drawn_frames(count, 200, 5)[7] != draws[7]).any()


@pytest.mark.slow
def test_an_interval_holds_the_truth_of_frames_that_were_not_seen():
    """Of 24 samples of 40 frames, the interval holds the mAP of 400 in most.

    It should in 23; fewer than 17 have a chance below 1 in 10,000 if it is right.
    """
    truth, found = drawn_scene(0, 400)
    whole = Matches(truth, found).precision()[0]
    held = 0
    for part in range(24):
        indices = np.random.default_rng(part).integers(0, 400, 40)
        matches = Matches([truth[i] for i in indices], [found[i] for i in indices])
        low, high = interval(resampled(matches, drawn_frames(40, 60, part))[:, 0])
        assert low < high
        held += low <= whole <= high
    assert held >= 17


def test_resamples_without_any_object_are_passed_over():
    truth = [frame((BOX, 1, 0)), frame(), frame()]
    matches = Matches(truth, [frame((BOX, 0.9, 0)), frame(), frame()])
    assert np.isnan(matches.precision(np.array([1, 2, 1]))).all()
    draws = [np.array([1, 2, 1]), np.array([0, 0, 1])]
    assert interval(resampled(matches, draws)[:, 0]) == (pytest.approx(1), pytest.approx(1))


def test_what_cannot_be_measured_is_explained():
    with pytest.raises(DataError, match="got detections of 1 frames for 2"):
        Matches([frame(), frame()], [frame()])
    with pytest.raises(DataError, match="got 0 objects in 2 source frames and no class with 1"):
        Matches([frame(), frame()], [frame(), frame()])
    with pytest.raises(DataError, match=r"got 1 objects .* 10 of them; lower --confidence"):
        Matches([frame((BOX, 1, 0))], [frame()], least_boxes=10)


def test_marks_of_a_frame_are_found_missed_and_false():
    objects = [(10, 10, 20, 20), (30, 10, 40, 20), (50, 10, 60, 20)]
    truth = [frame(*zip(objects, (1, 1, 1), (0, 0, 1), strict=True))] * 2
    seen = frame(
        ((10, 10, 20, 19), 0.9, 0),
        (objects[1], 0.2, 0),  # too unsure to count
        ((80, 10, 90, 20), 0.6, 0),
        (objects[2], 0.7, 0),  # of the wrong class
    )
    matches = Matches(truth, [seen, frame()])
    marks = matches.marks(0, 0.25)
    assert marks.found.boxes.tolist() == [[10, 10, 20, 19]]
    assert marks.found.scores == pytest.approx([0.9])
    assert sorted(marks.missed.boxes[:, 0].tolist()) == [30, 50]
    assert sorted(marks.missed.classes.tolist()) == [0, 1]
    assert sorted(marks.false.boxes[:, 0].tolist()) == [50, 80]
    assert marks.mistakes == 4
    nothing = matches.marks(1, 0.25)
    assert (len(nothing.found.scores), len(nothing.missed.scores), nothing.mistakes) == (0, 3, 3)


def test_marks_do_not_depend_on_detections_that_are_too_unsure():
    seen = frame((BOX, 0.1, 0), ((10, 10, 30, 26), 0.8, 0))  # the better fit is the unsure one
    for found in (seen, seen.at_least(0.25)):
        marks = Matches([frame((BOX, 1, 0))], [found]).marks(0, 0.25)
        assert marks.found.boxes.tolist() == [[10, 10, 30, 26]]
        assert marks.mistakes == 0
