"""Interface between edgecar and the libraries that run networks."""

import threading
from abc import abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgecar.errors import EngineError
from edgecar.spec import MIDDLE_QUANTISER, Precision

if TYPE_CHECKING:
    from edgecar.engines.answer import AnswerCheck

Batch = NDArray[np.float32]
"""``(N, C, H, W)`` float32 in [0, 1], C-contiguous."""

Codes = NDArray[np.uint8]
"""``(C, H, W)`` 8-bit codes."""

Quantisers = NDArray[np.float32]
"""``(N,)`` float32 in [0, 1]: how coarsely each picture of a batch was coded."""

CODE = np.float32(1 / 255)
"""One code. Multiplied, not divided by 255, as engines do with a division in a graph."""

Take = Callable[[int, Codes], None]
"""Called with the number of a tile and its output, which is valid during the call only."""


@dataclass(frozen=True)
class EngineInfo:
    """Description of a running engine, for people and result files."""

    name: str  # as given to --engine
    provider: str  # the library's own name of the back end in use, with its version
    precision: Precision  # really in use
    shape: tuple[int, int, int] | None  # (batch, height, width) of the only batch, None for any
    device: str
    note: str = ""  # why something else runs than what was asked for; empty if it does not


class Engine(AbstractContextManager["Engine"]):
    """Runs one artifact.

    The same tile gives the same bytes whatever its place or neighbours in a batch and, for engines
    of any shape, whatever the shape of the tile around it. Any number of threads may use an engine:
    each call waits until the one before it has returned.
    """

    info: EngineInfo
    check: "AnswerCheck | None" = None
    """Outcome of the artifact's known answer when the engine was opened; None if it had none."""

    def __init__(
        self, info: EngineInfo, channels: int, align_px: int, takes_quantiser: bool = False
    ) -> None:
        self.info = info
        self.channels, self.align_px = channels, align_px
        self.takes_quantiser = takes_quantiser
        self.turn = threading.RLock()  # held during every call
        self.is_open = True  # until `close`
        self._scratch: Batch = np.zeros(0, np.float32)

    def run(self, batch: Batch, quantisers: Sequence[float] | None = None) -> Batch:
        """Restore a batch of tiles, ``(N, C, H, W)`` float32 in [0, 1].

        H and W are multiples of the artifact's ``align_px``. The result is a new array. Values are
        as the network gives them, not clipped.

        Args:
            batch: The tiles.
            quantisers: Quantiser of each tile, 0 to 1 (`edgecar.media.quantiser`); None takes the
                middle of the range. Artifacts without that input ignore them.

        Raises:
            EngineError: The engine is closed, or shape or dtype do not fit.
        """
        with self.turn:
            return np.array(self._run_checked(batch, checked_quantisers(quantisers, len(batch))))

    def run_codes(
        self, tiles: Sequence[Codes], take: Take, quantisers: Sequence[float] | None = None
    ) -> None:
        """Restore tiles of 8-bit codes; the output is rounded to even and clipped to 0..255.

        Args:
            tiles: ``(C, H, W)`` each, not necessarily contiguous; sides as for `run`. They must not
                change before this returns.
            take: Receives every output once, in any order.
            quantisers: Quantiser of each tile, as for `run`.

        Raises:
            EngineError: As for `run`.
        """
        with self.turn:
            self._check_open()
            for codes in tiles:
                if codes.dtype != np.uint8 or codes.ndim != 3 or codes.shape[0] != self.channels:
                    raise EngineError(
                        f"got a tile {codes.dtype} {codes.shape}, need uint8 "
                        f"({self.channels}, H, W)"
                    )
                self._check_size(*codes.shape[1:])
            self._run_codes(tiles, take, checked_quantisers(quantisers, len(tiles)))

    @abstractmethod
    def _run(self, batch: Batch, quantisers: Quantisers) -> Batch:
        """Restore a batch that fits; the next call may overwrite the result.

        Engines of artifacts without that input ignore the quantisers.
        """

    def _run_codes(self, tiles: Sequence[Codes], take: Take, quantisers: Quantisers) -> None:
        """Restore codes by way of `_run`, in full batches where the engine takes only those."""
        most = self.info.shape[0] if self.info.shape else 1
        for start in range(0, len(tiles), most):
            group = tiles[start : start + most]
            shape = (most, *group[0].shape)
            if self._scratch.shape != shape:
                self._scratch = np.zeros(shape, np.float32)
            for slot, codes in enumerate(group):
                np.multiply(codes, CODE, out=self._scratch[slot])
            filled = np.full(most, MIDDLE_QUANTISER, np.float32)
            filled[: len(group)] = quantisers[start : start + most]
            output = self._run_checked(self._scratch, filled)
            for slot in range(len(group)):
                take(start + slot, codes_from_unit(output[slot]))

    def _run_checked(self, batch: Batch, quantisers: Quantisers) -> Batch:
        self._check_open()
        if batch.dtype != np.float32 or batch.ndim != 4 or batch.shape[1] != self.channels:
            raise EngineError(
                f"got a batch {batch.dtype} {batch.shape}, need float32 (N, {self.channels}, H, W)"
            )
        if not len(batch):
            raise EngineError("got a batch of no tiles, need one that is not empty")
        size = batch.shape[2:]
        self._check_size(*size)
        fixed = self.info.shape
        if fixed is not None and (batch.shape[0], *size) != fixed:
            raise EngineError(
                f"got a batch of {batch.shape[0]} tiles {size[0]}x{size[1]} px, this engine was "
                f"built for {fixed[0]} of {fixed[1]}x{fixed[2]}"
            )
        return self._run(np.ascontiguousarray(batch), quantisers)

    def _check_open(self) -> None:
        if not self.is_open:
            raise EngineError(f"{self.info.name} engine is closed; open it again")

    def _check_size(self, height: int, width: int) -> None:
        align = self.align_px
        if height % align or width % align or not height * width:
            raise EngineError(
                f"got tiles of {height}x{width} px, need sides that are multiples of {align} px "
                "and not empty"
            )

    def close(self) -> None:
        """Free what the engine holds, after the call under way; further runs are refused."""
        with self.turn:
            if self.is_open:
                self.is_open = False
                self._free()

    def __exit__(self, *_: object) -> None:
        self.close()

    def _free(self) -> None:
        """Give the library's memory back; called once."""


def checked_quantisers(quantisers: Sequence[float] | None, count: int) -> Quantisers:
    """Return the quantisers of ``count`` tiles; None stands for the middle of the range.

    Raises:
        EngineError: There is not one for each tile, or one is not from 0 to 1.
    """
    if quantisers is None:
        return np.full(count, MIDDLE_QUANTISER, np.float32)
    given = np.asarray(quantisers, np.float32)
    if given.shape != (count,) or not ((given >= 0) & (given <= 1)).all():
        raise EngineError(
            f"got quantisers {given.tolist()} for {count} tile(s), need one each, from 0 to 1"
        )
    return given


def codes_from_unit(unit: Batch) -> Codes:
    """Return values in [0, 1], of any shape, as 8-bit codes: times 255, rounded to even, clipped.

    Elementwise in numpy on purpose: the bits must not depend on where in a row a pixel lies, which
    mixed vector and scalar code of other libraries does not promise.
    """
    scaled = np.multiply(unit, np.float32(255))
    np.rint(scaled, out=scaled)
    np.clip(scaled, 0, 255, out=scaled)
    codes: Codes = scaled.astype(np.uint8)
    return codes


def one_line(error: Exception) -> str:
    """Return what a library said, on one line."""
    return " ".join(str(error).split())[:200] or type(error).__name__
