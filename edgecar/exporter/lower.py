"""FP32 graphs to FP16 and INT8 ones that keep the picture: the best of several, or none."""

import hashlib
import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from itertools import combinations
from pathlib import Path

import onnx
from onnx import ModelProto

from edgecar.errors import GateError, SettingsError
from edgecar.exporter import exact
from edgecar.exporter.calibrate import bias_shifts, equalised, ranges_of, rounded_weights
from edgecar.exporter.checks import with_stated_loss
from edgecar.exporter.frames import CodedPicture, generated_frames, own_frames
from edgecar.exporter.precision import fp16
from edgecar.exporter.quality import SHIFT_CODES, WORST_TO_MEAN, Budget, Judge, Verdict, middles
from edgecar.exporter.quantize import (
    FORMS,
    Form,
    Ranges,
    always_kept,
    convolutions,
    quantised,
    share_of_work,
)
from edgecar.exporter.recipe import ForEngine, Lower, Recipe
from edgecar.metadata import Metadata, Quality

FEW = 4  # layers, of which every set is judged
CPU_ENGINES = ("openvino", "onnxruntime")  # those that an export may judge with

Report = Callable[[str], None]
"""Called with what is being tried."""
Reduce = Callable[[Collection[str]], ModelProto]
"""Makes a graph in lower precision but for some convolutions, by name."""


@dataclass(frozen=True)
class Lowering:
    """A lower precision to export in.

    Attributes:
        precision: ``fp16`` or ``int8``.
        calibrate: Frames to calibrate and judge on: a folder of pictures or a clip, coded as the
            network will see them; photographs are generated if not given.
        budget_db: PSNR that may be lost on average, and thrice that on one picture; the recipe's
            if not given.
        for_engine: The engine that INT8 is written down for.
    """

    precision: Lower
    calibrate: Path | None = None
    budget_db: float | None = None
    for_engine: ForEngine = "openvino"

    def __post_init__(self) -> None:
        if self.budget_db is not None and not self.budget_db > 0:  # also refuses NaN
            raise SettingsError(f"budget is {self.budget_db} dB; need a number above 0")


@dataclass(frozen=True)
class Candidate:
    """A graph in lower precision, judged."""

    method: str
    kept: tuple[str, ...]
    model: ModelProto
    verdict: Verdict


@dataclass(frozen=True)
class Search:
    """Ways to lower a network's precision, and the layers among which some may have to stay."""

    ways: dict[str, Reduce]
    layers: Sequence[str]
    always: Sequence[str]
    may_keep: Callable[[Collection[str]], bool]


@dataclass(frozen=True)
class Trained:
    """Result of training in eight bits: ranges of what convolutions read, and what came before.

    The gate compares with `reference`, the FP32 graph of the weights that were fine-tuned.
    """

    ranges: Ranges
    reference: ModelProto


