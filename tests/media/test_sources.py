from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecar.errors import MediaError
from edgecar.media.sources import opened, source_from
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


def test_bare_number_is_a_camera_and_a_path_is_a_file(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("2024").write_bytes(b"a recording")
    assert source_from("2024").kind == source_from(2024).kind == "camera"
    for path in ("./2024", tmp_path / "2024", Path("2024"), str(tmp_path / "2024"), "file:2024"):
        assert source_from(path).kind == "file"
    with pytest.raises(MediaError, match=r"; the file of that name is \./2024"):
        opened(source_from("2024"))
    with pytest.raises(MediaError) as caught:
        opened(source_from("2023"))
    assert "./2023" not in str(caught.value)
