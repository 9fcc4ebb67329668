"""``edgecar run`` takes the weights that suit its input, and says which."""

import json

import cv2
import numpy as np
import pytest
from skimage import data

from edgecar.media import reader
from edgecar.spec import CODERS
from tests.media.conftest import make_clip  # noqa: F401  # a fixture

ENCODERS = {
    "h264": ("clip.mp4", "libx264", "yuv420p", None),
    "hevc": ("clip.mkv", "libx265", "yuv420p", {"x265-params": "log-level=none"}),
    "mjpeg": ("clip.avi", "mjpeg", "yuvj420p", None),
    "mpeg4": ("clip.mp4", "mpeg4", "yuv420p", None),
}


@pytest.fixture
def clip(make_clip):  # noqa: F811
    """Makes a clip of three frames in one of the codings."""

    def make(codec: str):
        name, encoder, pixels, options = ENCODERS[codec]
        return make_clip(name, frames=3, codec=encoder, pixels=pixels, options=options)

    return make


@pytest.fixture
def picture(tmp_path):
    def make(name: str):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        cv2.imwrite(str(path), np.ascontiguousarray(data.astronaut()[:48, :64, ::-1]))
        return path

    return make


def line(text: str, label: str) -> str:
    """The line of the output that begins so."""
    (found,) = (row for row in text.splitlines() if row.startswith(f"{label} "))
    return found.removeprefix(label).strip()


@pytest.mark.parametrize(
    ("codec", "said"),
    [
        ("h264", "weights for h264 (h264 crf 29-47; the input is h264)"),
        ("hevc", "weights for hevc (hevc qp 22-37; the input is hevc)"),
        ("mjpeg", "weights for jpeg (jpeg 10-40; the input is mjpeg)"),
    ],
)
def test_clip_gets_the_weights_for_its_coder(edgecar, ship, clip, codec, said) -> None:
    ship("edgecar-xs", *CODERS)
    done = edgecar("run", clip(codec), "-o", "null", "--network", "edgecar-xs")
    assert done.code == 0
    assert line(done.err, "network") == f"edgecar-xs, {said}"
    assert "note " not in done.err


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["a.jpg"], "the input is jpeg)"),
        (["in/a.bmp", "in/b.jpg"], "the input is jpeg)"),
    ],
)
def test_pictures_get_the_weights_for_jpeg(edgecar, ship, picture, names, said) -> None:
    ship("edgecar-xs", *CODERS)
    paths = [picture(name) for name in names]
    source = paths[0] if len(paths) == 1 else paths[0].parent
    done = edgecar("run", source, "-o", "null", "--network", "edgecar-xs")
    assert done.code == 0
    assert line(done.err, "network") == f"edgecar-xs, weights for jpeg (jpeg 10-40; {said}"


def test_report_says_what_was_taken_and_for_what(edgecar, ship, clip) -> None:
    ship("edgecar-xs", "jpeg", "hevc")
    arguments = ("run", clip("h264"), "-o", "null", "--network", "edgecar-xs", "--json")
    refused = edgecar(*arguments)
    assert refused.code == 1
    assert "no h264 weights ship for edgecar-xs" in refused.err
    assert refused.out == ""
    report = json.loads(edgecar(*arguments, "--for", "hevc").out)
    told = (report["input_codec"], report["weights_for"], report["trained_on"])
    assert told == ("h264", "hevc", "hevc qp 22-37")
    ship("edgecar-xs", "h264:detect")
    report = json.loads(edgecar(*arguments, "--for", "h264:detect").out)
    assert (report["weights_for"], report["trained_on"]) == ("h264:detect", "h264 crf 29-47")


def test_report_of_an_unknown_training_says_so(edgecar, clip, write_artifact, tmp_path) -> None:
    path = write_artifact(tmp_path / "mine.onnx", "")
    done = edgecar("run", clip("h264"), "-o", "null", "--network", path, "--json")
    report = json.loads(done.out)
    assert (report["weights_for"], report["trained_on"]) == (None, "")
    assert "note " not in done.err


def test_file_for_another_coder_is_noted(edgecar, clip, write_artifact, tmp_path) -> None:
    path = write_artifact(tmp_path / "mine.onnx", "jpeg 10-40")
    done = edgecar("run", clip("h264"), "-o", "null", "--network", path)
    assert done.code == 0
    assert line(done.err, "note") == f"{path} was trained on jpeg 10-40, not h264"


def test_asked_for_comes_before_the_input(edgecar, ship, clip) -> None:
    ship("edgecar-xs", *CODERS)
    arguments = ("run", clip("mjpeg"), "-o", "null", "--network", "edgecar-xs")
    done = edgecar(*arguments, "--for", "h264")
    said = "weights for h264 (h264 crf 29-47; as asked; the input is mjpeg)"
    assert line(done.err, "network") == f"edgecar-xs, {said}"


def test_asked_for_and_not_there_is_one_line(edgecar, ship, clip) -> None:
    ship("edgecar-xs", "jpeg")
    arguments = ("run", clip("h264"), "-o", "null", "--network", "edgecar-xs")
    done = edgecar(*arguments, "--for", "hevc")
    assert done.code == 1
    assert done.err.strip().splitlines() == [
        "edgecar: no hevc weights ship for 'edgecar-xs' (there are: none; it has some for jpeg); "
        "give one of those or an exported .onnx file"
    ]


@pytest.mark.parametrize("verb", [["run", "clip.mp4", "-o", "null"], ["export", "edgecar-s"]])
def test_unknown_coder_is_answered_with_the_known_ones(edgecar, verb) -> None:
    done = edgecar(*verb, "--for", "vp9")
    assert done.code == 2
    last = done.err.strip().splitlines()[-1]
    assert "'--for'" in last
    assert "'vp9' is not one of 'jpeg', 'h264', 'hevc'" in last


def test_source_is_opened_once(edgecar, ship, clip, monkeypatch) -> None:
    """Many cameras allow one connection."""
    ship("edgecar-xs", "h264")
    source, openings = clip("h264"), []
    opened = reader.opened

    def counted(*arguments, **options):
        openings.append(arguments)
        return opened(*arguments, **options)

    monkeypatch.setattr(reader, "opened", counted)
    assert edgecar("run", source, "-o", "null", "--network", "edgecar-xs").code == 0
    assert len(openings) == 1


def test_source_is_closed_where_no_weights_are_found(edgecar, ship, clip, monkeypatch) -> None:
    ship("edgecar-xs", "h264")
    source, closed = clip("h264"), []
    close = reader.Reader.close
    monkeypatch.setattr(reader.Reader, "close", lambda self: (closed.append(1), close(self)))
    assert edgecar("run", source, "-o", "null", "--network", "nosuch").code == 1
    assert closed
