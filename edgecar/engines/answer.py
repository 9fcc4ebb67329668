"""Checks on this machine that an engine computes what an artifact promises.

Every artifact carries a small picture with the output of its network in float32
(`edgecar.metadata.KnownAnswer`). Whoever opens an engine for an artifact does so with
`open_checked`, which runs that picture through the engine first.
"""

import contextlib
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from edgecar.artifact import Artifact, find_artifact, read_artifact
from edgecar.engines.base import Codes, Engine
from edgecar.errors import AnswerError, ArtifactError, EngineError
from edgecar.metadata import Metadata
from edgecar.spec import Precision, Size

ROUNDING_CODES = 1 / 512
"""Largest error of a stored output."""

LEAST_TOLERANCE = 3e-5
"""Smallest difference allowed in FP32, where outputs reach 1.0. Sums in another order were seen to
change the outputs of trained networks by 2e-6; products in TF32 or FP16, by 5e-5 and more."""

PARITY_TOLERANCE = 10
"""Times the difference between two libraries on the machine that exported the network: deep or
untrained networks are more sensitive to the order of sums."""

REDUCED_DB = 0.05
"""Loss allowed where an engine computes an FP32 artifact in fewer bits: what the recipe for lower
precisions allows by default."""

FLAWLESS = 255**2 / 10**6
"""Mean squared error at 60 dB; a loss is never measured against less."""

NETWORK = ("model", "channels", "halo_px", "align_px", "context", "trained_on", "weights_sha256")
"""Metadata that the same network has in every precision."""

Opener = Callable[[Artifact, Precision | None], tuple[Engine, Metadata]]
"""Opens an engine in a precision, or in the engine's choice for None, unchecked."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class AnswerCheck:
    """Outcome of running an artifact's known answer."""

    passed: bool  # the engine may be used
    exact: bool  # `largest_codes` decided, as for FP32; else `loss_db` did
    largest_codes: float  # difference to the FP32 output, in 8-bit codes, beyond rounding
    allowed_codes: float  # largest difference that FP32 may have
    psnr_db: float | None  # against the FP32 output; None if no difference was found
    loss_db: float  # PSNR lost against the original picture, by that difference
    allowed_db: float  # loss that the artifact states as allowed
    milliseconds: float  # that the check took

    def __str__(self) -> str:
        if self.exact:
            codes, allowed = self.largest_codes, self.allowed_codes
            return f"differs by {codes:.3f} codes from FP32 (allowed {allowed:.3f})"
        return f"loses {self.loss_db:.3f} dB against FP32 (allowed {self.allowed_db:.3f})"


def open_checked(artifact: Artifact, precision: Precision | None, opener: Opener) -> Engine:
    """Open an engine and check it with the artifact's known answer, if that has one.

    An engine that fails is closed. If the caller left the precision open, the same network in FP32
    is opened in its place, with a warning; ``info.note`` says so too.

    Raises:
        AnswerError: The engine is wrong, and so is FP32, or there is no FP32 to take instead.
        EngineError: The engine cannot be opened.
    """
    try:
        return _opened(artifact, precision, opener)
    except AnswerError as error:
        fp32 = fp32_of(artifact) if precision is None else None
        if fp32 is None:
            raise
        try:
            engine = _opened(fp32, "fp32", opener)
        except AnswerError:
            raise
        except EngineError as absent:  # no plan of it, say
            raise error from absent
        wrong = str(error).partition("; ")[0]  # without what to do
        note = f"{wrong}; {fp32.path or 'the same file'} runs in FP32 instead"
        engine.info = replace(engine.info, note=note)
        _log.warning("warning   %s", note)
        return engine


def _opened(artifact: Artifact, precision: Precision | None, opener: Opener) -> Engine:
    """Open an engine; one that does not reproduce the known answer is closed again."""
    engine, metadata = opener(artifact, precision)
    try:
        engine.check = check_answer(engine, metadata)
        if engine.check and not engine.check.passed:
            info = engine.info
            beside = "export the network in fp32 beside it, or " if info.precision != "fp32" else ""
            raise AnswerError(
                f"{metadata.model} in {info.precision} on {info.provider} {engine.check} on its "
                f"known answer; this machine computes it wrongly: {beside}give --engine another"
            )
    except BaseException:
        engine.close()
        raise
    return engine


