"""Workers: this process, other processes of this machine, or tasks of a Ray cluster.

A job is a method of `Worker` by name. Its result, or its failure, comes back to who asked.
"""

import functools
import logging
import multiprocessing
import os
import queue
import signal
import socket
import threading
import time
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgecar.artifact import Artifact
from edgecar.batch.archive import BatchSettings, versions
from edgecar.batch.cut import Plan, Span, plan_clip
from edgecar.batch.part import PartDone, finished_part, join_parts, make_part, part_path
from edgecar.closing import Closing
from edgecar.engines.select import usable_cores
from edgecar.errors import BatchError, EdgecarError
from edgecar.runtime.choice import Limits
from edgecar.runtime.restorer import Restorer

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

LOSSES = 3
"""Workers that may die over one job before its clip is given up."""

CONNECT_SECONDS = 10
LOOK_SECONDS = 0.5
NO_NODE_SECONDS = 120  # time that a cluster may be without any node
MORE_MEMORY = "give each worker more memory (fewer --workers), or leave this clip out"


class Worker:
    """Does one job at a time and keeps an engine open for each artifact it has met.

    Args:
        settings: Settings for all clips.
        threads: CPU threads of an engine; None: all.
        count: Called after every frame.
    """

    def __init__(
        self, settings: BatchSettings, threads: int | None, count: Callable[[], None]
    ) -> None:
        self._settings, self._threads, self._count = settings, threads, count
        self._restorers: dict[bytes, Restorer] = {}

    def attempt(self, job: str, arguments: tuple[Any, ...]) -> Any:
        """Do a job, again if it fails. Returns its result, or its failure instead of raising it."""
        for tries_left in range(self._settings.retries, -1, -1):
            try:
                return getattr(self, job)(*arguments)
            except EdgecarError as error:
                failure = error
            except Exception as error:  # one clip must not end the others
                words = " ".join(str(error).split()) or "no message"
                failure = BatchError(
                    f"{job} failed ({type(error).__name__}: {words}); run again, and report this "
                    "with the clip if it stays"
                )
            if not tries_left:
                return failure
        return None

    def plan(self, source: Path, whole: str) -> Plan:
        """Cut a clip; see `plan_clip`."""
        return plan_clip(source, self._settings.codec, self._settings.part_seconds, whole)

    def part(
        self,
        source: Path,
        plan: Plan,
        span: Span,
        folder: Path,
        artifact: Artifact,
        limits: Limits,
    ) -> PartDone:
        """Restore and encode one part, unless it is there; see `make_part`."""
        path = part_path(folder, span.number, self._settings.codec)
        begun = path.with_name(f".{path.name}.begun-{os.getpid()}")
        begun.touch()
        lost = len(list(folder.glob(f".{path.name}.begun-*"))) - 1
        done = finished_part(path)
        if done is None:
            restorer = self._restorers.get(artifact.onnx)
            if restorer is None:
                restorer = Restorer(
                    artifact, self._settings.engine, self._settings.precision, threads=self._threads
                )
                self._restorers[artifact.onnx] = restorer
            restorer.limits = limits
            codec = self._settings.codec
            done = make_part(source, plan, span, restorer, path, codec, self._count, lost)
        return done

    def join(self, plan: Plan, parts: list[PartDone], folder: Path) -> dict[str, int]:
        """Join the parts of a clip; see `join_parts`."""
        return dict(join_parts(plan, parts, folder, self._settings.codec))

    def close(self) -> None:
        """Close all engines."""
        for restorer in self._restorers.values():
            restorer.close()


