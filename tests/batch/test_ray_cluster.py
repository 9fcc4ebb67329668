"""A cluster of two nodes, one of which is killed while it works."""

import os
import tempfile
import time
from pathlib import Path

import pytest

from edgecar.batch.archive import find_clips
from edgecar.batch.journal import BatchSettings, Journal
from edgecar.batch.pool import OneProcess
from edgecar.batch.ray_pool import RayPool, RayWorker, imported_ray
from edgecar.batch.work import Batch
from edgecar.batch.worker import PartTask
from edgecar.errors import BatchError
from tests.batch.conftest import PART_SECONDS, outputs_of

pytestmark = pytest.mark.slow  # starts clusters

pytest.importorskip("ray")

SETTINGS = BatchSettings("edgecar-xs", "h264", part_seconds=PART_SECONDS, retries=0)
SIGNALS = "EDGECAR_TEST_SIGNALS"


class Waiting(RayWorker):
    """Notes where it begins a part, and does it once a file says so."""

    def do(self, task, artifact, digest):
        if isinstance(task, PartTask):
            import ray

            signals = Path(os.environ[SIGNALS])
            (signals / ray.get_runtime_context().get_node_id()).touch()
            while not (signals / "go").exists():
                time.sleep(0.02)
        return super().do(task, artifact, digest)


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """Two nodes of one core each, in a session of their own."""
    ray = imported_ray()
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


def done(clips, out, pool, progress=lambda *_: None):
    with Journal(out) as journal:
        return Batch(clips, SETTINGS, pool, journal, progress, lambda *_: None).run()


def test_a_node_that_dies_costs_its_part_and_nothing_else(cluster, gop_clip, tmp_path, capfd):
    (tmp_path / "src").mkdir()
    gop_clip("open", "src/a.mp4")
    gop_clip("closed", "src/b.mp4", audio="aac")
    signals, second = tmp_path / "signals", cluster.second.node_id
    killed = []

    def kill(*_):
        if not killed and (signals / second).exists():
            cluster.remove_node(cluster.second, allow_graceful=False)
            killed.append(second)
            (signals / "go").touch()

    capfd.readouterr()
    pool = RayPool("auto", None, cluster.address, worker=Waiting)
    try:
        assert pool.workers == 2
        clips = find_clips([tmp_path / "src"], tmp_path / "ray", "h264")
        report = done(clips, tmp_path / "ray", pool, kill)
    finally:
        pool.close()
    assert capfd.readouterr() == ("", "")  # Ray keeps quiet about it
    assert killed
    assert report.parts_lost == 1
    assert not report.failed
    clips = find_clips([tmp_path / "src"], tmp_path / "one", "h264")
    done(clips, tmp_path / "one", OneProcess("auto", None, 1))
    assert outputs_of(tmp_path / "ray") == outputs_of(tmp_path / "one")
    assert len(outputs_of(tmp_path / "one")) == 2


def test_an_address_without_a_cluster_is_said():
    with pytest.raises(BatchError, match=r"no Ray cluster answers at 127\.0\.0\.1:1 "):
        RayPool("auto", None, "127.0.0.1:1")
