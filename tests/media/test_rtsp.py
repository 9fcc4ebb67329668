"""A real RTSP server that is killed, stopped, locked and joined in the middle."""

import logging
import signal
import struct
import subprocess
import traceback
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest

from benchmarks.run import rtsp_server
from edgecar.errors import MediaError
from edgecar.media.live import LiveReader
from edgecar.media.sources import LiveSettings, source_from

pytestmark = pytest.mark.slow  # waits for a server that is killed and stopped

PYTHON = "/usr/bin/python3"  # the system's, whose bindings of GStreamer no other one can use
SCRIPT = Path(rtsp_server.__file__)
PACKAGES = (
    "python3-gi gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-base gstreamer1.0-plugins-good "
    "gstreamer1.0-plugins-bad"
)
SIZE = (96, 160)
PICTURES = 60
"""One keyframe and its followers: 1.2 s."""
LONGEST_TEST_SECONDS = 30
SETTINGS = LiveSettings(
    read_seconds=4,
    first_backoff_seconds=0.1,
    longest_backoff_seconds=0.5,
    give_up_after_seconds=LONGEST_TEST_SECONDS,
)


def pattern(index):
    """Luma of waves that move 9 codes a picture."""
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    return np.abs((3 * columns + 2 * rows + 9 * index) % 256 * 2 - 255).astype(np.uint8)


def picture(index):
    frame = av.VideoFrame(SIZE[1], SIZE[0], "yuv420p")
    for plane, values in zip(frame.planes, (pattern(index), 128, 128), strict=True):
        lines = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)
        lines[:, : plane.width] = values
    frame.pts = index
    return frame


def psnr(one, other):
    return 10 * np.log10(255**2 / np.mean((one.astype(float) - other) ** 2))


@pytest.fixture(scope="session")
def gstreamer():
    try:
        done = subprocess.run([PYTHON, SCRIPT, "none"], check=False, capture_output=True, text=True)
    except OSError:
        pytest.skip(f"no {PYTHON}")
    if done.returncode:
        reason = done.stderr.strip().splitlines()[-1]
        pytest.skip(f"no RTSP server of GStreamer ({reason}); apt-get install {PACKAGES}")


@pytest.fixture(scope="session")
def clip(tmp_path_factory):
    """A file for the server, and the luma of its pictures as a decoder gives them."""
    coder = av.CodecContext.create("libx264", "w")
    coder.height, coder.width = SIZE
    coder.pix_fmt, coder.time_base, coder.framerate = "yuv420p", Fraction(1, 50), Fraction(50)
    coder.options = {"preset": "ultrafast", "tune": "zerolatency", "g": str(PICTURES)}
    coded = [packet for index in range(PICTURES) for packet in coder.encode(picture(index))]
    coded += coder.encode(None)
    assert [packet.is_keyframe for packet in coded] == [True] + [False] * (PICTURES - 1)
    path = tmp_path_factory.mktemp("rtsp") / "pictures"
    path.write_bytes(b"".join(struct.pack(">I", packet.size) + bytes(packet) for packet in coded))
    decoder = av.CodecContext.create("h264", "r")
    shown = [p for packet in [*coded, None] for p in decoder.decode(packet)]
    return path, [p.to_ndarray()[: SIZE[0]].tobytes() for p in shown]


class Server:
    """One server process; it keeps its port when it is started again."""

    def __init__(self, path):
        self._path, self.port = path, 0

    def start(self, password=None, auth="basic"):
        lock = ["--auth", auth, "--user", "admin", "--password", password] if password else []
        command = [PYTHON, SCRIPT, self._path, "--port", str(self.port), *lock]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.port = int(self._process.stdout.readline())

    def url(self, path="main", login=""):
        return f"rtsp://{login}127.0.0.1:{self.port}/{path}"

    def kill(self):
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()

    def signal(self, number):
        self._process.send_signal(number)


@pytest.fixture
def server(gstreamer, clip):  # noqa: ARG001  # skips
    server = Server(clip[0])
    server.start()
    yield server
    server.kill()


def live_reader(url, settings=SETTINGS, **options):
    return LiveReader(source_from(url), settings, **options)


def take(reader, count):
    return [next(reader) for _ in range(count)]


def take_until(reader, condition):
    """Frames up to the first one where it holds."""
    frames = []
    while not (frames and condition(reader.stats)):
        frames.append(next(reader))
    return frames


def shown_of(error):
    """All that is printed or kept of an error."""
    seen = []
    while error is not None:
        seen += [*traceback.format_exception(error), repr(error), repr(vars(error))]
        error = error.__cause__ or error.__context__
    return "".join(seen)


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_pictures_are_those_that_were_sent(server, clip, transport):
    with live_reader(server.url(), LiveSettings(rtsp_transport=transport)) as live:
        frames = take(live, PICTURES + 10)
        stats = live.stats
    _, pictures = clip
    assert [frame.y.tobytes() for frame in frames] == [*pictures, *pictures[:10]]
    assert psnr(frames[0].y, pattern(0)) > 35
    assert (live.live, live.codec, live.facts.size) == (True, "h264", SIZE)
    assert all(before.pts < after.pts for before, after in pairwise(frames))
    assert (stats.connects, stats.stalls, stats.corrupt_frames) == (1, 0, 0)


@pytest.mark.parametrize(
    ("fault", "counts", "error"),
    [("killed", (1, 1, 0), "Connection refused"), ("stopped", (1, 0, 1), "no data in time")],
)
def test_frames_go_on_after_the_server_was_away(server, fault, counts, error):
    waits = []

    def restart(seconds):
        waits.append(seconds)
        if fault == "stopped":
            server.signal(signal.SIGCONT)
        elif len(waits) == 2:
            server.start()

    with live_reader(server.url(), sleep=restart) as live:
        frames = take(live, 10)
        if fault == "stopped":
            server.signal(signal.SIGSTOP)
        else:
            server.kill()
        frames += take_until(live, lambda stats: stats.reconnects) + take(live, 10)
        stats = live.stats
    assert (stats.reconnects, stats.failed_connects, stats.stalls) == counts
    assert error in stats.last_error
    assert all(a.pts < b.pts for a, b in pairwise(frames))
    assert {frame.time_base for frame in frames} == {live.facts.time_base}


@pytest.mark.parametrize("auth", ["basic", "digest"])
def test_only_the_right_password_and_path_open_and_none_is_shown(server, auth, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    server.kill()
    server.start("Secret1", auth)
    with live_reader(server.url(login="admin:Secret1@")) as live:
        next(live)
    for path, login, words in (("main", "9", "401 Unauthorized"), ("other", "1", "404 Not Found")):
        wrong = server.url(path, f"admin:Secret{login}@")
        with pytest.raises(MediaError, match=f"{words}.*check address, password") as caught:
            live_reader(wrong)
        assert "\n" not in str(caught.value)
        said = "".join(capfd.readouterr())
        assert "Secret" not in shown_of(caught.value) + caplog.text + said
