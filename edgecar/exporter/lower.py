"""FP32 graphs to FP16 and INT8 ones that keep the picture: the best of several, or none."""

import hashlib
import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from importlib.util import find_spec
from itertools import combinations
from typing import TYPE_CHECKING, Literal

from edgecar.artifact import Metadata, Quality, write_metadata
from edgecar.errors import GateError
from edgecar.exporter import exact
from edgecar.exporter.bias import Errors, corrected, mean_errors
from edgecar.exporter.equalise import equalised
from edgecar.exporter.frames import MOST_PX, GateFrames
from edgecar.exporter.layers import always_kept, convolutions, share_of_work
from edgecar.exporter.precision import fp16
from edgecar.exporter.quality import GLANCED_PX, SHIFT_CODES, Budget, Judge, Verdict
from edgecar.exporter.quantize import FORMS, SIGNED, Form, quantised
from edgecar.exporter.ranges import METHODS, Method, Ranges, ranges_of
from edgecar.exporter.rounding import rounded_weights

if TYPE_CHECKING:
    from onnx import ModelProto

JUDGED = 2  # ways, of those that seem to lose least, that are judged in full before layers are kept
FEW = 4  # layers, of which every set is judged
CPU_ENGINES = ("openvino", "onnxruntime")  # those that an export may judge with

Lower = Literal["fp16", "int8"]
Report = Callable[[str], None]
"""Called with what is being tried."""


@dataclass(frozen=True)
class Candidate:
    """A graph in lower precision, judged.

    Attributes:
        method: How ranges of activations were found; empty where none are needed.
        kept: Convolutions in higher precision, by name.
        model: The graph.
        verdict: What it loses.
    """

    method: str
    kept: tuple[str, ...]
    model: "ModelProto"
    verdict: Verdict


@dataclass(frozen=True)
class Trial:
    """One way to lower a network's precision, before it is known which layers have to stay.

    Attributes:
        method: How ranges of activations were found; empty where none are needed.
        lower: The graph in which some convolutions, by name, stay in higher precision.
        rough: Nearly the same graph, sooner: to choose among trials.
        layers: All convolutions.
        always: Those that stay in higher precision without a trial.
        may_keep: Whether keeping some leaves enough that is faster.
    """

    method: str
    lower: Callable[[Collection[str]], "ModelProto"]
    rough: Callable[[Collection[str]], "ModelProto"]
    layers: Sequence[str]
    always: Sequence[str]
    may_keep: Callable[[Collection[str]], bool]


