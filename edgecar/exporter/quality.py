"""The gate: what a lower precision costs in picture quality, against what it may cost."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from edgecar.artifact import Artifact, Facts
from edgecar.engines.base import CODE, codes_from_unit
from edgecar.engines.torch import TorchEngine

if TYPE_CHECKING:
    from onnx import ModelProto

    from edgecar.exporter.frames import CodedPair, Picture

SHIFT_CODES = (
    0.1  # a change of a picture's mean beyond this is the darkening that INT8 is known for
)
WORST_TO_MEAN = 3  # loss allowed on one picture, in losses allowed on average
GLANCED, GLANCED_PX = 6, 128  # pictures, and side of their middles, that a guess is made from
FLAWLESS = 255**2 / 10**6  # mean squared error at 60 dB: below, a loss is not worth the name


@dataclass(frozen=True)
class Budget:
    """What may be lost against FP32.

    Attributes:
        loss_db: PSNR on average.
        worst_db: PSNR on any one picture.
    """

    loss_db: float
    worst_db: float


@dataclass(frozen=True)
class Verdict:
    """What was lost against FP32.

    Attributes:
        loss_db: PSNR on average; infinite if an output is not finite.
        worst_db: PSNR on the picture that lost most.
        shift_codes: Largest change of a picture's mean, in 8-bit codes.
    """

    loss_db: float
    worst_db: float
    shift_codes: float

    def spent(self, budget: Budget) -> float:
        """The largest share of what was allowed; above 1 it does not pass."""
        shares = (
            self.loss_db / budget.loss_db if budget.loss_db > 0 else math.inf,
            self.worst_db / budget.worst_db if budget.worst_db > 0 else math.inf,
            self.shift_codes / SHIFT_CODES,
        )
        return max(shares) if all(map(math.isfinite, shares)) else math.inf

    def needs_db(self) -> float:
        """The average loss to allow for this to pass, rounded up; infinite if none is enough."""
        if not self.spent(Budget(1, 1)) < math.inf or self.shift_codes > SHIFT_CODES:
            return math.inf
        return math.ceil(100 * max(self.loss_db, self.worst_db / WORST_TO_MEAN) + 1e-9) / 100


class Judge:
    """Compares graphs with the FP32 graph they were made from.

    Every graph runs in torch, operator by operator, so that what is judged is the file and not what
    one engine makes of it.

    Args:
        fp32: The graph to compare with.
        facts: Of that graph.
        held: Pictures to compare on.
    """

    def __init__(self, fp32: "ModelProto", facts: Facts, held: "Sequence[CodedPair]") -> None:
        self._model, self._facts, self._held = fp32, facts, held
        self._fp32 = self._outputs(fp32, held)

    def verdict(self, model: "ModelProto") -> Verdict:
        """What a graph loses."""
        return self._compared(model, self._held, self._fp32)

    def glance(self, model: "ModelProto") -> Verdict:
        """Roughly what a graph loses: on the middles of some pictures, in a quarter of the time."""
        return self._compared(model, *self._glanced)

    @cached_property
    def _glanced(self) -> "tuple[list[CodedPair], list[NDArray[np.float32]]]":
        step = -(-len(self._held) // GLANCED)
        pairs = [
            replace(pair, coded=self._middle(pair.coded), clean=self._middle(pair.clean))
            for pair in self._held[::step]
        ]
        return pairs, self._outputs(self._model, pairs)

    def _middle(self, picture: "Picture") -> "Picture":
        align = self._facts.align_px
        sides = [min(side, max(GLANCED_PX // align, 1) * align) for side in picture.shape[1:]]
        starts = [
            (whole - side) // 2 // align * align
            for whole, side in zip(picture.shape[1:], sides, strict=True)
        ]
        rows, columns = (slice(at, at + side) for at, side in zip(starts, sides, strict=True))
        return np.ascontiguousarray(picture[:, rows, columns])

    def _compared(
        self,
        model: "ModelProto",
        pairs: "Sequence[CodedPair]",
        fp32: Sequence[NDArray[np.float32]],
    ) -> Verdict:
        outputs = self._outputs(model, pairs)
        if not all(np.isfinite(output).all() for output in outputs):
            return Verdict(math.inf, math.inf, math.inf)
        losses, shifts = [], []
        for pair, before, after in zip(pairs, fp32, outputs, strict=True):
            losses.append(_error_db(pair, after) - _error_db(pair, before))
            shifts.append(255 * abs(float(np.mean(after - before, dtype=np.float64))))
        return Verdict(float(np.mean(losses)), max(losses), max(shifts))

    def _outputs(
        self, model: "ModelProto", pairs: "Sequence[CodedPair]"
    ) -> list[NDArray[np.float32]]:
        with TorchEngine(Artifact(self._facts, model.SerializeToString())) as engine:
            return [engine.run(pair.coded[None] * CODE)[0] for pair in pairs]


def _error_db(pair: "CodedPair", output: NDArray[np.float32]) -> float:
    """Squared error of the restored codes in dB: what PSNR is of, with the sign turned."""
    codes = codes_from_unit(output)
    total: float = cv2.norm(pair.clean.ravel(), codes.ravel(), cv2.NORM_L2SQR)
    return 10 * math.log10(max(total / codes.size, FLAWLESS))
