"""Streams that come over a socket, from a server in this process."""

import base64
import functools
import socket
import struct
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import StreamRequestHandler, ThreadingTCPServer

import av
import numpy as np
import pytest

from edgecar.errors import MediaError, StallError
from edgecar.media.reader import Reader, open_reader
from edgecar.media.sources import SourceSettings, source_from
from edgecar.media.writer import open_writer

PATIENCE_SECONDS = 0.5


@contextmanager
def sender(data: bytes, *, hang: bool, slowly: bytes = b"") -> Iterator[int]:
    """A port that sends ``data`` to the first caller and then hangs up, or says nothing more.

    What is to go ``slowly`` follows a packet of MPEG-TS at a time.
    """
    done = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            connection, _ = server.accept()
            with connection:
                connection.sendall(data)
                with suppress(OSError):  # the caller may have hung up
                    for start in range(0, len(slowly), 188):
                        connection.sendall(slowly[start : start + 188])
                        if done.wait(0.005):
                            break
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


def remuxed(whole, keep):
    """The file without the packets that ``keep`` does not want, counted in each stream."""
    path = whole.with_stem("part")
    counts = {}
    with av.open(str(whole)) as source, av.open(str(path), "w") as output:
        streams = {
            stream.index: output.add_stream_from_template(stream, opaque=True)
            for stream in source.streams
        }
        for packet in source.demux():
            if not packet.size:
                continue
            index = packet.stream_index
            number = counts[index] = counts.get(index, -1) + 1
            packet.stream = streams[index]
            if keep(number, packet):
                output.mux(packet)
    return path


def test_sound_alone_is_silence(make_clip):
    """FFmpeg's timeout starts anew with every packet. It looks at 7 s before it opens MPEG-TS."""
    whole = make_clip("whole.ts", frames=100, rate=Fraction(5), audio="aac")
    part = remuxed(whole, lambda number, packet: packet.stream.type == "audio" or number < 12)
    stream = part.read_bytes()
    most = len(stream) // 376 * 188
    settings = SourceSettings(read_seconds=PATIENCE_SECONDS)
    with sender(stream[:most], hang=False, slowly=stream[most:]) as port:
        source = source_from(f"tcp://127.0.0.1:{port}")
        with (
            Reader(source, keep_size=True, settings=settings) as reader,
            pytest.raises(StallError, match=r"broke off \(no data in time\); connect again"),
        ):
            list(reader)


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_a_stream_joined_between_keyframes_starts_with_the_next_one(make_clip, codec):
    """FFmpeg's decoder of MPEG-4 does not see to that: it draws on a grey ground."""
    whole = make_clip("whole.mkv", codec=codec, frames=40, options={"g": "20"})
    part = remuxed(whole, lambda number, _packet: number >= 5)
    with open_reader(whole) as reader:
        expected = [frame.y.tobytes() for frame in reader][20:]
    with (
        sender(part.read_bytes(), hang=False) as port,
        open_reader(f"tcp://127.0.0.1:{port}") as reader,
    ):
        assert [frame.y.tobytes() for frame in reader] == expected
        assert reader.warnings == {"packets before the first keyframe skipped": 15}
    if codec == "mpeg4":
        with open_reader(part) as reader:  # as a file, which nobody joins
            broken = np.frombuffer(next(reader).y, np.uint8).astype(int)
        assert np.abs(broken - np.frombuffer(expected[0], np.uint8)).mean() > 20


def test_a_stream_without_keyframes_is_shown_all_the_same(make_clip):
    whole = make_clip("whole.mkv", frames=40, options={"g": "20"})
    part = remuxed(whole, lambda _number, packet: not packet.is_keyframe)
    settings = SourceSettings(keyframe_seconds=1e-6)
    with sender(part.read_bytes(), hang=False) as port:
        source = source_from(f"tcp://127.0.0.1:{port}")
        with Reader(source, keep_size=True, settings=settings) as reader:
            shown = len(list(reader))
            assert shown > 30
            assert reader.warnings == {
                "started without a keyframe": 1,
                "damaged frames concealed by the decoder": shown,
            }


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


def test_sound_that_is_not_asked_of_a_camera_is_named(make_clip, monkeypatch, tmp_path):
    path = make_clip("a.ts")
    monkeypatch.setattr("edgecar.media.reader.opened", lambda *_: av.open(str(path)))
    with (
        open_reader("rtsp://10.0.0.5/stream") as reader,
        open_writer(tmp_path / "out.mp4", like=reader) as writer,
    ):
        for frame in reader:
            writer.write(frame)
    said = {words: count for words, count in writer.warnings.items() if "audio left out" in words}
    assert list(said.values()) == [1]
    assert "RTSP" in next(iter(said))
