"""Selection of the precision that pays here: artifacts of one network timed in turn."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median, quantiles
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from edgecar.artifact import Artifact
from edgecar.engines.select import default_engine, resolved
from edgecar.errors import GateError
from edgecar.exporter.lower import Lowering, Report, lowered_artifact
from edgecar.exporter.recipe import ForEngine, Lower
from edgecar.exporter.to_onnx import Exported, Source
from edgecar.metadata import Metadata, Quality
from edgecar.runtime.restorer import Restorer
from edgecar.runtime.tune import WORTH, Pass, Setup, median_ratio, timed_rounds
from edgecar.runtime.tuning import Tuning
from edgecar.spec import Precision, Size

if TYPE_CHECKING:
    from onnx import ModelProto

ROUNDS = 9  # at least: the slowest quarter of fewer says little
SECONDS = 10.0
SIZES: tuple[Size, ...] = ((1080, 1920), (540, 960), (270, 480))
MOST_SECONDS = 1.0  # for a frame in FP32; where it takes longer, smaller frames are timed
BASE: Precision = "fp32"

RUN_BY: Mapping[ForEngine, str] = {
    "openvino": "openvino",
    "tensorrt": "onnxruntime:tensorrt",
    "onnxruntime": "onnxruntime",
}
"""Which of our engines runs what is written down for one."""

Outcome = Literal["taken", "refused", "not run", "slower", "no faster"]
"""Outcome of a precision: refused by the gate, not computed by the engine, or not worth it here."""


@dataclass(frozen=True)
class Speed:
    """Frames a second of an artifact, round by round, and the arithmetic that the engine chose."""

    computed: Precision
    provider: str
    rates: Sequence[float] = ()


@dataclass(frozen=True)
class Standing:
    """Result of one precision; what was not timed has None and says why.

    Attributes:
        precision: Precision of the graph.
        outcome: ``taken``, or why it was not.
        computed: The arithmetic that the engine chose for it.
        fps: Frames a second, the median.
        ratio: Times FP32, the median over the rounds.
        least_ratio: Times FP32 in the slowest quarter of the rounds: what it must be worth.
        quality: Loss in the gate; None for FP32, and where the gate refused it.
        why: In words, where nothing was timed.
    """

    precision: Precision
    outcome: Outcome
    computed: Precision | None = None
    fps: float | None = None
    ratio: float | None = None
    least_ratio: float | None = None
    quality: Quality | None = None
    why: str = ""


@dataclass(frozen=True)
class Contest:
    """The outcome of timing precisions on frames of a size; FP32 stands first."""

    taken: Precision
    size: Size
    provider: str
    standings: Sequence[Standing]


def export_fastest(
    source: Source,
    lowering: Lowering,
    output: Path | None = None,
    report: Report = lambda _what: None,
) -> tuple[Exported, Contest]:
    """Export a network in the precision that is fastest here and passes the gate.

    Args:
        source: The network.
        lowering: How to lower it; its precision counts for nothing.
        output: Path of the artifact; named by the precision if not given.
        report: Told what takes long.

    Raises:
        ExportError: As of `edgecar.exporter.to_onnx.export`, but that the gate refuses nothing:
            what it refuses is no candidate.
        EngineError: The engine that INT8 is written down for is not to be had here.
    """
    source.output(BASE, output)  # refused before anything takes long
    engine = RUN_BY[lowering.for_engine]
    base = source.graph()
    dense_restorer(_artifact(*base), engine).close()  # that, too
    artifacts, refused = candidates(source, base, lowering, report)
    report("timing")
    found = contest(artifacts, refused, engine=engine)
    path = source.output(found.taken, output)
    return source.written(artifacts[found.taken], path), found


def native_form() -> ForEngine:
    """The form of INT8 that this machine's default engine runs fastest."""
    return "openvino" if default_engine() == "openvino" else "onnxruntime"


def candidates(
    source: Source, base: tuple["ModelProto", Metadata], lowering: Lowering, report: Report
) -> tuple[dict[Precision, Artifact], dict[Precision, str]]:
    """The FP32 artifact and those in lower precision that pass, and why the others do not."""
    model, metadata = base
    trained = source.trained(model)
    artifacts: dict[Precision, Artifact] = {BASE: _artifact(model, metadata)}
    refused: dict[Precision, str] = {}
    for precision in get_args(Lower):
        wanted = replace(lowering, precision=precision)

        def told(what: str, precision: Precision = precision) -> None:
            report(f"{precision}, {what}")

        try:
            made, lower = lowered_artifact(model, metadata, wanted, source.recipe, told, trained)
        except GateError as error:
            refused[precision] = str(error).partition(";")[0]
        else:
            artifacts[precision] = _artifact(made, lower)
    return artifacts, refused


def _artifact(model: "ModelProto", metadata: Metadata) -> Artifact:
    return Artifact(metadata, model.SerializeToString())


def contest(
    artifacts: Mapping[Precision, Artifact],
    refused: Mapping[Precision, str],
    *,
    engine: str = "auto",
    seconds: float = SECONDS,
) -> Contest:
    """Time the precisions of a network for so long, at least `ROUNDS` rounds, and choose one.

    Raises:
        EngineError: The engine is not to be had, or refuses an artifact.
    """
    size = size_to_time(artifacts[BASE], engine)
    return judged(artifacts, timed(artifacts, engine, size, seconds), refused, size)


