"""What a caller may not reach: files, by whatever way they are named, and everybody's patience."""

import json
import socket
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
from starlette.testclient import TestClient

from edgecar.errors import MediaError, SettingsError
from edgecar.serve import security
from edgecar.serve.api import application
from edgecar.serve.camera import CameraRun
from edgecar.serve.security import check_allowed
from edgecar.serve.settings import CameraSettings, Server
from edgecar.serve.source import open_camera
from tests.serve.conftest import PATIENCE_SECONDS, served, until, write_clip

TOKEN = "a-token-of-some-length"
JSON = {"Content-Type": "application/json"}


@pytest.fixture
def allowed(tmp_path):
    folder = tmp_path / "allowed"
    folder.mkdir()
    return folder


@pytest.fixture
def service(make_service, allowed, clip):
    return make_service(
        {"name": "gate", "source": str(clip), "enabled": False}, server={"folders": [str(allowed)]}
    )


@pytest.fixture
def client(service):
    return TestClient(application(service), "http://127.0.0.1:8321", client=("127.0.0.1", 5000))


# Files of the machine


@pytest.mark.parametrize(
    "source",
    [
        "file://{allowed}/%2e%2e/secret.mp4",  # decoded when it is opened
        "file://{outside}/secret.mp4?/../../..{allowed}/x",  # cut off there
        "file://{outside}/secret.mp4#/../../..{allowed}/x",
        "file://host{outside}/secret.mp4",  # whose host is ignored
        "FILE://{outside}/secret.mp4",
        "{allowed}/../secret.mp4",
        "/dev/video/../..{outside}/secret.mp4",
        "/dev/video0/../..{outside}/secret.mp4",
        "{allowed}/link.mp4",
    ],
)
def test_no_way_of_writing_an_address_leads_out_of_the_folders(
    service, allowed, tmp_path, monkeypatch, source
):
    monkeypatch.chdir(allowed)  # where a path that is taken for a relative one would be allowed
    write_clip(tmp_path / "secret.mp4", 3)
    (allowed / "link.mp4").symlink_to(tmp_path / "secret.mp4")
    named = source.format(allowed=allowed, outside=tmp_path)
    with pytest.raises((SettingsError, ValueError), match=r"none of the server's|no camera is"):
        service.add(CameraSettings(name="yard", source=named))
    assert service.names() == ["gate"]


def test_a_file_whose_name_is_encoded_is_read_where_it_is_allowed(service, allowed):
    write_clip(allowed / "back door.mp4")
    service.add(CameraSettings(name="yard", source=f"file://{allowed}/back%20door.mp4"))
    until(lambda: service.camera("yard").status.sequence)


@pytest.mark.parametrize("network", ["{outside}/evil", "../{outside}/evil", "./evil", "e/vil"])
def test_no_network_is_loaded_from_elsewhere(service, tmp_path, monkeypatch, network):
    monkeypatch.chdir(tmp_path)
    # Weights that ship are found by name and coder; a name must not lead out of their folder.
    (tmp_path / "evil.h264.onnx").write_bytes(b"")
    with pytest.raises(SettingsError, match="none of the server's folders"):
        service.change("gate", {"network": network.format(outside=tmp_path), "coder": "h264"})
    with pytest.raises(SettingsError, match="none of the server's folders"):
        service.change("gate", {"shed": [network.format(outside=tmp_path)]})


def test_a_cameras_own_recording_folder_may_not_be_a_link_to_elsewhere(service, allowed, tmp_path):
    (allowed / "recordings").mkdir()
    (allowed / "recordings" / "yard").symlink_to(tmp_path)
    with pytest.raises(SettingsError, match=r"recording folder .* none of the server's folders"):
        service.add(
            CameraSettings(name="yard", source="0", record={"folder": allowed / "recordings"})
        )
    service.add(
        CameraSettings(
            name="roof", source="0", enabled=False, record={"folder": allowed / "recordings"}
        )
    )


@pytest.mark.parametrize("name", ["..", ".", "", "a/b", "a\\b", "a\n", "-a", "é", "a" * 65, "a\0"])
def test_no_name_leads_anywhere(client, name):
    answer = client.post("/api/cameras", json={"name": name, "source": "0"})
    assert answer.status_code == 422
    assert "use letters, digits" in answer.json()["detail"]


