"""A camera that breaks is opened again; a file is played at its pace; no answer opens a file."""

import logging
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from edgecar.errors import MediaError
from edgecar.serve import source as sources
from edgecar.serve.settings import CameraSettings
from edgecar.serve.source import SupervisedSource, open_camera
from tests.media import conftest as media
from tests.serve.conftest import until, write_clip

make_clip = media.make_clip  # the fixture


def supervised(source, **more) -> SupervisedSource:
    return SupervisedSource(CameraSettings(name="gate", source=str(source), **more))


@pytest.fixture
def fast_pace(monkeypatch):
    """Files play as fast as they can."""
    monkeypatch.setattr(sources, "_seconds", lambda _frame: 0.0)


@pytest.mark.usefixtures("fast_pace")
def test_a_file_that_does_not_loop_ends(tmp_path):
    source = supervised(write_clip(tmp_path / "a.mp4", 10), loop=False)
    assert len(list(source)) == 10
    assert (source.state, source.codec, source.facts.size) == ("ended", "h264", (48, 64))


@pytest.mark.usefixtures("fast_pace")
def test_a_file_that_loops_goes_on_with_rising_times(tmp_path):
    source = supervised(write_clip(tmp_path / "a.mp4", 10))
    frames = []
    for frame in source:
        frames.append(frame)
        if len(frames) == 25:
            source.close()
    times = [frame.pts for frame in frames]
    assert times == sorted(set(times))
    assert len({frame.time_base for frame in frames}) == 1
    assert source.state == "stopped"


def test_a_file_is_played_at_its_own_pace(tmp_path):
    source = supervised(write_clip(tmp_path / "a.mp4", 9, fps=20), loop=False)
    began = time.monotonic()
    assert len(list(source)) == 9
    assert time.monotonic() - began >= 8 / 20  # a lower bound only: nothing comes early


@pytest.mark.usefixtures("fast_pace")
def test_what_cannot_be_opened_is_tried_again_after_growing_waits(tmp_path, monkeypatch):
    waits = []
    failures = [MediaError("no route"), MediaError("no route"), ValueError("a mistake of ours")]

    def opened(camera):
        if failures:
            raise failures.pop(0)
        return open_camera(camera)

    monkeypatch.setattr(sources, "open_camera", opened)
    source = supervised(write_clip(tmp_path / "a.mp4", 5), loop=False)
    monkeypatch.setattr(source._closing, "wait", lambda seconds: waits.append(seconds))
    assert len(list(source)) == 5
    assert source.restarts == 3
    first, second, third = (seconds for seconds in waits if seconds)
    assert first < second < third


def test_while_it_waits_it_says_why(tmp_path):
    gone = supervised(tmp_path / "gone.mp4")
    thread = threading.Thread(target=lambda: list(gone))
    thread.start()
    until(lambda: gone.state == "waiting")
    assert "does not exist" in gone.error
    gone.close()
    thread.join(20)
    assert not thread.is_alive()  # though its wait was not over
    assert (gone.state, gone.error) == ("stopped", None)


@pytest.mark.usefixtures("fast_pace")
@pytest.mark.parametrize(
    ("audio", "record", "lines"), [("aac", True, 1), ("aac", False, 0), (None, True, 0)]
)
def test_a_recording_without_the_sound_is_said_once(
    make_clip, tmp_path, caplog, audio, record, lines
):
    path = make_clip("a.mp4", audio=audio)
    source = supervised(path, **({"record": {"folder": tmp_path}} if record else {}))
    with caplog.at_level(logging.INFO):
        for number, _ in enumerate(source):
            if number == 30:  # it plays for the third time
                source.close()
    assert sum("no sound" in line for line in caplog.messages) == lines


@contextmanager
def answering(bodies):
    """Where each path has its content type and body, or the address to go on to."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_GET(self):
            kind, body = bodies[self.path]
            moved = kind == "Location"
            self.send_response(302 if moved else 200)
            self.send_header(*((kind, body.decode()) if moved else ("Content-Type", kind)))
            self.send_header("Content-Length", str(0 if moved else len(body)))
            self.end_headers()
            self.wfile.write(b"" if moved else body)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


def pages(segment: str, whole: str) -> dict[str, tuple[str, bytes]]:
    """Answers of all kinds that name another address: of a transport stream, or of an MP4."""
    hls = "application/vnd.apple.mpegurl"
    head = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n"
    listed = f"{head}#EXTINF:2,\n{segment}\n#EXT-X-ENDLIST\n"
    mapped = f'{head}#EXT-X-MAP:URI="{whole}"\n#EXTINF:2,\n{whole}\n#EXT-X-ENDLIST\n'
    return {
        "/list.m3u8": (hls, listed.encode()),
        "/map.m3u8": (hls, mapped.encode()),
        "/moved": ("Location", segment.encode()),
        "/list.ffconcat": ("text/plain", f"ffconcat version 1.0\nfile {whole}\n".encode()),
    }


def first_frame(url: str):
    with open_camera(CameraSettings(name="gate", source=url)) as reader:
        return next(iter(reader))


@pytest.mark.parametrize("form", ["file://{}", "{}", "subfile,,start,0,end,9999,,:{}", "concat:{}"])
def test_a_server_cannot_make_ffmpeg_read_a_file_of_this_machine(tmp_path, form):
    segment, whole = write_clip(tmp_path / "a.ts"), write_clip(tmp_path / "a.mp4")
    asked = pages(form.format(segment), form.format(whole))
    with answering(asked) as url:
        for path in asked:
            with pytest.raises(MediaError):
                first_frame(url + path)


def test_the_same_answers_are_followed_where_they_name_the_server(tmp_path):
    files = {"/a.ts": ("video/mp2t", write_clip(tmp_path / "a.ts").read_bytes()),
             "/a.mp4": ("video/mp4", write_clip(tmp_path / "a.mp4").read_bytes())}  # fmt: skip
    bodies: dict[str, tuple[str, bytes]] = {}
    with answering(bodies) as url:
        bodies.update(files | pages(f"{url}/a.ts", f"{url}/a.mp4"))
        for path in ("/list.m3u8", "/map.m3u8", "/moved"):
            assert first_frame(url + path).y.shape == (48, 64)
