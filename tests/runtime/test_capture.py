"""`edgecar.VideoCapture` beside the real `cv2.VideoCapture`."""

import gc
import logging
import threading
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest

import edgecar
from edgecar.artifact import Artifact
from edgecar.errors import EngineError, MediaError
from edgecar.media.color import bgr_from_frame
from edgecar.media.reader import open_reader
from edgecar.metadata import Metadata
from tests.media.conftest import make_clip  # noqa: F401  # a fixture

FRAMES = 12
NOTHING = Artifact(Metadata("none", 1, 2, 1, "local", 8, "fp32", "", "", 0.0, 0.0), b"")
COMPARED = (
    "FRAME_WIDTH FRAME_HEIGHT FPS FRAME_COUNT POS_FRAMES POS_MSEC FOURCC FORMAT CONVERT_RGB "
    "ORIENTATION_META ORIENTATION_AUTO SAR_NUM SAR_DEN BUFFERSIZE BRIGHTNESS EXPOSURE"
).split()


def fake(function=lambda batch: batch):
    return edgecar.FakeEngine(function)


def capture(path, **options):
    """One that changes nothing."""
    return edgecar.VideoCapture(path, network=NOTHING, engine=fake(), **options)


def shown(frame):
    return bgr_from_frame(frame, fast=True)


def answers(cap):
    return {name: cap.get(getattr(cv2, f"CAP_PROP_{name}")) for name in COMPARED}


def edgecar_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("edgecar-")]


@pytest.fixture
def clip(make_clip):  # noqa: F811
    return make_clip("clip.mp4", frames=FRAMES)


