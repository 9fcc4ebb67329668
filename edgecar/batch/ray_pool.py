"""Workers that are Ray actors, on this machine or on a cluster.

An actor that dies, alone or with its node, is replaced by another one, which begins as soon as
the cluster has room for it: at once beside the dead one, or when a node joins. Ray's own restarts
would send a task to an actor that waits for room and leave it there.
"""

import logging
import os
import shutil
import signal
import socket
import tempfile
import time
import warnings
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from edgecar.artifact import Artifact
from edgecar.batch.journal import locked, versions
from edgecar.batch.pool import Ticket, Watch, digest_of
from edgecar.batch.worker import Failure, Outcome, Task, Worker
from edgecar.closing import Closing
from edgecar.engines.select import usable_cores
from edgecar.errors import BatchError
from edgecar.spec import Precision

LOOK_SECONDS = 0.5
"""Between two looks at how far workers have got."""

NO_WORKER_SECONDS = 120
"""To wait for a first worker, or for another one when all are gone."""

CONNECT_SECONDS = 10

STILLBORN_LIMIT = 3
"""Workers in a row, for each that is wanted, that die before they answer."""

STORE_BYTES = 128 << 20
"""Ray's store of objects holds the weights only; by default it takes a third of the memory."""

QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing is sent anywhere
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # engines on GPUs see them
    "RAY_DEDUP_LOGS": "0",
    "RAY_enable_metrics_collection": "0",
}

SESSION = "edgecar-ray-"
"""What folders of Ray on this machine are called, before some letters by chance."""


class RayWorker:
    """A `Worker` in a process of its own, which answers questions while it works."""

    def __init__(self, engine: str, precision: Precision | None, threads: int) -> None:
        self._worker = Worker(engine, precision, threads)

    def versions(self) -> dict[str, str]:
        """Of the libraries that may decide the bytes."""
        return versions()

    def do(self, task: Task, artifact: Artifact | None, digest: str) -> Outcome:
        """Do a task; see `Worker.do`."""
        return self._worker.do(task, artifact, digest)

    def frames(self) -> int:
        """How many frames of the part in hand are done."""
        return self._worker.frames


class _Actor:
    """An actor, and what it was asked."""

    def __init__(self, handle: Any) -> None:
        self.handle = handle
        self.greeting = handle.versions.remote()
        self.ticket: Ticket | None = None
        self.answer: Any = None
        self.question: Any = None
        self.frames = 0


