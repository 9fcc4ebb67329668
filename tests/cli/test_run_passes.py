"""Inputs that weights were not trained for pass untouched, said and counted: stills and video.

The networks here were trained (so their artifacts say) on JPEG of quality 10 to 40 and H.264 of
CRF 29 to 47.
"""

import json
import logging
from io import BytesIO

import cv2
import numpy as np
import pytest
from PIL import Image
from skimage import data

import edgecar as library
from edgecar.artifact import find_artifact, read_artifact
from edgecar.media.coding import picture_coding
from edgecar.media.reader import open_reader
from tests.media.conftest import make_clip  # noqa: F401  # a fixture

NETWORK = ("--network", "edgecar-xs")
PHOTO = np.ascontiguousarray(data.astronaut()[:48, :64])
QUIET = {"x265-params": "log-level=none"}
COARSEST = {"qmin": "31", "qmax": "31"}
CLIPS = {
    "h264 coarse": ("a.mp4", {"options": {"crf": "45"}}, None),
    "h264 fine": ("a.mp4", {"options": {"crf": "14"}}, "below_qp"),
    "h264 lossless": ("a.mp4", {"options": {"qp": "0"}}, "below_qp"),
    "h264 10 bits": ("a.mp4", {"options": {"crf": "14"}, "pixels": "yuv420p10le"}, "below_qp"),
    "hevc": ("a.mp4", {"codec": "libx265", "options": QUIET}, None),
    "mjpeg coarse": (
        "a.avi",
        {"codec": "mjpeg", "pixels": "yuvj420p", "options": COARSEST},
        None,
    ),
    "mjpeg fine": ("a.avi", {"codec": "mjpeg", "pixels": "yuvj420p"}, "above_quality"),
    "mpeg4": ("a.avi", {"codec": "mpeg4"}, "other_coder"),
    "mpeg2": ("a.ts", {"codec": "mpeg2video"}, "other_coder"),
    "vp9": ("a.webm", {"codec": "libvpx-vp9"}, "other_coder"),
    "ffv1": ("a.mkv", {"codec": "ffv1"}, "other_coder"),
    "raw": ("a.avi", {"codec": "rawvideo"}, "other_coder"),
}
PASSING = [kind for kind, (_, _, reason) in CLIPS.items() if reason]


@pytest.fixture(autouse=True)
def _shipped(ship):
    ship("edgecar-xs", "jpeg", "h264", "hevc")


@pytest.fixture
def clip(make_clip):  # noqa: F811
    def make(kind: str):
        name, how, _ = CLIPS[kind]
        return make_clip(name, frames=3, **how)

    return make


def written(path, quality: int | None = None, **how):
    """A picture of the suffix's format."""
    path.parent.mkdir(exist_ok=True)
    file = BytesIO()
    grey = how.pop("grey", False)
    picture = Image.fromarray(PHOTO).convert("L") if grey else Image.fromarray(PHOTO)
    kind = {".png": "PNG", ".bmp": "BMP"}.get(path.suffix, "JPEG")
    picture.save(file, kind, **({"quality": quality} if quality else {}), **how)
    path.write_bytes(file.getvalue())
    return path


def report(edgecar, *arguments) -> dict:
    done = edgecar("run", *arguments, *NETWORK, "--json")
    assert done.code == 0, done.err
    return json.loads(done.out)


def planes(path):
    with open_reader(path) as reader:
        return [(frame.y.tobytes(), frame.u.tobytes(), frame.v.tobytes()) for frame in reader]


@pytest.mark.parametrize("kind", CLIPS)
def test_a_clip_passes_untouched_or_is_restored(edgecar, clip, kind, tmp_path, caplog):
    source, output, reason = clip(kind), tmp_path / "clean.mkv", CLIPS[kind][2]
    found = report(edgecar, source, "-o", output, "--codec", "ffv1")
    assert (found["restored"], found["passed"]) == ((0, 3) if reason else (3, 0))
    assert found["passed_because"] == ({reason: 3} if reason else {})
    assert found["stats"]["frames"]["passed"] == found["passed"]
    assert (found["windows_run"] == 0) is bool(reason)
    assert (planes(output) == planes(source)) is bool(reason)
    said = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len(said) == bool(reason)
    assert all("pass" in each.getMessage() and "\n" not in each.getMessage() for each in said)


@pytest.mark.parametrize("kind", PASSING)
def test_whoever_insists_gets_frames_restored(edgecar, clip, kind):
    reason = CLIPS[kind][2]
    insisting = {
        "below_qp": ("--skip-below-qp", "0"),
        "above_quality": ("--skip-above-quality", "100"),
        "other_coder": ("--for", "h264"),
    }[reason]
    found = report(edgecar, clip(kind), "-o", "null", *insisting)
    assert (found["restored"], found["passed"]) == (3, 0)


def test_the_text_says_how_many_passed_and_why(edgecar, clip):
    done = edgecar("run", clip("mpeg4"), "-o", "null", *NETWORK)
    assert done.code == 0
    assert "no weights are made for mpeg4, which passes as it is; --for jpeg or h264" in done.err
    assert "restored  0 frame(s)" in done.out
    assert "passed    3 frame(s) as they are: other_coder 3" in done.out


