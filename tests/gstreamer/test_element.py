"""``edgecarrestore`` in real pipelines of the system's GStreamer."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgecar.gstreamer.__main__ import exports
from edgecar.media.frame import Colour, Frame
from edgecar.runtime.restorer import Restorer
from tests.gstreamer import drive
from tests.media.conftest import make_clip  # noqa: F401  # a fixture

pytestmark = pytest.mark.slow  # starts processes of the system's Python
PYTHON = "/usr/bin/python3"  # the system's, whose bindings of GStreamer no other one can use
PACKAGES = (
    "python3-gst-1.0 gstreamer1.0-python3-plugin-loader gstreamer1.0-tools gstreamer1.0-libav "
    "gstreamer1.0-plugins-base gstreamer1.0-plugins-ugly gir1.2-gst-plugins-base-1.0"
)
NEEDED = (
    "import sys; from gi.repository import Gst; import gi.overrides._gi_gst; "
    "print(*sys.version_info[:2])"
)
NETWORK = "edgecar-xs"
RESTORE = f"edgecarrestore network={NETWORK} threads=1"
CODED = "x264enc key-int-max=4 quantizer=35 pass=quant ! avdec_h264"
APART = (
    "tee name=t t. ! queue ! appsink name=before sync=false "
    f"t. ! queue ! {RESTORE} ! appsink name=after sync=false"
)


@pytest.fixture(scope="session")
def environment(tmp_path_factory):
    """As ``python -m edgecar.gstreamer`` exports it."""
    try:
        done = subprocess.run([PYTHON, "-c", NEEDED], check=False, capture_output=True, text=True)
    except OSError:
        pytest.skip(f"no {PYTHON}")
    if done.returncode:
        reason = done.stderr.strip().splitlines()[-1]
        pytest.skip(f"no Python elements of GStreamer ({reason}); apt-get install {PACKAGES}")
    ours = " ".join(map(str, sys.version_info[:2]))
    if done.stdout.strip() != ours:
        pytest.skip(f"GStreamer's Python is {done.stdout.strip()}, this one {ours}")
    changed = {name: ":".join(map(str, folders)) for name, folders in exports().items()}
    registry = tmp_path_factory.mktemp("gstreamer") / "registry.bin"
    environment = {**os.environ, **changed, "GST_REGISTRY": str(registry)}
    for element in ("edgecarrestore", "x264enc", "avdec_h264", "appsink"):
        found = subprocess.run(
            ["gst-inspect-1.0", element], env=environment, capture_output=True, text=True
        )
        if element != "edgecarrestore" and found.returncode:
            pytest.skip(f"no {element} of GStreamer; apt-get install {PACKAGES}")
        assert not found.returncode, found.stderr
    return environment


@pytest.fixture
def run(environment, tmp_path):
    """A function that drives a pipeline; what was saved, and what was printed."""

    def drive_it(what, *arguments, saves=True):
        path = tmp_path / "saved.npz"
        command = [PYTHON, drive.__file__, what, *arguments, *([path] if saves else [])]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
        return (dict(np.load(path)) if saves else {}), done.stdout

    return drive_it


def gst_launch(environment, text):
    return subprocess.run(
        ["gst-launch-1.0", "-q", *text.split()],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


def numbers(saved, sink):
    return sorted(key.split()[-1] for key in saved if key.startswith(f"{sink} y"))


def frame(saved, sink, number, colour):
    return Frame(*(saved[f"{sink} {plane} {number}"] for plane in "yuv"), colour=colour)


def assert_restored(saved, colour=Colour(False, 6, 6, 6)):  # noqa: B008  # frozen
    """What came out is what the restorer makes of what went in, byte for byte."""
    assert numbers(saved, "before") == numbers(saved, "after")
    changed = 0
    with Restorer(NETWORK, codec="h264", threads=1) as restorer:
        for number in numbers(saved, "before"):
            expected = restorer.restore(frame(saved, "before", number, colour))
            after = frame(saved, "after", number, colour)
            for plane in "yuv":
                np.testing.assert_array_equal(getattr(after, plane), getattr(expected, plane))
            changed += int((after.y != saved[f"before y {number}"]).sum())
            for fact in ("caps", "pts"):
                assert saved[f"after {fact} {number}"] == saved[f"before {fact} {number}"]
    assert changed


@pytest.mark.parametrize("size", [(242, 322), (48, 34)], ids=str)
@pytest.mark.parametrize("pixels", ["I420", "NV12"])
def test_decoded_frames_come_out_as_the_restorer_gives_them(run, pixels, size):
    height, width = size
    saved, printed = run(
        "launch",
        f"videotestsrc num-buffers=6 pattern=ball ! video/x-raw,format=I420,width={width},"
        f"height={height},framerate=30000/1001 ! {CODED} ! videoconvert ! "
        f"video/x-raw,format={pixels} ! {APART}",
    )
    assert printed == ""
    assert len(numbers(saved, "after")) == 6
    caps = str(saved["after caps 00"])
    assert pixels in caps
    assert "30000/1001" in caps
    assert_restored(saved)


def test_a_decoder_may_keep_its_own_frames(run):
    """It predicts from them: were they restored in place, what follows would be wrong."""
    coded = (
        "videotestsrc num-buffers=8 pattern=ball ! video/x-raw,format=I420,width=322,height=242 "
        f"! {CODED}"
    )
    plain, _ = run("launch", f"{coded} ! appsink name=before sync=false")
    saved, _ = run("launch", f"{coded} ! {RESTORE} ! appsink name=after sync=false")
    assert_restored({**plain, **saved})


def test_padded_lines_and_new_caps_on_the_way(run):
    saved, printed = run("push")
    assert printed == ""
    assert len(numbers(saved, "after")) == drive.EACH * len(drive.PUSHED)
    assert "bt709" in str(saved["after caps 00"])
    assert_restored(saved, Colour(False, 1, 1, 1))


def test_a_flushing_seek_starts_over(run):
    saved, printed = run("seek")
    assert printed == ""
    frames = [saved[f"after y {number}"] for number in numbers(saved, "after")]
    times = [int(saved[f"after pts {number}"]) for number in numbers(saved, "after")]
    assert 5 + 10 < len(frames) <= 30  # some were on their way
    assert times[5:10] == times[:5]
    np.testing.assert_array_equal(frames[5:10], frames[:5])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("network=yolo", "no weights ship for 'yolo'"),
        ("network=nowhere.onnx", "nowhere.onnx"),
        ("coder=vp9", "coder is 'vp9'; give one of jpeg, h264, hevc"),
        ("engine=warp", "no engine is called 'warp'; choose one of"),
        ("precision=fp7", "precision is 'fp7'; give one of fp32"),
    ],
)
def test_wrong_properties_are_one_line_on_the_bus(environment, options, message):
    done = gst_launch(
        environment, f"videotestsrc num-buffers=2 ! edgecarrestore {options} ! fakesink"
    )
    assert done.returncode
    (line,) = (line for line in done.stderr.splitlines() if message in line)
    assert line.startswith("ERROR: from element")
    assert "Traceback" not in done.stderr


def test_an_engine_that_fails_is_one_line_on_the_bus(run):
    _, printed = run("fail", saves=False)
    errors = [line for line in printed.splitlines() if line.startswith("error")]
    assert errors[0] == "error: no memory left; take a smaller tile"
    assert "frames: 3" in printed


def test_libraries_in_an_order_that_would_crash_are_an_error(run):
    _, printed = run("late", saves=False)
    assert printed.startswith("error: numpy, cv2 or another C++ library was loaded before")


def test_without_its_packages_it_says_what_to_do(environment):
    done = gst_launch(
        {**environment, "PYTHONPATH": ""}, f"videotestsrc num-buffers=2 ! {RESTORE} ! fakesink"
    )
    assert done.returncode
    assert "edgecar cannot be imported by GStreamer's Python" in done.stderr
    assert "python -m edgecar.gstreamer" in done.stderr
    assert "Traceback" not in done.stderr


def test_other_formats_are_converted_by_the_element_for_that(environment):
    done = gst_launch(
        environment,
        "videotestsrc num-buffers=2 ! video/x-raw,format=BGR,width=64,height=48 ! videoconvert "
        f"! {RESTORE} ! fakesink",
    )
    assert done.returncode == 0, done.stderr


def test_the_line_of_the_readme_runs(environment, make_clip, tmp_path):  # noqa: F811
    readme = Path(drive.__file__).parents[2] / "README.md"
    (line,) = re.findall(r"`(gst-launch-1.0 [^`]*)`", readme.read_text())
    make_clip("clip.mp4", frames=3)
    done = subprocess.run(
        line.split(), env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert "Got EOS" in done.stdout


def test_what_the_module_prints_is_for_a_shell(environment):
    program = f'eval "$({sys.executable} -m edgecar.gstreamer)"; gst-inspect-1.0 edgecarrestore'
    root = Path(drive.__file__).parents[2]
    done = subprocess.run(
        ["sh", "-c", program],
        env={**environment, "PYTHONPATH": str(root), "GST_PLUGIN_PATH": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    for name in ("network", "coder", "engine", "precision", "reuse", "threads"):
        assert f"  {name} " in done.stdout
