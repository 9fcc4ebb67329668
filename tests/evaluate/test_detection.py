"""The detection study: rows, differences, what is stored, and the command."""

import json
import re
from dataclasses import replace
from functools import partial

import cv2
import jsonschema
import numpy as np
import pytest

from edgecar.bench.results import SCHEMA_PATH
from edgecar.errors import DataError, MediaError, SettingsError
from edgecar.evaluate import detection
from edgecar.evaluate.average_precision import Ranking, drawn, interval
from edgecar.evaluate.clips import Clip
from edgecar.evaluate.detection import Study, evaluate_detection, people_marked
from edgecar.evaluate.detector import Detector
from edgecar.evaluate.encodes import Source
from edgecar.evaluate.sample_frames import SampleFrames
from edgecar.evaluate.study import CODED, JpegCoding
from edgecar.media.color import bgr_from_frame
from edgecar.media.video_codec import VideoCoding, video_coded
from tests.evaluate.conftest import Known, write_pictures
from tests.evaluate.detectors import write_detector

SIZE = (96, 128)
CODING = VideoCoding("h264", 40)
COARSE = VideoCoding("h264", 46)  # so coarse that every frame loses squares, whatever the bits
FRAMES = 10
few_draws = partial(drawn, resamples=60)  # of 1000, which take most of the time


@pytest.fixture(autouse=True)
def fewer_draws(monkeypatch):
    monkeypatch.setattr(detection, "drawn", few_draws)


@pytest.fixture
def study(tmp_path) -> Study:
    detector = Detector(write_detector(tmp_path / "squares.onnx", "yolov8", SIZE))
    return Study([detector], confidence=0.5, least_boxes=1)


def squares(folder, seed=2) -> Clip:
    """Bright squares on noise, some of them so small that coding wears them down."""
    random = np.random.default_rng(seed)
    noise = random.integers(0, 90, (*SIZE, 3), np.uint8)
    places = [(8 * x, 8 * y) for x in range(1, 15) for y in range(1, 11)]
    pictures = []
    for _ in range(FRAMES):
        picture = noise.copy()
        for number in random.choice(len(places), 8, replace=False):
            x, y = places[number]
            side = int(random.integers(4, 9))
            picture[y : y + side, x : x + side] = 255
        pictures.append(picture)
    return Clip(write_pictures(folder, pictures))


@pytest.fixture
def clip(tmp_path) -> Clip:
    return squares(tmp_path / "squares")


def restoring():
    """Return a method that gives the source, chroma included."""
    method = Known(name="oracle")

    def frames(coded, indices):
        for index in indices:
            method.indices.append(index)
            yield coded.source.frames[index]

    method.frames = frames
    return method


def blackening():
    return Known(lambda coded, _: np.zeros_like(coded), "black")


def detected(clip, coding, methods, study, samples=None):
    return evaluate_detection([clip], [coding], methods, study, samples)


def test_rows_are_what_their_parts_give(study, clip, tmp_path):
    """All frames of all clips make one ranking, and differences have the same resamples."""
    study = replace(study, seed=3)
    clips = [clip, squares(tmp_path / "others", 5)]
    coded_row, row = evaluate_detection(clips, [CODING], [Known()], study)
    (detector,) = study.detectors
    clean = [each.load() for each in clips]
    truth = [detector(bgr_from_frame(one)).at_least(0.5) for own in clean for one in own]
    coded = [video_coded(own, CODING) for own in clean]
    found = [detector(bgr_from_frame(one)) for own in coded for one in own.frames]
    ranking = Ranking(truth, found)
    precision = ranking.precision()
    assert (coded_row["ap50"], coded_row["ap"]) == pytest.approx((precision[0], precision.mean()))
    draws = few_draws([FRAMES, FRAMES], seed=3)
    assert coded_row["ap50_interval"] == pytest.approx(interval(ranking.resampled(draws)))
    assert 0 < coded_row["ap"] < 1
    assert coded_row["boxes"] == sum(len(frame.scores) for frame in truth) > 40
    assert (coded_row["clips"], coded_row["frames"]) == (["squares", "others"], 2 * FRAMES)
    assert coded_row["kbps"] == pytest.approx(np.mean([each.kbps for each in coded]))
    assert (coded_row["objects"], coded_row["truth"]) == ("all", "detector")
    # The same frames under another name: no difference, and not only on average.
    assert (row["over_coded"], row["over_coded50_interval"]) == (0, (0, 0))
    assert (coded_row["recommendation"], row["recommendation"]) == (None, "either")


