"""The seam between edgecar and the libraries that run networks."""

from abc import abstractmethod
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgecar.closing import Closing
from edgecar.errors import EngineError
from edgecar.spec import Precision

Batch = NDArray[np.float32]
"""``(N, C, H, W)`` float32 in [0, 1], C-contiguous."""


@dataclass(frozen=True)
class EngineInfo:
    """What is running, for people and result files.

    Attributes:
        name: As given to ``--engine``.
        provider: The library's own name of the back end in use, with its version.
        precision: Arithmetic really in use.
        shape: ``(batch, height, width)`` of the only batch it takes, or None for any.
        device: Where it runs.
    """

    name: str
    provider: str
    precision: Precision
    shape: tuple[int, int, int] | None
    device: str


class Engine(Closing):
    """Runs one artifact.

    The same window gives the same bytes whatever its place or neighbours in a batch and, for
    engines of any shape, whatever the shape of the window around it (that is tested). An engine is
    used by one thread at a time.
    """

    info: EngineInfo

    def __init__(self, info: EngineInfo, channels: int, align_px: int) -> None:
        self.info = info
        self.channels, self.align_px = channels, align_px
        self._open = True

    def run(self, batch: Batch) -> Batch:
        """Restore a batch of windows.

        The result belongs to the engine and is overwritten by the next call; copy what you keep.
        Values are as the network gives them, not clipped.

        Args:
            batch: ``(N, C, H, W)`` float32 in [0, 1]; H and W multiples of the artifact's
                ``align_px``.

        Raises:
            EngineError: The engine is closed, or shape or dtype do not fit.
        """
        if not self._open:
            raise EngineError(f"{self.info.name} engine is closed; open it again")
        if batch.dtype != np.float32 or batch.ndim != 4 or batch.shape[1] != self.channels:
            raise EngineError(
                f"got a batch {batch.dtype} {batch.shape}, need float32 (N, {self.channels}, H, W)"
            )
        size, align = batch.shape[2:], self.align_px
        if size[0] % align or size[1] % align or not batch.size:
            raise EngineError(
                f"got windows of {size[0]}x{size[1]} px, need sides that are multiples of "
                f"{align} px and not empty"
            )
        fixed = self.info.shape
        if fixed is not None and (batch.shape[0], *size) != fixed:
            raise EngineError(
                f"got a batch of {batch.shape[0]} windows {size[0]}x{size[1]} px, this engine was "
                f"built for {fixed[0]} of {fixed[1]}x{fixed[2]}"
            )
        return self._run(np.ascontiguousarray(batch))

    @abstractmethod
    def _run(self, batch: Batch) -> Batch: ...

    def close(self) -> None:
        """Free what the engine holds; further runs are refused."""
        self._open = False
