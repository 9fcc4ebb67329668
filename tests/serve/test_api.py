"""The HTTP API: what it answers to callers that mean well."""

from contextlib import suppress

import av
import cv2
import numpy as np
import pytest

from edgecar.serve.camera import CameraRun
from edgecar.serve.service import CallError
from tests.serve.conftest import until


@pytest.fixture
def client(make_service, client_of, clip):
    service = make_service(
        {"name": "gate", "source": str(clip)}, server={"folders": [str(clip.parent)]}
    )
    until(lambda: service.camera("gate").sequence >= 3)
    return client_of(service)


def test_the_service_and_its_cameras_are_told(client):
    status = client.get("/api/status").json()
    assert {"edgecar-xs", "edgecar-s", "msfan"} <= set(status["networks"])
    assert status["memory_mib"] > 10
    (engine,) = status["engines"]
    assert (engine["network"], engine["weights_for"]) == ("edgecar-s", "h264")
    (camera,) = client.get("/api/cameras").json()
    assert camera.keys() == client.get("/api/cameras/gate").json().keys()
    assert camera["state"] == "running"
    assert client.get("/api/cameras/gate/history").json()["step_seconds"] == 2
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/readyz").status_code == 200


def test_a_camera_is_added_changed_stopped_and_removed(client, clip):
    yard = {"name": "yard", "source": str(clip)}
    assert client.post("/api/cameras", json=yard).status_code == 201
    assert client.post("/api/cameras", json=yard).status_code == 409
    changed = client.patch("/api/cameras/yard", json={"network": "edgecar-xs"})
    assert changed.json()["running"] == "edgecar-xs"
    assert client.post("/api/cameras/yard/stop").json()["state"] == "stopped"
    assert client.post("/api/cameras/yard/start").json()["enabled"] is True
    assert client.delete("/api/cameras/yard").status_code == 204
    assert client.get("/api/cameras/yard").status_code == 404


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"name": "a b", "source": "0"}, "name: use letters, digits, dot, dash and underscore"),
        ({"name": "x"}, "source: is missing"),
        ({"name": "x", "source": "0", "netwrok": "s"}, "netwrok: no such setting"),
        ({"name": "x", "source": "gopher://h/"}, "gopher://"),
        ({"name": "x", "source": "/etc/passwd"}, "none of the server's folders"),
    ],
)
def test_mistakes_are_said_in_a_line(client, body, words):
    answer = client.post("/api/cameras", json=body)
    assert answer.status_code == 422
    assert words in answer.json()["detail"]
    assert "\n" not in answer.json()["detail"]


def picture(answer) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(answer.content, np.uint8), cv2.IMREAD_COLOR)


def test_pictures_come_as_jpeg_in_the_size_asked_for(client):
    url = "/api/cameras/gate/frame.jpg"
    for params, shape in (
        ({"view": "before", "width": 64}, (48, 64, 3)),
        ({"view": "pair", "width": 32}, (24, 64, 3)),
        ({"width": 5000}, (48, 64, 3)),
    ):
        answer = client.get(url, params=params)
        assert answer.headers["content-type"] == "image/jpeg"
        assert picture(answer).shape == shape
    newer = client.get(url, params={"newer_than": answer.headers["x-sequence"]})
    assert int(newer.headers["x-sequence"]) > int(answer.headers["x-sequence"])
    assert client.get(url, params={"newer_than": 10**9}).status_code == 204


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
    until(lambda: service.camera("old").sequence >= 3)
    camera = client_of(service).get("/api/cameras/old").json()
    if coder:
        assert (camera["running"], camera["error"]) == ("edgecar-s", None)
        assert camera["passed_because"] == {}
    else:
        assert camera["running"] == "pass"
        assert "no weights are made for mpeg4: pictures pass as they are" in camera["error"]
        assert camera["passed_because"]["other_coder"] >= 3
        assert camera["frames"]["restored"] == 0
