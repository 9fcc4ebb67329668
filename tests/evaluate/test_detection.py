"""The detection study: rows, differences, what is stored, and the command."""

import json
import shutil
from dataclasses import replace
from functools import partial

import cv2
import jsonschema
import numpy as np
import pytest

pytest.importorskip("pycocotools", reason="pycocotools is not installed")

from edgecar.artifact import Artifact, Metadata
from edgecar.bench.results import ROW_KEYS, SCHEMA_PATH
from edgecar.engines.fake import FakeEngine
from edgecar.errors import DataError, MediaError, SettingsError
from edgecar.evaluate import detection
from edgecar.evaluate.average_precision import Matches, drawn_frames, interval, resampled
from edgecar.evaluate.clips import Clip
from edgecar.evaluate.detection import (
    AsDecoded,
    ClassRow,
    DetectionRow,
    Study,
    evaluate_detection,
)
from edgecar.evaluate.detector import Detector
from edgecar.evaluate.encodes import Encodes
from edgecar.evaluate.postfilters import Postfilter
from edgecar.evaluate.sample_frames import SampleFrames
from edgecar.evaluate.video import NetworkMethod
from edgecar.media.color import bgr_from_frame
from edgecar.media.video_codec import VideoCoding, video_coded
from edgecar.runtime.restorer import Restorer
from tests.cli.conftest import edgecar  # noqa: F401  # a fixture
from tests.evaluate.detectors import write_detector

SIZE = (96, 128)
CODING = VideoCoding("h264", 40)
COARSE = VideoCoding("h264", 46)
FRAMES = 10
few_draws = partial(drawn_frames, resamples=60)  # of 1000, which take most of the time


@pytest.fixture(autouse=True)
def fewer_draws(monkeypatch):
    monkeypatch.setattr(detection, "drawn_frames", few_draws)


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache" / "detections"


@pytest.fixture
def detector(tmp_path) -> Detector:
    return Detector(write_detector(tmp_path / "squares.onnx", "yolov8", SIZE))


@pytest.fixture
def folder(tmp_path):
    """Bright squares on noise, some of them so small that coding wears them down."""
    random = np.random.default_rng(2)
    path = tmp_path / "squares"
    path.mkdir()
    noise = random.integers(0, 90, (*SIZE, 3), np.uint8)
    places = [(8 * x, 8 * y) for x in range(1, 15) for y in range(1, 11)]
    for index in range(FRAMES):
        picture = noise.copy()
        for number in random.choice(len(places), 8, replace=False):
            x, y = places[number]
            side = int(random.integers(4, 9))
            picture[y : y + side, x : x + side] = 255
        cv2.imwrite(str(path / f"{index}.png"), picture)
    return path


class Known:
    """Gives frames that a function makes of coded and clean ones; counts what it gave."""

    def __init__(self, function, clean, name="known", setting="1"):
        self.name, self.given = name, 0
        self._function, self._clean, self._setting = function, clean, setting

    def frames(self, coded, _coding, indices):
        for index in indices:
            self.given += 1
            yield self._function(coded.frames[index], self._clean[index])

    def setting(self, _coding):
        return self._setting


def restoring(clean):
    return Known(lambda _coded, source: source, clean, "oracle")


def blackening(clean):
    return Known(lambda coded, _: replace(coded, y=np.zeros_like(coded.y)), clean, "black")


def test_rows_are_what_their_parts_give(detector, folder):
    clip, study = Clip(folder), Study(detector, 0.5, 1, seed=3)
    clean = clip.load()
    coded_row, row = evaluate_detection([clip], [CODING], [Known(lambda c, _: c, clean)], study)
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


def test_gains_and_losses_have_their_sign_and_an_interval(detector, folder):
    clip = Clip(folder)
    clean = clip.load()
    # So coarse that every frame loses squares, whatever bits the coder gives.
    coded, better, worse = evaluate_detection(
        [clip], [COARSE], [restoring(clean), blackening(clean)], Study(detector, 0.5, 1)
    )
    assert coded["network"] == "coded"
    assert (coded["over_coded50"], coded["over_spp50_interval"]) == (None, None)
    assert (better["map50"], better["map"]) == pytest.approx((1, 1))
    assert better["over_coded"] == pytest.approx(1 - coded["map"])
    low, high = better["over_coded_interval"]
    assert 0 < low < better["over_coded"] < high
    assert worse["map50"] == 0
    assert worse["over_coded50_interval"][1] < 0
    assert better["over_spp"] is None


def test_differences_to_spp(detector, folder):
    clip = Clip(folder)
    clean = clip.load()
    spp = Known(lambda coded, _: coded, clean, "spp")
    rows = list(
        evaluate_detection([clip], [CODING], [spp, restoring(clean)], Study(detector, 0.5, 1))
    )
    assert [row["over_spp"] for row in rows[:2]] == [None, None]
    assert rows[2]["over_spp"] == pytest.approx(1 - rows[1]["map"])


