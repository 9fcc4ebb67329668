"""The gate: the loss of picture quality in a lower precision, against the loss allowed."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import cv2
import numpy as np
from onnx import ModelProto

from edgecar.artifact import Artifact
from edgecar.engines.base import CODE, Codes, codes_from_unit
from edgecar.engines.select import open_engine
from edgecar.errors import ExportError
from edgecar.exporter import exact
from edgecar.exporter.frames import CodedPair, Picture
from edgecar.metadata import Metadata
from edgecar.spec import Precision

SHIFT_CODES = 0.1  # change of a picture's mean: beyond, it is the darkening INT8 is known for
WORST_TO_MEAN = 3  # loss allowed on one picture, in losses allowed on average
GLANCED, GLANCED_PX = 6, 128  # pictures, and side of their middles, for an estimate
FLAWLESS = 255**2 / 10**6  # mean squared error at 60 dB: below, a loss is not worth the name


@dataclass(frozen=True)
class Budget:
    """Loss allowed against FP32, in dB of PSNR: on average, and on any one picture."""

    loss_db: float
    worst_db: float


@dataclass(frozen=True)
class Verdict:
    """Loss measured against FP32.

    Attributes:
        loss_db: Loss of PSNR on average; infinite if an output is not finite.
        worst_db: Loss of PSNR on the picture that lost most.
        shift_codes: Largest change of a picture's mean, in 8-bit codes.
        by_engine: Average loss by each engine that judged; the other figures are the worst.
    """

    loss_db: float
    worst_db: float
    shift_codes: float
    by_engine: tuple[tuple[str, float], ...] = field(default=(), compare=False)

    def spent(self, budget: Budget) -> float:
        """Return the largest share of the budget that was used; above 1 it does not pass."""
        shares = (
            self.loss_db / budget.loss_db if budget.loss_db > 0 else math.inf,
            self.worst_db / budget.worst_db if budget.worst_db > 0 else math.inf,
            self.shift_codes / SHIFT_CODES,
        )
        return max(shares) if all(map(math.isfinite, shares)) else math.inf

    def needs_db(self) -> float:
        """Return the average loss that would have to be allowed; infinite if none is enough."""
        if not self.spent(Budget(1, 1)) < math.inf or self.shift_codes > SHIFT_CODES:
            return math.inf
        return math.ceil(100 * max(self.loss_db, self.worst_db / WORST_TO_MEAN) + 1e-9) / 100


class Judge:
    """Compares graphs with the FP32 graph they were made from, as engines run them here."""

    def __init__(
        self,
        fp32: ModelProto,
        metadata: Metadata,
        held: Sequence[CodedPair],
        precision: Precision,
        engines: Sequence[str],
    ) -> None:
        self._metadata, self._held = metadata, held
        self._precision, self._engines = precision, engines
        outputs = self._outputs(fp32, "fp32", engines[0])
        if outputs is None:
            raise ExportError(f"{metadata.model} gives numbers that are not finite in FP32")
        self._fp32 = outputs

    def verdict(self, model: ModelProto) -> Verdict:
        """Return the loss of a graph: the largest among the engines."""
        verdicts = []
        for engine in self._engines:
            outputs = self._outputs(model, self._precision, engine)
            if outputs is None:
                return Verdict(math.inf, math.inf, math.inf)  # the others could add nothing
            losses, shifts = [], []
            for pair, before, after in zip(self._held, self._fp32, outputs, strict=True):
                losses.append(_error_db(pair, after) - _error_db(pair, before))
                shifts.append(abs(float(after.mean(dtype=float) - before.mean(dtype=float))))
            verdicts.append(Verdict(float(np.mean(losses)), max(losses), max(shifts)))
        return Verdict(
            max(verdict.loss_db for verdict in verdicts),
            max(verdict.worst_db for verdict in verdicts),
            max(verdict.shift_codes for verdict in verdicts),
            tuple((n, v.loss_db) for n, v in zip(self._engines, verdicts, strict=True)),
        )

    def _outputs(self, model: ModelProto, precision: Precision, name: str) -> list[Codes] | None:
        """Return the restored pictures; None if a value is not finite."""
        # Without the known answer: what is judged here is what the engine makes of it, not FP32.
        metadata = replace(self._metadata, precision=precision, known_answer=None)
        artifact = Artifact(metadata, model.SerializeToString())
        outputs: list[Codes] = []
        if name == exact.NAME:
            with exact.ExactEngine(artifact) as engine:
                for pair in self._held:
                    unit = engine.run(pair.coded[None] * CODE, [pair.quantiser])[0]
                    if not np.isfinite(unit).all():
                        return None
                    outputs.append(codes_from_unit(unit))
            return outputs
        # FP32 is what is compared with: no bfloat16. Below it an engine chooses, as for users.
        with open_engine(artifact, name, "fp32" if precision == "fp32" else None) as opened:
            for pair in self._held:  # as a runtime does, conversions in the graph
                opened.run_codes(
                    [pair.coded], lambda _, codes: outputs.append(codes.copy()), [pair.quantiser]
                )
        return outputs


def middles(held: Sequence[CodedPair], align_px: int) -> list[CodedPair]:
    """Return the middles of some pictures, on which losses are estimated sooner."""
    most = max(GLANCED_PX // align_px, 1) * align_px

    def middle(picture: Picture) -> Picture:
        top, left = (max(side - most, 0) // 2 // align_px * align_px for side in picture.shape[1:])
        return np.ascontiguousarray(picture[:, top : top + most, left : left + most])

    step = -(-len(held) // GLANCED)
    return [
        replace(pair, coded=middle(pair.coded), clean=middle(pair.clean)) for pair in held[::step]
    ]


def _error_db(pair: CodedPair, codes: Codes) -> float:
    """Return the squared error of restored codes in dB: PSNR with the sign turned."""
    total: float = cv2.norm(pair.clean.ravel(), codes.ravel(), cv2.NORM_L2SQR)
    return 10 * math.log10(max(total / codes.size, FLAWLESS))