class RayPool(Closing):
    """Workers of Ray.

    Args:
        engine: See `edgecar.engines.select.NAMES`.
        precision: Arithmetic; None leaves the choice to the engine.
        address: Of a cluster, as Ray writes it; None starts Ray on this machine, and stops it.
        workers: How many; None: one for each core.
        worker: What runs in each process.

    Raises:
        BatchError: Ray is not installed, does not start, or there is no cluster at the address.
    """

    def __init__(
        self,
        engine: str,
        precision: Precision | None,
        address: str | None = None,
        workers: int | None = None,
        worker: type[RayWorker] = RayWorker,
    ) -> None:
        self._ray = imported_ray()
        self._address = address
        self._folder: Path | None = None
        cores = usable_cores()
        self._init(cores)
        if address is not None:
            cores = int(self._ray.cluster_resources().get("CPU", 0))
        self._wanted = workers or max(1, cores)
        self.threads = max(1, cores // self._wanted)
        """CPU threads of each worker."""
        # Ray takes whole cores, or a part of one.
        share = self.threads if self._wanted <= cores else int(100 * cores / self._wanted) / 100
        self._make = (
            self._ray.remote(worker)
            .options(
                num_cpus=max(share, 0.01),
                max_restarts=0,
                max_concurrency=2,  # one that works and one that answers
                scheduling_strategy="SPREAD",
            )
            .remote
        )
        self._settings = (engine, precision, self.threads)
        self._artifacts: dict[str, Any] = {}
        self._stillborn = 0
        self._idle_since = time.monotonic()
        self._starting = [self._started() for _ in range(self._wanted)]
        self._actors: list[_Actor] = []

    @property
    def workers(self) -> int:
        """How many are wanted."""
        return self._wanted

    @property
    def free(self) -> int:
        """Workers that answered and have nothing to do."""
        return sum(actor.ticket is None for actor in self._actors)

    def submit(self, ticket: Ticket, task: Task, artifact: Artifact | None) -> None:
        """Give a task to a free worker."""
        actor = next(each for each in self._actors if each.ticket is None)
        digest, stored = "", None
        if artifact is not None:
            digest = digest_of(artifact)
            if digest not in self._artifacts:  # sent once to each node, not with each task
                self._artifacts[digest] = self._ray.put(Artifact(artifact.metadata, artifact.onnx))
            stored = self._artifacts[digest]
        actor.ticket, actor.frames = ticket, 0
        actor.answer = actor.handle.do.remote(task, stored, digest)

    def wait(self, watch: Watch) -> Sequence[tuple[Ticket, Outcome]]:
        """What has ended; also lets in workers that have started and replaces those that died.

        Raises:
            BatchError: Workers do not start, none is left, or the cluster is gone.
        """
        try:
            return self._wait(watch)
        except (self._ray.exceptions.RayError, ConnectionError) as error:
            words = " ".join(str(error).split())[:200]
            raise BatchError(
                f"Ray broke off ({words}); run the same command again: finished parts are kept"
            ) from error

    def _wait(self, watch: Watch) -> Sequence[tuple[Ticket, Outcome]]:
        answers = [actor.answer for actor in self._actors if actor.ticket is not None]
        waiting = [*answers, *(actor.greeting for actor in self._starting)]
        if waiting:
            self._ray.wait(waiting, num_returns=1, timeout=LOOK_SECONDS)
        ended = [(a.ticket, self._outcome_of(a)) for a in self._actors if self._answered(a)]
        self._let_in()
        watch(self._frames_in_hand())
        self._check_alive()
        return [(ticket, outcome) for ticket, outcome in ended if ticket is not None]

    def close(self) -> None:
        """Stop all workers and, if it was started here, Ray."""
        if not self._ray.is_initialized():
            return
        for actor in [*self._actors, *self._starting]:
            try:
                self._ray.kill(actor.handle)
            except Exception:  # it is dead already, or the cluster is gone
                continue
        self._actors, self._starting = [], []
        self._ray.shutdown()
        if self._folder is not None:
            self._lock.close()
            shutil.rmtree(self._folder, ignore_errors=True)

    def _init(self, cores: int) -> None:
        quiet = {"log_to_driver": False, "logging_level": logging.FATAL, "configure_logging": True}
        if self._address is None:
            remove_leftovers()
            self._folder = Path(tempfile.mkdtemp(prefix=SESSION, dir=_short_temp()))
            self._lock = (self._folder / "lock").open("w")
            locked(self._lock)
            where: dict[str, Any] = {
                "address": "local",  # whatever RAY_ADDRESS says
                "num_cpus": cores,
                "include_dashboard": False,
                "object_store_memory": STORE_BYTES,
                "_temp_dir": str(self._folder),
                "_node_ip_address": "127.0.0.1",
            }
        else:
            _check_reachable(self._address)
            where = {"address": self._address}
        ending = signal.getsignal(signal.SIGTERM)
        try:
            self._ray.init(**where, **quiet)
        except Exception as error:  # Ray's own errors share no base with those of its parts
            if self._folder is not None:
                shutil.rmtree(self._folder, ignore_errors=True)
            if self._address is not None:
                raise _unreachable(self._address, error) from error
            words = " ".join(str(error).split())[:200]
            raise BatchError(
                f"Ray does not start here ({words}); --ray none does without"
            ) from error
        finally:
            # Ray puts a handler of its own there, under which nothing is tidied up.
            with suppress(ValueError, TypeError):  # outside the main thread, or not Python's
                signal.signal(signal.SIGTERM, ending)

    def _started(self) -> _Actor:
        return _Actor(self._make(*self._settings))

    def _answered(self, actor: _Actor) -> bool:
        if actor.ticket is None:
            return False
        ready, _ = self._ray.wait([actor.answer], timeout=0)
        return bool(ready)

    def _outcome_of(self, actor: _Actor) -> Outcome:
        """The answer of an actor, which is free then; a `Failure` if it died over it."""
        try:
            outcome: Outcome = self._ray.get(actor.answer)
        except self._ray.exceptions.RayError as error:
            self._actors = [each for each in self._actors if each is not actor]
            self._stop(actor)
            self._starting.append(self._started())
            words = " ".join(str(error).split("\n")[0].split())
            return Failure(f"the worker died ({type(error).__name__}: {words})", lost=True)
        finally:
            actor.ticket, actor.answer = None, None
        return outcome

    def _stop(self, actor: _Actor) -> None:
        """Make sure that an actor that cannot be reached does nothing any more."""
        try:
            self._ray.kill(actor.handle)
        except Exception:  # it is dead, as it should be
            return

    def _let_in(self) -> None:
        """Workers that have started.

        Raises:
            BatchError: They have other versions, or keep dying.
        """
        still: list[_Actor] = []
        for actor in self._starting:
            ready, _ = self._ray.wait([actor.greeting], timeout=0)
            if not ready:
                still.append(actor)
                continue
            try:
                theirs = self._ray.get(actor.greeting)
            except self._ray.exceptions.RayError as error:
                self._stillborn += 1
                if self._stillborn >= STILLBORN_LIMIT * self._wanted:
                    words = " ".join(str(error).split())[:300]
                    raise BatchError(
                        f"workers die as they start ({words}); install edgecar on every node, or "
                        "use --ray none"
                    ) from error
                still.append(self._started())
                continue
            if theirs != versions():
                raise BatchError(
                    f"a worker has {_listed(theirs)}, this is {_listed(versions())}; install the "
                    "same on every node, or bytes would differ"
                )
            self._stillborn = 0
            self._actors.append(actor)
        self._starting = still

    def _frames_in_hand(self) -> int:
        """Asks workers how far they have got, without waiting for them."""
        for actor in self._actors:
            if actor.ticket is None:
                actor.frames = 0
                continue
            if actor.question is not None:
                ready, _ = self._ray.wait([actor.question], timeout=0)
                if not ready:
                    continue
                try:
                    actor.frames = self._ray.get(actor.question)
                except self._ray.exceptions.RayError:
                    actor.frames = 0  # its task says what happened
            actor.question = actor.handle.frames.remote()
        return sum(actor.frames for actor in self._actors)

    def _check_alive(self) -> None:
        if self._actors:
            self._idle_since = time.monotonic()
        elif time.monotonic() - self._idle_since > NO_WORKER_SECONDS:
            raise BatchError(
                f"no worker has been there for {NO_WORKER_SECONDS} s; start nodes with free cores "
                "and run the same command again: finished parts are kept"
            )


def remove_leftovers() -> None:
    """Remove folders of Ray whose process was killed before it could."""
    for path in _short_temp().glob(f"{SESSION}*/lock"):
        with suppress(OSError), path.open("w") as file:  # gone meanwhile, or another user's
            if locked(file):
                shutil.rmtree(path.parent, ignore_errors=True)


def _short_temp() -> Path:
    """A folder for sockets, whose names may not be long, whatever TMPDIR is."""
    short = Path("/tmp")
    return short if short.is_dir() else Path(tempfile.gettempdir())


def imported_ray() -> Any:
    """Ray, told to be quiet and to send nothing.

    Raises:
        BatchError: It is not installed.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    warnings.filterwarnings("ignore", category=FutureWarning, module="ray")
    try:
        import ray
        import ray.exceptions
    except ImportError as error:
        raise BatchError(
            "Ray is not installed; pip install 'edgecar[batch]', or use --ray none, which needs "
            "none and does the same in this process"
        ) from error
    # Whatever log_to_driver says, Ray prints the end of a node, with pages of its log, on stdout.
    printer: Any = getattr(getattr(ray, "_private", None), "worker", None)
    if hasattr(printer, "print_to_stdstream"):
        printer.print_to_stdstream = lambda *_, **__: None
    return ray


def _check_reachable(address: str) -> None:
    """Find out in seconds what Ray finds out in minutes.

    Raises:
        BatchError: Nothing listens there.
    """
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if not port.isdecimal():  # "auto"
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise _unreachable(address, error) from error


def _unreachable(address: str, error: Exception) -> BatchError:
    words = " ".join(str(error).split())[:200]
    return BatchError(
        f"no Ray cluster answers at {address} ({words}); start one with: ray start --head, or "
        "leave --ray out"
    )


def _listed(found: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in found.items())
