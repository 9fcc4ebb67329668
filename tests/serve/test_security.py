"""What a caller may not reach: files, by whatever way they are named, and everybody's patience."""

import json
import re
import socket
import threading

import httpx
import pytest

from edgecar.errors import SettingsError
from edgecar.serve import security
from edgecar.serve.camera import CameraRun
from edgecar.serve.security import Rate, check_allowed
from edgecar.serve.settings import CameraSettings, Server
from tests.serve.conftest import PATIENCE_SECONDS, served, until, write_clip

TOKEN = "a-token-of-some-length"
JSON = {"Content-Type": "application/json"}
OUTSIDE = "none of the server's folders"


@pytest.fixture
def allowed(tmp_path):
    folder = tmp_path / "allowed"
    folder.mkdir()
    return folder


@pytest.fixture
def service(make_service, allowed, clip):
    gate = {"name": "gate", "source": str(clip), "enabled": False}
    return make_service(gate, server={"folders": [str(allowed)]})


@pytest.fixture
def client(service, client_of):
    return client_of(service)


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
    with pytest.raises((SettingsError, ValueError), match=rf"{OUTSIDE}|no camera is"):
        service.add(CameraSettings(name="yard", source=named))
    assert service.names() == ["gate"]


@pytest.mark.parametrize("source", ["-", "pipe:0", "pipe:3", "/dev/stdin", "/dev/fd/3"])
def test_a_service_does_not_read_what_it_was_started_with(source, tmp_path):
    """A caller could read what the process has open; a file there must lie in a known folder."""
    with pytest.raises((ValueError, SettingsError)):
        check_allowed(CameraSettings(name="gate", source=source), Server(folders=[tmp_path]))


def test_a_file_whose_name_is_encoded_is_read_where_it_is_allowed(service, allowed):
    write_clip(allowed / "back door.mp4")
    service.add(CameraSettings(name="yard", source=f"file://{allowed}/back%20door.mp4"))
    until(lambda: service.camera("yard").sequence)


@pytest.mark.parametrize("network", ["{outside}/evil", "../{outside}/evil", "./evil", "e/vil"])
def test_no_network_is_loaded_from_elsewhere(service, tmp_path, monkeypatch, network):
    monkeypatch.chdir(tmp_path)
    # Weights that ship are found by name and coder; a name must not lead out of their folder.
    (tmp_path / "evil.h264.onnx").write_bytes(b"")
    named = network.format(outside=tmp_path)
    for changes in ({"network": named, "coder": "h264"}, {"shed": [named]}):
        with pytest.raises(SettingsError, match=OUTSIDE):
            service.change("gate", changes)


def test_a_cameras_own_recording_folder_may_not_be_a_link_to_elsewhere(service, allowed, tmp_path):
    (allowed / "recordings").mkdir()
    (allowed / "recordings" / "yard").symlink_to(tmp_path)
    record = {"enabled": False, "record": {"folder": allowed / "recordings"}}
    with pytest.raises(SettingsError, match=rf"recording folder .* {OUTSIDE}"):
        service.add(CameraSettings(name="yard", source="0", **record))
    service.add(CameraSettings(name="roof", source="0", **record))


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


def test_large_bodies_are_refused_before_they_are_read(client):
    def parts():
        for _ in range(64):
            yield b"x" * 4096

    for body in (b"[" + b"1," * security.LARGEST_BODY, parts()):
        assert client.post("/api/cameras", content=body, headers=JSON).status_code == 413
    for length in ("-1", "1" * 5000):
        nonsense = {**JSON, "Content-Length": length}
        assert client.post("/api/cameras", content=b"{}", headers=nonsense).status_code == 413


def test_pages_of_other_sites_get_nothing(client):
    assert client.get("/api/status", headers={"Host": "evil.example"}).status_code == 421
    for host in ("localhost:8321", "127.0.0.1:8321", "[::1]:8321"):
        answer = client.get("/api/status", headers={"Host": host})
        assert answer.status_code == 200
        assert "access-control-allow-origin" not in answer.headers
    other = {"Origin": "http://evil.example", **JSON}
    assert client.post("/api/cameras/gate/stop", headers=other).status_code == 403
    form = {"Content-Type": "text/plain"}  # what a form of another site may send unasked
    body = json.dumps({"name": "x", "source": "0"})
    assert client.post("/api/cameras", content=body, headers=form).status_code == 415


def test_a_caller_is_slowed_down_and_others_are_not():
    now = [0.0]
    rate = Rate(2, 4, lambda: now[0])
    assert [rate.allows("a") for _ in range(6)] == [True] * 4 + [False] * 2
    assert rate.allows("b")
    now[0] = 0.5
    assert [rate.allows("a") for _ in range(2)] == [True, False]
    for caller in range(security.CALLERS):
        rate.allows(str(caller))
    assert len(rate._buckets) == security.CALLERS  # memory is bounded whoever calls


def test_too_many_requests_are_told_to_wait(make_service, client_of):
    client = client_of(make_service(server={"requests_per_second": 2}))
    assert {client.get("/healthz").status_code for _ in range(20)} == {200, 429}


@pytest.fixture
def guarded(make_service, clip):
    """A service that is open to other machines, and needs a token."""
    gate = {"name": "gate", "source": str(clip), "enabled": False}
    return make_service(gate, server={"host": "0.0.0.0", "token": TOKEN})


