"""Everything that the runtime asks of CUDA, and nothing else.

`edgecar.runtime.cuda.through_pycuda` is the one that runs on GPUs. Whoever prefers another binding
writes another `Device`; the tests' runs the same kernels in the memory of the CPU, in the worst
order that streams and events allow.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

THREADS = 256  # in a block
WORD = 16  # bytes that a thread of the kernel ``changed`` compares

FOLDER = Path(__file__).parent / "kernels"

CAPABILITIES = ("7.5", "8.0", "8.6", "8.7", "8.9", "9.0", "11.0")
"""GPUs that the kernels are kept compiling for: T4 to Thor."""

DEVICE_FLAGS = ("-std=c++17", "-O3", "-fmad=false")
"""For nvcc. What is rounded must not depend on the compiler: no fused multiply-add."""

_TILES = "ppp" + "iiii"  # plan, chosen, found; first, batch, tile height and width
_PICTURE = "pipi" + "ii" + "iiiiii"  # luma and chroma with pitches; height, width; matrix

KERNELS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "changed.cu": {"changed": "pp" + "iiii" + "pi" + "ii" + "ip", "listed": "piipp"},
        "gather.cu": {f"gather_{kind}": "piiii" + _TILES + "pfp" for kind in ("fp32", "fp16")},
        "scatter.cu": {f"scatter_{kind}": "pi" + _TILES + "pii" for kind in ("fp32", "fp16")},
        "detector.cu": {
            f"letterbox_{kind}": _PICTURE + "iiiiiii" + "p" for kind in ("fp32", "fp16")
        },
    }
)
"""Kernels of each file, with the type of each argument: address, 32-bit integer or float."""


@dataclass(frozen=True)
class Memory:
    """Memory that kernels reach.

    Attributes:
        address: Address of the first byte, for kernels; a multiple of 256.
        size: In bytes.
        host: The same memory as the CPU sees it; None where it does not.
        owner: Keeps it alive.
    """

    address: int
    size: int
    host: NDArray[np.uint8] | None = None
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

    def free_bytes(self) -> int:
        """Device memory that nobody has taken, other programs included."""

    def stream(self) -> Any:
        """A queue of work."""

    def handle(self, stream: Any) -> int:
        """A stream as other libraries know it."""

    def join(self, stream: Any, handle: int) -> None:
        """Let a stream's further work wait for what another library's was given so far."""

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
        self, to: tuple[int, int], source: tuple[int, int], width: int, rows: int, stream: Any
    ) -> None:
        """Copy rows of ``width`` bytes within the device, between (address, pitch) pairs."""

    def launch(
        self, kernel: str, items: int, layers: int, arguments: tuple[Any, ...], stream: Any
    ) -> None:
        """Run a kernel on ``items`` threads along x and ``layers`` along y.

        Arguments are those that its source lists; addresses are integers, None for a null one.
        """

    def close(self) -> None:
        """Give everything back."""
