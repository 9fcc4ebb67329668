"""What is given to restore is told apart and opened once."""

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecar.errors import MediaError
from edgecar.media.inputs import Pictures, open_input
from edgecar.media.pictures import picture_format
from edgecar.media.sources import opened, source_from
from edgecar.redaction import redacted

# No letter of a secret occurs elsewhere in the URLs below, so one that is left shows.
SECRETS = st.text("QXZ!$%&*:;=+~", min_size=1)


@pytest.mark.parametrize(
    ("name", "format_name"),
    [
        ("a.jpg", "jpeg"),
        ("a.JPEG", "jpeg"),
        ("a.Png", "png"),
        ("a.tif", "tiff"),
        ("b.webp", "webp"),
    ],
)
def test_picture_is_known_by_its_suffix(tmp_path, name, format_name):
    path = tmp_path / name
    assert picture_format(path) == format_name
    with open_input(str(path)) as source:  # reading it will say whether it is there
        assert isinstance(source, Pictures)
        assert (source.paths, source.folder, source.codec) == ([path], None, format_name)


@pytest.mark.parametrize(
    ("names", "codec"),
    [(["a.png", "b.jpg", "c.bmp"], "jpeg"), (["b.bmp", "c.png"], "bmp"), (["a.jpeg"], "jpeg")],
)
def test_folder_is_jpeg_if_any_picture_is(tmp_path, names, codec):
    with pytest.raises(MediaError, match="holds no picture"):
        open_input(str(tmp_path))
    for name in [*names, "notes.txt"]:
        (tmp_path / name).touch()
    with open_input(str(tmp_path)) as source:
        assert [path.name for path in source.paths] == names
        assert (source.folder, source.codec) == (tmp_path, codec)


# SVT-AV1 lets a process of root's run in real time from then on, before all others of the machine.
AV1 = """
import sys
import av

with av.open(sys.argv[1], "w") as output:
    stream = output.add_stream("libsvtav1", rate=25, width=64, height=64, pix_fmt="yuv420p")
    output.mux(stream.encode(av.VideoFrame(64, 64, "yuv420p")))
    output.mux(stream.encode(None))
"""


def test_a_coding_has_not_the_name_of_what_decodes_it(tmp_path):
    path = tmp_path / "a.webm"
    subprocess.run([sys.executable, "-c", AV1, str(path)], check=True, capture_output=True)
    with open_input(str(path)) as source:
        assert source.codec == "av1"


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
        ("./2024", "file", "file:2024", False),
        (Path("2024"), "file", "file:2024", False),
        ("file:2024", "file", "file:2024", False),
        ("/tmp/2024", "file", "file:/tmp/2024", False),
    ],
)
def test_sources_are_told_apart(argument, kind, address, live):
    source = source_from(argument)
    assert (source.kind, source.address, source.live) == (kind, address, live)
    if kind == "file":
        assert source_from(source.address).kind == "file"


def test_a_bare_number_is_a_camera_even_where_a_file_has_that_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("2024").write_bytes(b"a recording")
    with pytest.raises(MediaError, match=r"camera 2024 .*; the file of that name is \./2024"):
        opened(source_from("2024"))
    with pytest.raises(MediaError) as caught:
        opened(source_from(2023))
    assert "./2023" not in str(caught.value)


@settings(deadline=None)
@given(SECRETS, st.text("QXZ@:/?#=&%", min_size=1))
def test_user_and_password_and_queries_are_never_shown(user, password):
    shown = redacted(f"rtsp://{user}:{password}@10.0.0.5:554/live/main")
    assert not set(shown) & set("QXZ!$%&;+~")
    assert shown.endswith("@10.0.0.5:554/live/main")
    assert (
        redacted(f"http://cam.local/video?token={user}&channel=1") == "http://cam.local/video?***"
    )


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("rtsp://10.0.0.5/main", "rtsp://10.0.0.5/main"),
        (
            "rtsp://10.0.0.5/user=a_password=b_channel=1_stream=0.sdp?real",
            "rtsp://10.0.0.5/user=***?***",
        ),
        ("rtsp://10.0.0.5/live/Password=abc/main", "rtsp://10.0.0.5/live/Password=***/main"),
    ],
)
def test_passwords_in_paths_are_hidden(url, shown):
    assert redacted(url) == shown
