"""Names of cameras."""

import pytest

from edgecar.runtime.cameras import camera_name, camera_names


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("clips/front door.mp4", "front door"),
        ("0", "camera0"),
        ("/dev/video2", "video2"),
        ("rtsp://10.0.0.5/stream1", "10.0.0.5_stream1"),
        (
            "rtsp://admin:secret@10.0.0.5:554/Streaming/Channels/101",
            "10.0.0.5_Streaming_Channels_101",
        ),
        ("http://cam.local/video.mjpg?user=admin&pwd=secret", "cam.local_video.mjpg"),
        ("rtsp://10.0.0.5/user=admin_password=secret_channel=1", "10.0.0.5_user"),
    ],
)
def test_a_name_is_short_and_holds_no_secret(address, name):
    assert camera_name(address) == name
    assert "secret" not in camera_name(address)


def test_cameras_of_one_name_are_numbered():
    names = camera_names(["rtsp://a/x", "rtsp://b/x", "rtsp://a/x", "rtsp://a/x"])
    assert list(names) == ["a_x", "b_x", "a_x-2", "a_x-3"]
