"""Workers on this machine: one Ray for all tests of this file."""

import os
import signal
import time

import pytest

from edgecar.batch import ray_pool, work
from edgecar.batch.archive import find_clips
from edgecar.batch.journal import BatchSettings, Journal
from edgecar.batch.pool import OneProcess
from edgecar.batch.ray_pool import RayPool, RayWorker
from edgecar.batch.work import Batch
from edgecar.batch.worker import PartTask
from edgecar.errors import BatchError
from tests.batch.conftest import PART_SECONDS, outputs_of

pytestmark = pytest.mark.slow  # starts Ray

pytest.importorskip("ray")

SETTINGS = BatchSettings("edgecar-xs", "h264", part_seconds=PART_SECONDS, retries=0)


class Mortal(RayWorker):
    """Dies over clips whose names say so."""

    def do(self, task, artifact, digest):
        name = task.source.name
        if isinstance(task, PartTask) and ("fatal" in name or ("once" in name and first(task))):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().do(task, artifact, digest)


def first(task):
    """Whether no other worker was here before."""
    try:
        (task.source.parent / "died").touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


@pytest.fixture(scope="module")
def pool():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_ADDRESS", "127.0.0.1:1")  # of a cluster that nobody asked for
        with RayPool("auto", None, workers=2, worker=Mortal) as made:
            yield made


@pytest.fixture
def archive(tmp_path, gop_clip):
    """A function that makes clips of these names, and one that restores them."""
    (tmp_path / "src").mkdir()

    def do(*names, out, pool):
        for name in names:
            if not (tmp_path / "src" / name).exists():
                gop_clip("open", f"src/{name}")
        clips = find_clips([tmp_path / "src"], tmp_path / out, "h264")
        with Journal(tmp_path / out) as journal:
            report = Batch(clips, SETTINGS, pool, journal, lambda *_: None, lambda *_: None).run()
        return report, outputs_of(tmp_path / out)

    return do


def test_workers_give_the_bytes_of_one_process(archive, pool):
    report, many = archive("a.mp4", "b.mp4", out="many", pool=pool)
    assert not report.failed
    assert report.parts_lost == 0
    _, alone = archive(out="alone", pool=OneProcess("auto", None, None))
    assert many == alone
    assert list(many) == ["a.mp4", "b.mp4"]


def test_a_worker_that_dies_is_no_failure_of_the_clip(archive, pool):
    """Although no retry is allowed."""
    report, outputs = archive("once.mp4", out="out", pool=pool)
    assert not report.failed
    assert report.parts_lost == 1
    assert list(outputs) == ["once.mp4"]


def test_a_clip_that_kills_every_worker_fails_and_the_others_go_on(archive, pool, monkeypatch):
    monkeypatch.setattr(work, "LOSSES", 1)
    report, outputs = archive("fatal.mp4", "good.mp4", out="out", pool=pool)
    (reason,) = report.failed.values()
    assert "the worker died (" in reason
    assert "2 times; give each worker more memory" in reason
    assert list(outputs) == ["good.mp4"]


def test_workers_with_other_libraries_are_refused(monkeypatch, pool):
    monkeypatch.setattr(ray_pool, "versions", lambda: {"av": "0.1"})
    while pool._actors:  # they hold the cores that another one needs
        pool._stop(pool._actors.pop())
    pool._starting.append(pool._started())
    deadline = time.monotonic() + 60
    with pytest.raises(BatchError, match=r"this is av 0\.1; install the same on every node"):
        while time.monotonic() < deadline:
            pool.wait(lambda _: None)