def test_a_study_goes_on_where_it_stopped(detector, folder, monkeypatch, cache):
    clip = Clip(folder)
    clean = clip.load()
    oracle = restoring(clean)
    study = Study(detector, 0.5, 1)
    first = list(evaluate_detection([clip], [CODING], [oracle], study))
    assert oracle.given == FRAMES
    black = blackening(clean)

    def no_more(*_):
        raise AssertionError("was stored")

    again = evaluate_detection([clip], [CODING], [oracle, black], study)
    with monkeypatch.context() as patched:
        patched.setattr(Encodes, "coded", no_more)
        assert [next(again), next(again)] == first
    assert oracle.given == FRAMES
    next(again)  # only this one has frames restored
    assert black.given == FRAMES
    assert {path.suffix for path in cache.iterdir()} == {".npz", ".txt"}


@pytest.mark.parametrize("change", ["setting", "coding", "every", "detector", "source"])
def test_what_changed_is_detected_again(detector, folder, tmp_path, change):
    clip = Clip(folder)
    clean = clip.load()
    study, coding, oracle = Study(detector, 0.5, 1), CODING, restoring(clean)
    list(evaluate_detection([clip], [coding], [oracle], study))
    given = oracle.given
    if change == "setting":
        oracle._setting = "2"
    if change == "coding":
        coding = VideoCoding("h264", 40, gop=5)
    if change == "every":
        study = replace(study, every=2)
    if change == "detector":
        study = Study(Detector(write_detector(tmp_path / "5.onnx", "yolov5", SIZE)), 0.5, 1)
    if change == "source":
        picture = cv2.imread(str(folder / "4.png"))
        cv2.imwrite(str(folder / "4.png"), picture // 2)
    list(evaluate_detection([clip], [coding], [oracle], study))
    assert oracle.given > given


def test_nothing_is_stored_of_what_was_interrupted(detector, folder, cache):
    clip = Clip(folder)

    def stop(*_):
        raise KeyboardInterrupt

    rows = evaluate_detection([clip], [CODING], [Known(stop, clip.load())], Study(detector, 0.5, 1))
    next(rows)
    stored = set(cache.iterdir())
    with pytest.raises(KeyboardInterrupt):
        next(rows)
    assert set(cache.iterdir()) == stored


def test_networks_and_filters_give_whole_frames():
    clip = [
        replace(frame, y=np.roll(frame.y, index, 1))
        for index, frame in enumerate([_frame(seed) for seed in (1, 1, 1)])
    ]
    coded = video_coded(clip, CODING)
    metadata = Metadata("fake", 1, 0, 1, "local", 8, "fp32", "", "", 0.0, 0.0)
    with Restorer(Artifact(metadata, b""), FakeEngine(lambda batch: batch + 4 / 255)) as restorer:
        method = NetworkMethod(restorer)
        restored = list(method.frames(coded, CODING, [0, 2]))
        assert "fake" in method.setting(CODING)
    for made, index in zip(restored, (0, 2), strict=True):
        given = coded.frames[index]
        assert (made.y == np.minimum(given.y.astype(int) + 4, 255)).all()
        assert (made.u == given.u).all()
    assert [frame.pts for frame in AsDecoded().frames(coded, CODING, [1])] == [coded.frames[1].pts]
    if shutil.which("ffmpeg") is None:
        pytest.skip("needs ffmpeg")
    spp = Postfilter("spp")
    (filtered,) = spp.frames(coded, CODING, [1])
    assert (filtered.y == spp.restored(coded, CODING, [1])[0]).all()
    assert filtered.u.shape == coded.frames[1].u.shape
    assert (filtered.u != coded.frames[1].u).any()  # FFmpeg filters chroma, too
    assert spp.setting(CODING) == "spp=4:qp=8"


def _frame(seed):
    from edgecar.evaluate.clips import frame_from_picture

    random = np.random.default_rng(seed)
    small = random.integers(0, 256, (12, 16, 3), np.uint8)
    return frame_from_picture(cv2.resize(small, (128, 96), interpolation=cv2.INTER_NEAREST))


def test_rows_fit_a_result_file():
    assert set(DetectionRow.__annotations__) == ROW_KEYS["detection"]
    schema = json.loads(SCHEMA_PATH.read_text())["$defs"]["detection_row"]
    assert set(schema["properties"]["classes"]["items"]["required"]) == set(
        ClassRow.__annotations__
    )


def test_what_cannot_be_measured_is_explained(detector, folder, tmp_path):
    with pytest.raises(SettingsError, match=r"confidence is 1.5; need 0.01 to 1"):
        Study(detector, 1.5)
    with pytest.raises(SettingsError, match="every is 0"):
        Study(detector, every=0)
    with pytest.raises(DataError, match="no class with 10000 of them; lower --confidence"):
        list(evaluate_detection([Clip(folder)], [CODING], [], Study(detector, 0.5, 10_000)))
    odd = tmp_path / "odd"
    odd.mkdir()
    for index in range(2):
        picture = np.zeros((95, 128, 3), np.uint8)
        picture[8:16, 8:16] = 255
        cv2.imwrite(str(odd / f"{index}.png"), picture)
    with pytest.raises(MediaError, match="odd: clip is 128x95; 4:2:0 needs even sides"):
        list(evaluate_detection([Clip(odd)], [CODING], [], Study(detector, 0.5, 1)))


def test_frames_whose_mistakes_change_most_are_restored_again(detector, folder):
    clip, study = Clip(folder), Study(detector, 0.5, 1, every=2)
    coding = VideoCoding("h264", 46)  # so coarse that much is missed
    clean = clip.load()
    plain = list(evaluate_detection([clip], [coding], [restoring(clean), blackening(clean)], study))
    good, bad = restoring(clean), blackening(clean)
    sample_frames = SampleFrames(2)
    rows = list(evaluate_detection([clip], [coding], [good, bad], study, sample_frames))
    assert rows == plain
    assert (good.given, bad.given) <= (2, 2)  # detections are stored: only what is shown is made
    shown = {one.subject.network: one for one in sample_frames.best()}
    best = shown["oracle"]
    assert best.boxes.restored.mistakes == 0
    assert best.gain == best.boxes.coded.mistakes > 0
    assert best.index % 2 == 0
    assert np.array_equal(best.restored.y, clean[best.index].y)
    coded = video_coded(clean, coding)
    assert np.array_equal(best.coded.y, coded.frames[best.index].y)
    # What is found and what is missed make up the truth.
    marks = best.boxes.coded
    assert len(marks.found.scores) + len(marks.missed.scores) == len(best.boxes.source.scores)
    black = [
        one
        for one in [*sample_frames.best(), *sample_frames.worst()]
        if one.subject.network == "black"
    ]
    assert black
    for one in black:
        assert len(one.boxes.restored.found.scores) == 0
        assert one.gain == one.boxes.coded.mistakes - one.boxes.restored.mistakes


def test_a_network_that_changes_no_detection_has_no_sample_frame(detector, folder):
    clip = Clip(folder)
    idle = Known(lambda coded, _: coded, clip.load())
    sample_frames = SampleFrames(1)
    list(evaluate_detection([clip], [CODING], [idle], Study(detector, 0.5, 1), sample_frames))
    assert sample_frames.best() == sample_frames.worst() == []


@pytest.fixture
def artifact(exported, tmp_path):
    path = tmp_path / "mine.onnx"
    path.write_bytes(exported("edgecar-xs").onnx)
    return path


@pytest.mark.usefixtures("detector")
def test_eval_detect(edgecar, folder, artifact, tmp_path):  # noqa: F811
    saved = tmp_path / "found.json"
    path = tmp_path / "squares.onnx"
    arguments = (
        "eval", "detect", folder, "--detector", path, "--crf", 30, 40, "--network", artifact,
        "--confidence", 0.5, "--every", 2,
    )  # fmt: skip
    done = edgecar(*arguments, "--save", saved)
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
    again = edgecar(*arguments, "--json")
    assert json.loads(again.out)["rows"] == stored["rows"]


@pytest.mark.usefixtures("detector")
def test_eval_detect_codes_as_hevc(edgecar, folder, artifact, tmp_path):  # noqa: F811
    done = edgecar(
        "eval", "detect", folder, "--detector", tmp_path / "squares.onnx", "--qp", 37,
        "--network", artifact, "--confidence", 0.5, "--json",
    )  # fmt: skip
    assert {row["codec"] for row in json.loads(done.out)["rows"]} == {"hevc"}


def test_eval_detect_says_what_is_wrong_in_a_line(edgecar, folder, tmp_path):  # noqa: F811
    path = write_detector(tmp_path / "map.onnx", "map")
    done = edgecar("eval", "detect", folder, "--detector", path)
    assert done.code == 1
    assert "map.onnx: the detector's head is not understood" in done.err
    assert len(done.err.strip().splitlines()) == 1
    path = write_detector(tmp_path / "d.onnx", "yolov8", SIZE)
    done = edgecar("eval", "detect", folder, "--detector", path, "--crf", 40, "--qp", 37)
    assert "got --crf and --qp; give one" in done.err
    done = edgecar("eval", "detect", "41", "--detector", path)
    assert "no clip is named" in done.err
