"""Archives by one process, by workers, by two nodes: ``python -m benchmarks.run.batch``.

Runs ``edgecar batch`` on the same clips in each way, compares the outputs byte for byte, and kills
a node of a Ray cluster while it works. The cluster is two nodes on this machine, of half its cores
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
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from benchmarks.run.study import own_command, run_study
from edgecar.bench.results import new_results, write_results
from edgecar.engines.select import usable_cores
from edgecar.errors import DataError, SettingsError

STATE = ".edgecar-batch"
POLL_SECONDS = 0.05
ONE_PROCESS, KILLED = "one process", "two Ray nodes, one killed"


class Way(NamedTuple):
    """Number of processes that compute, and where: ``--ray none``, ``local``, or on two nodes."""

    workers: int
    ray: str = "local"


WAYS = {
    ONE_PROCESS: Way(1, "none"),
    "one worker process": Way(1),
    "two worker processes": Way(2),
    "two Ray nodes": Way(2, "nodes"),
    KILLED: Way(2, "nodes"),
}


class Done(NamedTuple):
    """Report of a run, the time of the whole command, and digests of the outputs."""

    report: dict[str, Any]
    wall_seconds: float
    outputs: dict[str, str]


@contextmanager
def two_nodes(cores: int) -> Iterator[tuple[str, Callable[[], None]]]:
    """A Ray cluster on this machine; gives its address and what kills the second node."""
    try:
        from ray.cluster_utils import Cluster
    except ImportError as error:
        raise SettingsError("Ray is needed; pip install 'edgecar[batch]'") from error
    # Names of sockets may not be long, whatever TMPDIR is.
    with tempfile.TemporaryDirectory(prefix="edgecar-ray-", dir="/tmp") as folder:
        node: dict[str, Any] = {
            "temp_dir": folder,
            "num_cpus": max(1, cores // 2),
            "include_dashboard": False,
            "object_store_memory": 128 << 20,
        }
        # Where a cluster notes its address; only Ray's own start makes it.
        (Path(tempfile.gettempdir()) / "ray").mkdir(exist_ok=True)
        cluster: Any = Cluster(initialize_head=True, head_node_args=node)
        second = cluster.add_node(**node)
        try:
            yield cluster.address, lambda: cluster.remove_node(second, allow_graceful=False)
        finally:
            cluster.shutdown()


def measured(name: str, sources: Sequence[Path], out: Path, options: Sequence[str]) -> Done:
    """Do the clips in one way."""
    way = WAYS[name]
    if way.ray == "nodes":
        with two_nodes(usable_cores()) as (address, kill):
            return _run(name, sources, out, ["--ray", address, *options], kill)
    return _run(name, sources, out, ["--ray", way.ray, *options], lambda: None)


def _run(
    name: str, sources: Sequence[Path], out: Path, options: Sequence[str], kill: Callable[[], None]
) -> Done:
    command = [sys.executable, "-m", "edgecar", "batch", *map(str, sources), "-o", str(out)]
    command += ["--json", "--workers", str(WAYS[name].workers), *options]
    began = time.perf_counter()
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        if name == KILLED:
            while process.poll() is None and not list((out / STATE).rglob("part-*.json")):
                time.sleep(POLL_SECONDS)
            kill()
        printed, said = process.communicate()
    wall_seconds = time.perf_counter() - began
    if process.returncode:
        raise DataError(f"{name}: {said.strip().splitlines()[-1]}; take these clips out")
    outputs = {
        str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(out.rglob("*"))
        if path.is_file() and STATE not in path.parts
    }
    return Done(json.loads(printed), wall_seconds, outputs)


def rows_of(found: dict[str, list[Done]], network: str) -> list[dict[str, Any]]:
    """Return a row for each way."""
    first = found[ONE_PROCESS][0]
    reference = statistics.median(done.report["seconds"] for done in found[ONE_PROCESS])
    rows: list[dict[str, Any]] = []
    for name, runs in found.items():
        if any(run.outputs != first.outputs for run in runs):
            raise DataError(f"{name} gave other bytes than {ONE_PROCESS}; report this")
        lost = max(run.report["parts_lost"] for run in runs)
        if name == KILLED and not lost:
            raise DataError("all was done when the node was killed; take more or longer clips")
        seconds = statistics.median(run.report["seconds"] for run in runs)
        frames, workers = first.report["frames"], WAYS[name].workers
        rows.append(
            {
                "way": name,
                "workers": workers,
                "nodes": 2 if WAYS[name].ray == "nodes" else 0,
                "threads": max(1, usable_cores() // workers),
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
    save: Annotated[Path, typer.Option(help="Result file (JSON) to write.")],
    network: Annotated[str, typer.Option(help="A shipped network.")] = "edgecar-s",
    part_seconds: Annotated[float, typer.Option(help="Length of parts.")] = 10,
    rounds: Annotated[int, typer.Option(min=1, help="Number of times that all ways run.")] = 1,
) -> None:
    """Restore an archive in each way and save what was found."""
    options = ["--network", network, "--part-seconds", str(part_seconds)]
    found: dict[str, list[Done]] = {name: [] for name in WAYS}
    with tempfile.TemporaryDirectory() as folder:
        for name in list(WAYS) * rounds:
            out = Path(folder) / "out"
            found[name].append(measured(name, data, out, options))
            shutil.rmtree(out)
            typer.echo(f"{name}: {found[name][-1].report['seconds']} s", err=True)
    rows = rows_of(found, network)
    write_results(save, new_results("batch", rows, own_command("benchmarks.run.batch")))
    typer.echo(json.dumps(rows, indent=1))


if __name__ == "__main__":
    run_study(main)