def judged(
    artifacts: Mapping[Precision, Artifact],
    speeds: Mapping[Precision, Speed],
    refused: Mapping[Precision, str],
    size: Size,
) -> Contest:
    """Choose by speeds on frames of a size, and the gate's reasons against the others.

    A lower precision is taken only if it is faster than FP32 in three quarters of all rounds, by at
    least what `edgecar tune` asks for; the fastest of those.
    """
    base = speeds[BASE]
    standings = [
        _standing(precision, artifacts[precision].metadata.quality, speed, base)
        for precision, speed in speeds.items()
    ]
    standings += [Standing(name, "refused", why=why) for name, why in refused.items()]
    worth = [s for s in standings if (s.least_ratio or 0) >= WORTH]
    taken = max(worth, key=lambda s: s.ratio or 0).precision if worth else BASE
    ended = [
        replace(standing, outcome="taken") if standing.precision == taken else standing
        for standing in standings
    ]
    return Contest(taken, size, base.provider, ended)


def _standing(precision: Precision, quality: Quality | None, speed: Speed, base: Speed) -> Standing:
    if not speed.rates:
        why = f"{speed.provider} computes it in {speed.computed} here"
        return Standing(precision, "not run", speed.computed, quality=quality, why=why)
    ratios = [one / other for one, other in zip(speed.rates, base.rates, strict=True)]
    ratio = median_ratio(speed.rates, base.rates)
    return Standing(
        precision,
        "slower" if ratio < 1 else "no faster",
        speed.computed,
        fps=median(speed.rates),
        ratio=ratio,
        least_ratio=quantiles(ratios, n=4)[0],
        quality=quality,
    )


def timed(
    artifacts: Mapping[Precision, Artifact],
    engine: str,
    size: Size,
    seconds: float,
    forced: Mapping[Precision, Precision] | None = None,
    least: int = ROUNDS,
) -> dict[Precision, Speed]:
    """Speeds of artifacts on whole frames, every pixel computed, one frame of each in turn.

    A lower precision that the engine computes in another one has no rates: it would only be FP32
    with casts.

    Args:
        artifacts: By what they are called.
        engine: Name.
        size: ``(height, width)`` of the frames.
        seconds: Time to go on for.
        forced: Arithmetic to compute some in; the engine's choice for the others.
        least: Rounds there are at any rate.
    """
    speeds: dict[Precision, Speed] = {}
    passes: dict[Precision, Pass] = {}
    with ExitStack() as stack:
        for name, artifact in artifacts.items():
            wanted = (forced or {}).get(name)
            restorer = stack.enter_context(dense_restorer(artifact, engine, wanted))
            info = restorer.engine.info
            speeds[name] = Speed(info.precision, info.provider)
            if artifact.metadata.precision in (BASE, info.precision):
                passes[name] = frame_pass(restorer, size)
        return _with_rates(speeds, passes, seconds, least)


def timed_on_clip(
    setup: Setup, artifacts: Mapping[Precision, Artifact], tuning: Tuning, seconds: float
) -> dict[Precision, Speed]:
    """Speeds of artifacts on a clip, as ``edgecar run`` goes through it, in turn; see `timed`."""
    speeds: dict[Precision, Speed] = {}
    passes: dict[Precision, Pass] = {}
    with ExitStack() as stack:
        for name, artifact in artifacts.items():
            with Restorer(artifact, setup.engine, threads=setup.threads) as restorer:
                info = restorer.engine.info
            speeds[name] = Speed(info.precision, info.provider)
            if name in (BASE, info.precision):
                own = replace(setup, artifact=artifact, precision=None)
                passes[name] = stack.enter_context(own.contender(tuning))
        return _with_rates(speeds, passes, seconds, ROUNDS)


def _with_rates(
    speeds: dict[Precision, Speed], passes: dict[Precision, Pass], seconds: float, least: int
) -> dict[Precision, Speed]:
    timed_rounds(passes, 0, least=2)  # shapes are compiled, memory is there, files cached
    rates = timed_rounds(passes, seconds, least)
    return {name: replace(speed, rates=rates.get(name, ())) for name, speed in speeds.items()}


def form_for(engine: str) -> ForEngine | None:
    """The form of INT8 that one of our engines runs fastest; None if there is none."""
    named = resolved(engine)
    return next((form for form, runs in RUN_BY.items() if runs == named), None)


def dense_restorer(artifact: Artifact, engine: str, precision: Precision | None = None) -> Restorer:
    """A restorer that computes every pixel, whatever was tuned on this machine."""
    return Restorer(artifact, engine, precision, reuse=False, tuning=Tuning())


def frame_pass(restorer: Restorer, size: Size) -> Pass:
    """Restores a frame of noise; the two that take turns are never the same twice running."""
    grey = restorer.metadata.channels == 1
    dice = np.random.default_rng(0)
    frames = [dice.integers(0, 256, size if grey else (*size, 3), np.uint8) for _ in range(2)]
    restore: Callable[[Any], Any] = restorer.luma if grey else restorer

    def run() -> float:
        frames.reverse()
        began = time.perf_counter()
        restore(frames[0])
        return 1 / (time.perf_counter() - began)

    return run


def size_to_time(artifact: Artifact, engine: str) -> Size:
    """The largest of `SIZES` of which an artifact restores a frame in `MOST_SECONDS`."""
    smallest = SIZES[-1]
    with dense_restorer(artifact, engine) as restorer:
        run = frame_pass(restorer, smallest)
        run()  # what is compiled is compiled
        seconds_per_px = 1 / run() / (smallest[0] * smallest[1])
    fitting = [size for size in SIZES if size[0] * size[1] * seconds_per_px <= MOST_SECONDS]
    return fitting[0] if fitting else smallest