def test_gains_and_losses_have_their_sign_and_an_interval(study, clip):
    methods = [Known(name="spp"), restoring(), blackening()]
    coded, spp, better, worse = detected(clip, COARSE, methods, study)
    assert coded["network"] == "coded"
    assert (coded["over_coded50"], coded["over_coded50_interval"]) == (None, None)
    assert coded["over_spp50"] == 0  # the other way round: what not filtering brings
    assert (spp["over_coded"], spp["over_spp"]) == (0, None)
    assert (better["ap50"], better["ap"]) == pytest.approx((1, 1))
    assert better["over_coded"] == better["over_spp"] == pytest.approx(1 - coded["ap"])
    low, high = better["over_coded50_interval"]
    assert 0 < low < better["over_coded50"] < high
    assert worse["ap50"] == 0
    recommended = [row["recommendation"] for row in (spp, better, worse)]
    assert recommended == ["either", "clean", "pass"]
    assert worse["over_coded50_interval"][1] < 0


def test_a_study_goes_on_where_it_stopped(study, clip, monkeypatch, own_cache):
    oracle, black = restoring(), blackening()
    first = detected(clip, CODING, [oracle], study)
    assert len(oracle.indices) == FRAMES

    def no_more(*_):
        raise AssertionError("was stored")

    with monkeypatch.context() as patched:
        patched.setattr(Source, "coded", no_more)
        assert detected(clip, CODING, [oracle], study) == first
    assert detected(clip, CODING, [oracle, black], study)[:2] == first
    assert (len(oracle.indices), len(black.indices)) == (FRAMES, FRAMES)

    def stop(*_):
        raise KeyboardInterrupt

    stored = set((own_cache / "detections").iterdir())
    with pytest.raises(KeyboardInterrupt):
        detected(clip, CODING, [Known(stop, "stopped")], study)
    assert set((own_cache / "detections").iterdir()) == stored  # nothing of what was interrupted