@dataclass(frozen=True)
class Trained:
    """What training in eight bits found.

    Attributes:
        ranges: Of what convolutions read, by tensor.
        reference: The FP32 graph of the weights that were fine-tuned: what is to be kept.
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
    """The graph in lower precision that keeps the fewest layers and passes the gate.

    Args:
        model: An FP32 artifact's graph, with inferred shapes.
        metadata: Of that graph.
        precision: To lower it to.
        form: Of Q/DQ pairs; for FP16 there is but one.
        frames: To calibrate and judge on.
        budget: What may be lost.
        least_share: Of multiply-accumulates that INT8 must do in eight bits, 0 to 1.
        channel_outliers: Share of a channel's values that its range for INT8 leaves out.
        trained: For weights that were trained in eight bits.
        report: Told what is being tried.

    Returns:
        The graph and its metadata, the outcome of the gate among them.

    Raises:
        GateError: None passes; says what would.
    """
    import onnx

    reference = trained.reference if trained else model
    if precision == "fp16":
        trials = [_fp16_trial(model)]
    elif trained and form.signed:
        trials = [_trained_trial(model, trained.ranges, form, frames, least_share)]
    else:
        alike = onnx.shape_inference.infer_shapes(
            equalised(model, frames.calibration, channel_outliers)
        )
        trials = _int8_trials(alike, metadata.align_px, form, frames, least_share)
    judge = Judge(reference, metadata, frames.held, precision, judges_of(precision, form))
    best = best_candidate(trials, judge, budget, report)
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
        layers=len(convolutions(model)),
        kept=best.kept,
        engines=form.engines if precision == "int8" else tuple(FORMS),
        fp32_sha256=hashlib.sha256(reference.SerializeToString(deterministic=True)).hexdigest(),
        by_engine=best.verdict.by_engine,
    )
    made = replace(metadata, precision=precision, quality=quality)
    write_metadata(best.model, made)
    return best.model, made


def judges_of(precision: Lower, form: Form) -> tuple[str, ...]:
    """Names of the engines that the gate judges with: those that the form is for, as far as here.

    Besides, each graph is computed as it is written: as TensorRT does, which is not asked, and CPUs
    that sum products of eight bits without an intermediate step. CPUs of x86 do not compute halves.
    """
    here = (name for name in form.engines if name in CPU_ENGINES and find_spec(name))
    return (*(here if precision == "int8" else ()), exact.NAME)


def best_candidate(
    trials: Sequence[Trial], judge: Judge, budget: Budget, report: Report
) -> Candidate:
    """The trial that loses least, with as few layers in higher precision as pass the gate.

    If none passes: the one that came nearest. Trials are ordered by a glance at some pictures; the
    first that passes on all of them with no more layers kept than must be is taken. Where none
    does, the trial that keeps fewest.
    """
    glances = {}
    for trial in trials if len(trials) > 1 else ():
        report(trial.method)
        glances[trial.method] = judge.glance(trial.rough(trial.always)).spent(budget)
    ordered = sorted(trials, key=lambda trial: glances.get(trial.method, 0.0))
    firsts = []
    for trial in ordered[:JUDGED]:
        report(f"all pictures, {_method(trial)}")
        first = _tried(trial, trial.always, judge)
        if first.verdict.spent(budget) <= 1:
            return first
        firsts.append((trial, first))
    trial, nearest = min(firsts, key=lambda pair: pair[1].verdict.spent(budget))
    more = _more_to_keep(trial, judge, report)
    passing: Candidate | None = None
    # A way that loses more with all layers may lose less without those that it suits badly.
    for trial in ordered:
        for found in _fewest_kept(trial, more, judge, budget, report):
            nearest = min(nearest, found, key=lambda each: each.verdict.spent(budget))
            if found.verdict.spent(budget) <= 1:
                passing = found
                more = more[: len(found.kept) - len(trial.always) - 1]
    return passing or nearest


def _more_to_keep(trial: Trial, judge: Judge, report: Report) -> list[list[tuple[str, ...]]]:
    """Layers to keep besides: first sets of one, then sets of two, and so on.

    Of few layers all sets: what two of them gain is not what each gains alone. Of many one set of
    each size, of those that lose most when lowered alone. Sets that do too much of the work to be
    kept are left out.
    """
    rest = [name for name in trial.layers if name not in trial.always]
    if len(rest) > FEW:
        ordered = [[names] for names in _most_sensitive(trial, rest, judge, report)]
    else:
        ordered = [list(combinations(rest, count)) for count in range(1, len(rest))]
    may = [[names for names in sets if trial.may_keep([*trial.always, *names])] for sets in ordered]
    return [sets for sets in may if sets]


def _most_sensitive(
    trial: Trial, rest: Sequence[str], judge: Judge, report: Report
) -> Iterator[tuple[str, ...]]:
    """The layer that loses most when lowered alone, the two that lose most, and so on."""
    alone = {}
    for number, name in enumerate(rest, 1):
        report(f"layer {number} of {len(rest)}")
        kept = [other for other in trial.layers if other != name]
        # Not by the budget: under another one the same layers must be tried in the same order.
        alone[name] = judge.glance(trial.lower(kept)).loss_db
    names: list[str] = []
    for name in sorted(rest, key=lambda name: -alone[name])[: len(rest) - 1]:
        if trial.may_keep([*trial.always, *names, name]):
            names.append(name)
            yield tuple(names)


def _fewest_kept(
    trial: Trial,
    more: Sequence[Sequence[tuple[str, ...]]],
    judge: Judge,
    budget: Budget,
    report: Report,
) -> Iterator[Candidate]:
    """Candidates on the way to the fewest layers with which a trial passes; those come last."""
    low, high = 0, len(more)
    place = high - 1  # the most first: where not even those pass, nothing does
    while low < high:  # more layers kept lose less, so that halving finds the fewest
        report(f"{len(more[place][0])} more layers kept, {_method(trial)}")
        tried = [_tried(trial, [*trial.always, *names], judge) for names in more[place]]
        best = min(tried, key=lambda each: each.verdict.spent(budget))
        yield best
        if best.verdict.spent(budget) <= 1:
            high = place
        elif place == len(more) - 1:
            return
        else:
            low = place + 1
        place = (low + high) // 2


def _method(trial: Trial) -> str:
    return trial.method or "half precision"


def _tried(trial: Trial, keep: Collection[str], judge: Judge) -> Candidate:
    model = trial.lower(keep)
    kept = tuple(name for name in trial.layers if name in keep)
    return Candidate(trial.method, kept, model, judge.verdict(model))


def _fp16_trial(model: "ModelProto") -> Trial:
    lower = partial(fp16, model)
    return Trial("", lower, lower, convolutions(model), (), lambda _kept: True)


def _trained_trial(
    model: "ModelProto", ranges: Ranges, form: Form, frames: GateFrames, least_share: float
) -> Trial:
    """The weights, biases and ranges as they were trained."""
    seen = ranges_of(model, frames.calibration, "min-max", symmetric=True)
    lower = partial(_quantised_as_it_is, model, {**seen, **ranges}, form)
    layers = convolutions(model)
    return Trial(
        "training", lower, lower, layers, always_kept(model), _leaves_enough(model, least_share)
    )


def _quantised_as_it_is(
    model: "ModelProto", ranges: Ranges, form: Form, keep: Collection[str]
) -> "ModelProto":
    return quantised(model, ranges, keep, form)


def _leaves_enough(model: "ModelProto", least_share: float) -> Callable[[Collection[str]], bool]:
    layers = convolutions(model)

    def may_keep(kept: Collection[str]) -> bool:
        return share_of_work(model, [name for name in layers if name not in kept]) >= least_share

    return may_keep


def _int8_trials(
    alike: "ModelProto", align_px: int, form: Form, frames: GateFrames, least_share: float
) -> list[Trial]:
    """One for each way to find ranges, of a graph whose channels are alike."""
    layers, always = convolutions(alike), always_kept(alike)
    may_keep = _leaves_enough(alike, least_share)
    codes = rounded_weights(alike, frames.calibration)

    def trial(method: Method) -> Trial:
        ranges = ranges_of(alike, frames.calibration, method, symmetric=form.signed)

        @cache
        def errors(side_px: int) -> Errors:
            cut = [picture[:, :side_px, :side_px] for picture in frames.calibration]
            return mean_errors(alike, quantised(alike, ranges, always, SIGNED, codes), cut)

        def lower(side_px: int, keep: Collection[str]) -> "ModelProto":
            return quantised(corrected(alike, errors(side_px), keep), ranges, keep, form, codes)

        rough = partial(lower, max(GLANCED_PX // align_px, 1) * align_px)
        return Trial(method, partial(lower, MOST_PX), rough, layers, always, may_keep)

    return [trial(method) for method in METHODS]


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