@pytest.mark.parametrize("end", ["\x7f", "\x85", "\u2028", " x", "\n-x", "\t"])
def test_no_address_holds_what_begins_a_line_or_another_argument(client, end):
    for more in (
        {"source": f"rtsp://h/x{end}"},
        {"source": "0", "push": {"url": f"rtsp://h{end}"}},
    ):
        answer = client.post("/api/cameras", json={"name": "yard", **more})
        assert "a space or control character" in answer.json()["detail"]


# What a server that is asked for pictures may answer


@contextmanager
def answering(bodies):
    """Where each path has its content type and body, or the address to go on to."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_GET(self):
            kind, body = bodies[self.path]
            self.send_response(302 if kind == "Location" else 200)
            self.send_header("Location" if kind == "Location" else "Content-Type",
                             body.decode() if kind == "Location" else kind)  # fmt: skip
            self.send_header("Content-Length", str(0 if kind == "Location" else len(body)))
            self.end_headers()
            if kind != "Location":
                self.wfile.write(body)

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


# Requests


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 30_000,
        b'{"priority": ' + b"9" * 6000 + b"}",
        b'{"name": "\\ud800", "source": "0"}',
        b'{"name": "a", "source": "/\\ud800"}',
        b'{"\\ud800": 1}',
        b'{"name": "a", "source": "/a\\u0000"}',
        b'{"name": "a", "source": "0", "network": "' + b"a" * 2000 + b'"}',
        b"\xff",
        b"",
    ],
)
def test_no_body_makes_it_fail(client, body):
    for method, path in (("POST", "/api/cameras"), ("PATCH", "/api/cameras/gate")):
        answer = client.request(method, path, content=body, headers=JSON)
        assert answer.status_code in (400, 422)
        assert "\n" not in answer.json()["detail"]


@pytest.fixture
def guarded(make_service, clip):
    """A service that is open to other machines, behind a real server."""
    service = make_service(
        {"name": "gate", "source": str(clip), "enabled": False},
        server={"host": "0.0.0.0", "token": TOKEN},
    )
    with served(service) as server:
        yield server


def spoken(port: int, request: bytes) -> int:
    """The status that a request is answered with, byte for byte as it is given."""
    with socket.create_connection(("127.0.0.1", port), PATIENCE_SECONDS) as connection:
        connection.sendall(request)
        with connection.makefile("rb") as answer:
            return int(answer.readline().split()[1])


HOST = b"Host: 127.0.0.1\r\n"


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /api/status HTTP/1.1\r\n" + HOST, 401),
        (b"HEAD /api/status HTTP/1.1\r\n" + HOST, 401),
        (b"OPTIONS /api/status HTTP/1.1\r\n" + HOST, 401),
        (b"TRACE /api/status HTTP/1.1\r\n" + HOST, 401),
        (b"GET /static/../api/status HTTP/1.1\r\n" + HOST, 404),
        (b"GET /static/%2e%2e/api/status HTTP/1.1\r\n" + HOST, 404),
        (b"GET //api/status HTTP/1.1\r\n" + HOST, 401),
        (b"GET /healthz/../api/status HTTP/1.1\r\n" + HOST, 401),
        (b"GET /%61pi/status HTTP/1.1\r\n" + HOST, 401),
        (b"GET /api/status%00 HTTP/1.1\r\n" + HOST, 401),
        (b"GET http://127.0.0.1/api/status HTTP/1.1\r\n" + HOST, 401),
        (b"GET /healthz HTTP/1.1\r\n" + HOST, 200),
        (b"GET /healthz HTTP/1.1\r\nHost: localhost:80\r\n", 200),
        (b"GET /healthz HTTP/1.1\r\n", 400),
        (b"GET /healthz HTTP/1.0\r\n", 421),
        (b"GET /healthz HTTP/1.1\r\n" + HOST + b"Host: evil.example\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nHost: evil.example\r\n", 421),
        (b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1.evil.example\r\n", 421),
        (b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1@evil.example\r\n", 421),
        (b"POST /api/login HTTP/1.1\r\n" + HOST + b"Origin: null\r\n", 403),
        (b"POST /api/login HTTP/1.1\r\n" + HOST + b"Origin: http://127.0.0.1:81\r\n", 403),
    ],
)
def test_however_it_is_asked_for_nothing_is_told_without_the_token(guarded, head, status):
    assert spoken(guarded.port, head + b"\r\n") == status


def test_nobody_is_believed_who_says_to_call_for_another(guarded):
    with httpx.Client(base_url=guarded.url) as client:
        answers = [
            client.get(
                "/api/status",
                headers={"Authorization": "Bearer wrong", "X-Forwarded-For": f"10.0.0.{number}"},
            ).status_code
            for number in range(20)
        ]
    assert answers[-1] == 429  # the same caller, whatever it says


def test_a_proxy_that_is_named_is_believed(make_service):
    service = make_service(server={"token": TOKEN, "proxies": ["127.0.0.1"]})
    with served(service) as server, httpx.Client(base_url=server.url) as client:
        wrong = {"Authorization": "Bearer wrong"}
        for _ in range(20):
            answer = client.get("/api/status", headers={**wrong, "X-Forwarded-For": "10.0.0.1"})
        assert answer.status_code == 429
        answer = client.get("/api/status", headers={**wrong, "X-Forwarded-For": "10.0.0.2"})
        assert answer.status_code == 401


@pytest.mark.parametrize(
    "begun",
    [
        b"",
        b"GET /healthz HTT",
        b"POST /api/login HTTP/1.1\r\n" + HOST + b"Content-Type: application/json\r\n"
        b"Content-Length: 9\r\n\r\n{",
        # It is refused at once, and goes on with its body.
        b"POST /api/cameras HTTP/1.1\r\n" + HOST + b"Content-Type: application/json\r\n"
        b"Content-Length: 9\r\n\r\n{",
    ],
)
def test_who_does_not_end_a_request_is_hung_up_on(make_service, monkeypatch, begun):
    monkeypatch.setattr(security, "REQUEST_SECONDS", 0.2)
    with (
        served(make_service(server={"token": TOKEN})) as server,
        socket.create_connection(("127.0.0.1", server.port), PATIENCE_SECONDS) as caller,
    ):
        caller.sendall(begun)
        assert hung_up(caller)


def hung_up(connection: socket.socket) -> bool:
    """True once the other side is gone; its timeout is the test's patience."""
    try:
        while connection.recv(4096):
            pass
    except ConnectionError:
        pass
    return True


