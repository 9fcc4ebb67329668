"""Workers that die: processes of this machine, and nodes of a Ray cluster."""

import tempfile
import threading
import time
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from edgecar.batch import workers
from edgecar.batch.archive import FOLDER, BatchSettings, find_clips, locked_state
from edgecar.batch.run import Batch
from edgecar.batch.workers import LocalWorkers, RayWorkers, ThisProcess
from edgecar.errors import BatchError
from tests.batch.conftest import PART_SECONDS, outputs_of

SETTINGS = BatchSettings("edgecar-xs", "h264", part_seconds=PART_SECONDS, skip_below_qp=0)


@pytest.fixture
def archive(tmp_path, gop_clip):
    """A function that makes clips of these names and restores them."""
    (tmp_path / "src").mkdir()

    def do(*names, out, pool):
        for name in names:
            gop_clip("open", f"src/{name}", size=(480, 640))
        clips = find_clips([tmp_path / "src"], tmp_path / out, "h264")
        with closing(pool), locked_state(tmp_path / out) as state:
            report = Batch(clips, SETTINGS, pool, state, lambda *_: None, lambda *_: None).run()
        return report, outputs_of(tmp_path / out)

    return do


@contextmanager
def in_a_thread(function):
    """Call a function again and again until it returns True or the block is left."""
    over = threading.Event()

    def again():
        while not over.is_set() and not function():
            time.sleep(0.02)

    thread = threading.Thread(target=again)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def kill_at_work(out, name):
    """Kill the process that reads the clip ``name``, once it has begun to write a part of it."""
    processes = psutil.Process().children(recursive=True)
    for process in processes:
        process.suspend()
    begun = list((out / FOLDER / "parts" / name).glob(".part-*.mp4"))
    at_work = [
        process
        for process in processes
        if begun and any(file.path.endswith(f"/src/{name}") for file in process.open_files())
    ]
    for process in processes:
        process.kill() if process in at_work else process.resume()
    return bool(at_work)


@pytest.mark.slow  # starts processes
def test_a_worker_that_dies_costs_its_part_and_the_bytes_are_those_of_one_process(
    archive, tmp_path
):
    with in_a_thread(lambda: kill_at_work(tmp_path / "many", "b.mp4")):
        pool = LocalWorkers(SETTINGS, 2)
        report, many = archive("a.mp4", "b.mp4", out="many", pool=pool)
    assert not report.failed
    assert report.parts_lost == 1
    _, alone = archive(out="alone", pool=ThisProcess(SETTINGS))
    assert many == alone
    assert list(many) == ["a.mp4", "b.mp4"]


@pytest.mark.slow  # starts processes
def test_a_clip_that_kills_its_workers_fails_and_the_others_go_on(archive, tmp_path):
    with in_a_thread(lambda: kill_at_work(tmp_path / "out", "fatal.mp4")):
        pool = LocalWorkers(replace(SETTINGS, retries=0), 2)
        report, outputs = archive("fatal.mp4", "good.mp4", out="out", pool=pool)
    (failed,) = report.failed
    assert "the worker of a part died; give each worker more memory" in failed["reason"]
    assert list(outputs) == ["good.mp4"]


@pytest.fixture
def cluster():
    """Two nodes of one core each, in a session of their own."""
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

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


@pytest.mark.slow  # starts processes
def test_a_node_that_dies_costs_its_part_and_nothing_else(cluster, archive, tmp_path, capfd):
    def stop_and_kill():
        """Both nodes are at work on a part: the second one is killed in the middle of it."""
        if len(list((tmp_path / "ray" / FOLDER / "parts").rglob(".part-*.mp4"))) < 2:
            return False
        at_work = [p for p in psutil.process_iter(["name"]) if p.info["name"] == "ray::_on_node"]
        for process in at_work:
            process.suspend()
        cluster.remove_node(cluster.second, allow_graceful=False)
        for process in at_work:
            if process.is_running():
                process.resume()
        return True

    capfd.readouterr()
    pool = RayWorkers(SETTINGS, cluster.address)
    assert pool.workers == 2
    with in_a_thread(stop_and_kill):
        report, many = archive("a.mp4", "b.mp4", out="ray", pool=pool)
    assert capfd.readouterr() == ("", "")  # Ray keeps quiet about it
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
    with pytest.raises(BatchError, match=r"this is .*0\.1.*; install the same on every node"):
        workers._on_node({"av": "0.1"}, lambda: None)


def test_a_cluster_without_nodes_is_given_up_and_a_busy_one_waited_for(monkeypatch):
    monkeypatch.setattr(workers, "NO_NODE_SECONDS", 0)
    looks = []

    def wait(tasks, timeout):
        looks.append(timeout)
        return (tasks if len(looks) == 3 else []), []

    pool = object.__new__(RayWorkers)
    pool._ray = SimpleNamespace(wait=wait, get=lambda _: "done", cluster_resources=dict)
    with pytest.raises(BatchError, match="no node for 0 s; start nodes"):
        pool.wait(["task"])
    looks.clear()
    pool._ray.cluster_resources = lambda: {"CPU": 2.0}
    assert pool.wait(["task"]) == ("task", "done")
