"""Detectors: heads recognised and decoded, frames fitted and boxes led back."""

import textwrap
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgecar.errors import EngineError, SettingsError
from edgecar.evaluate import detector as detector_module
from edgecar.evaluate.detector import COCO_CLASSES, Detector
from edgecar.evaluate.detector_decoders import Detections, head_of, without_overlaps
from tests.evaluate.detectors import SIDE_PX, grid, strides_of, write_detector

FAMILIES = {
    "yolox raw": "YOLOX",
    "yolox decoded": "YOLOX",
    "yolov5": "YOLOv5",
    "yolov8": "YOLOv8/11",
    "end to end": "YOLO, end to end",
    "named": "boxes, labels, scores",
}
SIZE = (64, 96)
CELLS = len(grid(SIZE))


def frame_with_square(size: tuple[int, int], left: int, top: int, side: int) -> np.ndarray:
    picture = np.zeros((*size, 3), np.uint8)
    picture[top : top + side, left : left + side] = (0, 0, 255)  # red: heads that mix up blue fail
    return picture


@pytest.mark.parametrize("family", FAMILIES)
def test_a_square_is_found_where_it_is(tmp_path, family):
    """Frames of 192×96 are halved to 96×48: 16 px are left over below, 8 above if centred."""
    detector = Detector(write_detector(tmp_path / "d.onnx", family))
    assert detector.head.name == FAMILIES[family]
    assert detector.size == SIZE
    found = detector(frame_with_square((96, 192), 112, 32, 16)).at_least(0.5)
    if family == "named":  # stretched instead: 16 px become 8 wide and 10.7 high
        assert len(found.scores) >= 1
        assert found.boxes[0][[0, 2]].mean() == pytest.approx(120, abs=0.01)
        assert found.boxes[0][[1, 3]].mean() == pytest.approx(40, abs=96 / 64 * 4)
    else:
        half = SIDE_PX  # half a box, doubled on the way back
        assert found.boxes == pytest.approx(
            np.array([[120 - half, 40 - half, 120 + half, 40 + half]]), abs=0.01
        )
        assert found.scores == pytest.approx([1.0], abs=1e-3)
    assert found.classes.tolist() == [0] * len(found.classes)


def test_boxes_end_at_the_frame(tmp_path):
    detector = Detector(write_detector(tmp_path / "d.onnx", "yolox raw"))
    found = detector(frame_with_square(SIZE, 0, 56, 8)).at_least(0.5)
    assert found.boxes == pytest.approx(np.array([[0, 54, 10, 64]]), abs=1e-3)
    assert len(detector(np.zeros((*SIZE, 3), np.uint8)).scores) == 0


# Heads on tensors made by hand.


