import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from edgecar.batch.archive import FOLDER
from tests.batch.conftest import FRAMES, PART_SECONDS, gop_clip, outputs_of  # noqa: F401
from tests.media.conftest import make_clip  # noqa: F401  # a fixture

ROOT = Path(__file__).parents[2]
OPTIONS = ("--network", "edgecar-xs", "--part-seconds", PART_SECONDS)
DEATH_SECONDS = 30


@pytest.fixture
def archive(gop_clip, tmp_path):  # noqa: F811
    (tmp_path / "src" / "gate").mkdir(parents=True)
    gop_clip("open", "src/a.mp4")
    gop_clip("closed", "src/gate/b.mp4", audio="aac")
    return tmp_path / "src"


def test_an_archive_is_restored_and_told(edgecar, archive, tmp_path):
    done = edgecar("batch", archive, "-o", tmp_path / "out", "--ray", "none", *OPTIONS)
    assert done.code == 0, done.err
    assert "network   edgecar-xs, weights for h264" in done.err
    assert "next      edgecar run" in done.err
    assert f"restored  2 of 2 clip(s), {2 * FRAMES} frame(s)" in done.out
    assert list(outputs_of(tmp_path / "out")) == ["a.mp4", "gate/b.mp4"]
    again = edgecar("batch", archive, "-o", tmp_path / "out", "--ray", "none", *OPTIONS)
    assert again.out.count("skipped") == 2


def test_json_is_one_document_and_failures_are_lines(edgecar, archive, tmp_path):
    (archive / "noise.mp4").write_bytes(b"no video at all" * 100)
    done = edgecar("batch", archive, "-o", tmp_path / "out", "--ray", "none", "--json", *OPTIONS)
    assert done.code == 1
    table = json.loads(done.out)
    assert (table["clips"], table["frames"]) == (3, 2 * FRAMES)
    assert len(table["outputs"]) == 2
    assert [entry["source"] for entry in table["failed"]] == [str(archive / "noise.mp4")]
    assert "is not a video" in table["failed"][0]["reason"]
    *_, line, last = done.err.strip().splitlines()
    assert line.startswith(f"failed    {archive / 'noise.mp4'} is not a video")
    assert last.startswith("edgecar: 1 of 3 clip(s) failed; ")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--network", "nothing"), "no weights ship for 'nothing'"),
        (("--network", "none.onnx"), "no such file"),
        (("--engine", "abacus"), "no engine is called 'abacus'"),
        (("--part-seconds", "0"), "--part-seconds is 0"),
        (("--workers", "2"), "--workers 2 and --ray none"),
        (("--ray", "127.0.0.1:1"), "no Ray cluster answers at 127.0.0.1:1"),
    ],
)
def test_what_cannot_work_is_refused_before_work(edgecar, archive, tmp_path, options, message):
    done = edgecar("batch", archive, "-o", tmp_path / "out", "--ray", "none", *options)
    assert done.code == 1
    assert message in done.err
    assert len(done.err.strip().splitlines()) == 1
    assert not outputs_of(tmp_path / "out")


def test_without_ray_the_extra_is_named(edgecar, archive, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    done = edgecar("batch", archive, "-o", tmp_path / "out", "--ray", "auto", *OPTIONS)
    assert done.code == 1
    assert "pip install 'edgecar[batch]', or leave --ray out" in done.err


def begun(tmp_path, *options):
    """A batch in a process of its own, once its first part is done."""
    command = [sys.executable, "-m", "edgecar", "batch", "src", "-o", "out", *options]
    process = subprocess.Popen(
        [*command, *map(str, OPTIONS)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    parts = tmp_path / "out" / FOLDER / "parts"
    while not list(parts.rglob("part-*.json")):
        assert process.poll() is None
        time.sleep(0.005)
    return process


@pytest.mark.slow  # kills a process
def test_a_batch_that_is_killed_goes_on_with_the_same_bytes(edgecar, archive, tmp_path):
    process = begun(tmp_path, "--workers", "2")
    working = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert len(outputs_of(tmp_path / "out")) < 2
    assert len(working) >= 2
    assert not psutil.wait_procs(working, DEATH_SECONDS)[1]
    for out in ("out", "whole"):
        done = edgecar("batch", archive, "-o", tmp_path / out, "--ray", "none", *OPTIONS)
        assert done.code == 0, done.err
    assert outputs_of(tmp_path / "out") == outputs_of(tmp_path / "whole")
    assert not [path for path in (tmp_path / "out" / FOLDER).rglob("*") if path.suffix == ".mp4"]


@pytest.mark.slow  # starts processes
@pytest.mark.parametrize("ray", ["local", "none"])
@pytest.mark.parametrize(("ending", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_a_batch_tidily(ray, ending, code, edgecar, archive, tmp_path):
    process = begun(tmp_path, "--ray", ray)
    process.send_signal(ending)
    _, err = process.communicate(timeout=120)
    assert process.returncode == code, err
    assert "Traceback" not in err
    assert not [path for path in (tmp_path / "out").rglob(".*") if path.is_file()]
    assert edgecar("batch", archive, "-o", tmp_path / "out", "--ray", "none", *OPTIONS).code == 0


def test_the_command_line_loads_no_ray():
    program = "import sys, edgecar.cli, edgecar.batch.run; assert 'ray' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)
