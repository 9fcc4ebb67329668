"""Search for the fastest tuning of a clip: one factor after the other, candidates in turn."""

import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from statistics import median
from typing import Any, TypeVar

from edgecar.artifact import Artifact
from edgecar.engines.select import usable_cores
from edgecar.runtime.cameras import NULL, Job
from edgecar.runtime.job import run_job
from edgecar.runtime.restorer import Restorer
from edgecar.runtime.runner import TILE_MEMORY
from edgecar.runtime.tuning import MAX_READ_PX, Tuning
from edgecar.spec import Precision, Size

MIN_ROUNDS = 3

Pass = Callable[[], float]
"""Goes through a clip once; gives frames a second."""

Name = TypeVar("Name", bound=Hashable)


def timed_rounds(
    passes: Mapping[Name, Pass], seconds: float, least: int = MIN_ROUNDS
) -> dict[Name, list[float]]:
    """Every pass once a round, so that what else the machine does hits all alike.

    Args:
        passes: By name.
        seconds: To go on for.
        least: Rounds there are at any rate.

    Returns:
        Frames a second of each, round by round.
    """
    rates: dict[Name, list[float]] = {name: [] for name in passes}
    began, rounds = time.perf_counter(), 0
    while rounds < least or time.perf_counter() - began < seconds:
        for name, run in passes.items():
            rates[name].append(run())
        rounds += 1
    return rates


def median_ratio(rates: Sequence[float], others: Sequence[float]) -> float:
    """How many times faster one was than another: the median over the rounds.

    Example:
        >>> median_ratio([10.0, 40.0, 30.0], [10.0, 10.0, 20.0])
        1.5
    """
    return median(one / other for one, other in zip(rates, others, strict=True))


WORTH = 1.03  # times faster: less comes and goes with whatever else the machine does
OF_REUSE = ("kept_px", "step_px")

Factors = Mapping[str, Sequence[Any]]
"""Values to try, by attribute of `Tuning`, in this order."""

Contender = Callable[[Tuning], AbstractContextManager[Pass]]
"""Opens what is needed to go through the clip with a tuning."""

Speeds = Mapping[Tuning, float]
"""Frames a second, the median over the rounds."""


@dataclass(frozen=True)
class Setup:
    """Conditions that a tuning is sought for.

    Attributes:
        clip: A video file.
        artifact: Artifact that restores it.
        engine: Name of an engine.
        precision: Arithmetic; None takes the engine's choice.
        threads: CPU threads, at most; None: all usable cores.
        frames: Number of frames measured per pass.
    """

    clip: str
    artifact: Artifact
    engine: str = "auto"
    precision: Precision | None = None
    threads: int | None = None
    frames: int | None = None

    @contextmanager
    def contender(self, tuning: Tuning) -> Iterator[Pass]:
        """Goes from the file to null with a tuning, as ``edgecar run`` does."""
        job = Job(self.clip, NULL, frames=self.frames)
        with Restorer(
            self.artifact, self.engine, self.precision, threads=self.threads, tuning=tuning
        ) as restorer:
            yield lambda: run_job(job, restorer, lambda _done, _all: None).fps

    def factors(self, size: Size) -> Factors:
        """Values worth trying for frames of ``(height, width)``."""
        allowed = self.threads or usable_cores()
        most_px = min(MAX_READ_PX, TILE_MEMORY // self.artifact.metadata.bytes_per_px)
        # A larger limit than the frame, or than memory allows, changes nothing.
        fitting = min(most_px, size[0] * size[1])
        return {
            "threads": sorted({threads for threads in (1, allowed // 2) if 0 < threads < allowed}),
            "reuse": [False],
            "max_read_px": [px for px in (1 << 18, 1 << 19) if px < fitting],
            "kept_px": [16, 64],
            "step_px": [32, 128],
        }


@dataclass(frozen=True)
class Found:
    """The outcome of a search.

    Attributes:
        tuning: The fastest; the defaults if nothing is clearly faster.
        gain: Its speed over that of the defaults, in a comparison of the two alone.
        trials: Speeds of the candidates, by factor.
    """

    tuning: Tuning
    gain: float
    trials: Mapping[str, Speeds]


def search(
    factors: Factors,
    contender: Contender,
    seconds: float,
    tried: Callable[[str, Speeds], None] = lambda _factor, _speeds: None,
) -> Found:
    """Try the values of one factor after the other, keeping what is clearly faster.

    Args:
        factors: Values to try besides the defaults.
        contender: Opens a candidate.
        seconds: For each factor, and for the comparison at the end.
        tried: Told the speeds of each factor's candidates.
    """
    best, trials = Tuning(), {}
    for factor, values in factors.items():
        if not values or (factor in OF_REUSE and not best.reuse):
            continue
        candidates = [best, *(replace(best, **{factor: value}) for value in values)]
        rates = _compared(candidates, contender, seconds)
        trials[factor] = {tuning: median(each) for tuning, each in rates.items()}
        tried(factor, trials[factor])
        best = _fastest(rates, best)
    if best == Tuning():
        return Found(best, 1.0, trials)
    rates = _compared([Tuning(), best], contender, seconds)
    # What won by chance does not win twice.
    won = _fastest(rates, Tuning())
    return Found(won, median_ratio(rates[won], rates[Tuning()]), trials)


def _fastest(rates: Mapping[Tuning, Sequence[float]], held: Tuning) -> Tuning:
    """The fastest, if it is clearly faster than the one that is held."""
    ratios = {tuning: median_ratio(each, rates[held]) for tuning, each in rates.items()}
    fastest = max(ratios, key=ratios.__getitem__)
    return fastest if ratios[fastest] >= WORTH else held


def _compared(
    tunings: Sequence[Tuning], contender: Contender, seconds: float
) -> dict[Tuning, list[float]]:
    with ExitStack() as stack:
        passes = {tuning: stack.enter_context(contender(tuning)) for tuning in tunings}
        timed_rounds(passes, 0, least=1)  # shapes are compiled, files cached
        return timed_rounds(passes, seconds)
