"""Boxes that people marked: where they lie, and what their files say."""

import numpy as np
import pytest

from edgecar.errors import DataError
from edgecar.evaluate.marked import ground_truth_of, labels_of, mot_boxes, yolo_boxes


@pytest.mark.parametrize(
    ("pictures", "labels"),
    [("images", "labels"), ("images/val", "labels/val"), ("both", "both")],
)
def test_labels_lie_where_yolo_has_them(tmp_path, pictures, labels):
    folder = tmp_path / "set" / pictures
    for each in (folder, tmp_path / "set" / labels):
        each.mkdir(parents=True, exist_ok=True)
    assert labels_of(folder) is None
    (tmp_path / "set" / labels / "a.txt").write_text("")
    assert labels_of(folder) == tmp_path / "set" / labels


@pytest.mark.parametrize(
    ("clip", "truth"),
    [
        ("a.mp4", "a.gt.txt"),
        ("MOT17-02/img1", "MOT17-02/gt/gt.txt"),
        ("frames", "frames/gt.txt"),
        ("frames", "frames/gt/gt.txt"),
    ],
)
def test_ground_truth_lies_where_mot_has_it(tmp_path, clip, truth):
    path = tmp_path / clip
    if not path.suffix:
        path.mkdir(parents=True)
    assert ground_truth_of(path) is None
    (tmp_path / truth).parent.mkdir(exist_ok=True)
    (tmp_path / truth).write_text("")
    assert ground_truth_of(path) == tmp_path / truth


def test_shares_become_pixels(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("2 0.5 0.25 0.5 0.5\n\n0 0.1 0.5 0.2 1\n")
    found = yolo_boxes(path, (100, 200))
    assert found.boxes == pytest.approx(np.array([[50, 0, 150, 50], [0, 0, 40, 100]]), abs=1e-4)
    assert (found.classes.tolist(), found.scores.tolist()) == ([2, 0], [1, 1])
    assert len(yolo_boxes(tmp_path / "absent.txt", (100, 200)).scores) == 0


def test_only_pedestrians_that_are_seen_count(tmp_path):
    path = tmp_path / "gt.txt"
    path.write_text(
        "1,1,11,21,30,40,1,1,1\n"
        "1,2,1,1,10,10,0,1,1\n"  # not to be considered
        "1,3,1,1,10,10,1,7,1\n"  # a statue
        "1,4,1,1,10,10,1,1,0.1\n"  # hardly seen
        "3,1,11,21,30,40,1,1,0.5\n"
    )
    first, none, third = mot_boxes(path, [0, 1, 2], person=4)
    assert first.scores.tolist() == [1, 0, 0, 0]
    assert first.boxes[0].tolist() == [10, 20, 40, 60]
    assert (first.classes.tolist(), len(none.scores)) == ([4] * 4, 0)
    (halved,) = mot_boxes(path, [2], person=4, scale=0.5)
    assert halved.boxes.tolist() == [[5, 10, 20, 30]]
    assert third.boxes.tolist() == [[10, 20, 40, 60]]


def test_what_is_no_table_is_explained(tmp_path):
    path = tmp_path / "gt.txt"
    for text in ("1,2,3", "a,b,c,d,e,f,g,h,i"):
        path.write_text(text)
        with pytest.raises(DataError, match=r"gt.txt is no table of 9 numbers a line"):
            mot_boxes(path, [0], 0)
