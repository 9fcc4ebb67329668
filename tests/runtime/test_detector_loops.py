"""Loops of detectors that run by themselves, in the real packages where they are installed."""

import os
import sys
import threading
import types

import cv2
import numpy as np
import pytest

import edgecar
from edgecar.errors import SettingsError
from edgecar.media.color import bgr_from_frame
from edgecar.media.reader import open_reader
from edgecar.runtime.pipeline import Pipeline
from edgecar.runtime.stream import Stream
from tests.media.conftest import make_clip  # noqa: F401  # a fixture
from tests.runtime.test_capture import NOTHING, edgecar_threads

FRAMES = 6
SIZE = (64, 96)


@pytest.fixture
def clip(make_clip):  # noqa: F811
    return make_clip("clip.mp4", frames=FRAMES, size=SIZE, options={"crf": "45"})


@pytest.fixture
def darker():
    """A restorer that takes 8 codes from every pixel."""
    with edgecar.Restorer(NOTHING, edgecar.FakeEngine(lambda batch: batch - 8 / 255)) as restorer:
        yield restorer


def frames_of(clip, restorer):
    with open_reader(clip, read_coding=True) as reader:
        return [bgr_from_frame(restorer.restore(frame)) for frame in reader]


# Ultralytics

INTEGRATION = "edgecar.integrations.ultralytics"  # knows the loaders of when it was imported


class StandIn:
    """Does with a source what Ultralytics' predictor does (8.4): see `check_source` there."""

    def __init__(self, loaders):
        self.loaders = loaders

    def __call__(self, source, stream):
        assert stream
        if not isinstance(source, self.loaders.LoadStreams):
            raise TypeError("Unsupported image type")
        source.source_type = source.source_type
        assert source.source_type.stream
        assert not source.source_type.from_img
        assert not source.source_type.tensor
        assert (source.mode, source.bs) == ("stream", 1)
        try:
            for self.batch in source:
                names, pictures, notes = self.batch
                for number in range(len(pictures)):
                    notes[number] += f"{source.count}"
                    yield types.SimpleNamespace(path=names[number], orig_img=pictures[number])
        finally:
            source.close()


@pytest.fixture
def stand_in(monkeypatch):
    loaders = types.ModuleType("ultralytics.data.loaders")
    loaders.LoadStreams = type("LoadStreams", (), {})
    monkeypatch.setitem(sys.modules, "ultralytics.data.loaders", loaders)
    monkeypatch.delitem(sys.modules, INTEGRATION, raising=False)
    return StandIn(loaders)


@pytest.fixture(scope="module")
def ultralytics(tmp_path_factory):
    os.environ.setdefault("YOLO_CONFIG_DIR", str(tmp_path_factory.mktemp("yolo")))
    os.environ.setdefault("YOLO_OFFLINE", "true")
    return pytest.importorskip("ultralytics", reason="pip install ultralytics-opencv-headless")


@pytest.fixture
def yolo(ultralytics, monkeypatch):
    """The smallest detector with random weights."""
    monkeypatch.delitem(sys.modules, INTEGRATION, raising=False)
    try:
        import torchvision  # noqa: F401
    except Exception:  # a build for CUDA beside a torch without: its operators are missing
        from ultralytics.utils.nms import TorchNMS

        stub = types.ModuleType("torchvision")
        stub.ops = types.SimpleNamespace(nms=TorchNMS.nms)
        monkeypatch.setitem(sys.modules, "torchvision", stub)
    model = ultralytics.YOLO("yolo11n.yaml", task="detect")
    return lambda source, **options: model(source, imgsz=64, verbose=False, **options)


@pytest.fixture(params=["stand_in", "yolo"])
def model(request):
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize("own", [True, False])
def test_a_model_takes_a_stream(own, model, clip, darker):
    with edgecar.Restorer("edgecar-s", codec="h264", threads=1) as for_h264:
        expected = frames_of(clip, for_h264 if own else darker)
    stream = edgecar.stream(str(clip), None if own else darker)
    results = list(model(stream, stream=True))
    assert len(results) == stream.count == FRAMES
    for result, bgr in zip(results, expected, strict=True):
        np.testing.assert_array_equal(result.orig_img, bgr)
        assert result.path.endswith("clip.mp4")
    assert not edgecar_threads()


def test_a_model_that_is_left_early_closes_the_stream(model, clip, darker):
    results = model(edgecar.stream(clip, darker), stream=True)
    next(results)
    results.close()
    assert not edgecar_threads()


def test_a_model_takes_one_camera_at_a_time(model, clip, darker):
    with (
        edgecar.stream({"gate": clip, "yard": clip}, darker) as frames,
        pytest.raises(SettingsError, match=r"2 cameras.*give it a stream for each"),
    ):
        list(model(frames, stream=True))


def test_a_model_that_writes_down_what_it_finds(yolo, clip, darker, tmp_path):
    list(yolo(edgecar.stream(clip, darker), stream=True, save_txt=True, save=True, conf=0.0,
              project=str(tmp_path), name="out"))  # fmt: skip
    assert list((tmp_path / "out").glob("*clip*"))


