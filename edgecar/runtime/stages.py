"""How long each stage of a pipeline takes, frame by frame."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

FRAMES_KEPT = 2048
"""Percentiles are of the latest so many frames: above a minute at 30 frames/s, 16 KiB a stage."""


@dataclass(frozen=True, slots=True)
class Latency:
    """Times of one stage; the percentiles are times that occurred, those of the latest frames."""

    frames: int
    """Measured since the start."""
    total_seconds: float
    """Of all of them together."""
    p50_seconds: float
    p95_seconds: float
    p99_seconds: float

    @property
    def mean_seconds(self) -> float:
        """Of all frames since the start."""
        return self.total_seconds / self.frames

    def table(self) -> dict[str, Any]:
        """Plain values, in milliseconds."""
        seconds = {
            "mean_ms": self.mean_seconds,
            "p50_ms": self.p50_seconds,
            "p95_ms": self.p95_seconds,
            "p99_ms": self.p99_seconds,
        }
        return {"frames": self.frames} | {key: round(1e3 * s, 3) for key, s in seconds.items()}


class StageTimes:
    """Collects times by the name of their stage, from any thread, in bounded memory.

    Args:
        kept: Latest frames of a stage that its percentiles are taken of.
        clock: Seconds from anywhere.
    """

    def __init__(
        self, kept: int = FRAMES_KEPT, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._kept, self._clock = kept, clock
        self._lock = threading.Lock()
        self._stages: dict[str, _Times] = {}

    def add(self, stage: str, seconds: float) -> None:
        """Note how long ``stage`` took for one frame."""
        with self._lock:
            if stage not in self._stages:
                self._stages[stage] = _Times(np.empty(self._kept))
            self._stages[stage].add(seconds)

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Note how long the ``with`` block took, unless it fails.

        Example:
            >>> times = StageTimes(clock=iter([1.0, 1.25]).__next__)
            >>> with times.timed("restore"):
            ...     pass
            >>> times.latencies()["restore"].p99_seconds
            0.25
        """
        began = self._clock()
        yield
        self.add(stage, self._clock() - began)

    def latencies(self) -> dict[str, Latency]:
        """What was measured so far, by stage in order of appearance."""
        with self._lock:
            copies = {stage: times.copy() for stage, times in self._stages.items()}
        return {stage: times.latency() for stage, times in copies.items()}


@dataclass
class _Times:
    """A ring of the latest times of a stage, and the sum of all."""

    ring: NDArray[np.float64]
    frames: int = 0
    total_seconds: float = 0.0

    def add(self, seconds: float) -> None:
        self.ring[self.frames % len(self.ring)] = seconds
        self.frames += 1
        self.total_seconds += seconds

    def copy(self) -> "_Times":
        """What the ring holds, without its unused end."""
        return _Times(self.ring[: self.frames].copy(), self.frames, self.total_seconds)

    def latency(self) -> Latency:
        p50, p95, p99 = np.percentile(self.ring, (50, 95, 99), method="inverted_cdf")
        return Latency(self.frames, self.total_seconds, float(p50), float(p95), float(p99))
