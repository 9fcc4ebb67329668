"""Workers that die: processes of this machine, and nodes of a Ray cluster."""

import os
import signal
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from edgecar.batch import workers
from edgecar.batch.archive import BatchSettings, find_clips, locked_state
from edgecar.batch.run import Batch
from edgecar.batch.workers import LocalWorkers, RayWorkers, ThisProcess, Worker
from edgecar.errors import BatchError
from tests.batch.conftest import PART_SECONDS, outputs_of

pytestmark = pytest.mark.slow  # starts processes

SETTINGS = BatchSettings("edgecar-xs", "h264", part_seconds=PART_SECONDS, retries=0)
SIGNALS = "EDGECAR_TEST_SIGNALS"


class Mortal(Worker):
    """Dies over clips whose names say so."""

    def part(self, source, plan, span, folder, *rest):
        once = "once" in source.name and not list(folder.glob(".part-*"))
        if "fatal" in source.name or once:
            (folder / f".part-{span.number:05}.mp4.begun-{os.getpid()}").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().part(source, plan, span, folder, *rest)


class Waiting(Worker):
    """Notes where it begins a part, and does it once a file says so."""

    def part(self, source, plan, span, folder, *rest):
        import ray

        signals = Path(os.environ[SIGNALS])
        (folder / f".part-{span.number:05}.mp4.begun-{os.getpid()}").touch()
        (signals / ray.get_runtime_context().get_node_id()).touch()
        while not (signals / "go").exists():
            time.sleep(0.02)
        return super().part(source, plan, span, folder, *rest)


@pytest.fixture
def archive(tmp_path, gop_clip):
    """A function that makes clips of these names and restores them."""
    (tmp_path / "src").mkdir()

    def do(*names, out, pool, progress=lambda *_: None):
        for name in names:
            gop_clip("open", f"src/{name}")
        clips = find_clips([tmp_path / "src"], tmp_path / out, "h264")
        with locked_state(tmp_path / out) as state, pool:
            report = Batch(clips, SETTINGS, pool, state, progress, lambda *_: None).run()
        return report, outputs_of(tmp_path / out)

    return do


def test_a_worker_that_dies_costs_its_part_and_the_bytes_are_those_of_one_process(archive):
    """Although no retry is allowed: the death of a worker is no failure of the clip."""
    pool = LocalWorkers(SETTINGS, 2, Mortal)
    report, many = archive("a.mp4", "once.mp4", out="many", pool=pool)
    assert not report.failed
    assert report.parts_lost == 1
    _, alone = archive(out="alone", pool=ThisProcess(SETTINGS))
    assert many == alone
    assert list(many) == ["a.mp4", "once.mp4"]


def test_a_clip_that_kills_every_worker_fails_and_the_others_go_on(archive, monkeypatch):
    monkeypatch.setattr(workers, "LOSSES", 1)
    pool = LocalWorkers(SETTINGS, 2, Mortal)
    report, outputs = archive("fatal.mp4", "good.mp4", out="out", pool=pool)
    (reason,) = report.failed.values()
    assert "part: the worker died 2 times; give each worker more memory" in reason
    assert list(outputs) == ["good.mp4"]


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """Two nodes of one core each, in a session of their own."""
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    (tmp_path / "signals").mkdir()
    monkeypatch.setenv(SIGNALS, str(tmp_path / "signals"))
    folder = tempfile.TemporaryDirectory(dir="/tmp")  # names of sockets may not be long
    common = {"num_cpus": 1, "include_dashboard": False, "object_store_memory": 128 << 20,
              "temp_dir": folder.name}  # fmt: skip
    # Where a cluster notes its address; only Ray's own start makes it.
    (Path(tempfile.gettempdir()) / "ray").mkdir(exist_ok=True)
    made = Cluster(initialize_head=True, head_node_args=common)
    made.second = made.add_node(**common)
    yield made
    ray.shutdown()
    made.shutdown()
    folder.cleanup()


def test_a_node_that_dies_costs_its_part_and_nothing_else(cluster, archive, tmp_path, capfd):
    signals, second = tmp_path / "signals", cluster.second.node_id
    killed = []

    def kill(*_):
        if not killed and (signals / second).exists():
            cluster.remove_node(cluster.second, allow_graceful=False)
            killed.append(second)
            (signals / "go").touch()

    capfd.readouterr()
    pool = RayWorkers(SETTINGS, cluster.address, worker=Waiting)
    assert pool.workers == 2
    report, many = archive("a.mp4", "b.mp4", out="ray", pool=pool, progress=kill)
    assert capfd.readouterr() == ("", "")  # Ray keeps quiet about it
    assert killed
    assert report.parts_lost == 1
    assert not report.failed
    _, alone = archive(out="one", pool=ThisProcess(SETTINGS, 1))
    assert many == alone
    assert list(alone) == ["a.mp4", "b.mp4"]


def test_an_address_without_a_cluster_is_said():
    pytest.importorskip("ray")
    with pytest.raises(BatchError, match=r"no Ray cluster answers at 127\.0\.0\.1:1 "):
        RayWorkers(SETTINGS, "127.0.0.1:1")


def test_a_node_with_other_libraries_is_refused():
    answer = workers._on_cluster({"av": "0.1"}, Worker, SETTINGS, 1, "plan", ())
    assert "this is av 0.1; install the same on every node" in str(answer)


def test_a_cluster_without_nodes_is_given_up_and_a_busy_one_waited_for(monkeypatch):
    monkeypatch.setattr(workers, "NO_NODE_SECONDS", 0)
    looks = []

    def wait(tasks, timeout):
        looks.append(timeout)
        return (tasks if len(looks) == 3 else []), []

    ray = SimpleNamespace(
        wait=wait, get=lambda _: "done", exceptions=SimpleNamespace(RayError=RuntimeError)
    )
    pool = object.__new__(workers.RayWorkers)
    pool._ray, pool._task, pool.stopped, pool.frames = ray, lambda *_: "task", False, 0
    ray.cluster_resources = lambda: {"CPU": 2.0}
    assert pool._do("part", ()) == "done"
    looks.clear()
    ray.cluster_resources = dict
    assert "no node for 0 s; start nodes" in str(pool._do("part", ()))