def test_without_the_token_there_is_only_the_page_and_health(guarded, client_of):
    client = client_of(guarded)
    camera = "/api/cameras/gate"
    for path in ("/api/status", "/api/cameras", "/metrics", "/api/openapi.json", "/api/nothing",
                 f"{camera}/frame.jpg", f"{camera}/stream.mjpg"):  # fmt: skip
        answer = client.get(path)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
    for method in ("POST", "PATCH", "DELETE", "PUT"):
        assert client.request(method, camera).status_code == 401
    for path in ("/", "/static/app.js", "/healthz", "/readyz"):
        assert client.get(path).status_code == 200
    right = {"Authorization": f"Bearer {TOKEN}"}
    assert client.get("/api/status", headers=right).status_code == 200
    wrong = {"Authorization": "Bearer wrong"}
    answers = [client.get("/api/status", headers=wrong).status_code for _ in range(30)]
    assert (answers[0], answers[-1]) == (401, 429)
    # Not even the right one helps who tried so often.
    assert client.get("/api/status", headers=right).status_code == 429


def test_a_browser_logs_in_and_its_cookie_is_not_for_scripts(guarded, client_of):
    client = client_of(guarded)
    assert client.post("/api/login", json={"token": "wrong"}).status_code == 401
    cookie = client.post("/api/login", json={"token": TOKEN}).headers["set-cookie"]
    assert re.search("HttpOnly.*SameSite=strict", cookie)
    assert TOKEN not in cookie
    assert client.get("/api/status").status_code == 200
    made_up = client_of(guarded, Cookie="edgecar_session=made-up")
    assert made_up.get("/api/status").status_code == 401


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
    with (
        served(guarded) as server,
        socket.create_connection(("127.0.0.1", server.port), PATIENCE_SECONDS) as connection,
    ):
        connection.sendall(head + b"\r\n")
        with connection.makefile("rb") as answer:
            assert int(answer.readline().split()[1]) == status


@pytest.mark.parametrize("proxies", [[], ["127.0.0.1"], ["127.0.0.0/8", "10.0.0.9"]])
def test_only_a_known_proxy_is_believed_for_whom_it_calls(make_service, client_of, proxies):
    service = make_service(server={"token": TOKEN, "proxies": proxies})
    client = client_of(service, Authorization="Bearer wrong")
    last = ", 10.0.0.9" if len(proxies) > 1 else ""  # a proxy that called this one

    def answer(caller: str) -> int:
        headers = {"X-Forwarded-For": f"10.9.9.9, {caller}{last}"}
        return client.get("/api/status", headers=headers).status_code

    assert [answer("10.0.0.1") for _ in range(12)][-1] == 429
    assert answer("10.0.0.2") == (401 if proxies else 429)


POST = HOST + b"Content-Type: application/json\r\nContent-Length: 9\r\n\r\n{"


@pytest.mark.parametrize("drip", [b"", b"x"])
@pytest.mark.parametrize(
    "begun",
    [
        b"",
        b"GET /healthz HTT",
        b"POST /api/login HTTP/1.1\r\n" + POST,
        b"POST /api/cameras HTTP/1.1\r\n" + POST,  # refused at once, and goes on with its body
    ],
)
def test_who_does_not_end_a_request_is_hung_up_on(make_service, monkeypatch, begun, drip):
    monkeypatch.setattr(security, "REQUEST_SECONDS", 0.3)
    with (
        served(make_service(server={"token": TOKEN})) as server,
        socket.create_connection(("127.0.0.1", server.port), 0.1) as caller,
    ):
        caller.sendall(begun)

        def hung_up() -> bool:
            try:
                caller.sendall(drip)
                return not caller.recv(4096)
            except TimeoutError:
                return False
            except ConnectionError:
                return True

        until(hung_up)


def test_who_asks_again_and_again_on_one_connection_is_not(make_service, monkeypatch):
    monkeypatch.setattr(security, "REQUEST_SECONDS", 0.3)
    with served(make_service()) as server, httpx.Client(base_url=server.url) as client:
        pause = threading.Event()
        for _ in range(8):
            assert client.get("/healthz").status_code == 200
            pause.wait(0.1)


SECRET = "qXz7"


@pytest.mark.parametrize(
    "source",
    [
        f"http://admin:{SECRET}@127.0.0.1:1/stream.jpg",
        f"RTSP://admin:a@{SECRET}@127.0.0.1:1/live",
        f"http://127.0.0.1:1/stream.jpg?auth={SECRET}",
        f"rtsp:/admin:{SECRET}@127.0.0.1:1/live",
        f"admin:{SECRET}@127.0.0.1:1/live.jpg",
    ],
)
@pytest.mark.parametrize("push", [f"rtmp://u:{SECRET}@h/live/a", f"rtsp://h/a?token={SECRET}"])
def test_what_callers_are_told_of_a_camera_holds_none(source, push):
    camera = CameraSettings(name="gate", source=source, push={"url": push}, network="pass")
    run = CameraRun(camera, pipeline=None, networks=None, publisher=None)
    assert SECRET not in run.status.model_dump_json()


def test_no_password_is_in_any_answer(make_service, client_of):
    source, push = (f"rtsp://admin:{SECRET}@127.0.0.1:9/{path}?key={SECRET}" for path in "xy")
    service = make_service({"name": "gate", "source": source, "push": {"url": push}})
    until(lambda: service.camera("gate").status.state == "waiting")
    client = client_of(service)
    for path in ("/api/cameras", "/api/cameras/gate", "/api/status", "/metrics"):
        assert SECRET not in client.get(path).text
    bad = client.patch("/api/cameras/gate", json={"source": f"gopher://admin:{SECRET}@h/"})
    assert SECRET not in bad.text
