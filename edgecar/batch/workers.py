"""Workers that restore parts: this process, processes of this machine, or tasks of Ray.

All have the same members: the number of `workers`, the `threads` of each engine (None: all), how
many calls may be `begun_at_most`, and how many `retries` are left to the caller.
"""

import logging
import multiprocessing
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from pathlib import Path
from typing import Any

from edgecar.artifact import Artifact
from edgecar.batch.archive import BatchSettings, versions
from edgecar.batch.parts import PartDone, Plan, Span, make_part
from edgecar.engines.select import usable_cores
from edgecar.errors import BatchError
from edgecar.runtime.choice import Limits
from edgecar.runtime.restorer import Restorer

Call = Callable[[], Any]

CONNECT_SECONDS = 10
LOOK_SECONDS = 0.5
NO_NODE_SECONDS = 120  # time that a cluster may be without any node
MORE_MEMORY = "give each worker more memory (fewer --workers), or leave this clip out"

_restorers: dict[bytes, Restorer] = {}
"""Engines that this process keeps open for the next part, by their ONNX files."""


def restore_part(
    source: Path,
    plan: Plan,
    span: Span,
    path: Path,
    key: str,
    settings: BatchSettings,
    artifact: Artifact,
    limits: Limits,
    threads: int | None,
) -> PartDone:
    """Restore and encode one part in the process of a worker, which does one batch."""
    if artifact.onnx not in _restorers:
        _restorers[artifact.onnx] = Restorer(
            artifact,
            settings.engine,
            settings.precision,
            threads=threads,
            quantiser=settings.quantiser,
        )
    restorer = _restorers[artifact.onnx]
    restorer.limits = limits
    return make_part(source, plan, span, restorer, path, settings.codec, key)


class ThisProcess:
    """Runs one call after the other in this process."""

    workers = begun_at_most = 1

    def __init__(self, settings: BatchSettings, threads: int | None = None) -> None:
        self.threads, self.retries = threads, settings.retries

    def submit(self, call: Call) -> Any:
        """Take a call; returns what stands for it."""
        return call

    def wait(self, begun: Sequence[Any]) -> tuple[Any, Any]:
        """Return a call that is done, and its result or the exception that it failed with."""
        try:
            return begun[0], begun[0]()
        except Exception as error:  # one clip must not end the others
            return begun[0], error

    def close(self) -> None:
        """Close all engines."""
        while _restorers:
            _restorers.popitem()[1].close()


class LocalWorkers:
    """Processes of this machine, by default one for each core; one that dies is replaced."""

    def __init__(self, settings: BatchSettings, workers: int | None = None) -> None:
        self.workers = self.begun_at_most = workers or usable_cores()
        self.threads, self.retries = max(1, usable_cores() // self.workers), settings.retries
        # One executor a process: the death of a process breaks its executor alone.
        self._idle = [_start_process() for _ in range(self.workers)]
        self._busy: dict[Future[Any], tuple[ProcessPoolExecutor, Future[int]]] = {}

    def submit(self, call: Call) -> Any:
        """Give a call to a process that does nothing; returns what stands for it."""
        process = self._idle.pop()
        future = process[0].submit(call)
        self._busy[future] = process
        return future

    def wait(self, begun: Sequence[Any]) -> tuple[Any, Any]:
        """Return a call that is done, and its result or the exception that it failed with."""
        future = next(iter(wait(begun, return_when=FIRST_COMPLETED).done))
        process, failure = self._busy.pop(future), future.exception()
        if isinstance(failure, BrokenProcessPool):
            process = _start_process()
            failure = BatchError(f"the worker of a part died; {MORE_MEMORY}")
        self._idle.append(process)
        return future, failure or future.result()

    def close(self) -> None:
        """Stop all processes, whatever they do."""
        processes = [*self._idle, *self._busy.values()]
        for _, started in processes:
            with suppress(ProcessLookupError, BrokenProcessPool):
                os.kill(started.result(), getattr(signal, "SIGKILL", signal.SIGTERM))
        for executor, _ in processes:
            executor.shutdown()


def _start_process() -> tuple[ProcessPoolExecutor, "Future[int]"]:
    context = multiprocessing.get_context("spawn")
    executor = ProcessPoolExecutor(1, context, _begin_process)
    return executor, executor.submit(os.getpid)


def _begin_process() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that ends this one
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


class RayWorkers:
    """Tasks of a Ray cluster, by default one for each core.

    Ray places them, and begins those again that fail or whose worker or node died.
    """

    retries = 0

    def __init__(self, settings: BatchSettings, address: str, workers: int | None = None) -> None:
        self._ray = _connected(address)
        cores = int(self._ray.cluster_resources().get("CPU", 1))
        self.workers = workers or max(1, cores)
        self.threads, self.begun_at_most = max(1, cores // self.workers), 2 * self.workers
        self._task = self._ray.remote(_on_node).options(
            # Ray takes whole cores, or a part of one.
            num_cpus=self.threads if self.workers <= cores else cores / self.workers,
            max_retries=settings.retries,
            retry_exceptions=True,
            scheduling_strategy="SPREAD",
        )

    def submit(self, call: Call) -> Any:
        """Leave a call to Ray; returns what stands for it."""
        return self._task.remote(versions(), call)

    def wait(self, begun: Sequence[Any]) -> tuple[Any, Any]:
        """Return a call that is done, and its result or the exception that it failed with."""
        seen = time.monotonic()
        while not (done := self._ray.wait(list(begun), timeout=LOOK_SECONDS)[0]):
            if self._ray.cluster_resources().get("CPU"):  # busy with other work, perhaps
                seen = time.monotonic()
            elif time.monotonic() - seen > NO_NODE_SECONDS:
                raise BatchError(
                    f"the cluster has had no node for {NO_NODE_SECONDS} s; start nodes and run the "
                    "same command again: finished parts are kept"
                )
        try:
            return done[0], self._ray.get(done[0])
        except self._ray.exceptions.RayTaskError as error:
            return done[0], error.cause
        except self._ray.exceptions.RayError as error:
            why = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            return done[0], BatchError(f"the worker of a part died ({why}); {MORE_MEMORY}")

    def close(self) -> None:
        """Stop all tasks and leave the cluster."""
        self._ray.shutdown()


Workers = ThisProcess | LocalWorkers | RayWorkers


def _on_node(ours: dict[str, str], call: Call) -> Any:
    if versions() != ours:
        raise BatchError(
            f"a worker has {versions()}, this is {ours}; install the same on every node, or bytes "
            "would differ"
        )
    return call()


def _connected(address: str) -> Any:
    """Return Ray, connected to a cluster and told to be quiet."""
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
    finally:
        # Ray puts a handler of its own there, under which nothing is tidied up.
        with suppress(ValueError, TypeError):  # outside the main thread, or not Python's
            signal.signal(signal.SIGTERM, ending)
    # Despite log_to_driver, Ray prints the end of a node, with pages of its log, on stdout.
    printer: Any = getattr(getattr(ray, "_private", None), "worker", None)
    if hasattr(printer, "print_to_stdstream"):
        printer.print_to_stdstream = lambda *_, **__: None
    return ray
