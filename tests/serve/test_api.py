"""The HTTP API: what it answers, whom, and that nothing makes it fail."""

import json
from contextlib import suppress

import av
import cv2
import numpy as np
import pytest
from starlette.testclient import TestClient

from edgecar.serve import security
from edgecar.serve.api import application
from edgecar.serve.camera import CameraRun
from edgecar.serve.security import Rate
from edgecar.serve.service import CallError
from tests.serve.conftest import until

TOKEN = "a-token-of-some-length"
BASE = "http://127.0.0.1:8321"


@pytest.fixture
def client_of():
    """Clients of services, each with its own application."""

    def make(service, **headers) -> TestClient:
        return TestClient(application(service), BASE, headers=headers, client=("127.0.0.1", 5000))

    return make


@pytest.fixture
def client(make_service, client_of, clip):
    service = make_service(
        {"name": "gate", "source": str(clip)}, server={"folders": [str(clip.parent)]}
    )
    until(lambda: service.camera("gate").status.sequence >= 3)
    return client_of(service)


def test_the_service_and_its_cameras_are_told(client):
    status = client.get("/api/status").json()
    assert {"edgecar-xs", "edgecar-s", "msfan"} <= set(status["networks"])
    assert status["memory_mib"] > 10
    (engine,) = status["engines"]
    assert engine["network"] == "edgecar-s"
    assert engine["coder"] == "h264"
    (camera,) = client.get("/api/cameras").json()
    assert camera == client.get("/api/cameras/gate").json() | {
        key: camera[key] for key in ("sequence", "frames", "age_ms", "camera_fps", "process_fps",
                                     "computed_share", "skipped_fps", "qp")
    }  # fmt: skip
    assert camera["state"] == "running"
    assert len(client.get("/api/cameras/gate/history").json()["qp"]) >= 0
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/readyz").status_code == 200


def test_a_camera_is_added_changed_stopped_and_removed(client, clip):
    made = client.post("/api/cameras", json={"name": "yard", "source": str(clip)})
    assert made.status_code == 201
    assert client.post("/api/cameras", json={"name": "yard", "source": "0"}).status_code == 409
    changed = client.patch("/api/cameras/yard", json={"network": "edgecar-xs"})
    assert changed.json()["running"] == "edgecar-xs"
    assert client.post("/api/cameras/yard/stop").json()["state"] == "stopped"
    assert client.post("/api/cameras/yard/start").json()["enabled"] is True
    assert client.delete("/api/cameras/yard").status_code == 204
    assert client.get("/api/cameras/yard").status_code == 404


def test_mistakes_are_said_in_a_line(client):
    for body, words in [
        ({"name": "a b", "source": "0"}, "name: use letters, digits, dot, dash and underscore"),
        ({"name": "x"}, "source: is missing"),
        ({"name": "x", "source": "0", "netwrok": "s"}, "netwrok: no such setting"),
        ({"name": "x", "source": "gopher://h/"}, "gopher://"),
        ({"name": "x", "source": "/etc/passwd"}, "none of the server's folders"),
    ]:
        answer = client.post("/api/cameras", json=body)
        assert answer.status_code == 422
        assert words in answer.json()["detail"]
        assert "\n" not in answer.json()["detail"]


def picture(answer) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(answer.content, np.uint8), cv2.IMREAD_COLOR)


def test_pictures_come_as_jpeg_in_the_size_asked_for(client):
    url = "/api/cameras/gate/frame.jpg"
    answer = client.get(url, params={"view": "after", "width": 64})
    assert answer.headers["content-type"] == "image/jpeg"
    assert picture(answer).shape == (48, 64, 3)
    assert picture(client.get(url, params={"view": "pair", "width": 32})).shape == (24, 64, 3)
    assert picture(client.get(url, params={"width": 5000})).shape == (48, 64, 3)
    newer = client.get(url, params={"newer_than": answer.headers["x-sequence"]})
    assert int(newer.headers["x-sequence"]) > int(answer.headers["x-sequence"])
    assert client.get(url, params={"newer_than": 10**9}).status_code == 204
    before, after = (picture(client.get(url, params={"view": v})) for v in ("before", "after"))
    assert float(after.mean()) > 0
    assert before.shape == after.shape


def test_pictures_come_as_motion_jpeg(client):
    answer = client.get("/api/cameras/gate/stream.mjpg", params={"frames": 3, "width": 64})
    assert answer.headers["content-type"].startswith("multipart/x-mixed-replace; boundary=")
    parts = answer.content.split(b"--edgecar-frame\r\n")[1:]
    assert len(parts) == 3
    assert all(b"Content-Type: image/jpeg" in part for part in parts)


def test_metrics_are_prometheus_text(client):
    text = client.get("/metrics").text
    assert 'edgecar_camera_up{camera_name="gate"} 1.0' in text
    assert 'edgecar_frames_total{camera_name="gate",outcome="restored"}' in text
    assert "edgecar_load_ratio" in text


def test_the_page_and_its_files_come_with_a_policy_and_nothing_else_is_served(client):
    page = client.get("/")
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert page.headers["x-frame-options"] == "DENY"
    assert client.get("/static/app.js").headers["content-type"].startswith("text/javascript")
    for path in ("/static/../api.py", "/static/%2e%2e/api.py", "/static/..%2fapi.py",
                 "/static//etc/passwd", "/static/", "/docs", "/openapi.json"):  # fmt: skip
        assert client.get(path).status_code == 404


