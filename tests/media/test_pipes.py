"""Pipes, and whatever else can be read only once, give the same frames and sound as a file."""

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import av
import cv2
import pytest

from edgecar.errors import MediaError
from edgecar.media.inputs import Pictures, open_input
from edgecar.media.reader import open_reader
from edgecar.media.sources import source_from
from tests.media.conftest import copied, photo

FRAMES = 20


@contextmanager
def fed(path: Path, content: bytes):
    """A named pipe that a thread writes to, a little at a time."""
    os.mkfifo(path)

    def feed() -> None:
        with path.open("wb", buffering=0) as pipe:
            for start in range(0, len(content), 1000):
                try:
                    pipe.write(content[start : start + 1000])
                except BrokenPipeError:
                    return

    thread = threading.Thread(target=feed)
    thread.start()
    try:
        yield path
    finally:
        thread.join()


def decoded(path: Path) -> tuple[int, bytes]:
    """Number of pictures and coded bytes of the sound."""
    with av.open(str(path)) as container:
        count = sum(1 for _ in container.decode(video=0))
    with av.open(str(path)) as container:
        if not container.streams.audio:
            return count, b""
        return count, b"".join(bytes(p) for p in container.demux(audio=0) if p.size)


def copy(source, target: Path) -> Path:
    warnings = copied(source, target)
    assert not [each for each in warnings if not each.startswith("timestamps rounded")]
    return target


FILES = [
    ("a.ts", {}),
    ("a.mkv", {}),
    ("a.mp4", {"movflags": "faststart"}),
    ("a.mp4", {"movflags": "frag_keyframe+empty_moov"}),
    ("a.nut", {}),
]


@pytest.mark.parametrize(("name", "muxing"), FILES)
def test_a_pipe_gives_the_frames_and_the_sound_of_the_file(make_clip, tmp_path, name, muxing):
    source = make_clip(name, audio="aac", frames=FRAMES, muxing=muxing)
    with fed(tmp_path / "pipe", source.read_bytes()) as pipe:
        target = copy(pipe, tmp_path / "piped.mkv")
    assert decoded(target) == decoded(copy(source, tmp_path / "read.mkv"))
    assert decoded(target)[0] == FRAMES
    assert decoded(target)[1]


def test_a_file_is_opened_once(make_clip, tmp_path, monkeypatch):
    """It may be gone, or another one, by then."""
    source, opened = make_clip(audio="aac"), []
    open_container = av.open

    def counted(file, mode=None, **options):
        opened.append(str(file))
        return open_container(file, mode, **options)

    monkeypatch.setattr(av, "open", counted)
    copy(source, tmp_path / "out.mkv")
    assert sum(name.endswith(str(source)) for name in opened) == 1


def run(arguments, **streams) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "edgecar.cli", "run", *map(str, arguments)]
    return subprocess.run(
        [*command, "--network", "edgecar-xs"], capture_output=True, timeout=120, **streams
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["-", "/dev/stdin", "pipe:0", "/dev/fd/0"])
@pytest.mark.parametrize("piped", [True, False])
def test_standard_input_is_restored(make_clip, tmp_path, name, piped):
    source = make_clip("a.ts", audio="aac", frames=FRAMES)
    target = tmp_path / "out.mkv"
    with source.open("rb") as file:
        given = {"input": source.read_bytes()} if piped else {"stdin": file}
        done = run([name, "-o", target], **given)
    assert done.returncode == 0, done.stderr
    assert decoded(target) == decoded(copy(source, tmp_path / "read.mkv"))


@pytest.mark.slow
def test_several_pipes_are_restored_side_by_side(make_clip, tmp_path):
    sources = [make_clip(f"{n}.ts", audio="aac", frames=FRAMES) for n in "ab"]
    with (
        fed(tmp_path / "one", sources[0].read_bytes()) as one,
        fed(tmp_path / "two", sources[1].read_bytes()) as two,
    ):
        done = run([one, two, "-o", tmp_path / "out"])
    assert done.returncode == 0, done.stderr
    for name in ("one", "two"):
        assert decoded(tmp_path / "out" / f"{name}.mp4")[0] == FRAMES


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".ppm", ".pgm"])
def test_a_picture_comes_through_a_pipe(tmp_path, suffix):
    picture = cv2.imread(str(make_picture(tmp_path / f"a{suffix}")))
    with (
        fed(tmp_path / "pipe", (tmp_path / f"a{suffix}").read_bytes()) as pipe,
        open_input(str(pipe)) as found,
    ):
        assert isinstance(found, Pictures)
        (path,) = found.paths
        assert (cv2.imread(str(path)) == picture).all()
    assert not path.exists()


def make_picture(path: Path) -> Path:
    picture = photo(0, (48, 64))
    cv2.imwrite(str(path), picture[..., 0] if path.suffix == ".pgm" else picture)
    return path


def test_a_picture_is_known_by_what_it_holds(tmp_path):
    path = make_picture(tmp_path / "a.jpg").rename(tmp_path / "without a suffix")
    with open_input(str(path)) as found:
        assert isinstance(found, Pictures)


def test_a_pipe_whose_index_comes_last_is_told_what_to_do(make_clip, tmp_path):
    content = make_clip("a.mp4", frames=100, options={"crf": "1"}).read_bytes()
    assert content.index(b"moov") > 100_000
    with fed(tmp_path / "pipe", content) as pipe, pytest.raises(MediaError, match="index first"):
        open_reader(pipe)


def test_what_is_no_video_ends_in_one_line(tmp_path):
    nothing = fed(tmp_path / "pipe", b"no video at all\n" * 100)
    with nothing as pipe, pytest.raises(MediaError, match="pipe holds no video") as failure:
        open_reader(pipe)
    assert "\n" not in str(failure.value)


@pytest.mark.parametrize(
    ("argument", "address"),
    [("./2024", "file:2024"), (Path("2024"), "file:2024"), ("file:2024", "file:2024")],
)
def test_numbers_may_be_files(argument, address):
    source = source_from(argument)
    assert (source.kind, source.address) == ("file", address)
    assert source_from(source.address).kind == "file"


def test_a_pipe_given_twice_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "pipe")
    done = run([tmp_path / "pipe", tmp_path / "link", "-o", tmp_path / "out"])
    assert done.returncode == 1
    assert done.stderr.endswith(b"is given twice; a pipe can be read only once\n")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_waiting_for_a_pipe_can_be_ended(tmp_path, number):
    os.mkfifo(tmp_path / "pipe")
    command = [sys.executable, "-m", "edgecar.cli", "run", str(tmp_path / "pipe"), "-o", "null"]
    with (
        subprocess.Popen(command, stderr=subprocess.PIPE) as waiting,
        held_open(tmp_path / "pipe"),
    ):
        waiting.send_signal(number)
        _, said = waiting.communicate(timeout=60)
    assert b"interrupted" in said
    assert waiting.returncode == 128 + number


@contextmanager
def held_open(pipe: Path):
    """Write nothing to a pipe that somebody reads, once somebody does."""
    while True:
        try:
            end = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
            break
        except OSError:  # nobody yet
            time.sleep(0.05)
    try:
        yield
    finally:
        os.close(end)