@pytest.mark.parametrize("change", ["setting", "coding", "frames", "detector", "source"])
def test_what_changed_is_detected_again(study, clip, tmp_path, change):
    oracle, coding = restoring(), CODING
    detected(clip, coding, [oracle], study)
    given = len(oracle.indices)
    if change == "setting":
        oracle.words = "2"
    if change == "coding":
        coding = VideoCoding("h264", 40, gop=5)
    if change == "frames":
        study = replace(study, frames_per_clip=5)
    if change == "detector":
        other = Detector(write_detector(tmp_path / "5.onnx", "yolov5", SIZE))
        study = replace(study, detectors=[*study.detectors, other])
    if change == "source":
        path = str(clip.path / "0004.png")
        cv2.imwrite(path, cv2.imread(path) // 2)
    detected(clip, coding, [oracle], study)
    assert len(oracle.indices) > given


def test_what_cannot_be_measured_is_explained(study, clip, tmp_path):
    with pytest.raises(SettingsError, match=r"confidence is 1.5; need 0.01 to 1"):
        replace(study, confidence=1.5)
    with pytest.raises(SettingsError, match=r"got detectors \[\]"):
        replace(study, detectors=[])
    with pytest.raises(DataError, match="fewer than 10000 objects on the sources; lower --conf"):
        detected(clip, CODING, [], replace(study, least_boxes=10_000))
    picture = np.zeros((95, 128, 3), np.uint8)
    picture[8:16, 8:16] = 255
    odd = Clip(write_pictures(tmp_path / "odd", [picture] * 2))
    with pytest.raises(MediaError, match="odd: clip is 128x95; 4:2:0 needs even sides"):
        detected(odd, CODING, [], study)


def test_frames_whose_mistakes_change_most_are_restored_again(study, clip):
    study = replace(study, frames_per_clip=5)
    plain = detected(clip, COARSE, [restoring(), blackening(), Known()], study)
    methods = good, bad, idle = restoring(), blackening(), Known()
    sample_frames = SampleFrames(3)
    assert detected(clip, COARSE, methods, study, sample_frames) == plain
    # Detections are stored: only what is shown is made.
    assert (len(good.indices) <= 2, len(bad.indices) <= 2, idle.indices) == (True, True, [])
    shown = {(one.network, kind): one for one, kind in sample_frames.shown()}
    assert {network for network, _ in shown} == {"oracle", "black"}  # idle changes no detection
    best = shown["oracle", "best"]
    assert best.boxes.restored.mistakes == 0
    assert best.gain == best.boxes.coded.mistakes > 0
    assert best.index in (0, 2, 4, 7, 9)
    clean = clip.load()
    assert np.array_equal(best.restored.y, clean[best.index].y)
    assert np.array_equal(best.coded.y, video_coded(clean, COARSE).frames[best.index].y)
    # What is found and what is missed make up the truth.
    marks = best.boxes.coded
    assert len(marks.found.scores) + len(marks.missed.scores) == len(best.boxes.source.scores)
    for one in (one for (network, _), one in shown.items() if network == "black"):
        assert len(one.boxes.restored.found.scores) == 0
        assert one.gain == one.boxes.coded.mistakes - one.boxes.restored.mistakes


NAMES = {"names": "{0: 'person', 1: 'car'}"}


def test_detectors_stand_beside_their_mean_and_persons_for_themselves(tmp_path, clip):
    detectors = [
        Detector(write_detector(tmp_path / f"{family}.onnx", family, SIZE, NAMES))
        for family in ("yolov8", "yolox raw")
    ]
    oracle = restoring()
    study = Study(detectors, confidence=0.5, least_boxes=1)
    rows = detected(clip, COARSE, [oracle], study)
    assert len(oracle.indices) == FRAMES  # restored once for both
    places = [(row["detector"], row["objects"]) for row in rows if row["network"] == "oracle"]
    names = ("yolov8", "yolox raw", "mean of 2")
    assert places == [(name, objects) for name in names for objects in ("all", "person")]
    one, other, mean = (row for row in rows if row["objects"] == "all" and row["network"] == CODED)
    assert mean["ap50"] == pytest.approx((one["ap50"] + other["ap50"]) / 2)
    # Every object is a person here, and no car is ever found.
    persons = [row for row in rows if row["objects"] == "person"]
    assert [row["ap50"] for row in persons] == [
        row["ap50"] for row in rows if row["objects"] == "all"
    ]


def test_vehicles_are_one_group_whatever_they_are_called(tmp_path, clip):
    names = {"names": "{0: 'truck', 1: 'bus'}"}
    detector = Detector(write_detector(tmp_path / "t.onnx", "yolov8", SIZE, names))
    rows = detected(clip, CODING, [], Study([detector], confidence=0.5))
    assert [row["objects"] for row in rows] == ["all", "vehicles"]


def test_pictures_are_coded_as_jpeg_and_judged_by_yolo_labels(tmp_path, clip):
    """The boxes of the labels are 12 px wide as the detector's own, so that it finds them all."""
    images = tmp_path / "images"
    clip.path.rename(images)
    labels = tmp_path / "labels"
    labels.mkdir()
    detector = Detector(write_detector(tmp_path / "p.onnx", "yolov8", SIZE, NAMES))
    marked = 0
    for path in images.iterdir():
        found = detector(cv2.imread(str(path))).at_least(0.5)
        centres = (found.boxes[:, :2] + found.boxes[:, 2:]) / 2 / (SIZE[1], SIZE[0])
        lines = [f"0 {x} {y} {12 / SIZE[1]} {12 / SIZE[0]}\n" for x, y in centres.tolist()]
        (labels / f"{path.stem}.txt").write_text("".join(lines[1:]))  # one is forgotten
        marked += len(lines) - 1
    pictures = Clip(images)
    assert people_marked(pictures, pictures=True)
    study = Study([detector], people=True, confidence=0.5, frames_per_clip=3)
    rough, fine = (JpegCoding(quality, colour=True) for quality in (5, 95))
    rows = evaluate_detection([pictures], [rough, fine], [restoring()], study)
    rows = [row for row in rows if row["objects"] == "all"]
    assert {(row["truth"], row["codec"], row["frames"]) for row in rows} == {
        ("people", "jpeg", FRAMES)
    }
    assert all(row["boxes"] == marked > 3 * FRAMES for row in rows)
    by_place = {(row["network"], row["quantiser"]): row["ap50"] for row in rows}
    assert by_place["coded", 5] < by_place["oracle", 5] == by_place["oracle", 95] < 1
    assert rows[0]["kbps"] is None


def test_a_clip_is_judged_by_the_persons_of_mot(tmp_path, clip):
    detector = Detector(write_detector(tmp_path / "p.onnx", "yolov8", SIZE, NAMES))
    lines = []
    for number, one in enumerate(clip.load(), 1):
        found = detector(bgr_from_frame(one)).at_least(0.5)
        for place, (left, top, right, bottom) in enumerate(found.boxes.tolist()):
            kind = "0,1,0.9" if place == 1 else "1,1,1.0"  # one is not to be considered
            lines.append(
                f"{number},{place},{left + 1},{top + 1},{right - left},{bottom - top},{kind}"
            )
    clip.path.with_suffix(".gt.txt").write_text("\n".join(lines))
    assert people_marked(clip, pictures=False)
    study = Study([detector], people=True, frames_per_clip=5)
    rows = detected(clip, COARSE, [restoring(), blackening()], study)
    assert {row["objects"] for row in rows} == {"person"}
    _, oracle, black = rows
    measured = [line for line in lines if line.split(",")[0] in ("1", "3", "5", "8", "10")]
    assert oracle["boxes"] == sum("1,1,1.0" in line for line in measured)
    assert oracle["ap50"] > 0.95
    assert black["ap50"] == 0


@pytest.mark.usefixtures("study")
def test_eval_detect(edgecar, clip, artifact, tmp_path):
    saved = tmp_path / "found.json"
    asked = ("eval", "detect", clip.path, "--detector", tmp_path / "squares.onnx")
    options = ("--network", artifact, "--confidence", 0.5, "--frames-per-clip", 5)
    done = edgecar(*asked, "--crf", 30, 35, *options, "--save", saved)
    assert done.code == 0, done.err
    assert "detector  squares: YOLOv8/11 at 128x96" in done.err
    assert "few       5 frames of 1 clip; need 300 frames of 6 clips" in done.err
    assert "all: " in done.out
    assert "objects on 5 frames of 1 clip" in " ".join(done.out.split())
    assert "CRF 35†" in done.out  # the row where cleaning must not lose
    assert re.search(r"^(clean|pass|either): .*edgecar-xs .*at CRF 30, ", done.out, re.MULTILINE)
    assert "next      edgecar run" in done.err
    stored = json.loads(saved.read_text())
    jsonschema.validate(stored, json.loads(SCHEMA_PATH.read_text()))
    own = [row for row in stored["rows"] if row["network"] == "edgecar-xs"]
    assert [row["quantiser"] for row in own] == [30, 35]
    assert own[0]["kbps"] > own[1]["kbps"]
    again = edgecar(*asked, "--crf", 30, 35, *options, "--json")
    assert json.loads(again.out)["rows"] == stored["rows"]
    done = edgecar(*asked, "--qp", 37, *options, "--json")
    assert {row["codec"] for row in json.loads(done.out)["rows"]} == {"hevc"}
    done = edgecar(*asked, "--quality", 20, *options, "--json")
    assert {(row["codec"], row["frames"]) for row in json.loads(done.out)["rows"]} == {
        ("jpeg", FRAMES)
    }


@pytest.mark.usefixtures("study")
def test_eval_detect_says_what_is_wrong_in_a_line(edgecar, clip, tmp_path):
    unknown = write_detector(tmp_path / "map.onnx", "maps")
    known = tmp_path / "squares.onnx"
    for arguments, words in (
        ((clip.path, "--detector", unknown), "map.onnx: the detector's head is not understood"),
        ((clip.path, "--detector", known, "--crf", 40, "--qp", 37), "got two of --crf, --qp and"),
        (("41", "--detector", known), "no clip is named"),
    ):
        done = edgecar("eval", "detect", *arguments)
        assert done.code == 1
        (line,) = done.err.strip().splitlines()
        assert words in line
    done = edgecar("eval", "detect", clip.path, "--detector", known, "--people", "--crf", 40)
    assert done.code == 1
    assert "has no boxes that people marked; add them or leave it out" in done.err