def test_yolox_cells_are_numbered_like_the_reference():
    """YOLOX's own demo_postprocess: meshgrid of columns and rows, a grid after the other."""
    grids, expanded = [], []
    for stride in (8, 16, 32):
        xv, yv = np.meshgrid(np.arange(SIZE[1] // stride), np.arange(SIZE[0] // stride))
        grids.append(np.stack((xv, yv), 2).reshape(1, -1, 2))
        expanded.append(np.full((*grids[-1].shape[:2], 1), stride))
    places, steps = np.concatenate(grids, 1), np.concatenate(expanded, 1)
    random = np.random.default_rng(1)
    raw = random.normal(size=(1, CELLS, 85)).astype(np.float32)
    raw[..., 4:] = random.random(raw[..., 4:].shape)
    expected = raw.copy()
    expected[..., :2] = (raw[..., :2] + places) * steps
    expected[..., 2:4] = np.exp(raw[..., 2:4]) * steps
    found = head_of({"output": raw}, SIZE).decode({"output": raw}, SIZE)
    centres = (found.boxes[:, :2] + found.boxes[:, 2:]) / 2
    assert centres == pytest.approx(expected[0, :, :2], abs=1e-3)
    assert found.boxes[:, 2:] - found.boxes[:, :2] == pytest.approx(
        expected[0, :, 2:4], rel=1e-4, abs=1e-3
    )
    scores = expected[0, :, 4:5] * expected[0, :, 5:]
    assert found.scores == pytest.approx(scores.max(1))
    assert (found.classes == scores.argmax(1)).all()
    assert (strides_of(SIZE)[:, 0] == steps[0, :, 0]).all()


def test_yolov5_multiplies_by_objectness_and_yolov8_has_none():
    five = np.zeros((1, 3 * CELLS, 85), np.float32)
    five[0, 7] = [50, 30, 20, 10, 0.5, *[0.0] * 79, 0.8]
    eight = np.zeros((1, 84, CELLS), np.float32)
    eight[0, :, 9] = [50, 30, 20, 10, *[0.0] * 79, 0.8]
    for values, name, score in ((five, "YOLOv5", 0.4), (eight, "YOLOv8/11", 0.8)):
        head = head_of({"output0": values}, SIZE)
        assert (head.name, head.classes, head.fit, head.colours) == (name, 80, "centre", "rgb")
        found = head.decode({"output0": values}, SIZE).at_least(0.01)
        assert found.boxes.tolist() == [[40, 25, 60, 35]]
        assert (found.scores.tolist(), found.classes.tolist()) == (pytest.approx([score]), [79])


def test_fastestdet_has_a_box_a_cell_of_one_map():
    """As its own ``handle_preds``: one cell, its centre half a cell to the right and one up."""
    values = np.zeros((1, 85, 22, 24), np.float32)
    offsets, sides = np.arctanh([0.5, -0.999]), np.log([0.25 / 0.75, 1.0])
    values[0, :, 7, 10] = [0.8, *offsets, *sides, *[0.0] * 79, 0.4]
    head = head_of({"758": values}, (352, 384))
    assert (head.name, head.classes, head.fit, head.colours) == ("FastestDet", 80, "stretch", "bgr")
    (found,) = [head.decode({"758": values}, (352, 384)).at_least(0.01)]
    x, y = 16 * 10.5, 16 * 6.001
    expected = [x - 48, y - 88, x + 48, y + 88]
    assert found.boxes == pytest.approx(np.array([expected]), abs=1e-3)
    assert (found.scores, found.classes) == (pytest.approx([0.8**0.6 * 0.4**0.4]), [79])


def test_rows_and_columns_tell_heads_apart():
    cells = sum((128 // stride) ** 2 for stride in (8, 16, 32, 64))  # four grids of large models
    assert head_of({"o": np.zeros((1, 84, cells), np.float32)}, (128, 128)).name == "YOLOv8/11"
    values = np.zeros((1, CELLS, 6), np.float32)  # one class, or an end-to-end head
    assert head_of({"o": values}, SIZE).name == "YOLOX"
    assert head_of({"o": values[:, :100]}, SIZE).name == "YOLO, end to end"


@pytest.mark.parametrize(
    "outputs",
    [
        {"a": np.zeros((1, 85, 22, 22), np.float32), "b": np.zeros((1, 85, 11, 11), np.float32)},
        {"o": np.zeros((1, 17, 84), np.float32)},
        {"a": np.zeros((1, CELLS, 85), np.float32), "b": np.zeros((1, CELLS, 85), np.float32)},
        {"boxes": np.zeros((3, 4), np.float32), "scores": np.zeros(3, np.float32)},
    ],
    ids=["two maps", "17 rows", "two grids", "no labels"],
)
def test_other_heads_are_refused_in_one_line(outputs):
    with pytest.raises(EngineError, match="head is not understood: at 96x64 it gives") as refused:
        head_of(outputs, SIZE)
    assert "\n" not in str(refused.value)


def test_overlaps_go_within_a_class_and_the_best_stays():
    boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [1, 0, 11, 10], [6, 0, 16, 10]], np.float32)
    scores = np.array([0.6, 0.9, 0.5, 0.7], np.float32)
    classes = np.array([0, 0, 1, 0])
    left = without_overlaps(Detections(boxes, scores, classes))
    kept = sorted(zip(left.scores.tolist(), left.classes.tolist(), strict=True))
    # IoU of the first two is 0.82; of the second and the last 0.33; the third is of another class.
    assert kept == [(0.5, 1), (pytest.approx(0.7), 0), (pytest.approx(0.9), 0)]


# The file and its names.


def test_classes_are_called_as_the_file_says(tmp_path):
    names = {"names": "{0: 'lamp', 1: 'cone'}", "task": "detect"}
    detector = Detector(write_detector(tmp_path / "d.onnx", "yolov8", metadata=names))
    assert [detector.class_name(number) for number in (0, 1, 2)] == ["lamp", "cone", "class 2"]
    assert Detector(write_detector(tmp_path / "e.onnx", "yolov8")).class_name(0) == "class 0"
    untold = Detector(write_detector(tmp_path / "f.onnx", "named"))
    assert untold.class_name(79) == "toothbrush"  # taken for COCO's
    assert len(set(COCO_CLASSES)) == 80
    assert [COCO_CLASSES[n] for n in (0, 9, 79)] == ["person", "traffic light", "toothbrush"]


def test_files_that_will_not_do_are_explained(tmp_path, exported):
    (tmp_path / "text.onnx").write_text("no graph")
    (tmp_path / "xs.onnx").write_bytes(exported("edgecar-xs").onnx)
    write_detector(tmp_path / "map.onnx", "maps")
    write_detector(tmp_path / "seg.onnx", "yolov8", metadata={"task": "segment"})
    for name, words in (
        ("absent", r"no detector .*absent.onnx; give an ONNX file"),
        ("text", "ONNX Runtime refuses detector"),
        ("map", r"map.onnx: the detector's head is not understood"),
        ("seg", "is made to segment; give a detector"),
        ("xs", "need a detector of one picture"),
    ):
        with pytest.raises(EngineError, match=words):
            Detector(tmp_path / f"{name}.onnx")
    path = write_detector(tmp_path / "d.onnx", "yolov8")
    assert Detector(path, (64, 64)).size == SIZE  # the graph's own
    with pytest.raises(SettingsError, match="in steps of 32; try 96x64"):
        Detector(write_detector(tmp_path / "odd.onnx", "yolov8", (56, 72)))


def test_the_example_with_supervision_runs(tmp_path, monkeypatch):
    pytest.importorskip("supervision", reason="supervision is not installed")
    write_detector(tmp_path / "yolox_nano.onnx", "yolox raw")
    grey = np.full((180, 240, 3), 40, np.uint8)
    grey[64:128, 64:128] = 255
    cv2.imwrite(str(tmp_path / "frame.png"), grey)
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(textwrap.dedent(detector_module.__doc__.partition("draws:\n")[2]), names)
    assert np.ptp(names["shown"].astype(int), axis=2).max() > 100  # what has a colour was drawn


DATA = Path(__file__).parents[2].parent / "shared" / "data"


@pytest.mark.slow
@pytest.mark.skipif(not DATA.exists(), reason=f"needs {DATA}")
@pytest.mark.parametrize(
    ("name", "least"),
    [("yolox_nano_416x416", 0.40), ("deimv2_femto", 0.45), ("FastestDet", 0.30)],
)
def test_real_detectors_find_what_people_marked(name, least):
    """Mean AP50 over classes on COCO pictures is 0.50, 0.55 and 0.34 by the authors' tools."""
    from edgecar.evaluate.average_precision import Ranking
    from edgecar.evaluate.marked import labels_of, yolo_boxes

    detector = Detector(DATA / "detectors" / f"{name}.onnx")
    folder = DATA / "coco" / "images"
    truth, found = [], []
    for path in sorted(folder.glob("*.jpg")):
        picture = cv2.imread(str(path))
        truth.append(yolo_boxes(labels_of(folder) / f"{path.stem}.txt", picture.shape[:2]))
        found.append(detector(picture))
    classes = {int(number) for each in truth for number in each.classes}
    each = [
        Ranking([t.of_classes([n]) for t in truth], [f.of_classes([n]) for f in found]).precision()
        for n in classes
    ]
    assert np.mean(each, axis=0)[0] > least
