"""Archives by one process, by workers, by two nodes: ``python -m benchmarks.run.batch``.

Runs ``edgecar batch`` on the same clips in each way, compares the outputs byte for byte, and kills
a node of a cluster while it works. The cluster is two nodes on this machine, of half its cores
each.
"""

import hashlib
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.run.study import own_command, run_study
from edgecar.bench.results import new_results, write_results
from edgecar.engines.select import usable_cores
from edgecar.errors import DataError, SettingsError

STATE = ".edgecar-batch"
STORE_BYTES = 128 << 20
POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Way:
    """One way to do an archive.

    Attributes:
        name: In words.
        workers: How many processes compute.
        nodes: Number of nodes of a cluster; 0 without one.
        ray: Use Ray.
        kills: Kill the second node once the first part is done.
    """

    name: str
    workers: int
    nodes: int = 0
    ray: bool = True
    kills: bool = False


WAYS = (
    Way("one process, no Ray", 1, ray=False),
    Way("one worker", 1),
    Way("two workers", 2),
    Way("two nodes", 2, nodes=2),
    Way("two nodes, one killed", 2, nodes=2, kills=True),
)


@dataclass(frozen=True)
class Done:
    """Result of a run: its report, the time of the whole command, and a digest of the outputs."""

    report: dict[str, Any]
    wall_seconds: float
    outputs: dict[str, str]


class TwoNodes:
    """A cluster on this machine."""

    def __init__(self, cores: int) -> None:
        try:
            from ray.cluster_utils import Cluster
        except ImportError as error:
            raise SettingsError("Ray is needed; pip install 'edgecar[batch]'") from error
        # Names of sockets may not be long, whatever TMPDIR is.
        self._folder = tempfile.TemporaryDirectory(prefix="edgecar-ray-", dir="/tmp")
        node: dict[str, Any] = {
            "temp_dir": self._folder.name,
            "num_cpus": max(1, cores // 2),
            "include_dashboard": False,
            "object_store_memory": STORE_BYTES,
        }
        # Where a cluster notes its address; only Ray's own start makes it.
        (Path(tempfile.gettempdir()) / "ray").mkdir(exist_ok=True)
        self._cluster: Any = Cluster(initialize_head=True, head_node_args=node)
        self._second = self._cluster.add_node(**node)
        self.address: str = self._cluster.address

    def kill_second(self) -> None:
        """As a power cut does it."""
        self._cluster.remove_node(self._second, allow_graceful=False)

    def close(self) -> None:
        """Stop both nodes."""
        self._cluster.shutdown()
        self._folder.cleanup()


def measured(way: Way, sources: Sequence[Path], out: Path, options: Sequence[str]) -> Done:
    """Do the clips in one way.

    Args:
        way: How.
        sources: Clips and folders.
        out: An empty folder.
        options: Further options of ``edgecar batch``.

    Raises:
        DataError: A clip failed.
    """
    with _address(way) as (address, kill):
        ray = ["--ray", address] if way.ray else ["--ray", "none"]
        workers = ["--workers", str(way.workers)] if way.ray else []
        command = [sys.executable, "-m", "edgecar.cli", "batch", *map(str, sources)]
        command += ["-o", str(out), "--json", *ray, *workers, *options]
        began = time.perf_counter()
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            if way.kills:
                _wait_for_part(out, process)
                kill()
            printed, said = process.communicate()
        wall_seconds = time.perf_counter() - began
    if process.returncode:
        raise DataError(f"{way.name}: {said.strip().splitlines()[-1]}; take these clips out")
    return Done(json.loads(printed), wall_seconds, _digests(out))


@contextmanager
def _address(way: Way) -> Iterator[tuple[str, Callable[[], None]]]:
    """Where the workers are, and what kills the second node."""
    if not way.nodes:
        yield "local", lambda: None
        return
    nodes = TwoNodes(usable_cores())
    try:
        yield nodes.address, nodes.kill_second
    finally:
        nodes.close()


def _wait_for_part(out: Path, process: "subprocess.Popen[str]") -> None:
    parts = out / STATE / "parts"
    while process.poll() is None and not list(parts.glob("*/*/part-*.json")):
        time.sleep(POLL_SECONDS)


def _digests(out: Path) -> dict[str, str]:
    files = [p for p in out.rglob("*") if p.is_file() and STATE not in p.relative_to(out).parts]
    return {
        str(p.relative_to(out)): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(files)
    }


def rows_of(found: dict[Way, list[Done]], network: str) -> list[dict[str, Any]]:
    """A row a way.

    Raises:
        DataError: Two ways gave other bytes, or nobody was hurt by the killing of a node.
    """
    first = next(iter(found.values()))[0]
    reference = statistics.median(done.report["seconds"] for done in found[WAYS[0]])
    rows: list[dict[str, Any]] = []
    for way, runs in found.items():
        for run in runs:
            if run.outputs != first.outputs:
                raise DataError(f"{way.name} gave other bytes than {WAYS[0].name}; report this")
        lost = max(run.report["parts_lost"] for run in runs)
        if way.kills and not lost:
            raise DataError("all was done when the node was killed; take more or longer clips")
        seconds = statistics.median(run.report["seconds"] for run in runs)
        frames = first.report["frames"]
        rows.append(
            {
                "way": way.name,
                "workers": way.workers,
                "nodes": way.nodes,
                "threads": max(1, usable_cores() // way.workers),
                "network": network,
                "clips": len(first.outputs),
                "frames": frames,
                "rounds": len(runs),
                "seconds": round(seconds, 2),
                "wall_seconds": round(statistics.median(r.wall_seconds for r in runs), 2),
                "fps": round(frames / seconds, 2),
                "to_one_process": round(reference / seconds, 3),
                "parts_lost": lost,
                "same_bytes": True,
            }
        )
    return rows


def main(
    data: Annotated[list[Path], typer.Option(help="Clips, and folders to search for clips.")],
    save: Annotated[Path, typer.Option(help="Where to write the result file (JSON).")],
    network: Annotated[str, typer.Option(help="A shipped network.")] = "edgecar-s",
    part_seconds: Annotated[float, typer.Option(help="Length of parts.")] = 10,
    rounds: Annotated[int, typer.Option(min=1, help="All ways in turn, so often.")] = 1,
) -> None:
    """Restore an archive in each way and save what was found."""
    options = ["--network", network, "--part-seconds", str(part_seconds)]
    found: dict[Way, list[Done]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(rounds):
            for way in WAYS:
                out = Path(folder) / "out"
                found[way].append(measured(way, data, out, options))
                shutil.rmtree(out)
                typer.echo(f"{way.name}: {found[way][-1].report['seconds']} s", err=True)
    rows = rows_of(found, network)
    command = own_command("benchmarks.run.batch")
    write_results(save, new_results("batch", rows, command))
    typer.echo(json.dumps(rows, indent=1))


if __name__ == "__main__":
    run_study(main)