@pytest.fixture
def guarded(make_service, client_of, clip):
    service = make_service(
        {"name": "gate", "source": str(clip), "enabled": False}, server={"token": TOKEN}
    )
    return service, client_of


def test_without_the_token_there_is_only_the_page_and_health(guarded):
    service, client_of = guarded
    client = client_of(service)
    for path in ("/api/status", "/api/cameras", "/metrics", "/api/openapi.json", "/api/nothing",
                 "/api/cameras/gate/frame.jpg", "/api/cameras/gate/stream.mjpg"):  # fmt: skip
        answer = client.get(path)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
    for method in ("post", "patch", "delete", "put"):
        assert getattr(client, method)("/api/cameras/gate").status_code == 401
    for path in ("/", "/static/app.js", "/healthz", "/readyz"):
        assert client.get(path).status_code == 200
    assert client_of(service, Authorization=f"Bearer {TOKEN}").get("/api/status").status_code == 200


def test_a_browser_logs_in_and_its_cookie_is_not_for_scripts(guarded):
    service, client_of = guarded
    client = client_of(service)
    assert client.post("/api/login", json={"token": "wrong"}).status_code == 401
    answer = client.post("/api/login", json={"token": TOKEN})
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert TOKEN not in cookie
    assert client.get("/api/status").status_code == 200
    assert (
        client_of(service, Cookie="edgecar_session=made-up").get("/api/status").status_code == 401
    )


def test_tokens_cannot_be_guessed_at_any_rate(guarded):
    service, client_of = guarded
    client = client_of(service, Authorization="Bearer wrong")
    answers = [client.get("/api/status").status_code for _ in range(30)]
    assert answers[0] == 401
    assert answers[-1] == 429
    # Not even the right one helps who tried so often.
    assert (
        client.get("/api/status", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 429
    )


def test_pages_of_other_sites_get_nothing(client):
    assert client.get("/api/status", headers={"Host": "evil.example"}).status_code == 421
    for host in ("localhost:8321", "127.0.0.1:8321", "[::1]:8321"):
        assert client.get("/api/status", headers={"Host": host}).status_code == 200
    other = {"Origin": "http://evil.example", "Content-Type": "application/json"}
    assert client.post("/api/cameras/gate/stop", headers=other).status_code == 403
    form = {"Content-Type": "text/plain"}  # what a form of another site may send unasked
    body = json.dumps({"name": "x", "source": "0"})
    assert client.post("/api/cameras", content=body, headers=form).status_code == 415
    assert "access-control-allow-origin" not in client.get("/api/status").headers


def test_large_bodies_are_refused_before_they_are_read(client):
    json_type = {"Content-Type": "application/json"}
    large = b"[" + b"1," * security.LARGEST_BODY
    assert client.post("/api/cameras", content=large, headers=json_type).status_code == 413

    def parts():
        for _ in range(64):
            yield b"x" * 4096

    assert client.post("/api/cameras", content=parts(), headers=json_type).status_code == 413
    for length in ("-1", "1" * 5000):
        nonsense = {**json_type, "Content-Length": length}
        assert client.post("/api/cameras", content=b"{}", headers=nonsense).status_code == 413


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


def test_no_password_is_in_any_answer(make_service, client_of):
    service = make_service(
        {
            "name": "gate",
            "source": "rtsp://admin:hunter22@127.0.0.1:9/x?key=secret33",
            "push": {"url": "rtsp://pusher:hunter44@127.0.0.1:9/y"},
        }
    )
    until(lambda: service.camera("gate").status.state == "waiting")
    client = client_of(service)
    for path in ("/api/cameras", "/api/cameras/gate", "/api/status", "/metrics"):
        text = client.get(path).text
        assert not [s for s in ("hunter22", "secret33", "hunter44") if s in text]
    bad = client.patch("/api/cameras/gate", json={"source": "gopher://admin:hunter55@h/"})
    assert "hunter55" not in bad.text


@pytest.mark.parametrize("path", ["/api/cameras", "/metrics"])
def test_a_camera_that_is_removed_while_all_are_listed_does_no_harm(
    make_service, client_of, clip, monkeypatch, path
):
    cameras = [{"name": name, "source": str(clip), "enabled": False} for name in ("gate", "yard")]
    service = make_service(*cameras)
    status = CameraRun.status

    def removed_meanwhile(run):
        with suppress(CallError):
            service.remove("yard")
        return status.fget(run)

    monkeypatch.setattr(CameraRun, "status", property(removed_meanwhile))
    answer = client_of(service).get(path)
    assert answer.status_code == 200
    assert "gate" in answer.text


@pytest.mark.parametrize("coder", [None, "h264"])
def test_a_camera_that_no_weights_are_made_for_passes_and_says_so(
    make_service, client_of, tmp_path, coder
):
    path = tmp_path / "old.avi"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(50):
            picture = np.full((72, 64), number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "yuv420p")))
        container.mux(stream.encode(None))
    service = make_service({"name": "old", "source": str(path), "coder": coder})
    until(lambda: service.camera("old").status.sequence >= 3)
    camera = client_of(service).get("/api/cameras/old").json()
    if coder:
        assert camera["running"] == "edgecar-s"
        assert camera["error"] is None
        assert camera["passed_because"] == {}
    else:
        assert camera["running"] == "pass"
        assert "no weights are made for mpeg4: pictures pass as they are" in camera["error"]
        assert camera["passed_because"]["other_coder"] >= 3
        assert camera["frames"]["restored"] == 0
