"""Speeds that can be compared on a machine that does other things besides."""

import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from statistics import median
from typing import TypeVar

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