class Workers(Closing):
    """Does jobs side by side; a thread waits for each. `close` stops all of them.

    Args:
        workers: Number of jobs at a time.
        threads: CPU threads of each engine; None: all.
    """

    def __init__(self, workers: int, threads: int | None) -> None:
        self.workers, self.threads = workers, threads
        self.frames = 0
        """Frames done so far, as far as is known."""
        self.stopped = False
        # One more clip than workers, so that the parts of the next one wait already.
        self._executors = ThreadPoolExecutor(workers + 1), ThreadPoolExecutor(workers)
        self.each: Callable[..., Iterator[Any]] = self._executors[0].map
        """Calls a function that asks for results for every clip, for several at a time."""
        self._side_by_side: Callable[..., Iterator[Any]] = self._executors[1].map

    def results(self, job: str, arguments: Iterable[tuple[Any, ...]]) -> Iterator[Any]:
        """Yield the results of jobs, in order.

        Raises:
            EdgecarError: One failed; those after it may not have been begun.
        """
        for result in self._side_by_side(functools.partial(self._do, job), arguments):
            if isinstance(result, EdgecarError):
                raise result
            yield result

    def close(self) -> None:
        """Stop all workers, whatever they do."""
        self.stopped = True
        for executor in self._executors:
            executor.shutdown(cancel_futures=True)

    @abstractmethod
    def _do(self, job: str, arguments: tuple[Any, ...]) -> Any:
        """Return the result of a job, or its failure."""


class ThisProcess(Workers):
    """Does one job after the other in this process, with engines on all its cores."""

    def __init__(self, settings: BatchSettings, threads: int | None = None) -> None:
        super().__init__(1, threads)
        self.each = self._side_by_side = map
        self._worker = Worker(settings, threads, self._count)

    def close(self) -> None:
        """Close the engines."""
        self._worker.close()

    def _count(self) -> None:
        self.frames += 1

    def _do(self, job: str, arguments: tuple[Any, ...]) -> Any:
        return self._worker.attempt(job, arguments)


