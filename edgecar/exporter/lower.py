"""FP32 graphs to FP16 and INT8 ones that keep the picture: the best of several, or none."""

import hashlib
import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from importlib.util import find_spec
from itertools import combinations
from typing import TYPE_CHECKING, Any, Literal

from edgecar.errors import GateError
from edgecar.exporter import exact
from edgecar.exporter.calibrate import (
    corrected,
    equalised,
    mean_errors,
    ranges_of,
    rounded_weights,
)
from edgecar.exporter.frames import GateFrames
from edgecar.exporter.layers import always_kept, convolutions, share_of_work
from edgecar.exporter.precision import fp16
from edgecar.exporter.quality import SHIFT_CODES, Budget, Judge, Verdict, middles
from edgecar.exporter.quantize import FORMS, Form, Ranges, quantised
from edgecar.metadata import Metadata, Quality, write_metadata

if TYPE_CHECKING:
    from onnx import ModelProto

FEW = 4  # layers, of which every set is judged
CPU_ENGINES = ("openvino", "onnxruntime")  # those that an export may judge with

Lower = Literal["fp16", "int8"]
Report = Callable[[str], None]
"""Called with what is being tried."""


@dataclass(frozen=True)
class Candidate:
    """A graph in lower precision, judged.

    Attributes:
        method: Way in which ranges of activations were found; empty where none are needed.
        kept: Convolutions in higher precision, by name.
        model: The graph.
        verdict: Loss of the graph.
    """

    method: str
    kept: tuple[str, ...]
    model: "ModelProto"
    verdict: Verdict


@dataclass(frozen=True)
class Search:
    """Ways to lower a network's precision, and the layers among which some may have to stay.

    Attributes:
        ways: By method, a function that lowers all convolutions but some, by name.
        layers: All convolutions.
        always: Those that stay in higher precision without a trial.
        may_keep: Tells if enough is faster when some are kept.
    """

    ways: dict[str, Callable[[Collection[str]], "ModelProto"]]
    layers: Sequence[str]
    always: Sequence[str]
    may_keep: Callable[[Collection[str]], bool]


@dataclass(frozen=True)
class Trained:
    """Result of training in eight bits.

    Attributes:
        ranges: Ranges of the tensors that convolutions read.
        reference: FP32 graph of the weights that were fine-tuned, with which the gate compares.
    """

    ranges: Ranges
    reference: "ModelProto"


def reduced(
    model: "ModelProto",
    metadata: Metadata,
    precision: Lower,
    form: Form,
    *,
    frames: GateFrames,
    budget: Budget,
    least_share: float,
    channel_outliers: float = 0.0,
    trained: Trained | None = None,
    report: Report = lambda _what: None,
) -> tuple["ModelProto", Metadata]:
    """Return the graph in lower precision that keeps the fewest layers and passes the gate.

    Args:
        model: FP32 artifact's graph, with inferred shapes.
        metadata: Metadata of that graph.
        precision: Precision to make.
        form: Form of Q/DQ pairs; for FP16 there is but one.
        frames: Pictures to calibrate and judge on.
        budget: Loss that is allowed.
        least_share: Share of multiply-accumulates that INT8 must do in eight bits, 0 to 1.
        channel_outliers: Share of a channel's values that its range for INT8 leaves out.
        trained: Result of training in eight bits, if the weights were.
        report: Called with what is being tried.

    Returns:
        The graph and its metadata, the outcome of the gate among them.

    Raises:
        GateError: None passes; the message names the nearest setting that does.
    """
    reference = trained.reference if trained else model
    layers = convolutions(model)
    if precision == "fp16":
        search = Search({"": partial(fp16, model)}, layers, (), lambda _kept: True)
    else:

        def may_keep(kept: Collection[str]) -> bool:
            return share_of_work(model, [name for name in layers if name not in kept]) >= (
                least_share
            )

        always = always_kept(model)
        ways = int8_ways(model, form, frames, channel_outliers, trained)
        search = Search(ways, layers, always, may_keep)
    engines = judges_of(precision, form)
    judge = Judge(reference, metadata, frames.held, precision, engines)

    def sensitivity(lowered: "ModelProto") -> float:
        rough = middles(frames.held, metadata.align_px)
        return Judge(reference, metadata, rough, precision, engines[:1]).verdict(lowered).loss_db

    best = best_candidate(search, judge.verdict, sensitivity, budget, report)
    if best.verdict.spent(budget) > 1:
        instead = "--precision fp32"
        if precision == "int8":
            halves = Judge(reference, metadata, frames.held, "fp16", judges_of("fp16", form))
            if halves.verdict(fp16(model, ())).spent(budget) <= 1:
                instead = "--precision fp16"
        raise GateError(_refusal(metadata.model, precision, best, budget, instead))
    quality = Quality(
        loss_db=best.verdict.loss_db,
        worst_db=best.verdict.worst_db,
        shift_codes=best.verdict.shift_codes,
        budget_db=budget.loss_db,
        budget_worst_db=budget.worst_db,
        pictures=len(frames.held),
        data=frames.data,
        data_sha256=frames.sha256,
        method=best.method,
        layers=len(layers),
        kept=best.kept,
        engines=form.engines if precision == "int8" else tuple(FORMS),
        fp32_sha256=hashlib.sha256(reference.SerializeToString(deterministic=True)).hexdigest(),
        by_engine=best.verdict.by_engine,
    )
    made = replace(metadata, precision=precision, quality=quality)
    write_metadata(best.model, made)
    return best.model, made


