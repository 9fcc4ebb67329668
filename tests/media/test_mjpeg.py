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

from edgecar.errors import MediaError
from edgecar.media.inputs import Pictures, open_input
from edgecar.media.live import LiveReader, LiveSettings
from edgecar.media.reader import open_reader
from edgecar.media.sources import source_from
from edgecar.media.writer import open_writer

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
    with (
        http(send_pictures) as port,
        LiveReader(source_from(f"http://127.0.0.1:{port}/video"), settings) as live,
    ):
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


def multipart(boundary="picture", head="Content-Type: image/jpeg", end="\r\n", first=True):
    """A function that sends pictures between boundaries as a camera has it; boundless without."""

    def answer(handler):
        handler.send_response(200)
        kind = "multipart/x-mixed-replace; boundary=" + boundary if head else "video/x-motion-jpeg"
        handler.send_header("Content-Type", kind)
        handler.end_headers()
        between = "--" + boundary.strip('"').removeprefix("--")
        for index, picture in enumerate(PICTURES):
            coded = cv2.imencode(".jpg", picture)[1].tobytes()
            lines = [] if not head else [between, *head.format(len(coded)).split("|"), "", ""]
            if index == 0 and not first:
                del lines[0]
            handler.wfile.write(end.join(lines).encode() + coded + end.encode() * bool(head))

    return answer


LENGTH = "Content-Type: image/jpeg|Content-Length: {}"


@pytest.mark.parametrize(
    "camera",
    [
        multipart(),
        multipart(head=LENGTH),
        multipart("--picture", LENGTH),
        multipart('"picture"', LENGTH),
        multipart(head=LENGTH.lower()),
        multipart(head=LENGTH + "|X-Timestamp: 1.5|X-Foo: a:b"),
        multipart(head="Content-Length: {}"),
        multipart(head=LENGTH, end="\n"),
        multipart(head=LENGTH, first=False),
        multipart(head=""),
    ],
    ids=[
        "no length", "plain", "dashes", "quotes", "lower case", "more headers", "no type",
        "bare line feeds", "no first boundary", "no boundaries",
    ],
)  # fmt: skip
@pytest.mark.parametrize("path", ["stream.jpg", "video"])
def test_pictures_open_however_a_camera_sends_them(camera, path):
    with (
        http(camera) as port,
        open_input(f"http://user:secret@127.0.0.1:{port}/{path}?token=1") as reader,
    ):
        frames = [next(reader) for _ in range(20)]
        assert (reader.live, reader.codec) == (True, "mjpeg")
    assert [round(frame.y.mean()) for frame in frames] == [5 * index for index in range(20)]
    assert all(before.pts <= after.pts for before, after in pairwise(frames))


def test_a_page_in_place_of_pictures_is_one_line():
    def answer(handler):
        handler.send_response(200)
        handler.send_header("Content-Type", "text/html")
        handler.end_headers()
        handler.wfile.write(b"<html>log in first</html>" * 2000)

    with http(answer) as port, pytest.raises(MediaError) as failure:
        open_input(f"http://user:secret@127.0.0.1:{port}/stream.jpg")
    assert "does not open" in str(failure.value)
    assert "secret" not in str(failure.value)


@pytest.mark.parametrize("stated", [True, False], ids=["with a length", "without"])
@pytest.mark.parametrize("path", ["snapshot.jpg", "cgi-bin/snapshot"])
def test_one_picture_is_a_picture(path, stated):
    coded = cv2.imencode(".jpg", PICTURES[20])[1].tobytes()

    def answer(handler):
        handler.send_response(200)
        handler.send_header("Content-Type", "image/jpeg")
        if stated:
            handler.send_header("Content-Length", str(len(coded)))
        handler.end_headers()
        handler.wfile.write(coded)

    with http(answer) as port, open_input(f"http://127.0.0.1:{port}/{path}") as found:
        assert isinstance(found, Pictures)
        assert found.codec == "jpeg"
        assert found.paths[0].read_bytes() == coded


@pytest.mark.parametrize("suffix", [".mp4", ".ts"])
def test_a_file_behind_an_address_keeps_its_sound(make_clip, tmp_path, audio_packets, suffix):
    muxing = {"movflags": "faststart"} if suffix == ".mp4" else {}
    source = make_clip(f"a{suffix}", audio="aac", frames=30, muxing=muxing)

    def answer(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", str(source.stat().st_size))
        handler.end_headers()
        handler.wfile.write(source.read_bytes())

    target, local = tmp_path / "out.mkv", tmp_path / "local.mkv"
    with (
        http(answer) as port,
        open_input(f"http://127.0.0.1:{port}/a{suffix}") as reader,
        open_writer(target, like=reader.facts) as writer,
    ):
        for frame in reader:
            writer.write(frame)
    with open_reader(source) as reader, open_writer(local, like=reader) as writer:
        for frame in reader:
            writer.write(frame)
    assert audio_packets(target) == audio_packets(local) != []


def test_a_stream_without_an_end_keeps_its_sound(make_clip, tmp_path, audio_packets):
    source, target = make_clip("a.ts", audio="aac", frames=60), tmp_path / "out.mkv"
    done = threading.Event()

    def answer(handler):
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(source.read_bytes())
        done.wait()

    with http(answer) as port, open_input(f"http://127.0.0.1:{port}/a.ts") as reader:
        assert reader.live
        with open_writer(target, like=reader.facts) as writer:
            for _ in range(45):
                writer.write(next(reader))
        done.set()
    sent, kept = audio_packets(source), audio_packets(target)
    headless = [packet[7:] for packet in sent]
    assert len(kept) > len(sent) / 2
    assert kept == headless[: len(kept)]
    assert not [each for each in writer.warnings if "audio" in each]


def test_sound_after_a_break_is_said_to_be_left_out(make_clip, tmp_path):
    """Once, however often the connection breaks off; nothing is said where it does not."""
    source = make_clip("a.ts", audio="aac", frames=50)

    def answer(handler):
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(source.read_bytes())

    settings = LiveSettings(first_backoff_seconds=0.05)
    with http(answer) as port:
        address = source_from(f"http://127.0.0.1:{port}/a.ts")
        for frames, warnings in ((40, []), (120, [1])):
            with (
                LiveReader(address, settings) as reader,
                open_writer(tmp_path / "out.mp4", like=reader.facts) as writer,
            ):
                for _ in range(frames):
                    writer.write(next(reader))
            said = [count for words, count in writer.warnings.items() if "audio left out" in words]
            assert said == warnings
