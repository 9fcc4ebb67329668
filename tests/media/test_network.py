"""Streams that come over a socket, from a server in this process."""

import socket
import struct
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from socketserver import StreamRequestHandler, ThreadingTCPServer

import av
import numpy as np
import pytest

from edgecar.errors import MediaError, StallError
from edgecar.media.reader import Reader, open_reader
from edgecar.media.sources import LiveSettings, source_from
from tests.media.conftest import copied, read_all, remuxed

PATIENCE_SECONDS = 0.5
SILENT = r"broke off \(no data in time\); connect again"


@contextmanager
def sender(data: bytes, *, hang: bool = False, slowly: bytes = b"") -> Iterator[str]:
    """An address that sends ``data`` to the first caller and then hangs up, or says nothing more.

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
            yield f"tcp://127.0.0.1:{server.getsockname()[1]}"
        finally:
            done.set()
            thread.join()


def test_a_live_stream_is_read_until_it_hangs_up(make_clip):
    path = make_clip("a.ts", options={"bf": "2"})
    expected = [frame.pts for frame in read_all(path)[0]]
    with sender(path.read_bytes()) as url, open_reader(url) as reader:
        assert reader.live
        assert reader.frame_count is None
        assert [frame.pts for frame in reader] == expected
        assert reader.ended


def test_a_live_stream_that_falls_silent_is_an_error(make_clip):
    stream = make_clip("a.ts", frames=100).read_bytes()
    with (
        sender(stream, hang=True) as url,
        open_reader(url, timeout_seconds=PATIENCE_SECONDS) as reader,
    ):
        with pytest.raises(MediaError, match=SILENT):
            list(reader)
        assert not reader.ended


def kept(whole, wanted):
    """The file with the packets that are wanted, as `remuxed` describes them."""
    part = whole.with_stem("part")
    return remuxed(whole, part, lambda *packet: packet[2:] if wanted(*packet) else ())


def test_sound_alone_is_silence(make_clip):
    """FFmpeg's timeout starts anew with every packet. It looks at 7 s before it opens MPEG-TS."""
    whole = make_clip("whole.ts", frames=100, rate=Fraction(5), audio="aac")
    stream = kept(whole, lambda kind, n, _packet: kind == "audio" or n < 12).read_bytes()
    most = len(stream) // 376 * 188
    settings = LiveSettings(read_seconds=PATIENCE_SECONDS)
    with (
        sender(stream[:most], slowly=stream[most:]) as url,
        Reader(source_from(url), keep_size=True, settings=settings) as reader,
        pytest.raises(StallError, match=SILENT),
    ):
        list(reader)


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_a_stream_joined_between_keyframes_starts_with_the_next_one(make_clip, codec):
    """FFmpeg's decoder of MPEG-4 does not see to that: it draws on a grey ground."""
    whole = make_clip("whole.mkv", codec=codec, frames=40, options={"g": "20"})
    part = kept(whole, lambda _kind, number, _packet: number >= 5)
    expected = [frame.y.tobytes() for frame in read_all(whole)[0]][20:]
    with sender(part.read_bytes()) as url:
        frames, reader = read_all(url)
    assert [frame.y.tobytes() for frame in frames] == expected
    assert reader.warnings == {"packets before the first keyframe skipped": 15}
    if codec == "mpeg4":
        broken = read_all(part)[0][0].y.ravel().astype(int)  # as a file, which nobody joins
        assert np.abs(broken - np.frombuffer(expected[0], np.uint8)).mean() > 20


def test_a_stream_without_keyframes_is_shown_all_the_same(make_clip):
    whole = make_clip("whole.mkv", frames=40, options={"g": "20"})
    part = kept(whole, lambda _kind, _number, packet: not packet.is_keyframe)
    settings = LiveSettings(keyframe_seconds=1e-6)
    with (
        sender(part.read_bytes()) as url,
        Reader(source_from(url), keep_size=True, settings=settings) as reader,
    ):
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
            header = struct.pack(">BBHII", 0x80, 33, number, number * 900, 1)
            packet = header + stream[start : start + size]
            self.wfile.write(struct.pack(">cBH", b"$", 0, len(packet)) + packet)


def test_rtsp_comes_over_tcp(make_clip):
    path = make_clip("a.ts")
    with ThreadingTCPServer(("127.0.0.1", 0), Camera) as server:
        server.stream, server.requests = path.read_bytes(), []
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        frames, reader = read_all(f"rtsp://127.0.0.1:{server.server_address[1]}/main")
        server.shutdown()
        thread.join()
    assert reader.live
    # Only the packet after it tells FFmpeg that a picture is complete, and the last has none.
    sent, came = ([f.y.tobytes() for f in each][:11] for each in (read_all(path)[0], frames))
    assert came == sent
    assert ("SETUP", True) in [(m, t.startswith("RTP/AVP/TCP")) for m, t in server.requests]
    assert not any("AVP/UDP" in transport for _, transport in server.requests)


@pytest.mark.parametrize(
    ("answers", "words"),
    [(True, r"no answer within 0\.5 s"), (False, "Connection refused.*check address")],
)
def test_a_camera_that_does_not_open_is_an_error_without_its_password(answers, words):
    with sender(b"", hang=True) if answers else socket.create_server(("127.0.0.1", 0)) as server:
        if answers:
            host = server.removeprefix("tcp://")
        else:
            host = f"127.0.0.1:{server.getsockname()[1]}"
            server.close()
        url = f"rtsp://admin:Secret1@{host}/main?token=Secret2"
        with pytest.raises(MediaError, match=words) as caught:
            open_reader(url, timeout_seconds=PATIENCE_SECONDS)
    assert f"@{host}/main" in str(caught.value)
    assert "Secret" not in "".join(traceback.format_exception(caught.value))


def test_sound_that_is_not_asked_of_a_camera_is_named(make_clip, monkeypatch, tmp_path):
    path = make_clip("a.ts")
    monkeypatch.setattr("edgecar.media.reader.opened", lambda *_: av.open(str(path)))
    warnings = copied("rtsp://10.0.0.5/stream", tmp_path / "out.mp4")
    ((words, count),) = [each for each in warnings.items() if "audio left out" in each[0]]
    assert count == 1
    assert "RTSP" in words
