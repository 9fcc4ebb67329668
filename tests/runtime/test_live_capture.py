"""`edgecar.VideoCapture` on a real RTSP camera."""

import time

import cv2
import numpy as np
import pytest

import edgecar
from tests.media.test_rtsp import SETTINGS, SIZE, clip, gstreamer, server  # noqa: F401  # fixtures
from tests.runtime.test_capture import NOTHING, edgecar_threads, fake

pytestmark = pytest.mark.slow  # waits for a server that is killed and stopped


def test_a_camera_gives_its_newest_frames_until_it_is_released(server, clip):  # noqa: F811
    place = {luma: number for number, luma in enumerate(clip[1])}
    cap = edgecar.VideoCapture(server.url(), network=NOTHING, engine=fake(), live=SETTINGS)
    assert cap.isOpened()
    assert cap.get(cv2.CAP_PROP_FRAME_COUNT) <= 0
    assert cap.get(cv2.CAP_PROP_BUFFERSIZE) == 1
    assert cap.set(cv2.CAP_PROP_BUFFERSIZE, 1)
    assert not cap.set(cv2.CAP_PROP_POS_FRAMES, 0)
    grabbed = []
    for _ in range(5):
        ok, bgr = cap.read()
        assert ok
        assert bgr.shape == (*SIZE, 3)
        grabbed.append(place[cap._playback.frame.frame.y.tobytes()])
        came = cap._playback.frame.stats.frames_read
        while cap._playback.frame.stats.frames_read < came + 10:
            time.sleep(0.01)
    steps = np.diff(grabbed) % len(place)
    assert all(step > 1 for step in steps[1:])
    cap.release()
    assert cap.read() == (False, None)
    assert not edgecar_threads()


def test_a_camera_that_goes_for_good_ends_it_with_the_reason(server):  # noqa: F811
    from dataclasses import replace

    live = replace(SETTINGS, give_up_after_seconds=0.5)
    cap = edgecar.VideoCapture(server.url(), network=NOTHING, engine=fake(), live=live)
    assert cap.read()[0]
    server.kill()
    while cap.isOpened():
        cap.read()
    assert "given up" in cap.error
    assert not edgecar_threads()