def lowered_artifact(
    model: ModelProto,
    metadata: Metadata,
    lowering: Lowering,
    recipe: Recipe,
    report: Report = lambda _what: None,
    trained: Trained | None = None,
) -> tuple[ModelProto, Metadata]:
    """Return an artifact in lower precision that keeps the fewest layers and passes the gate.

    Raises:
        GateError: None passes; the message names the nearest setting that does.
        DataError: The frames to calibrate on are too few or too small.
    """
    report("frames")
    precision, form = lowering.precision, FORMS[lowering.for_engine]
    wanted = (metadata.trained_on, metadata.channels, metadata.align_px)
    own, allowed = lowering.calibrate, lowering.budget_db
    frames = own_frames(own, *wanted) if own else generated_frames(*wanted)
    budget = Budget(recipe.loss_db, recipe.worst_loss_db)
    if allowed is not None:
        budget = Budget(allowed, WORST_TO_MEAN * allowed)
    trained = trained if precision == "int8" else None
    reference = trained.reference if trained else model
    search = _search(model, precision, form, frames.calibration, recipe, trained)
    # The exact engine computes as TensorRT does, which is not asked, and as CPUs do that sum
    # products of eight bits without an intermediate step. CPUs of x86 do not compute halves.
    here = [name for name in form.engines if name in CPU_ENGINES and find_spec(name)]
    engines = [*(here if precision == "int8" else ()), exact.NAME]
    judge = Judge(reference, metadata, frames.held, precision, engines)

    def sensitivity(lowered: ModelProto) -> float:
        rough = middles(frames.held, metadata.align_px)
        return Judge(reference, metadata, rough, precision, engines[:1]).verdict(lowered).loss_db

    best = best_candidate(search, judge.verdict, sensitivity, budget, report)
    if best.verdict.spent(budget) > 1:
        instead = "--precision fp32"
        if precision == "int8":
            halves = Judge(reference, metadata, frames.held, "fp16", [exact.NAME])
            if halves.verdict(fp16(model, ())).spent(budget) <= 1:
                instead = "--precision fp16"
        raise GateError(_refusal(metadata.model, precision, best, budget, instead))
    quality = Quality(
        **vars(best.verdict),
        budget_db=budget.loss_db,
        budget_worst_db=budget.worst_db,
        pictures=len(frames.held),
        data=frames.data,
        data_sha256=frames.sha256,
        method=best.method,
        layers=len(search.layers),
        kept=best.kept,
        engines=form.engines if precision == "int8" else tuple(FORMS),
        fp32_sha256=hashlib.sha256(reference.SerializeToString(deterministic=True)).hexdigest(),
    )
    return best.model, with_stated_loss(
        best.model, replace(metadata, precision=precision, quality=quality)
    )


def _search(
    model: ModelProto,
    precision: Lower,
    form: Form,
    pictures: Sequence[CodedPicture],
    recipe: Recipe,
    trained: Trained | None,
) -> Search:
    """Return the ways to lower a graph: for INT8 one for each method to find ranges."""
    layers = convolutions(model)
    if precision == "fp16":
        return Search({"": partial(fp16, model)}, layers, (), lambda _kept: True)

    def may_keep(kept: Collection[str]) -> bool:
        return share_of_work(model, set(layers).difference(kept)) >= recipe.int8_least_share

    always = always_kept(model)
    if trained and form.signed:
        found = ranges_of(model, pictures, symmetric=True)["min-max"] | trained.ranges
        way = {"training": lambda keep: quantised(model, found, keep, form)}
        return Search(way, layers, always, may_keep)
    alike = onnx.shape_inference.infer_shapes(equalised(model, pictures, recipe.channel_outliers))
    codes = rounded_weights(alike, pictures)
    ways: dict[str, Reduce] = {}
    for method, ranges in ranges_of(alike, pictures, symmetric=form.signed).items():
        shifts = bias_shifts(alike, pictures, ranges, codes, signed=form.signed)
        ways[method] = partial(quantised, alike, ranges, form=form, codes=codes, shifts=shifts)
    return Search(ways, layers, always, may_keep)


def best_candidate(
    search: Search,
    judge: Callable[[ModelProto], Verdict],
    sensitivity: Callable[[ModelProto], float],
    budget: Budget,
    report: Report,
) -> Candidate:
    """Return the candidate that loses least of those that keep the fewest layers and pass.

    If none passes: the one that came nearest.
    """

    def best_of(sets: Sequence[Collection[str]]) -> Candidate:
        found = []
        for method, lower in search.ways.items():
            report(f"{method or 'half precision'}, {len(sets[0])} layers kept")
            for names in sets:
                model = lower(names)
                kept = tuple(name for name in search.layers if name in names)
                found.append(Candidate(method, kept, model, judge(model)))
        return min(found, key=lambda each: each.verdict.spent(budget))

    best = best_of([search.always])
    if best.verdict.spent(budget) <= 1:
        return best
    for sets in _more_to_keep(search, search.ways[best.method], sensitivity, report):
        best = min(best, best_of(sets), key=lambda each: each.verdict.spent(budget))
        if best.verdict.spent(budget) <= 1:
            break
    return best


def _more_to_keep(
    search: Search, lower: Reduce, sensitivity: Callable[[ModelProto], float], report: Report
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