KINDS = {
    "mkv": {"name": "clip.mkv"},
    "mjpeg": {"name": "clip.avi", "codec": "mjpeg", "pixels": "yuvj420p"},
    "hevc": {"codec": "libx265", "options": {"x265-params": "log-level=none"}},
    "odd rate": {"rate": Fraction(30000, 1001)},
    "turned": {"rotation": 90},
    "upside down": {"rotation": 180},
    "turned back": {"rotation": -90},
    "wide pixels": {"aspect": Fraction(4, 3)},
    "odd size": {"name": "clip.mkv", "codec": "ffv1", "size": (49, 67)},
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_answer_is_opencvs_frame_by_frame(kind, make_clip):  # noqa: F811
    path = str(make_clip(**KINDS[kind], frames=FRAMES))
    theirs, ours = cv2.VideoCapture(path), capture(path)
    try:
        for _ in range(FRAMES):
            assert answers(ours) == pytest.approx(answers(theirs), abs=1e-6)
            (their_ok, their_bgr), (our_ok, our_bgr) = theirs.read(), ours.read()
            assert our_ok is their_ok
            np.testing.assert_array_equal(our_bgr, their_bgr)
        assert answers(ours) == pytest.approx(answers(theirs), abs=1e-6)
        assert ours.read() == theirs.read() == (False, None)
        assert ours.retrieve() == theirs.retrieve() == (False, None)
        assert ours.grab() is theirs.grab() is False
        assert ours.isOpened() is theirs.isOpened() is True
        assert answers(ours) == pytest.approx(answers(theirs), abs=1e-6)
        assert ours.error is None
        for name in ("FRAME_WIDTH", "FPS", "BUFFERSIZE", "CONVERT_RGB", "BRIGHTNESS"):
            number = getattr(cv2, f"CAP_PROP_{name}")
            assert ours.set(number, 1) is theirs.set(number, 1)
    finally:
        ours.release()
    theirs.release()
    assert answers(ours) == answers(theirs)
    assert ours.isOpened() is theirs.isOpened() is False
    assert ours.read() == theirs.read() == (False, None)
    assert ours.set(cv2.CAP_PROP_POS_FRAMES, 0) is theirs.set(cv2.CAP_PROP_POS_FRAMES, 0) is False


def test_frames_are_restored_with_weights_for_the_coder(clip, caplog):
    caplog.set_level(logging.INFO)
    with edgecar.VideoCapture(str(clip), network="edgecar-xs", threads=1, skip_below_qp=0) as cap:
        ok, bgr = cap.read()
    assert "edgecar-xs, weights for h264" in caplog.text
    reader, restorer = (
        open_reader(clip, read_coding=True),
        edgecar.Restorer("edgecar-xs", codec="h264"),
    )
    with reader, restorer:
        np.testing.assert_array_equal(bgr, shown(restorer.restore(next(reader))))
    assert ok


def test_grab_and_retrieve_give_new_arrays_or_fill_the_one_given(clip):
    with capture(clip) as cap, open_reader(clip) as reader:
        frames = [shown(frame) for frame in reader]
        assert cap.retrieve() == (False, None)
        assert cap.grab()
        assert cap.grab()
        (_, one), (_, other) = cap.retrieve(), cap.retrieve()
        one[:] = 0
        np.testing.assert_array_equal(other, frames[1])
        buffer = np.zeros_like(other)
        ok, filled = cap.read(buffer)
        assert ok
        assert filled is buffer
        np.testing.assert_array_equal(buffer, frames[2])


@pytest.mark.parametrize(
    "moves",
    [
        [("POS_FRAMES", 5)],
        [("POS_FRAMES", 7), ("POS_FRAMES", 2)],
        [("POS_FRAMES", 0)],
        [("POS_MSEC", 200)],
        [("POS_FRAMES", 300)],
        [("POS_FRAMES", -3)],
    ],
    ids=str,
)
def test_moving_about_is_as_in_opencv(moves, make_clip):  # noqa: F811
    path = str(make_clip(frames=FRAMES, options={"bf": "2", "g": "5"}))
    theirs, ours = cv2.VideoCapture(path), capture(path)
    with open_reader(path) as reader:
        frames = [shown(frame) for frame in reader]
    for cap in (theirs, ours):
        for _ in range(3):
            cap.read()
    for name, value in moves:
        number = getattr(cv2, f"CAP_PROP_{name}")
        assert ours.set(number, value) is theirs.set(number, value) is True
        place = theirs.get(cv2.CAP_PROP_POS_FRAMES)
        assert ours.get(cv2.CAP_PROP_POS_FRAMES) == place
        (their_ok, _), (our_ok, our_bgr) = theirs.read(), ours.read()
        assert our_ok is their_ok
        assert answers(ours) == pytest.approx(answers(theirs), abs=1e-6)
        if our_ok:
            np.testing.assert_array_equal(our_bgr, frames[int(place)])
    ours.release()


def test_a_turned_picture_can_be_had_as_it_is_stored(make_clip):  # noqa: F811
    path = str(make_clip(rotation=90))
    theirs, ours = cv2.VideoCapture(path), capture(path)
    for cap in (theirs, ours):
        assert cap.set(cv2.CAP_PROP_ORIENTATION_AUTO, 0)
    assert answers(ours) == answers(theirs)
    assert ours.read()[1].shape == theirs.read()[1].shape == (48, 64, 3)
    ours.release()


@pytest.mark.parametrize(
    ("address", "options", "said"),
    [
        ("nowhere.mp4", {}, "nowhere.mp4 does not exist"),
        ("rtsp://127.0.0.1:9/main", {}, "does not open"),
        (77, {}, "does not open"),
        (None, {"network": "yolo"}, "no weights ship for 'yolo'"),
        (None, {"engine": "warp"}, "warp"),
    ],
)
def test_what_cannot_be_opened_says_why(address, options, said, clip, caplog):
    cap = edgecar.VideoCapture(clip if address is None else address, **options)
    assert not cap.isOpened()
    assert cap.read() == (False, None)
    assert cap.getBackendName() == ""
    assert said in cap.error
    assert cap.error in caplog.text
    assert not edgecar_threads()
    cap.release()
    cap.setExceptionMode(True)
    with pytest.raises(MediaError, match="does not exist"):
        cap.open("nowhere.mp4")


def test_open_takes_the_place_of_what_was_open(clip):
    cap = capture("nowhere.mp4")
    assert cap.open(str(clip), cv2.CAP_FFMPEG)
    assert cap.error is None
    assert cap.getBackendName() == "EDGECAR"
    assert cap.read()[0]
    assert not cap.open("nowhere.mp4")
    assert not cap.isOpened()
    assert not edgecar_threads()


def test_an_engine_that_fails_ends_it_with_the_reason(clip, caplog):
    def fails(_batch):
        raise EngineError("no memory left; take a smaller tile")

    cap = edgecar.VideoCapture(clip, network=NOTHING, engine=fake(fails))
    assert cap.read() == (False, None)
    assert not cap.isOpened()
    assert cap.error == "no memory left; take a smaller tile"
    assert cap.error in caplog.text
    assert not edgecar_threads()


def test_one_that_is_forgotten_leaves_no_threads(clip):
    cap = capture(clip, policy="newest")
    assert cap.set(cv2.CAP_PROP_BUFFERSIZE, 1)
    assert cap.get(cv2.CAP_PROP_BUFFERSIZE) == 1  # as a camera has
    assert edgecar_threads()
    del cap
    gc.collect()
    assert not edgecar_threads()


def test_release_ends_a_read_in_another_thread(clip):
    inside, go_on = threading.Event(), threading.Event()

    def waits(batch):
        inside.set()
        go_on.wait(30)
        return batch

    cap = edgecar.VideoCapture(clip, network=NOTHING, engine=fake(waits))
    seen = []
    reader = threading.Thread(target=lambda: seen.append(cap.read()))
    reader.start()
    assert inside.wait(30)
    threading.Timer(0.2, go_on.set).start()
    cap.release()
    reader.join(30)
    assert not reader.is_alive()
    assert seen == [(False, None)]


MADE = (
    "mpeg4.avi mpeg4.mp4.12/11 mpeg4.mkv mjpeg.avi mjpeg.mov.4/3 libx264.mp4 libx264.mkv.4/3 "
    "libx264.mov.1 libx265.mkv.2 mpeg2video.mpg.16/15 mpeg1video.mpg libvpx.webm libvpx-vp9.webm "
    "ffv1.mkv huffyuv.avi wmv2.asf msmpeg4.avi rawvideo.avi png.mov"
).split()
"""Coding, container and shape of pixels."""
PIXELS = {"mjpeg": "yuvj420p", "huffyuv": "yuv422p", "png": "rgb24"}


@pytest.mark.parametrize("made", MADE)
def test_coding_and_shape_of_pixels_are_those_that_opencv_answers(made, tmp_path):
    codec, suffix, *aspect = made.split(".")
    path = tmp_path / f"clip.{suffix}"
    with av.open(path, "w") as container:
        stream = container.add_stream(codec, rate=25, width=96, height=64)
        stream.pix_fmt = PIXELS.get(codec, "yuv420p")
        if aspect:
            stream.codec_context.sample_aspect_ratio = Fraction(*aspect)
        for index in range(3):
            frame = av.VideoFrame.from_ndarray(np.full((64, 96, 3), 50 * index, np.uint8), "bgr24")
            frame = frame.reformat(format=stream.pix_fmt)
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    theirs = cv2.VideoCapture(str(path))
    asked = [cv2.CAP_PROP_FOURCC, cv2.CAP_PROP_SAR_NUM, cv2.CAP_PROP_SAR_DEN]
    asked += [cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT, cv2.CAP_PROP_ORIENTATION_META]
    with capture(path) as ours:
        assert ours.isOpened(), ours.error
        assert [ours.get(each) for each in asked] == [theirs.get(each) for each in asked]
