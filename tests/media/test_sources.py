import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecar.media.sources import source_from
from edgecar.redaction import redacted

# No letter of a secret occurs elsewhere in the URLs below, so one that is left shows.
SECRETS = st.text("QXZ!$%&*:;=+~", min_size=1)


def tells(shown):
    return set(shown) & set("QXZ!$%&;+~")


@settings(deadline=None)
@given(SECRETS, st.text("QXZ@:/?#=&%", min_size=1))
def test_user_and_password_are_never_shown(user, password):
    shown = redacted(f"rtsp://{user}:{password}@10.0.0.5:554/live/main")
    assert not tells(shown)
    assert shown.endswith("@10.0.0.5:554/live/main")


@settings(deadline=None)
@given(SECRETS)
def test_queries_are_never_shown(secret):
    shown = redacted(f"http://cam.local/video?token={secret}&channel=1")
    assert shown == "http://cam.local/video?***"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("rtsp://10.0.0.5/main", "rtsp://10.0.0.5/main"),
        ("rtsp://10.0.0.5/user=a_password=b_channel=1_stream=0.sdp?real", None),
        ("rtsp://10.0.0.5/live/Password=abc/main", "rtsp://10.0.0.5/live/Password=***/main"),
    ],
)
def test_passwords_in_paths_are_hidden(url, shown):
    assert redacted(url) == (shown or "rtsp://10.0.0.5/user=***?***")


@pytest.mark.parametrize(
    ("argument", "kind", "address", "live"),
    [
        (0, "camera", "/dev/video0", True),
        ("2", "camera", "/dev/video2", True),
        ("/dev/video1", "camera", "/dev/video1", True),
        ("rtsp://cam/1", "network", "rtsp://cam/1", True),
        ("http://host/a.mp4", "network", "http://host/a.mp4", False),
        ("a:b.mp4", "file", "file:a:b.mp4", False),
        ("file:///tmp/a%20b.mp4", "file", "file:/tmp/a b.mp4", False),
    ],
)
def test_sources_are_told_apart(argument, kind, address, live):
    source = source_from(argument)
    assert (source.kind, source.address, source.live) == (kind, address, live)