def test_who_asks_again_and_again_on_one_connection_is_not(make_service, monkeypatch):
    monkeypatch.setattr(security, "REQUEST_SECONDS", 0.3)
    with served(make_service()) as server, httpx.Client(base_url=server.url) as client:
        pause = threading.Event()
        for _ in range(8):
            assert client.get("/healthz").status_code == 200
            pause.wait(0.1)
        stream = client.get("/api/cameras")
        assert json.loads(stream.content) == []


# Secrets, and what the process has open

SECRET = "qXz7"

SOURCES = [
    f"http://admin:{SECRET}@127.0.0.1:1/stream.jpg",
    f"RTSP://admin:a@{SECRET}@127.0.0.1:1/live",
    f"http://127.0.0.1:1/stream.jpg?auth={SECRET}",
    f"rtsp:/admin:{SECRET}@127.0.0.1:1/live",
    f"admin:{SECRET}@127.0.0.1:1/live.jpg",
]


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("push", [f"rtmp://u:{SECRET}@h/live/a", f"rtsp://h/a?token={SECRET}"])
def test_what_callers_are_told_of_a_camera_holds_none(source, push):
    camera = CameraSettings(name="gate", source=source, push={"url": push}, enabled=False)
    run = CameraRun(camera, pipeline=None, networks=None, publisher=None)
    run.settings = camera.model_copy(update={"network": "pass"})
    assert SECRET not in run.status.model_dump_json()


@pytest.mark.parametrize("source", ["-", "pipe:0", "pipe:3", "/dev/stdin", "/dev/fd/3"])
def test_a_service_does_not_read_what_it_was_started_with(source, tmp_path):
    """A caller could read what the process has open; a file there must lie in a known folder."""
    with pytest.raises((ValueError, SettingsError)):
        check_allowed(CameraSettings(name="gate", source=source), Server(folders=[tmp_path]))
