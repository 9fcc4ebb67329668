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
WORTH = 1.03  # times faster: less comes and goes with whatever else the machine does

Pass = Callable[[], float]
"""Goes through a clip once; gives frames a second."""

Speeds = Mapping[Tuning, float]
"""Frames a second, the median over the rounds."""

Name = TypeVar("Name", bound=Hashable)


def timed_rounds(
    passes: Mapping[Name, Pass], seconds: float, least: int = MIN_ROUNDS
) -> dict[Name, list[float]]:
    """Frames a second of every pass, once a round, so that other work hits all of them alike.

    Args:
        passes: By name.
        seconds: To go on for.
        least: Rounds there are at any rate.
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


@dataclass(frozen=True)
class Setup:
    """Conditions that a tuning is sought for: a clip, and how its artifact is run.

    Attributes:
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

    def factors(self, size: Size) -> dict[str, Sequence[Any]]:
        """Values worth trying for frames of ``(height, width)``, by attribute of `Tuning`."""
        allowed = self.threads or usable_cores()
        # A larger limit than the frame, or than memory allows, changes nothing.
        memory_px = TILE_MEMORY // self.artifact.metadata.bytes_per_px
        fitting = min(MAX_READ_PX, memory_px, size[0] * size[1])
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
    factors: Mapping[str, Sequence[Any]],
    contender: Callable[[Tuning], AbstractContextManager[Pass]],
    seconds: float,
    tried: Callable[[str, Speeds], None] = lambda _factor, _speeds: None,
) -> Found:
    """Try the values of one factor after the other, keeping what is clearly faster.

    Args:
        factors: Values to try besides the defaults, by attribute of `Tuning`, in this order.
        contender: Opens what is needed to go through the clip with a tuning.
        seconds: For each factor, and for the comparison at the end.
        tried: Told the speeds of each factor's candidates.
    """

    def fastest(held: Tuning, *others: Tuning) -> tuple[Tuning, float, Speeds]:
        """The fastest if it is clearly faster than the one held, its gain, and all speeds."""
        with ExitStack() as stack:
            passes = {each: stack.enter_context(contender(each)) for each in (held, *others)}
            timed_rounds(passes, 0, least=1)  # shapes are compiled, files cached
            rates = timed_rounds(passes, seconds)
        ratios = {tuning: median_ratio(each, rates[held]) for tuning, each in rates.items()}
        best = max(ratios, key=ratios.__getitem__)
        won = best if ratios[best] >= WORTH else held
        return won, ratios[won], {tuning: median(each) for tuning, each in rates.items()}

    best, trials = Tuning(), {}
    for factor, values in factors.items():
        if values and (best.reuse or factor not in ("kept_px", "step_px")):
            candidates = [replace(best, **{factor: value}) for value in values]
            best, _, trials[factor] = fastest(best, *candidates)
            tried(factor, trials[factor])
    if best == Tuning():
        return Found(best, 1.0, trials)
    # What won by chance does not win twice.
    won, gain, _ = fastest(Tuning(), best)
    return Found(won, gain, trials)
