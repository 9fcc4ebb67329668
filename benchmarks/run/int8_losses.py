"""INT8 of every network that ships, by every arithmetic there is here: what the gate said of it.

``python -m benchmarks.run.precision --arithmetics --save FILE`` measures.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import Any

from edgecar.artifact import Artifact, read_artifact
from edgecar.engines.base import CODE, Codes, codes_from_unit
from edgecar.engines.select import open_engine
from edgecar.errors import GateError
from edgecar.evaluate.metrics import psnr
from edgecar.exporter.exact import ExactEngine
from edgecar.exporter.frames import CodedPair, generated_frames
from edgecar.exporter.lower import Lowering
from edgecar.exporter.recipe import ForEngine
from edgecar.exporter.to_onnx import export
from edgecar.zoo.shipped import ShippedWeights

MEASURED = ("openvino", "exact", "onnxruntime")
"""Engines and arithmetic that INT8 files are measured by."""

MADE_FOR: tuple[ForEngine, ...] = ("openvino", "onnxruntime")

Run = Callable[[Sequence[CodedPair]], list[Codes]]
"""Restores coded pictures."""


def int8_row(weights: ShippedWeights, made_for: ForEngine) -> dict[str, Any]:
    """Export weights in INT8 and measure what each arithmetic makes of the file."""
    with TemporaryDirectory() as folder:
        plain = Path(folder) / "fp32.onnx"
        export(weights.network, plain, codec=weights.codec)
        fp32 = read_artifact(plain)
        metadata = fp32.metadata
        held = generated_frames(metadata.trained_on, metadata.channels, metadata.align_px).held
        try:
            path = Path(folder) / "int8.onnx"
            lowering = Lowering("int8", for_engine=made_for)
            export(weights.network, path, codec=weights.codec, lowering=lowering)
        except GateError as error:
            return _row(weights, made_for, held, None, {}, str(error).partition(";")[0])
        lower = read_artifact(path)
    before = _decibels(held, _by_engine(fp32, "onnxruntime"))
    losses = {}
    for name in MEASURED:
        run = _exactly(lower) if name == "exact" else _by_engine(lower, name)
        after = _decibels(held, run)
        losses[name] = [one - other for one, other in zip(before, after, strict=True)]
    return _row(weights, made_for, held, lower, losses)


def _row(
    weights: ShippedWeights,
    made_for: ForEngine,
    held: Sequence[CodedPair],
    lower: Artifact | None,
    losses: Mapping[str, Sequence[float]],
    why: str = "",
) -> dict[str, Any]:
    quality = lower.metadata.quality if lower else None
    row: dict[str, Any] = {
        "network": weights.network,
        "weights": weights.codec,
        "made_for": made_for,
        "outcome": "passed" if quality else "refused",
        "why": why,
        "method": quality.method if quality else "",
        "layers": quality.layers if quality else None,
        "kept": len(quality.kept) if quality else None,
        "pictures": len(held),
        "gate_db": round(quality.loss_db, 4) if quality else None,
        "gate_worst_db": round(quality.worst_db, 4) if quality else None,
        "budget_db": quality.budget_db if quality else None,
        "budget_worst_db": quality.budget_worst_db if quality else None,
    }
    for name in MEASURED:
        found = losses.get(name)
        row[f"{name}_db"] = round(fmean(found), 4) if found else None
        row[f"{name}_worst_db"] = round(max(found), 4) if found else None
    return row


def _decibels(held: Sequence[CodedPair], run: Run) -> list[float]:
    restored = run(held)
    return [psnr(pair.clean[0], codes[0]) for pair, codes in zip(held, restored, strict=True)]


def _by_engine(artifact: Artifact, name: str) -> Run:
    def run(held: Sequence[CodedPair]) -> list[Codes]:
        restored: list[Codes] = []
        with open_engine(artifact, name) as engine:
            for pair in held:
                engine.run_codes(
                    [pair.coded], lambda _, codes: restored.append(codes.copy()), [pair.quantiser]
                )
        return restored

    return run


def _exactly(artifact: Artifact) -> Run:
    def run(held: Sequence[CodedPair]) -> list[Codes]:
        with ExactEngine(artifact) as engine:
            units = [engine.run(pair.coded[None] * CODE, [pair.quantiser])[0] for pair in held]
        return list(map(codes_from_unit, units))

    return run