class LocalWorkers(Workers):
    """Processes of this machine, by default one for each core; one that dies is replaced."""

    def __init__(
        self, settings: BatchSettings, workers: int | None = None, worker: type[Worker] = Worker
    ) -> None:
        workers = workers or usable_cores()
        threads = max(1, usable_cores() // workers)
        super().__init__(workers, threads)
        self._start = functools.partial(_Process, worker, settings, threads)
        self._lock = threading.Lock()
        self._processes = [self._start() for _ in range(workers)]
        self._idle: queue.SimpleQueue[int] = queue.SimpleQueue()
        for place in range(workers):
            self._idle.put(place)

    def close(self) -> None:
        """Stop all processes, whatever they do."""
        with self._lock:
            self.stopped = True
            for process in self._processes:
                process.kill()
        super().close()

    def _do(self, job: str, arguments: tuple[Any, ...]) -> Any:
        place = self._idle.get()
        try:
            for _ in range(LOSSES + 1):
                with suppress(EOFError, OSError):  # it died
                    return self._processes[place].ask((job, arguments), self._count)
                with self._lock:
                    if self.stopped:
                        return BatchError("stopped")
                    self._processes[place].kill()
                    self._processes[place] = self._start()
            return BatchError(f"{job}: the worker died {LOSSES + 1} times; {MORE_MEMORY}")
        finally:
            self._idle.put(place)

    def _count(self, frames: int) -> None:
        with self._lock:
            self.frames += frames


class _Process:
    """A worker in a process of its own, which ends with this one."""

    def __init__(self, worker: type[Worker], settings: BatchSettings, threads: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._ours, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(theirs, worker, settings, threads), daemon=True
        )
        self._process.start()
        theirs.close()

    def ask(self, question: tuple[Any, ...], count: Callable[[int], None]) -> Any:
        """Return the answer to a question. Numbers that come before it are of frames done."""
        self._ours.send(question)
        while isinstance(answer := self._ours.recv(), int):
            count(answer)
        return answer

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()
        self._process.join()


def _serve(
    connection: "Connection", worker: type[Worker], settings: BatchSettings, threads: int
) -> None:
    """Answer questions until this process is ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that ends this one
    threading.Thread(target=_end_with_parent, daemon=True).start()
    made = worker(settings, threads, lambda: connection.send(1))
    while True:
        connection.send(made.attempt(*connection.recv()))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


class RayWorkers(Workers):
    """Tasks of a Ray cluster, by default one for each core.

    Ray places them, and begins those again whose worker or node died.

    Raises:
        BatchError: Ray is not installed, or there is no cluster at the address.
    """

    def __init__(
        self,
        settings: BatchSettings,
        address: str,
        workers: int | None = None,
        worker: type[Worker] = Worker,
    ) -> None:
        self._ray = _connected(address)
        cores = int(self._ray.cluster_resources().get("CPU", 1))
        workers = workers or max(1, cores)
        super().__init__(workers, max(1, cores // workers))
        # Ray takes whole cores, or a part of one.
        share = self.threads if workers <= cores else max(int(100 * cores / workers), 1) / 100
        self._task = functools.partial(
            self._ray.remote(_on_cluster)
            .options(num_cpus=share, max_retries=LOSSES, scheduling_strategy="SPREAD")
            .remote,
            versions(),
            worker,
            settings,
            self.threads,
        )

    def close(self) -> None:
        """Stop all tasks and leave the cluster."""
        super().close()
        self._ray.shutdown()

    def _do(self, job: str, arguments: tuple[Any, ...]) -> Any:
        try:
            answer, seen = self._task(job, arguments), time.monotonic()
            while not self._ray.wait([answer], timeout=LOOK_SECONDS)[0]:
                if self.stopped:
                    return BatchError("stopped")
                if self._ray.cluster_resources().get("CPU"):  # busy with other work, perhaps
                    seen = time.monotonic()
                elif time.monotonic() - seen > NO_NODE_SECONDS:
                    return BatchError(
                        f"the cluster has had no node for {NO_NODE_SECONDS} s; start nodes and run "
                        "the same command again: finished parts are kept"
                    )
            result = self._ray.get(answer)
        except (self._ray.exceptions.RayError, ConnectionError) as error:
            words = " ".join(str(error).split("\n")[0].split())
            return BatchError(
                f"{job}: the worker died ({type(error).__name__}: {words}); {MORE_MEMORY}"
            )
        self.frames += getattr(result, "frames", 0)
        return result


def _on_cluster(
    wanted: dict[str, str],
    worker: type[Worker],
    settings: BatchSettings,
    threads: int,
    job: str,
    arguments: tuple[Any, ...],
) -> Any:
    """Do a job in a process of Ray, which is used again for others."""
    if versions() != wanted:
        theirs, ours = (
            ", ".join(f"{name} {version}" for name, version in each.items())
            for each in (versions(), wanted)
        )
        return BatchError(
            f"a worker has {theirs}, this is {ours}; install the same on every node, or bytes "
            "would differ"
        )
    if not _kept:
        _kept.append(worker(settings, threads, lambda: None))
    return _kept[0].attempt(job, arguments)


_kept: list[Worker] = []
"""Worker of a process of Ray, which belongs to one batch and does job after job."""


def _connected(address: str) -> Any:
    """Return Ray, connected to a cluster and told to be quiet.

    Raises:
        BatchError: It is not installed, or nothing answers at the address.
    """
    # Nothing is sent anywhere, and engines on GPUs see them.
    for name in ("RAY_USAGE_STATS_ENABLED", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"):
        os.environ.setdefault(name, "0")
    try:
        import ray
        import ray.exceptions
    except ImportError as error:
        raise BatchError(
            "Ray is not installed; pip install 'edgecar[batch]', or leave --ray out to use this "
            "machine alone"
        ) from error
    ending = signal.getsignal(signal.SIGTERM)
    try:
        host, _, port = address.rpartition("://")[2].rpartition(":")
        if port.isdecimal():  # find out in seconds what Ray finds out in minutes
            socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
        ray.init(address, log_to_driver=False, logging_level=logging.FATAL)
    except Exception as error:  # Ray's own errors share no base with those of its parts
        words = " ".join(str(error).split())[:200]
        raise BatchError(
            f"no Ray cluster answers at {address} ({words}); start one with: ray start --head, or "
            "leave --ray out"
        ) from error
    else:
        # Despite log_to_driver, Ray prints the end of a node, with pages of its log, on stdout.
        printer: Any = getattr(getattr(ray, "_private", None), "worker", None)
        if hasattr(printer, "print_to_stdstream"):
            printer.print_to_stdstream = lambda *_, **__: None
    finally:
        # Ray puts a handler of its own there, under which nothing is tidied up.
        with suppress(ValueError, TypeError):  # outside the main thread, or not Python's
            signal.signal(signal.SIGTERM, ending)
    return ray
