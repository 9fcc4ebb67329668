"""HTTP: JPEG pictures one after the other, streams without an end, and files."""

import threading
import time
from contextlib import contextmanager
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise

import cv2
import numpy as np
import pytest

from edgecar.media.live import LiveReader, LiveSettings, open_live
from edgecar.media.reader import open_reader
from edgecar.media.sources import source_from

PICTURES = [np.full((48, 64, 3), 5 * index, np.uint8) for index in range(40)]


@contextmanager
def http(answer):
    """A port where ``answer(handler)`` is called for every request."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            answer(self)

        def log_message(self, *_):
            """Nothing on the test's output."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def send_pictures(handler, pause=None):
    handler.send_response(200)
    handler.send_header("Content-Type", "multipart/x-mixed-replace; boundary=picture")
    handler.end_headers()
    for index, picture in enumerate(PICTURES):
        if pause and index == len(PICTURES) // 2:
            pause.wait()
        coded = cv2.imencode(".jpg", picture)[1].tobytes()
        head = f"--picture\r\nContent-Type: image/jpeg\r\nContent-Length: {len(coded)}\r\n\r\n"
        handler.wfile.write(head.encode() + coded + b"\r\n")


def test_jpeg_pictures_are_live_and_shown_when_they_come():
    pause = threading.Event()
    with (
        http(lambda handler: send_pictures(handler, pause)) as port,
        open_reader(f"http://127.0.0.1:{port}/video") as reader,
    ):
        assert reader.live
        assert reader.facts.live
        assert (reader.codec, reader.frame_count) == ("mjpeg", None)
        assert reader.time_base == Fraction(1, 1000)
        frames = [next(reader) for _ in range(10)]
        time.sleep(0.3)
        pause.set()
        frames += [next(reader) for _ in range(20)]
    assert [round(frame.y.mean()) for frame in frames] == [5 * index for index in range(30)]
    assert all(before.pts <= after.pts for before, after in pairwise(frames))
    assert frames[29].pts - frames[9].pts >= 300  # FFmpeg would just count the pictures


def test_jpeg_pictures_go_on_after_the_camera_hung_up():
    settings = LiveSettings(first_backoff_seconds=0.01)
    with http(send_pictures) as port, open_live(f"http://127.0.0.1:{port}/video", settings) as live:
        frames = [next(live) for _ in range(70)]
        assert live.stats.reconnects == 1
    assert all(before.pts <= after.pts for before, after in pairwise(frames))


def test_a_stream_that_states_no_length_is_live(make_clip):
    done = threading.Event()

    def answer(handler):
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(make_clip("a.ts", frames=100).read_bytes())
        done.wait()

    with http(answer) as port, open_reader(f"http://127.0.0.1:{port}/a.ts") as reader:
        assert reader.live
        done.set()


@pytest.mark.parametrize("name", ["a.mp4", "a.ts", "a.mkv"])
def test_a_file_is_read_once(make_clip, name):
    content = make_clip(name).read_bytes()

    def answer(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)

    with (
        http(answer) as port,
        LiveReader(source_from(f"http://127.0.0.1:{port}/{name}")) as reader,
    ):
        assert not reader.live
        assert len(list(reader)) == 12
        assert reader.ended
        assert reader.stats.connects == 1
