"""Who does the work: this process, or something that has workers."""

import hashlib
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from edgecar.artifact import Artifact
from edgecar.batch.worker import Outcome, Task, Worker
from edgecar.closing import Closing
from edgecar.spec import Precision

Ticket = int
Watch = Callable[[int], None]
"""Takes how many frames of unfinished parts are done."""


class Pool(Protocol):
    """Takes tasks as long as a worker is free, and says what became of them."""

    @property
    def free(self) -> int:
        """How many more tasks can be begun now."""
        ...

    def submit(self, ticket: Ticket, task: Task, artifact: Artifact | None) -> None:
        """Begin a task."""
        ...

    def wait(self, watch: Watch) -> Sequence[tuple[Ticket, Outcome]]:
        """What has ended since; waits for a while if nothing has.

        Raises:
            BatchError: No worker is left, and none comes.
        """
        ...

    def close(self) -> None:
        """Stop all workers, whatever they do."""
        ...


def digest_of(artifact: Artifact) -> str:
    """What tells artifacts apart."""
    return hashlib.sha256(artifact.onnx).hexdigest()


class OneProcess(Closing):
    """Does everything here, one task after the other; on all cores, if none are left out.

    Args:
        engine: See `edgecar.engines.select.NAMES`.
        precision: Arithmetic; None leaves the choice to the engine.
        threads: CPU threads; None: all.
    """

    def __init__(self, engine: str, precision: Precision | None, threads: int | None) -> None:
        self._watch: Watch = lambda _: None
        self._worker = Worker(engine, precision, threads, lambda done: self._watch(done))
        self._waiting: deque[tuple[Ticket, Task, Artifact | None]] = deque()

    @property
    def free(self) -> int:
        """One, unless a task waits."""
        return 1 - len(self._waiting)

    def submit(self, ticket: Ticket, task: Task, artifact: Artifact | None) -> None:
        """Keep a task for `wait`."""
        self._waiting.append((ticket, task, artifact))

    def wait(self, watch: Watch) -> Sequence[tuple[Ticket, Outcome]]:
        """Do the task that waits."""
        if not self._waiting:
            return []
        ticket, task, artifact = self._waiting.popleft()
        self._watch = watch
        outcome = self._worker.do(task, artifact, digest_of(artifact) if artifact else "")
        return [(ticket, outcome)]

    def close(self) -> None:
        """Close the engines."""
        self._worker.close()