@pytest.mark.parametrize(
    ("name", "how", "reason"),
    [
        ("a.jpg", {"quality": 30}, None),
        ("a.jpg", {"quality": 40, "progressive": True}, None),
        ("a.jpg", {"quality": 75}, "above_quality"),
        ("a.jpg", {"quality": 90, "progressive": True}, "above_quality"),
        ("a.jpeg", {"quality": 75, "subsampling": 0}, "above_quality"),
        ("a.jpg", {"quality": 75, "grey": True}, "above_quality"),
        ("a.png", {}, "other_coder"),
        ("a.bmp", {}, "other_coder"),
    ],
)
def test_a_still_passes_untouched_or_is_restored(edgecar, name, how, reason, tmp_path, caplog):
    source, output = written(tmp_path / name, **how), tmp_path / "out" / "clean.png"
    found = report(edgecar, source, "-o", output)
    assert (found["restored"], found["passed"]) == ((0, 1) if reason else (1, 0))
    assert found["passed_because"] == ({reason: 1} if reason else {})
    same = (cv2.imread(str(output)) == cv2.imread(str(source))).all()
    assert bool(same) is bool(reason)
    assert bool([r for r in caplog.records if r.levelno == logging.WARNING]) is bool(reason)
    insisting = ("--for", "jpeg", "--skip-above-quality", "100")
    assert report(edgecar, source, "-o", output, *insisting)["restored"] == 1


def test_a_still_that_passes_keeps_its_very_bytes_where_the_format_stays(edgecar, tmp_path):
    """Coded again as JPEG it would be worse."""
    source, output = written(tmp_path / "a.jpg", quality=85), tmp_path / "clean.jpg"
    assert report(edgecar, source, "-o", output)["passed"] == 1
    assert output.read_bytes() == source.read_bytes()


def test_a_folder_is_judged_picture_by_picture(edgecar, tmp_path):
    folder = tmp_path / "in"
    written(folder / "coarse.jpg", quality=20)
    written(folder / "fine.jpg", quality=92)
    written(folder / "pure.png")
    written(folder / "coarse too.jpg", quality=35).rename(folder / "wrong.png")
    found = report(edgecar, folder, "-o", tmp_path / "out")
    assert found["passed_because"] == {"above_quality": 1, "other_coder": 1}
    assert found["restored"] == 2


@pytest.mark.parametrize("kind", ["h264 fine", "mpeg4", "h264 coarse"])
def test_streams_captures_and_cleaners_do_the_same(clip, kind):
    source, reason = clip(kind), CLIPS[kind][2]
    with open_reader(source) as reader:
        decoded = list(reader)
    with library.stream(source, library.Restorer("edgecar-xs", codec=None)) as frames:
        for frame, before in zip(frames, decoded, strict=True):
            # Weights for JPEG, which nobody asked for by name.
            assert frame.passed_because in ("other_coder", reason)
            assert (frame.frame.y == before.y).all()
    with library.VideoCapture(source, network="edgecar-xs") as capture:
        counted = [capture.read()[0] for _ in decoded]
        assert all(counted)
        stats = capture._playback.frame.stats
        assert dict(stats.passed_because) == ({reason: 3} if reason else {})
    with library.Cleaner(source, network="edgecar-xs") as clean:
        bgr = np.ascontiguousarray(PHOTO[..., ::-1])
        cleaned = clean(bgr, 0)
        assert cleaned is not bgr
        assert (cleaned == bgr).all() == bool(reason)
        assert dict(clean.restorer.stats.passed_because) == ({reason: 1} if reason else {})


@pytest.mark.parametrize(("crf", "passes"), [("14", True), ("45", False)])
def test_a_restorer_looks_at_frames_that_say_how_they_were_coded(make_clip, crf, passes):  # noqa: F811
    source = make_clip(options={"crf": crf})
    with (
        library.Restorer("edgecar-xs", codec="h264") as restorer,
        open_reader(source, read_coding=True) as reader,
    ):
        frame = next(reader)
        assert (restorer.restore(frame) is frame) is passes
        assert restorer.stats.passed_because.total() == passes


def test_an_artifact_of_the_users_is_taken_for_any_coding(edgecar, clip):
    path = find_artifact("edgecar-xs", "jpeg")
    assert read_artifact(path).metadata.coder == "jpeg"
    done = edgecar("run", clip("mpeg4"), "-o", "null", "--network", path, "--json")
    assert json.loads(done.out)["restored"] == 3


def test_an_archive_is_judged_frame_by_frame(edgecar, clip, tmp_path):
    folder = tmp_path / "archive"
    folder.mkdir()
    clip("h264 fine").rename(folder / "fine.mp4")
    clip("mpeg4").rename(folder / "old.avi")
    clip("h264 coarse").rename(folder / "coarse.mp4")
    options = ("--ray", "none", "--codec", "ffv1", *NETWORK, "--json")
    done = edgecar("batch", folder, "-o", tmp_path / "out", *options)
    assert done.code == 0, done.err
    warnings = json.loads(done.out)["warnings"]
    assert {words: count for words, count in warnings.items() if "passed" in words} == {
        "frames passed as they are (below_qp)": 3,
        "frames passed as they are (other_coder)": 3,
    }
    (fine,) = (tmp_path / "out").rglob("fine.mkv")
    assert planes(fine) == planes(folder / "fine.mp4")
    again = edgecar("batch", folder, "-o", tmp_path / "out", *options, "--skip-below-qp", "0")
    assert json.loads(again.out)["frames"] == 6  # H.264, which alone that concerns
    assert planes(fine) != planes(folder / "fine.mp4")


def test_pictures_say_what_they_are(tmp_path):
    assert picture_coding(written(tmp_path / "a.jpg", quality=35).read_bytes()).jpeg_quality == 35
