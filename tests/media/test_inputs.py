"""What is given to restore is told apart and opened once."""

import subprocess
import sys

import pytest

from edgecar.errors import MediaError
from edgecar.media.inputs import Pictures, open_input
from edgecar.media.pictures import picture_format


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
def test_picture_is_known_by_its_suffix(tmp_path, name, format_name) -> None:
    path = tmp_path / name
    assert picture_format(path) == format_name
    with open_input(str(path)) as source:  # reading it will say whether it is there
        assert isinstance(source, Pictures)
        assert (source.paths, source.folder, source.codec) == ([path], None, format_name)


@pytest.mark.parametrize(
    ("names", "codec"),
    [
        (["a.png", "b.jpg", "c.bmp"], "jpeg"),
        (["b.bmp", "c.png"], "bmp"),
        (["a.jpeg"], "jpeg"),
    ],
)
def test_folder_is_jpeg_if_any_picture_is(tmp_path, names, codec) -> None:
    for name in [*names, "notes.txt"]:
        (tmp_path / name).touch()
    with open_input(str(tmp_path)) as source:
        assert [path.name for path in source.paths] == names
        assert source.folder == tmp_path
        assert source.codec == codec


def test_folder_without_pictures_is_refused(tmp_path) -> None:
    with pytest.raises(MediaError, match="holds no picture"):
        open_input(str(tmp_path))


@pytest.mark.parametrize(
    ("name", "encoder", "pixels", "codec"),
    [
        ("a.mp4", "libx264", "yuv420p", "h264"),
        ("a.mkv", "libx265", "yuv420p", "hevc"),
        ("a.avi", "mjpeg", "yuvj420p", "mjpeg"),
        ("b.mp4", "mpeg4", "yuv420p", "mpeg4"),
    ],
)
def test_video_is_known_by_its_coding(make_clip, name, encoder, pixels, codec) -> None:
    quiet = {"libx265": {"x265-params": "log-level=none"}}.get(encoder)
    path = make_clip(name, frames=2, size=(64, 64), codec=encoder, pixels=pixels, options=quiet)
    with open_input(str(path)) as source:
        assert source.codec == codec


# SVT-AV1 lets a process of root's run in real time from then on, before all others of the machine.
AV1 = """
import sys
import av

with av.open(sys.argv[1], "w") as output:
    stream = output.add_stream("libsvtav1", rate=25, width=64, height=64, pix_fmt="yuv420p")
    output.mux(stream.encode(av.VideoFrame(64, 64, "yuv420p")))
    output.mux(stream.encode(None))
"""


def test_a_coding_has_not_the_name_of_what_decodes_it(tmp_path) -> None:
    path = tmp_path / "a.webm"
    subprocess.run([sys.executable, "-c", AV1, str(path)], check=True, capture_output=True)
    with open_input(str(path)) as source:
        assert source.codec == "av1"