def test_a_stream_is_a_loader_only_where_ultralytics_is_used(stand_in, clip, darker):
    with edgecar.stream(clip, darker) as frames:
        assert isinstance(frames, Pipeline)
        assert isinstance(frames, stand_in.loaders.LoadStreams)
        assert next(frames).camera == str(clip)
    del sys.modules["ultralytics.data.loaders"]
    with edgecar.stream(clip, darker) as frames:
        assert not isinstance(frames, stand_in.loaders.LoadStreams)
        assert type(frames) is Stream


def test_nothing_of_ultralytics_is_imported():
    from tests.test_public_api import in_a_fresh_interpreter

    script = (
        "import sys, edgecar; edgecar.stream, edgecar.VideoCapture, edgecar.Cleaner\n"
        "heavy = 'ultralytics', 'torch', 'supervision'\n"
        "print([name for name in sys.modules if name.split('.')[0] in heavy])"
    )
    assert in_a_fresh_interpreter(script) == "[]"


def capture_of(restoring):
    """What is put in the place of ``cv2.VideoCapture``."""
    return lambda source, *_: edgecar.VideoCapture(source, network=NOTHING, engine=restoring.engine)


def test_ultralytics_own_loaders_read_through_a_capture(yolo, clip, darker, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(cv2, "VideoCapture", capture_of(darker))
        results = list(yolo(str(clip), stream=True))
    with open_reader(clip) as reader:
        expected = [bgr_from_frame(darker.restore(frame), fast=True) for frame in reader]
    for result, bgr in zip(results, expected, strict=True):
        np.testing.assert_array_equal(result.orig_img, bgr)


# supervision


@pytest.fixture(scope="module")
def sv():
    return pytest.importorskip("supervision")


def test_a_cleaner_is_a_callback_of_process_video(sv, clip, tmp_path, monkeypatch):
    written = []  # before a lossy coder changes it
    monkeypatch.setattr(sv.VideoSink, "write_frame", lambda _, frame: written.append(frame))
    with edgecar.Cleaner(clip, network="fastarcnn", threads=1) as clean:
        sv.process_video(str(clip), str(tmp_path / "out.mp4"), callback=clean)
        assert clean.restorer.metadata.trained_on.startswith("h264")
        assert len(clean.restorer._runner.caches) == 1  # not one for every number of a frame
    with edgecar.Restorer("fastarcnn", codec="h264", reuse=False) as restorer:
        expected = [restorer(bgr) for bgr in sv.get_video_frames_generator(str(clip))]
    assert len(written) == FRAMES
    np.testing.assert_array_equal(written, expected)


def test_threads_of_a_slicer_take_turns(sv, clip):
    inside, most, seen = [], [], {}

    def engine(batch):
        inside.append(1)
        most.append(len(inside))
        threading.Event().wait(0.002)
        inside.pop()
        return batch - 8 / 255

    picture = next(sv.get_video_frames_generator(str(clip)))
    with edgecar.Cleaner(coder="h264", network=NOTHING, engine=edgecar.FakeEngine(engine)) as clean:

        def detect(tile):
            seen[tile.tobytes()] = clean(tile)
            return sv.Detections.empty()

        slicer = sv.InferenceSlicer(detect, slice_wh=32, overlap_wh=0, thread_workers=4)
        assert len(slicer(picture)) == 0
        assert len(seen) == 6
        for tile, cleaned in seen.items():
            bgr = np.frombuffer(tile, np.uint8).reshape(32, 32, 3)
            np.testing.assert_array_equal(cleaned, clean.restorer(bgr))
            assert (cleaned != bgr).any()
    assert set(most) == {1}


def test_frames_of_supervision_come_through_a_capture(sv, clip, darker, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr("supervision._cv2.VideoCapture", capture_of(darker))
        some = list(sv.get_video_frames_generator(str(clip), start=2, stride=2))
    with open_reader(clip) as reader:
        expected = [bgr_from_frame(darker.restore(frame), fast=True) for frame in reader][2::2]
    np.testing.assert_array_equal(some, expected)


@pytest.mark.parametrize(
    ("name", "coder"), [("clip.mp4", "h264"), ("clip.avi", "jpeg"), ("photo.jpg", "jpeg")]
)
def test_weights_are_those_for_what_is_cleaned(name, coder, make_clip, tmp_path):  # noqa: F811
    if name.endswith("jpg"):
        cv2.imwrite(str(tmp_path / name), np.zeros((32, 32, 3), np.uint8))
    elif name.endswith("avi"):
        make_clip(name, codec="mjpeg", pixels="yuvj420p", frames=2)
    else:
        make_clip(name, frames=2)
    with edgecar.Cleaner(tmp_path / name, network="edgecar-xs", threads=1) as clean:
        assert clean.restorer.metadata.coder == coder


def test_a_cleaner_must_be_told_what_it_cleans():
    with pytest.raises(SettingsError, match="give the video whose frames will come, or coder"):
        edgecar.Cleaner()
