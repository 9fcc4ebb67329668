"""The seam between edgecar and the libraries that run networks."""

import threading
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgecar.closing import Closing
from edgecar.errors import EngineError
from edgecar.spec import Precision

if TYPE_CHECKING:
    from edgecar.engines.answer import AnswerCheck

Batch = NDArray[np.float32]
"""``(N, C, H, W)`` float32 in [0, 1], C-contiguous."""

Codes = NDArray[np.uint8]
"""``(C, H, W)`` 8-bit codes."""

CODE = np.float32(1 / 255)
"""One code. Multiplied, not divided by 255: that is what engines make of a division in a graph."""

Take = Callable[[int, Codes], None]
"""Called with the number of a window and its output, which is valid during the call only."""


@dataclass(frozen=True)
class EngineInfo:
    """Description of a running engine, for people and result files.

    Attributes:
        name: As given to ``--engine``.
        provider: The library's own name of the back end in use, with its version.
        precision: Arithmetic really in use.
        shape: ``(batch, height, width)`` of the only batch it takes, or None for any.
        device: Where it runs.
        note: Why something else runs than what was asked for; empty if it does not.
    """

    name: str
    provider: str
    precision: Precision
    shape: tuple[int, int, int] | None
    device: str
    note: str = ""


class Engine(Closing):
    """Runs one artifact.

    The same window gives the same bytes whatever its place or neighbours in a batch and, for
    engines of any shape, whatever the shape of the window around it (that is tested). Any number of
    threads may use an engine: each call waits until the one before it has returned.
    """

    info: EngineInfo
    check: "AnswerCheck | None" = None
    """Outcome of the artifact's known answer when the engine was opened; None if it had none."""

    def __init__(self, info: EngineInfo, channels: int, align_px: int) -> None:
        self.info = info
        self.channels, self.align_px = channels, align_px
        self.turn = threading.RLock()
        """Lock held during every call."""
        self._open = True
        self._scratch: dict[tuple[int, ...], Batch] = {}

    def run(self, batch: Batch) -> Batch:
        """Restore a batch of windows.

        The result is a new array. Values are as the network gives them, not clipped.

        Args:
            batch: ``(N, C, H, W)`` float32 in [0, 1]; H and W multiples of the artifact's
                ``align_px``.

        Raises:
            EngineError: The engine is closed, or shape or dtype do not fit.
        """
        with self.turn:
            return np.array(self._run_checked(batch))

    def _run_checked(self, batch: Batch) -> Batch:
        """`run` without the lock; the next call may overwrite the result."""
        self._check_open()
        if batch.dtype != np.float32 or batch.ndim != 4 or batch.shape[1] != self.channels:
            raise EngineError(
                f"got a batch {batch.dtype} {batch.shape}, need float32 (N, {self.channels}, H, W)"
            )
        if not len(batch):
            raise EngineError("got a batch of no windows, need one that is not empty")
        size = batch.shape[2:]
        self._check_size(*size)
        fixed = self.info.shape
        if fixed is not None and (batch.shape[0], *size) != fixed:
            raise EngineError(
                f"got a batch of {batch.shape[0]} windows {size[0]}x{size[1]} px, this engine was "
                f"built for {fixed[0]} of {fixed[1]}x{fixed[2]}"
            )
        return self._run(np.ascontiguousarray(batch))

    def run_codes(self, windows: Sequence[Codes], take: Take) -> None:
        """Restore windows of 8-bit codes; the output is rounded to even and clipped to 0..255.

        Args:
            windows: ``(C, H, W)`` each, not necessarily contiguous; sides as for `run`. They must
                not change before this returns.
            take: Receives every output once, in any order.

        Raises:
            EngineError: As for `run`.
        """
        with self.turn:
            self._check_open()
            for codes in windows:
                if codes.dtype != np.uint8 or codes.ndim != 3 or codes.shape[0] != self.channels:
                    raise EngineError(
                        f"got a window {codes.dtype} {codes.shape}, need uint8 "
                        f"({self.channels}, H, W)"
                    )
                self._check_size(*codes.shape[1:])
            self._run_codes(windows, take)

    @abstractmethod
    def _run(self, batch: Batch) -> Batch: ...

    def _run_codes(self, windows: Sequence[Codes], take: Take) -> None:
        """`run_codes` by way of `run`, in batches where the engine takes only those."""
        most = self.info.shape[0] if self.info.shape else 1
        for start in range(0, len(windows), most):
            group = windows[start : start + most]
            batch = self._batch((most, *group[0].shape))
            for slot, codes in enumerate(group):
                np.multiply(codes, CODE, out=batch[slot])
            output = self._run_checked(batch)
            for slot in range(len(group)):
                take(start + slot, codes_from_unit(output[slot]))

    def _batch(self, shape: tuple[int, ...]) -> Batch:
        """A float buffer of this shape; that of the last run if it fits."""
        if shape not in self._scratch:
            self._scratch = {shape: np.zeros(shape, np.float32)}
        return self._scratch[shape]

    @property
    def is_open(self) -> bool:
        """True until `close`."""
        return self._open

    def _check_open(self) -> None:
        if not self._open:
            raise EngineError(f"{self.info.name} engine is closed; open it again")

    def _check_size(self, height: int, width: int) -> None:
        align = self.align_px
        if height % align or width % align or not height * width:
            raise EngineError(
                f"got windows of {height}x{width} px, need sides that are multiples of "
                f"{align} px and not empty"
            )

    def close(self) -> None:
        """Free what the engine holds, after the call under way; further runs are refused."""
        with self.turn:
            if self._open:
                self._open = False
                self._free()

    def _free(self) -> None:
        """Give the library's memory back; called once."""


def codes_from_unit(unit: Batch) -> Codes:
    """Values in [0, 1] as 8-bit codes: times 255, rounded to even, clipped.

    Elementwise in numpy on purpose: the bits must not depend on where in a row a pixel lies, which
    mixed vector and scalar code of other libraries does not promise.

    Args:
        unit: Any shape.
    """
    scaled = np.multiply(unit, np.float32(255))
    np.rint(scaled, out=scaled)
    np.clip(scaled, 0, 255, out=scaled)
    codes: Codes = scaled.astype(np.uint8)
    return codes
