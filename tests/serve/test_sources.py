"""A camera that breaks is opened again; a file is played at its pace."""

import logging
import threading
import time

import pytest

from edgecar.errors import MediaError
from edgecar.serve import source as sources
from edgecar.serve.settings import CameraSettings
from edgecar.serve.source import SupervisedSource, open_camera
from tests.media import conftest as media
from tests.serve.conftest import until, write_clip

make_clip = media.make_clip  # the fixture


def camera(source, **more) -> CameraSettings:
    return CameraSettings(name="gate", source=str(source), **more)


class Flaky:
    """Opens the real thing, but not the first times."""

    def __init__(self, failures: list[Exception]):
        self.failures, self.calls = failures, 0

    def __call__(self, settings):
        self.calls += 1
        if self.failures:
            raise self.failures.pop(0)
        return open_camera(settings)


@pytest.fixture
def fast_pace(monkeypatch):
    """Files play as fast as they can."""
    monkeypatch.setattr(sources, "_seconds", lambda _frame: 0.0)


@pytest.mark.usefixtures("fast_pace")
def test_a_file_that_does_not_loop_ends(tmp_path):
    source = SupervisedSource(camera(write_clip(tmp_path / "a.mp4", 10), loop=False))
    assert len(list(source)) == 10
    assert source.state == "ended"
    assert source.codec == "h264"
    assert source.facts.size == (48, 64)


@pytest.mark.usefixtures("fast_pace")
def test_a_file_that_loops_goes_on_with_rising_times(tmp_path):
    source = SupervisedSource(camera(write_clip(tmp_path / "a.mp4", 10)))
    frames = []
    for frame in source:
        frames.append(frame)
        if len(frames) == 25:
            source.close()
    times = [frame.pts for frame in frames]
    assert times == sorted(set(times))
    assert len({frame.time_base for frame in frames}) == 1
    assert source.state == "stopped"


def test_a_file_is_played_at_its_own_pace(tmp_path):
    source = SupervisedSource(camera(write_clip(tmp_path / "a.mp4", 9, fps=20), loop=False))
    began = time.monotonic()
    assert len(list(source)) == 9
    assert time.monotonic() - began >= 8 / 20  # a lower bound only: nothing comes early


@pytest.mark.usefixtures("fast_pace")
def test_what_cannot_be_opened_is_tried_again_after_growing_waits(tmp_path, monkeypatch):
    waits = []
    flaky = Flaky([MediaError("no route"), MediaError("no route"), ValueError("a mistake of ours")])
    settings = camera(write_clip(tmp_path / "a.mp4", 5), loop=False)
    monkeypatch.setattr(sources, "open_camera", flaky)
    source = SupervisedSource(settings)
    monkeypatch.setattr(source._closing, "wait", lambda seconds: waits.append(seconds))
    assert len(list(source)) == 5
    assert source.restarts == 3
    first, second, third = (seconds for seconds in waits if seconds)
    assert first < second < third


def test_while_it_waits_it_says_why(tmp_path):
    gone = SupervisedSource(camera(tmp_path / "gone.mp4"))
    thread = threading.Thread(target=lambda: list(gone))
    thread.start()
    until(lambda: gone.state == "waiting")
    assert "does not exist" in gone.error
    gone.close()
    thread.join(20)
    assert not thread.is_alive()  # though its wait was not over
    assert gone.state == "stopped"
    assert gone.error is None


@pytest.mark.usefixtures("fast_pace")
@pytest.mark.parametrize(
    ("audio", "record", "lines"), [("aac", True, 1), ("aac", False, 0), (None, True, 0)]
)
def test_a_recording_without_the_sound_is_said_once(
    make_clip, tmp_path, caplog, audio, record, lines
):
    path = make_clip("a.mp4", audio=audio)
    recorded = {"record": {"folder": tmp_path}} if record else {}
    source = SupervisedSource(camera(path, **recorded))
    with caplog.at_level(logging.INFO):
        for number, _ in enumerate(source):
            if number == 30:  # it plays for the third time
                source.close()
    assert sum("no sound" in line for line in caplog.messages) == lines
