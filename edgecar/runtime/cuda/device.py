"""What the runtime asks of CUDA, and nothing else: the seam that every CUDA call is behind.

`edgecar.runtime.cuda.through_pycuda` is the one that runs on GPUs. Whoever prefers another binding
writes another `Device`; the tests' runs the same kernels in the memory of the CPU, in the worst
order that streams and events allow.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]

THREADS = 256
"""In a block."""


@dataclass(frozen=True)
class Memory:
    """Memory that kernels reach.

    Attributes:
        address: Of its first byte, for kernels; a multiple of 256.
        size: In bytes.
        host: The same memory as the CPU sees it; None where it does not.
        owner: Keeps it alive.
    """

    address: int
    size: int
    host: Bytes | None = None
    owner: Any = None


class Device(Protocol):
    """One GPU.

    Attributes:
        shared: CPU and GPU share one memory, so that staging memory is reached by both and nothing
            has to be copied (Jetson).
    """

    shared: bool

    def memory(self, size: int) -> Memory:
        """Device memory, filled with noughts."""

    def staging(self, size: int) -> Memory:
        """Page-locked memory of the CPU; with `shared`, kernels reach it as well."""

    def stream(self) -> Any:
        """A queue of work."""

    def handle(self, stream: Any) -> int:
        """A stream as other libraries know it."""

    def join(self, stream: Any, handle: int) -> None:
        """Let a stream's further work wait for what another library's was given so far."""

    def free_bytes(self) -> int:
        """Device memory that nobody has taken, other programs included."""

    def event(self) -> Any:
        """A mark in a stream."""

    def record(self, event: Any, stream: Any) -> None:
        """Set a mark behind all work of a stream so far."""

    def wait(self, stream: Any, event: Any) -> None:
        """Let a stream's further work wait for a mark, as it was set last."""

    def finish(self, event: Any) -> None:
        """Wait until a mark is reached."""

    def upload(self, to: Memory, source: Memory, stream: Any) -> None:
        """Copy all of a staging memory."""

    def download(self, to: Memory, source: Memory, stream: Any) -> None:
        """Copy as much as a staging memory holds."""

    def copy_rows(
        self,
        to: tuple[int, int],
        source: tuple[int, int],
        width: int,
        rows: int,
        stream: Any,
    ) -> None:
        """Copy rows of bytes within the device.

        Args:
            to: Address and bytes from row to row.
            source: The same of what is copied.
            width: Bytes of a row.
            rows: How many.
            stream: To do it on.
        """

    def launch(
        self, kernel: str, items: int, layers: int, arguments: tuple[Any, ...], stream: Any
    ) -> None:
        """Run a kernel.

        Args:
            kernel: Its name.
            items: Threads along x that have something to do.
            layers: Of them, along y.
            arguments: As its source lists them; addresses as integers, None for a null one.
            stream: To do it on.
        """

    def call(self, function: Callable[[], None], stream: Any) -> None:
        """Run a Python function once a stream has come so far, and its further work after that."""

    def captured(self, work: Callable[[], None], stream: Any) -> Callable[[], None] | None:
        """What a function enqueues, as a graph that is launched by one call; None if that fails."""

    def close(self) -> None:
        """Give everything back."""
