"""The detection study: rows, differences, what is stored, and the command."""

import json
from dataclasses import replace
from functools import partial

import cv2
import jsonschema
import numpy as np
import pytest

pytest.importorskip("pycocotools", reason="pycocotools is not installed")

from edgecar.bench.results import SCHEMA_PATH
from edgecar.errors import DataError, MediaError, SettingsError
from edgecar.evaluate import detection
from edgecar.evaluate.average_precision import Matches, drawn_frames, interval, resampled
from edgecar.evaluate.clips import Clip
from edgecar.evaluate.detection import Study, evaluate_detection
from edgecar.evaluate.detector import Detector
from edgecar.evaluate.encodes import Source
from edgecar.evaluate.sample_frames import SampleFrames
from edgecar.media.color import bgr_from_frame
from edgecar.media.video_codec import VideoCoding, video_coded
from tests.evaluate.conftest import Known, write_pictures
from tests.evaluate.detectors import write_detector

SIZE = (96, 128)
CODING = VideoCoding("h264", 40)
COARSE = VideoCoding("h264", 46)  # so coarse that every frame loses squares, whatever the bits
FRAMES = 10
few_draws = partial(drawn_frames, resamples=60)  # of 1000, which take most of the time


@pytest.fixture(autouse=True)
def fewer_draws(monkeypatch):
    monkeypatch.setattr(detection, "drawn_frames", few_draws)


@pytest.fixture
def study(tmp_path) -> Study:
    return Study(Detector(write_detector(tmp_path / "squares.onnx", "yolov8", SIZE)), 0.5, 1)


@pytest.fixture
def clip(tmp_path) -> Clip:
    """Bright squares on noise, some of them so small that coding wears them down."""
    random = np.random.default_rng(2)
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
    return Clip(write_pictures(tmp_path / "squares", pictures))


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
    return list(evaluate_detection([clip], [coding], methods, study, samples))


def test_rows_are_what_their_parts_give(study, clip):
    study = replace(study, seed=3)
    coded_row, row = detected(clip, CODING, [Known()], study)
    clean, detector = clip.load(), study.detector
    truth = [detector(bgr_from_frame(frame)).at_least(0.5) for frame in clean]
    coded = video_coded(clean, CODING)
    matches = Matches(truth, [detector(bgr_from_frame(frame)) for frame in coded.frames])
    assert (coded_row["map50"], coded_row["map"]) == pytest.approx(tuple(matches.precision()))
    low, high = interval(resampled(matches, few_draws(FRAMES, seed=3))[:, 1])
    assert coded_row["map_interval"] == pytest.approx((low, high))
    assert 0 < coded_row["map"] < 1
    assert coded_row["boxes"] == sum(len(frame.scores) for frame in truth) > 20
    assert (coded_row["clip"], coded_row["quantiser"]) == ("squares", 40)
    assert coded_row["kbps"] == coded.kbps
    # The same frames under another name: no difference, and not only on average.
    assert row["over_coded"] == 0
    assert row["over_coded_interval"] == (0, 0)
    assert row["classes"] == coded_row["classes"]
    assert row["classes"][0]["name"] == "class 0"


def test_gains_and_losses_have_their_sign_and_an_interval(study, clip):
    methods = [Known(name="spp"), restoring(), blackening()]
    coded, spp, better, worse = detected(clip, COARSE, methods, study)
    assert coded["network"] == "coded"
    assert (coded["over_coded50"], coded["over_spp50_interval"]) == (None, None)
    assert (spp["over_coded"], spp["over_spp"]) == (0, None)
    assert (better["map50"], better["map"]) == pytest.approx((1, 1))
    assert better["over_coded"] == better["over_spp"] == pytest.approx(1 - coded["map"])
    low, high = better["over_coded_interval"]
    assert 0 < low < better["over_coded"] < high
    assert worse["map50"] == 0
    assert worse["over_coded50_interval"][1] < 0


def test_a_study_goes_on_where_it_stopped(study, clip, monkeypatch, own_cache):
    oracle, black = restoring(), blackening()
    first = detected(clip, CODING, [oracle], study)
    assert len(oracle.indices) == FRAMES

    def no_more(*_):
        raise AssertionError("was stored")

    again = evaluate_detection([clip], [CODING], [oracle, black], study)
    with monkeypatch.context() as patched:
        patched.setattr(Source, "coded", no_more)
        assert [next(again), next(again)] == first
    assert len(oracle.indices) == FRAMES
    next(again)  # only this one has frames restored
    assert len(black.indices) == FRAMES

    def stop(*_):
        raise KeyboardInterrupt

    stored = set((own_cache / "detections").iterdir())
    with pytest.raises(KeyboardInterrupt):
        detected(clip, CODING, [Known(stop, "stopped")], study)
    assert set((own_cache / "detections").iterdir()) == stored  # nothing of what was interrupted