def check_answer(engine: Engine, metadata: Metadata) -> AnswerCheck | None:
    """Run the known answer of an engine's artifact through it.

    Returns None if there is no known answer, or the engine's only shape does not suit it.
    """
    answer = metadata.known_answer
    tile = engine.info.shape[1:] if engine.info.shape else None
    kept = _comparable(metadata, tile)
    if answer is None or kept is None:
        return None
    region = (slice(None), slice(kept[0]), slice(kept[1]))
    got = np.zeros((answer.shape[0], *kept), np.uint8)
    began = time.perf_counter()

    def take(_number: int, codes: Codes) -> None:
        got[:] = codes[region]

    with np.errstate(invalid="ignore"):  # what is no number becomes a wrong code
        told = None if answer.quantiser is None else [answer.quantiser]
        engine.run_codes([mirrored(answer.codes(), tile or answer.shape[1:])], take, told)
    milliseconds = 1000 * (time.perf_counter() - began)
    expected = answer.expected_codes()[region]
    apart = np.abs(got - expected)
    largest = max(0.0, float(apart.max()) - 0.5)
    # Of the squared error, what rounding to codes does not explain.
    rounding = np.mean((np.rint(expected) - expected) ** 2)
    error = max(0.0, float(np.mean(apart**2) - rounding))
    loss_db = 10 * math.log10(1 + error / max(answer.error_codes2, FLAWLESS))
    exact = metadata.precision == engine.info.precision == "fp32"
    tolerance = max(PARITY_TOLERANCE * metadata.parity_max_error, LEAST_TOLERANCE)
    allowed_codes = 255 * tolerance + ROUNDING_CODES
    budget_db = metadata.quality.budget_db if metadata.quality else REDUCED_DB
    allowed_db = max(answer.allowed_db, budget_db)
    return AnswerCheck(
        passed=largest <= allowed_codes if exact else loss_db <= allowed_db,
        exact=exact,
        largest_codes=largest,
        allowed_codes=allowed_codes,
        psnr_db=10 * math.log10(255**2 / error) if error else None,
        loss_db=loss_db,
        allowed_db=allowed_db,
        milliseconds=milliseconds,
    )


def _comparable(metadata: Metadata, tile: Size | None) -> Size | None:
    """Return how many rows and columns of a known answer an engine of one shape can reproduce.

    Its tile is filled with the mirrored picture, so that the network sees no edge of the picture at
    the bottom and on the right. What is nearer to them than the halo differs. Where a network pools
    over the whole picture, all of it does, unless the output was computed for this tile.
    """
    answer = metadata.known_answer
    if answer is None:
        return None
    size: Size = (answer.shape[1], answer.shape[2])
    made_for = answer.tile or size
    if tile == made_for or (tile is None and answer.tile is None):
        return size
    if tile is None or answer.tile is not None or metadata.context != "local":
        return None
    rows, columns = (
        side if side == whole else min(side, whole) - metadata.halo_px
        for side, whole in zip(size, tile, strict=True)
    )
    return (rows, columns) if rows > 0 and columns > 0 else None


def mirrored(codes: Codes, size: Size) -> Codes:
    """Mirror or cut a picture, ``(channels, height, width)``, at the bottom and on the right."""
    rows, columns = (
        np.resize(np.r_[:side, side - 1 : -1 : -1], wanted)
        for side, wanted in zip(codes.shape[1:], size, strict=True)
    )
    return np.ascontiguousarray(codes[:, rows][:, :, columns])


def fp32_of(artifact: Artifact) -> Artifact | None:
    """Return the FP32 artifact of the same network, if it is at hand.

    It is the artifact itself, ``NAME.onnx`` beside ``NAME.int8.onnx``, or the shipped one.
    """
    metadata, path = artifact.metadata, artifact.path
    if metadata.precision == "fp32":
        return artifact
    candidates: list[Path] = []
    if path:
        candidates.append(
            path.with_name(f"{path.stem.removesuffix(f'.{metadata.precision}')}.onnx")
        )
    if metadata.weights_for:
        with contextlib.suppress(ArtifactError):  # no network of that name ships
            candidates.append(find_artifact(metadata.model, metadata.weights_for))
    for candidate in candidates:
        with contextlib.suppress(ArtifactError):  # no such file, or none of ours
            found = read_artifact(candidate)
            same = all(getattr(found.metadata, key) == getattr(metadata, key) for key in NETWORK)
            if found.metadata.precision == "fp32" and same:
                return found
    return None
