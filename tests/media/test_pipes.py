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
from tests.media.conftest import copied, photo, sound_of

FRAMES = 20
COMMAND = [sys.executable, "-m", "edgecar", "run"]


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
        return sum(1 for _ in container.decode(video=0)), b"".join(sound_of(path))


def copy(source, target: Path) -> Path:
    warnings = copied(source, target)
    assert not [each for each in warnings if not each.startswith("timestamps rounded")]
    return target


@pytest.mark.parametrize(
    ("name", "muxing"),
    [
        ("a.ts", {}),
        ("a.mkv", {}),
        ("a.mp4", {"movflags": "faststart"}),
        ("a.mp4", {"movflags": "frag_keyframe+empty_moov"}),
        ("a.nut", {}),
    ],
)
def test_a_pipe_gives_the_frames_and_the_sound_of_the_file(make_clip, tmp_path, name, muxing):
    source = make_clip(name, audio="aac", frames=FRAMES, muxing=muxing)
    with fed(tmp_path / "pipe", source.read_bytes()) as pipe:
        count, sound = decoded(copy(pipe, tmp_path / "piped.mkv"))
    assert (count, sound) == decoded(copy(source, tmp_path / "read.mkv"))
    assert count == FRAMES
    assert sound


def test_a_file_is_opened_once(make_clip, tmp_path, monkeypatch):
    """It may be gone, or another one, by then."""
    source, opened, open_container = make_clip(audio="aac"), [], av.open

    def counted(file, *arguments, **options):
        opened.append(str(file))
        return open_container(file, *arguments, **options)

    monkeypatch.setattr(av, "open", counted)
    copy(source, tmp_path / "out.mkv")
    assert sum(name.endswith(str(source)) for name in opened) == 1


def run(*arguments, **streams) -> subprocess.CompletedProcess[bytes]:
    command = [*COMMAND, *map(str, arguments), "--network", "edgecar-xs"]
    return subprocess.run(command, capture_output=True, timeout=120, **streams)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["-", "/dev/stdin", "pipe:0", "/dev/fd/0"])
@pytest.mark.parametrize("piped", [True, False])
def test_standard_input_is_restored(make_clip, tmp_path, name, piped):
    source, target = make_clip("a.ts", audio="aac", frames=FRAMES), tmp_path / "out.mkv"
    with source.open("rb") as file:
        given = {"input": source.read_bytes()} if piped else {"stdin": file}
        done = run(name, "-o", target, **given)
    assert done.returncode == 0, done.stderr
    assert decoded(target) == decoded(copy(source, tmp_path / "read.mkv"))


@pytest.mark.slow
def test_several_pipes_are_restored_side_by_side(make_clip, tmp_path):
    sources = [make_clip(f"{n}.ts", audio="aac", frames=FRAMES) for n in "ab"]
    with (
        fed(tmp_path / "one", sources[0].read_bytes()) as one,
        fed(tmp_path / "two", sources[1].read_bytes()) as two,
    ):
        done = run(one, two, "-o", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    for name in ("one", "two"):
        assert decoded(tmp_path / "out" / f"{name}.mp4")[0] == FRAMES


def make_picture(path: Path) -> Path:
    picture = photo(0, (48, 64))
    cv2.imwrite(str(path), picture[..., 0] if path.suffix == ".pgm" else picture)
    return path


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".ppm", ".pgm"])
def test_a_picture_comes_through_a_pipe_or_under_any_name(tmp_path, suffix):
    picture = make_picture(tmp_path / f"a{suffix}").rename(tmp_path / "without a suffix")
    expected = cv2.imread(str(picture))
    with fed(tmp_path / "pipe", picture.read_bytes()) as pipe, open_input(str(pipe)) as found:
        assert isinstance(found, Pictures)
        (path,) = found.paths
        assert (cv2.imread(str(path)) == expected).all()
    assert not path.exists()
    with open_input(str(picture)) as found:
        assert isinstance(found, Pictures)


def test_what_cannot_be_read_from_a_pipe_ends_in_one_line_of_advice(make_clip, tmp_path):
    content = make_clip("a.mp4", frames=100, options={"crf": "1"}).read_bytes()
    assert content.index(b"moov") > 100_000
    for name, given, words in (
        ("late", content, "index first"),
        ("none", b"no video at all\n" * 100, "none holds no video"),
    ):
        with fed(tmp_path / name, given) as pipe, pytest.raises(MediaError, match=words) as failure:
            open_reader(pipe)
        assert "\n" not in str(failure.value)


def test_a_pipe_given_twice_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "pipe")
    done = run(tmp_path / "pipe", tmp_path / "link", "-o", tmp_path / "out")
    assert done.returncode == 1
    assert done.stderr.endswith(b"is given twice; a pipe can be read only once\n")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_waiting_for_a_pipe_can_be_ended(tmp_path, number):
    os.mkfifo(tmp_path / "pipe")
    command = [*COMMAND, str(tmp_path / "pipe"), "-o", "null"]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as waiting:
        end = None  # of the pipe, to which nothing is written
        while end is None:
            try:
                end = os.open(tmp_path / "pipe", os.O_WRONLY | os.O_NONBLOCK)
            except OSError:  # nobody reads it yet
                time.sleep(0.05)
        waiting.send_signal(number)
        _, said = waiting.communicate(timeout=60)
        os.close(end)
    assert b"interrupted" in said
    assert waiting.returncode == 128 + number