@pytest.mark.parametrize("change", ["setting", "coding", "every", "detector", "source"])
def test_what_changed_is_detected_again(study, clip, tmp_path, change):
    oracle, coding = restoring(), CODING
    detected(clip, coding, [oracle], study)
    given = len(oracle.indices)
    if change == "setting":
        oracle.words = "2"
    if change == "coding":
        coding = VideoCoding("h264", 40, gop=5)
    if change == "every":
        study = replace(study, every=2)
    if change == "detector":
        other = Detector(write_detector(tmp_path / "5.onnx", "yolov5", SIZE))
        study = replace(study, detector=other)
    if change == "source":
        path = str(clip.path / "0004.png")
        cv2.imwrite(path, cv2.imread(path) // 2)
    detected(clip, coding, [oracle], study)
    assert len(oracle.indices) > given


def test_what_cannot_be_measured_is_explained(study, clip, tmp_path):
    with pytest.raises(SettingsError, match=r"confidence is 1.5; need 0.01 to 1"):
        replace(study, confidence=1.5)
    with pytest.raises(SettingsError, match="every is 0"):
        replace(study, every=0)
    with pytest.raises(DataError, match="no class with 10000 of them; lower --confidence"):
        detected(clip, CODING, [], replace(study, least_boxes=10_000))
    picture = np.zeros((95, 128, 3), np.uint8)
    picture[8:16, 8:16] = 255
    odd = Clip(write_pictures(tmp_path / "odd", [picture] * 2))
    with pytest.raises(MediaError, match="odd: clip is 128x95; 4:2:0 needs even sides"):
        detected(odd, CODING, [], study)


def test_frames_whose_mistakes_change_most_are_restored_again(study, clip):
    study = replace(study, every=2)
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
    assert best.index % 2 == 0
    clean = clip.load()
    assert np.array_equal(best.restored.y, clean[best.index].y)
    assert np.array_equal(best.coded.y, video_coded(clean, COARSE).frames[best.index].y)
    # What is found and what is missed make up the truth.
    marks = best.boxes.coded
    assert len(marks.found.scores) + len(marks.missed.scores) == len(best.boxes.source.scores)
    for one in (one for (network, _), one in shown.items() if network == "black"):
        assert len(one.boxes.restored.found.scores) == 0
        assert one.gain == one.boxes.coded.mistakes - one.boxes.restored.mistakes


@pytest.mark.usefixtures("study")
def test_eval_detect(edgecar, clip, artifact, tmp_path):
    saved = tmp_path / "found.json"
    asked = ("eval", "detect", clip.path, "--detector", tmp_path / "squares.onnx")
    options = ("--network", artifact, "--confidence", 0.5, "--every", 2)
    done = edgecar(*asked, "--crf", 30, 40, *options, "--save", saved)
    assert done.code == 0, done.err
    assert "detector  squares: YOLOv8/11 at 128x96" in done.err
    assert "squares: 5 frames" in done.out
    assert "CRF 40" in done.out
    assert "next      edgecar run" in done.err
    stored = json.loads(saved.read_text())
    jsonschema.validate(stored, json.loads(SCHEMA_PATH.read_text()))
    own = [row for row in stored["rows"] if row["network"] == "edgecar-xs"]
    assert [row["quantiser"] for row in own] == [30, 40]
    assert own[0]["kbps"] > own[1]["kbps"]
    again = edgecar(*asked, "--crf", 30, 40, *options, "--json")
    assert json.loads(again.out)["rows"] == stored["rows"]
    done = edgecar(*asked, "--qp", 37, *options, "--json")
    assert {row["codec"] for row in json.loads(done.out)["rows"]} == {"hevc"}


@pytest.mark.usefixtures("study")
def test_eval_detect_says_what_is_wrong_in_a_line(edgecar, clip, tmp_path):
    unknown = write_detector(tmp_path / "map.onnx", "map")
    known = tmp_path / "squares.onnx"
    for arguments, words in (
        ((clip.path, "--detector", unknown), "map.onnx: the detector's head is not understood"),
        ((clip.path, "--detector", known, "--crf", 40, "--qp", 37), "got --crf and --qp; give one"),
        (("41", "--detector", known), "no clip is named"),
    ):
        done = edgecar("eval", "detect", *arguments)
        assert done.code == 1
        (line,) = done.err.strip().splitlines()
        assert words in line
