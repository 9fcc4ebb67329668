"""Signals that end a command; each is sent to a process of its own."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgecar.cli.process import ENDING, ended_by_signals
from edgecar.media.reader import open_reader
from tests.serve.network_camera import NetworkCamera

HERE = Path(__file__).parents[2]
SIGNALS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}


def started(*words: object, cwd: Path) -> "subprocess.Popen[str]":
    environment = os.environ | {"PYTHONPATH": str(HERE)}
    return subprocess.Popen(
        [sys.executable, *map(str, words)],
        cwd=cwd,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=_default_signals,
    )


def _default_signals() -> None:
    """Take the signals as a terminal gives them: who runs the tests may ignore some (nohup)."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def wait_until(condition, process: "subprocess.Popen[str]") -> None:
    while not condition():
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


@pytest.mark.parametrize(
    "number",
    [signal.SIGTERM, *(pytest.param(n, marks=pytest.mark.slow) for n in SIGNALS if n != 15)],
)
def test_recording_of_a_camera_is_finished(number, tmp_path):
    """``docker stop`` and a terminal that is closed end a recording as Ctrl-C does."""
    camera = NetworkCamera(90)
    noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    camera.coded = cv2.imencode(".jpg", noise)[1].tobytes()
    words = ("run", camera.url, "-o", "camera.mkv", "--codec", "ffv1", "--stats-json", "s.json")
    process = started("-m", "edgecar", *words, "--network", "edgecar-xs", cwd=tmp_path)
    try:
        # Noise, and each frame by itself, so that the file soon grows.
        wait_until(lambda: any(p.stat().st_size > 9000 for p in tmp_path.iterdir()), process)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
        camera.switch_off()
    assert process.returncode == 0, err
    assert "restored" in out
    assert {path.name for path in tmp_path.iterdir()} == {"camera.mkv", "s.json"}
    with open_reader(tmp_path / "camera.mkv") as recorded:
        assert sum(1 for _ in recorded) > 3


WORK = """
import sys, time
from pathlib import Path
from edgecar import cli
from edgecar.files import atomic_write

def app(**_):
    with atomic_write(Path("result")) as temporary:
        temporary.write_text("half")
        try:
            print("begun", flush=True)
            time.sleep(600)
        finally:
            print("ending", flush=True)
            time.sleep(float(sys.argv[1]))

cli.app = app
cli.main()
"""


@pytest.mark.parametrize("number", SIGNALS)
def test_unfinished_files_are_removed_and_the_code_is_that_of_the_signal(number, tmp_path):
    process = started("-c", WORK, 0, cwd=tmp_path)
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == SIGNALS[number]
    assert err.splitlines() == ["edgecar: interrupted; unfinished files were removed"]
    assert not list(tmp_path.iterdir())


@pytest.mark.slow  # starts processes
@pytest.mark.parametrize("second", SIGNALS)
def test_second_signal_ends_at_once_and_leaves_nothing(second, tmp_path):
    process = started("-c", WORK, 600, cwd=tmp_path)
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    process.send_signal(signal.SIGTERM)
    assert process.stdout.readline() == "ending\n"
    process.send_signal(second)
    process.communicate(timeout=60)
    assert process.returncode == -second
    assert not list(tmp_path.iterdir())


def test_handlers_are_those_from_before_when_the_command_has_ended(edgecar):
    before = [signal.getsignal(number) for number in ENDING]
    assert edgecar("models", "--json").code == 0
    assert [signal.getsignal(number) for number in ENDING] == before


def test_what_nohup_ignores_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with ended_by_signals():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
    finally:
        signal.signal(signal.SIGHUP, before)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_forked_child_ends_as_any_process(tmp_path):
    """Pools stop their workers by SIGTERM, which is no interrupt of the work."""
    script = (
        "import os, signal, time\n"
        "reading, writing = os.pipe()\n"
        "from edgecar.cli.process import ended_by_signals\n"
        "with ended_by_signals():\n"
        "    child = os.fork()\n"
        "    if not child: os.write(writing, b'x'); time.sleep(600)\n"
        "    os.read(reading, 1)\n"
        "    os.kill(child, signal.SIGTERM)\n"
        "    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
    )
    out, err = started("-c", script, cwd=tmp_path).communicate(timeout=60)
    assert (out, err) == ("-15\n", "")
