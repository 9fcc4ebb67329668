"""HTTP: JPEG pictures one after the other, streams without an end, and files."""

import base64
import threading
import time
import traceback
from contextlib import contextmanager
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise

import cv2
import numpy as np
import pytest

from edgecar.errors import MediaError
from edgecar.media.inputs import Pictures, open_input
from edgecar.media.live import LiveReader
from edgecar.media.reader import open_reader
from edgecar.media.sources import LiveSettings, source_from
from edgecar.media.writer import open_writer
from tests.media.conftest import copied, sound_of

PICTURES = [np.full((48, 64, 3), 5 * index, np.uint8) for index in range(40)]
LENGTH = "Content-Type: image/jpeg|Content-Length: {}"


@contextmanager
def http(answer):
    """The address of a server where ``answer(handler)`` is called for every request."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            answer(self)

        def log_message(self, *_):
            """Nothing on the test's output."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def begin(handler, **headers):
    handler.send_response(200)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()


def sends(content, *, length=True, then=None):
    """A function that answers with ``content``, and waits for ``then`` before it hangs up."""

    def answer(handler):
        begin(handler, **({"Content_Length": str(len(content))} if length else {}))
        handler.wfile.write(content)
        if then:
            then.wait()

    return answer


def multipart(boundary="picture", head=LENGTH, end="\r\n", first=True, pause=None):
    """A function that sends pictures between boundaries as a camera has it; boundless without."""

    def answer(handler):
        kind = "multipart/x-mixed-replace; boundary=" + boundary if head else "video/x-motion-jpeg"
        begin(handler, Content_Type=kind)
        between = "--" + boundary.strip('"').removeprefix("--")
        for index, picture in enumerate(PICTURES):
            if pause and index == len(PICTURES) // 2:
                pause.wait()
            coded = cv2.imencode(".jpg", picture)[1].tobytes()
            lines = [] if not head else [between, *head.format(len(coded)).split("|"), "", ""]
            if index == 0 and not first:
                del lines[0]
            handler.wfile.write(end.join(lines).encode() + coded + end.encode() * bool(head))

    return answer


def brightness(frames):
    return [round(frame.y.mean()) for frame in frames]


def test_jpeg_pictures_are_live_and_shown_when_they_come():
    pause = threading.Event()
    with http(multipart(pause=pause)) as host, open_reader(f"http://{host}/video") as reader:
        assert reader.live
        assert reader.facts.live
        assert (reader.codec, reader.frame_count) == ("mjpeg", None)
        assert reader.time_base == Fraction(1, 1000)
        frames = [next(reader) for _ in range(10)]
        time.sleep(0.3)
        pause.set()
        frames += [next(reader) for _ in range(20)]
    assert brightness(frames) == [5 * index for index in range(30)]
    assert all(before.pts <= after.pts for before, after in pairwise(frames))
    assert frames[29].pts - frames[9].pts >= 300  # FFmpeg would just count the pictures


CAMERAS = {
    "no length": multipart(head="Content-Type: image/jpeg"),
    "plain": multipart(),
    "dashes": multipart("--picture"),
    "quotes": multipart('"picture"'),
    "lower case": multipart(head=LENGTH.lower()),
    "more headers": multipart(head=LENGTH + "|X-Timestamp: 1.5|X-Foo: a:b"),
    "no type": multipart(head="Content-Length: {}"),
    "bare line feeds": multipart(end="\n"),
    "no first boundary": multipart(first=False),
    "no boundaries": multipart(head=""),
}


@pytest.mark.parametrize("camera", CAMERAS)
@pytest.mark.parametrize("path", ["stream.jpg", "video"])
def test_pictures_open_however_a_camera_sends_them(camera, path):
    address = f"/{path}?token=1"
    with (
        http(CAMERAS[camera]) as host,
        open_input(f"http://user:secret@{host}{address}") as reader,
    ):
        frames = [next(reader) for _ in range(20)]
        assert (reader.live, reader.codec) == (True, "mjpeg")
    assert brightness(frames) == [5 * index for index in range(20)]