def judges_of(precision: Lower, form: Form) -> tuple[str, ...]:
    """Return the engines that the gate judges with: those here that the form is for, and `exact`.

    The exact engine computes as TensorRT does, which is not asked, and as CPUs do that sum products
    of eight bits without an intermediate step. CPUs of x86 do not compute halves.
    """
    here = (name for name in form.engines if name in CPU_ENGINES and find_spec(name))
    return (*(here if precision == "int8" else ()), exact.NAME)


def int8_ways(
    model: "ModelProto",
    form: Form,
    frames: GateFrames,
    channel_outliers: float,
    trained: Trained | None,
) -> dict[str, Callable[[Collection[str]], "ModelProto"]]:
    """Return a way to lower a graph for each method to find ranges; trained weights have their own.

    Args:
        model: FP32 graph with inferred shapes.
        form: Form of Q/DQ pairs.
        frames: Pictures to calibrate on.
        channel_outliers: Share of a channel's values that its range leaves out.
        trained: Result of training in eight bits, if the weights were.
    """
    import onnx

    pictures = frames.calibration
    if trained and form.signed:
        found = ranges_of(model, pictures, symmetric=True)["min-max"] | trained.ranges
        return {"training": lambda keep: quantised(model, found, keep, form)}
    alike = onnx.shape_inference.infer_shapes(equalised(model, pictures, channel_outliers))
    codes = rounded_weights(alike, pictures)

    def way(ranges: Ranges) -> Callable[[Collection[str]], "ModelProto"]:
        @cache
        def errors() -> dict[str, Any]:
            return mean_errors(alike, pictures, ranges, codes, signed=form.signed)

        return lambda keep: quantised(corrected(alike, errors(), keep), ranges, keep, form, codes)

    found_by = ranges_of(alike, pictures, symmetric=form.signed)
    return {method: way(ranges) for method, ranges in found_by.items()}


def best_candidate(
    search: Search,
    judge: Callable[["ModelProto"], Verdict],
    sensitivity: Callable[["ModelProto"], float],
    budget: Budget,
    report: Report,
) -> Candidate:
    """Return the candidate that loses least of those that keep the fewest layers and pass.

    If none passes: the one that came nearest.

    Args:
        search: Ways and layers.
        judge: Measures a graph on all pictures.
        sensitivity: Estimates the loss of a graph in dB, sooner.
        budget: Loss that is allowed.
        report: Called with what is being tried.
    """

    def best_of(sets: Sequence[Collection[str]]) -> tuple[float, Candidate]:
        found = []
        for method, lower in search.ways.items():
            report(f"{method or 'half precision'}, {len(sets[0])} layers kept")
            for names in sets:
                model = lower(names)
                kept = tuple(name for name in search.layers if name in names)
                found.append(Candidate(method, kept, model, judge(model)))
        best = min(found, key=lambda each: each.verdict.spent(budget))
        return best.verdict.spent(budget), best

    spent, best = best_of([search.always])
    if spent <= 1:
        return best
    for sets in _more_to_keep(search, search.ways[best.method], sensitivity, report):
        spent, candidate = best_of(sets)
        best = min(best, candidate, key=lambda each: each.verdict.spent(budget))
        if spent <= 1:
            break
    return best


def _more_to_keep(
    search: Search,
    lower: Callable[[Collection[str]], "ModelProto"],
    sensitivity: Callable[["ModelProto"], float],
    report: Report,
) -> Iterator[list[tuple[str, ...]]]:
    """Yield sets of layers to keep, those of one more than must be first.

    Of few layers all sets: what two of them gain is not what each gains alone. Of many one set of
    each size, of those that lose most when lowered alone. Sets that do too much of the work to be
    kept are left out.
    """
    rest = [name for name in search.layers if name not in search.always]
    if len(rest) <= FEW:
        for count in range(1, len(rest)):
            sets = [(*search.always, *names) for names in combinations(rest, count)]
            if allowed := [names for names in sets if search.may_keep(names)]:
                yield allowed
        return
    alone = {}
    for number, name in enumerate(rest, 1):
        report(f"layer {number} of {len(rest)}")
        alone[name] = sensitivity(lower([other for other in search.layers if other != name]))
    kept = tuple(search.always)
    for name in sorted(rest, key=lambda name: -alone[name])[: len(rest) - 1]:
        if search.may_keep((*kept, name)):
            kept = (*kept, name)
            yield [kept]


def _refusal(
    network: str, precision: Lower, nearest: Candidate, budget: Budget, instead: str
) -> str:
    lost, needs = nearest.verdict, nearest.verdict.needs_db()
    passes = f"--budget-db {needs:.2f}, or {instead}" if needs < math.inf else instead
    how = f" by {nearest.method}" if nearest.method else ""
    return (
        f"{network} in {precision}{how} loses {lost.loss_db:.3f} dB on average (allowed "
        f"{budget.loss_db:g}), {lost.worst_db:.3f} on the worst picture (allowed "
        f"{budget.worst_db:g}), and moves means by {lost.shift_codes:.2f} codes (allowed "
        f"{SHIFT_CODES}); nothing written: the nearest setting that passes is {passes}"
    )
