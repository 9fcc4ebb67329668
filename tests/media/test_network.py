"""Streams that come over a socket, from a server in this process."""

import base64
import functools
import socket
import struct
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import StreamRequestHandler, ThreadingTCPServer

import pytest

from edgecar.errors import MediaError
from edgecar.media.reader import open_reader

PATIENCE_SECONDS = 0.5


@contextmanager
def sender(data: bytes, *, hang: bool) -> Iterator[int]:
    """A port that sends ``data`` to the first caller and then hangs up, or says nothing more."""
    done = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            connection, _ = server.accept()
            with connection:
                connection.sendall(data)
                if hang:
                    done.wait()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            done.set()
            thread.join()


def test_a_live_stream_is_read_until_it_hangs_up(make_clip):
    path = make_clip("a.ts", options={"bf": "2"})
    with open_reader(path) as reader:
        expected = [frame.pts for frame in reader]
    with (
        sender(path.read_bytes(), hang=False) as port,
        open_reader(f"tcp://127.0.0.1:{port}") as reader,
    ):
        assert reader.live
        assert reader.frame_count is None
        assert [frame.pts for frame in reader] == expected
        assert reader.ended


def test_a_live_stream_that_falls_silent_is_an_error(make_clip):
    stream = make_clip("a.ts", frames=100).read_bytes()
    with (
        sender(stream, hang=True) as port,
        open_reader(f"tcp://127.0.0.1:{port}", timeout_seconds=PATIENCE_SECONDS) as reader,
    ):
        with pytest.raises(MediaError, match=r"broke off \(no data in time\); connect again"):
            list(reader)
        assert not reader.ended


class Camera(StreamRequestHandler):
    """The smallest RTSP server that FFmpeg accepts: MPEG-TS in RTP inside the connection."""

    def handle(self):
        while request := self.rfile.readline().decode():
            headers = dict(line.split(": ", 1) for line in iter(self.header_line, ""))
            method = request.split()[0]
            self.server.requests.append((method, headers.get("Transport", "")))
            body, extra = "", "Session: 1\r\n"
            if method == "DESCRIBE":
                body = "v=0\r\nm=video 0 RTP/AVP 33\r\na=control:track1\r\n"
                extra = "Content-Type: application/sdp\r\n"
            elif method == "SETUP":
                extra += "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n"
            self.wfile.write(
                f"RTSP/1.0 200 OK\r\nCSeq: {headers['CSeq']}\r\n{extra}"
                f"Content-Length: {len(body)}\r\n\r\n{body}".encode()
            )
            if method == "PLAY":
                self.play()
                return

    def header_line(self):
        return self.rfile.readline().decode().strip()

    def play(self):
        stream, size = self.server.stream, 7 * 188
        for number, start in enumerate(range(0, len(stream), size)):
            payload = stream[start : start + size]
            header = struct.pack(">BBHII", 0x80, 33, number, number * 900, 1)
            packet = header + payload
            self.wfile.write(struct.pack(">cBH", b"$", 0, len(packet)) + packet)


def test_rtsp_comes_over_tcp(make_clip):
    path = make_clip("a.ts")
    with open_reader(path) as reader:
        expected = [frame.y.tobytes() for frame in reader]
    with ThreadingTCPServer(("127.0.0.1", 0), Camera) as server:
        server.stream, server.requests = path.read_bytes(), []
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        with open_reader(f"rtsp://127.0.0.1:{server.server_address[1]}/main") as reader:
            assert reader.live
            frames = list(reader)
        server.shutdown()
        thread.join()
    # Only the packet after it tells FFmpeg that a picture is complete, and the last has none.
    assert len(expected) == 12
    assert [frame.y.tobytes() for frame in frames][:11] == expected[:11]
    assert ("SETUP", True) in [(m, t.startswith("RTP/AVP/TCP")) for m, t in server.requests]
    assert not any("AVP/UDP" in transport for _, transport in server.requests)


def test_a_camera_that_does_not_answer_is_an_error_without_its_password():
    with sender(b"", hang=True) as port:
        url = f"rtsp://admin:Secret1@127.0.0.1:{port}/main?token=Secret2"
        with pytest.raises(MediaError, match=r"no answer within 0\.5 s") as caught:
            open_reader(url, timeout_seconds=PATIENCE_SECONDS)
    assert f"@127.0.0.1:{port}/main" in str(caught.value)
    assert "Secret" not in "".join(traceback.format_exception(caught.value))


def test_a_refused_connection_is_an_error_without_its_password():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    url = f"rtsp://admin:Secret1@127.0.0.1:{port}/main"
    with pytest.raises(MediaError, match=r"Connection refused.*check address") as caught:
        open_reader(url)
    assert "Secret" not in "".join(traceback.format_exception(caught.value))


class Locked(BaseHTTPRequestHandler):
    """Gives one file to those who know the password."""

    def __init__(self, content, *arguments):
        self.content = content
        super().__init__(*arguments)

    def do_GET(self):
        wanted = "Basic " + base64.b64encode(b"admin:Secret1").decode()
        if self.headers.get("Authorization") != wanted:
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="camera"')
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.content)))
        self.end_headers()
        self.wfile.write(self.content)

    def log_message(self, *_):
        """Nothing on the test's output."""


@pytest.fixture
def locked_port(make_clip):
    handler = functools.partial(Locked, make_clip("a.ts").read_bytes())
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def test_user_and_password_in_a_url_are_used(locked_port):
    with open_reader(f"http://admin:Secret1@127.0.0.1:{locked_port}/a.ts") as reader:
        assert len(list(reader)) == 12
        assert not reader.live


def test_a_wrong_password_is_an_error_that_does_not_show_it(locked_port):
    url = f"http://admin:Secret9@127.0.0.1:{locked_port}/a.ts"
    with pytest.raises(MediaError, match=r"Unauthorized|401") as caught:
        open_reader(url)
    assert "Secret" not in "".join(traceback.format_exception(caught.value))