def test_a_page_in_place_of_pictures_is_one_line():
    page = sends(b"<html>log in first</html>" * 2000, length=False)
    with http(page) as host, pytest.raises(MediaError, match="does not open") as failure:
        open_input(f"http://user:secret@{host}/stream.jpg")
    assert "secret" not in str(failure.value)


@pytest.mark.parametrize("stated", [True, False], ids=["with a length", "without"])
@pytest.mark.parametrize("path", ["snapshot.jpg", "cgi-bin/snapshot"])
def test_one_picture_is_a_picture(path, stated):
    coded = cv2.imencode(".jpg", PICTURES[20])[1].tobytes()
    with http(sends(coded, length=stated)) as host, open_input(f"http://{host}/{path}") as found:
        assert isinstance(found, Pictures)
        assert found.codec == "jpeg"
        assert found.paths[0].read_bytes() == coded


@pytest.mark.parametrize("suffix", [".mp4", ".ts", ".mkv"])
def test_a_file_behind_an_address_is_read_once_and_keeps_its_sound(make_clip, tmp_path, suffix):
    muxing = {"movflags": "faststart"} if suffix == ".mp4" else {}
    source = make_clip(f"a{suffix}", audio="aac", frames=30, muxing=muxing)
    with http(sends(source.read_bytes())) as host:
        with LiveReader(source_from(f"http://{host}/a{suffix}")) as reader:
            assert not reader.live
            assert len(list(reader)) == 30
            assert reader.ended
            assert reader.stats.connects == 1
        copied(f"http://{host}/a{suffix}", tmp_path / "out.mkv")
    copied(source, tmp_path / "local.mkv")
    assert sound_of(tmp_path / "out.mkv") == sound_of(tmp_path / "local.mkv") != []


def test_a_stream_without_an_end_is_live_and_keeps_its_sound(make_clip, tmp_path):
    source, target = make_clip("a.ts", audio="aac", frames=60), tmp_path / "out.mkv"
    done = threading.Event()
    answer = sends(source.read_bytes(), length=False, then=done)
    with http(answer) as host, open_input(f"http://{host}/a.ts") as reader:
        assert reader.live
        with open_writer(target, like=reader.facts) as writer:
            for _ in range(45):
                writer.write(next(reader))
        done.set()
    kept, headless = sound_of(target), [packet[7:] for packet in sound_of(source)]
    assert len(kept) > len(headless) / 2
    assert kept == headless[: len(kept)]
    assert not [each for each in writer.warnings if "audio" in each]


def test_sound_after_a_break_is_said_to_be_left_out(make_clip, tmp_path):
    """Once, however often the connection breaks off; nothing is said where it does not."""
    source = make_clip("a.ts", audio="aac", frames=50)
    settings = LiveSettings(first_backoff_seconds=0.05)
    with http(sends(source.read_bytes(), length=False)) as host:
        for frames, warnings in ((40, []), (120, [1])):
            with (
                LiveReader(source_from(f"http://{host}/a.ts"), settings) as reader,
                open_writer(tmp_path / "out.mp4", like=reader.facts) as writer,
            ):
                for _ in range(frames):
                    writer.write(next(reader))
            said = [count for words, count in writer.warnings.items() if "audio left out" in words]
            assert said == warnings


def test_a_password_is_used_and_never_shown(make_clip):
    answer = sends(make_clip("a.ts").read_bytes())

    def locked(handler):
        wanted = "Basic " + base64.b64encode(b"admin:Secret1").decode()
        if handler.headers.get("Authorization") == wanted:
            answer(handler)
            return
        handler.send_response(401)
        handler.send_header("WWW-Authenticate", 'Basic realm="camera"')
        handler.end_headers()

    with http(locked) as host:
        right, wrong = (f"http://admin:{word}@{host}/a.ts" for word in ("Secret1", "Secret9"))
        with open_reader(right) as reader:
            assert len(list(reader)) == 12
        with pytest.raises(MediaError, match=r"Unauthorized|401") as caught:
            open_reader(wrong)
    assert "Secret" not in "".join(traceback.format_exception(caught.value))
