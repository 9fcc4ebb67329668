"""A service shows no password or token of its cameras' addresses."""

import pytest

from edgecar.serve.camera import Camera
from edgecar.serve.settings import CameraSettings

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
    run = Camera(camera, pipeline=None, networks=None, publisher=None)
    run.settings = camera.model_copy(update={"network": "pass"})
    assert SECRET not in run.status.model_dump_json()


@pytest.mark.parametrize("source", ["-", "pipe:0", "pipe:3", "/dev/stdin", "/dev/fd/3"])
def test_a_service_does_not_read_what_it_was_started_with(source, tmp_path):
    """A caller could read what the process has open; a file there must lie in a known folder."""
    from edgecar.errors import SettingsError
    from edgecar.serve.security import check_allowed
    from edgecar.serve.settings import Server

    with pytest.raises((ValueError, SettingsError)):
        check_allowed(CameraSettings(name="gate", source=source), Server(folders=[tmp_path]))
