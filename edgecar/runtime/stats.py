"""Counters and latencies of one camera's frames."""

import math
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import fmean
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from edgecar.media.frame import CODING_NOT_STATED, Coding
from edgecar.runtime.quantisers import NOTHING, Told
from edgecar.spec import Size

if TYPE_CHECKING:
    from edgecar.media.live import LiveStats

FRAMES_KEPT = 2048  # latest frames that percentiles are of: above a minute at 30 frames/s
RECENT_SECONDS = 10.0  # time that rates and recent means look back on

PassReason = Literal[
    "over_latency_budget",
    "below_qp",
    "above_quality",
    "other_coder",
    "overload",
    "as_asked",
    "engine_failed",
]
"""Why a frame goes out as it came in."""


@dataclass(frozen=True, slots=True)
class Latency:
    """Times of one stage since the start; percentiles are times of its `FRAMES_KEPT` latest."""

    frames: int
    total_seconds: float
    p50_seconds: float
    p95_seconds: float
    p99_seconds: float

    def table(self) -> dict[str, Any]:
        """Plain values, in milliseconds."""
        seconds = {
            "mean_ms": self.total_seconds / self.frames,
            "p50_ms": self.p50_seconds,
            "p95_ms": self.p95_seconds,
            "p99_ms": self.p99_seconds,
        }
        return {"frames": self.frames} | {key: round(1e3 * s, 3) for key, s in seconds.items()}


class StageTimes:
    """Times by the name of their stage, added from any thread, in bounded memory."""

    def __init__(
        self, kept: int = FRAMES_KEPT, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self._frames: Counter[str] = Counter()
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._latest: defaultdict[str, deque[float]] = defaultdict(lambda: deque(maxlen=kept))

    def add(self, stage: str, seconds: float) -> None:
        """Note how long ``stage`` took for one frame."""
        with self._lock:
            self._frames[stage] += 1
            self._seconds[stage] += seconds
            self._latest[stage].append(seconds)

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Note how long the ``with`` block took, unless it fails."""
        began = self._clock()
        yield
        self.add(stage, self._clock() - began)

    def latencies(self) -> dict[str, Latency]:
        """Return the latencies so far, by stage in order of appearance."""
        with self._lock:
            kept = [
                (s, self._frames[s], self._seconds[s], list(t)) for s, t in self._latest.items()
            ]
        found = {}
        for stage, frames, seconds, latest in kept:
            # The nearest rank: a time that occurred.
            percentiles = np.percentile(latest, (50, 95, 99), method="inverted_cdf").tolist()
            found[stage] = Latency(frames, seconds, *percentiles)
        return found


@dataclass
class Stats:
    """Counters of a restorer's work since it was made."""

    frames: int = 0
    windows_run: int = 0
    pixels_read: int = 0
    pixels_of_frames: int = 0
    frames_compared: int = 0
    mean_square_losses: float = 0.0
    """Sum of the mean square losses of the compared frames, in codes²."""
    seconds: float = 0.0
    """Spent on them."""
    passed_because: Counter[str] = field(default_factory=Counter)
    """Frames that the weights were not trained for, given back as they came, by `PassReason`."""
    quantiser: float | None = None
    """QP, or quality of weights for JPEG, told for the last frame; None: the network takes none."""
    quantiser_moves: int = 0
    """Frames for which it was another than for the frame before of their stream."""
    quantiser_unknown_frames: int = 0
    """Frames for which nothing told it: the middle of the range was taken."""

    def count(
        self, size: Size, tiles: int, pixels: int, seconds: float, told: Told = NOTHING
    ) -> None:
        """Add a frame: tiles run, pixels they read, time it took, quantiser that was told."""
        self.quantiser = told.setting
        self.quantiser_moves += told.moved
        self.quantiser_unknown_frames += not told.known
        self.frames += 1
        self.seconds += seconds
        self.windows_run += tiles
        self.pixels_read += pixels
        self.pixels_of_frames += size[0] * size[1]

    @property
    def computed_share(self) -> float:
        """Pixels read by tiles over pixels of all frames; above 1 where halos are read twice."""
        return self.pixels_read / self.pixels_of_frames if self.pixels_of_frames else 0.0

    @property
    def psnr_to_exact(self) -> float | None:
        """PSNR in dB of the output against the same frames computed in full.

        Infinite if all bytes are equal; None if no frame was compared.
        """
        if not self.frames_compared:
            return None
        loss = self.mean_square_losses / self.frames_compared
        return 10 * math.log10(255**2 / loss) if loss else math.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Everything counted so far, at one moment.

    ``frames_read = frames_restored + frames_passed + frames_dropped + frames_in_flight``, always;
    after a run that was not cut short nothing is in flight. "Recent" and the rates are of the last
    `RECENT_SECONDS`; ``camera_fps``, ``process_fps`` and ``skipped_fps``, in Frigate's words, are
    frames read, restored, and passed or dropped a second.
    """

    seconds: float
    """Since the start."""
    frames_read: int
    frames_restored: int
    passed_because: Mapping[str, int]
    """Frames that went out as they came in, by `PassReason`."""
    frames_dropped: int
    """Never went out: a newer one took their place."""
    camera_fps: float
    process_fps: float
    skipped_fps: float
    qp: float | None
    """Mean of the frames' mean QPs; None where none had one."""
    qp_recent: float | None
    jpeg_quality: float | None
    """Mean quality of JPEG frames; None where none were JPEG."""
    jpeg_quality_recent: float | None
    reconnects: int
    corrupt_frames: int
    quantiser: float | None
    """Told for the last frame; see `Stats`, as for the next two."""
    quantiser_moves: int
    quantiser_unknown_frames: int
    windows_run: int
    computed_share: float
    """Pixels the network read, halos included, over pixels of the frames it restored."""
    queue_depths: Mapping[str, int]
    latencies: Mapping[str, Latency]

    @property
    def frames_passed(self) -> int:
        """Frames that went out as they came in."""
        return sum(self.passed_because.values())

    @property
    def outcomes(self) -> Mapping[str, int]:
        """Frames that are done with, by what became of them."""
        return {
            "restored": self.frames_restored,
            "passed": self.frames_passed,
            "dropped": self.frames_dropped,
        }

    @property
    def frames_in_flight(self) -> int:
        """Read, but neither restored, passed nor dropped yet."""
        return self.frames_read - sum(self.outcomes.values())

    def table(self) -> dict[str, Any]:
        """Plain values, in the keys of ``--stats-json``."""
        return {
            "seconds": round(self.seconds, 3),
            "frames": {
                "read": self.frames_read,
                **self.outcomes,
                "in_flight": self.frames_in_flight,
                "corrupt": self.corrupt_frames,
            },
            "passed_because": dict(self.passed_because),
            "camera_fps": round(self.camera_fps, 3),
            "process_fps": round(self.process_fps, 3),
            "skipped_fps": round(self.skipped_fps, 3),
            "reconnects": self.reconnects,
            "qp": _rounded(self.qp),
            "qp_recent": _rounded(self.qp_recent),
            "jpeg_quality": _rounded(self.jpeg_quality),
            "jpeg_quality_recent": _rounded(self.jpeg_quality_recent),
            "quantiser": _rounded(self.quantiser),
            "quantiser_moves": self.quantiser_moves,
            "quantiser_unknown_frames": self.quantiser_unknown_frames,
            "windows_run": self.windows_run,
            "computed_share": round(self.computed_share, 4),
            "queue_depths": dict(self.queue_depths),
            "latency": {stage: latency.table() for stage, latency in self.latencies.items()},
        }


class RunStats:
    """Counts what happens to the frames of one camera; every method is for any thread.

    Every frame is counted as read first, then once as restored, passed or dropped.
    """

    def __init__(
        self,
        recent_seconds: float = RECENT_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.times = StageTimes()
        """Times of the stages, added by whoever does the work."""
        self.work = Stats()
        """Work of all restorers for this camera, counted by whoever takes their results."""
        self.queues: dict[str, Callable[[], int]] = {}
        """Functions that return the number of items in a queue, by its name."""
        self.source: Callable[[], LiveStats] | None = None
        """Function that returns the counters of a live source."""
        self._recent_seconds = recent_seconds
        self._clock, self._began = clock, clock()
        self._lock = threading.Lock()
        self._passed: Counter[str] = Counter()
        self._read, self._restored, self._skipped, self._qp, self._quality = (
            _Recent(recent_seconds) for _ in range(5)
        )

    def count_read(self, coding: Coding = CODING_NOT_STATED) -> None:
        """One more frame came in."""
        with self._lock:
            now = self._clock()
            self._read.add(now, 1)
            if coding.qp is not None:
                self._qp.add(now, coding.qp)
            if coding.jpeg_quality is not None:
                self._quality.add(now, coding.jpeg_quality)

    def count_restored(self) -> None:
        """One frame was restored."""
        with self._lock:
            self._restored.add(self._clock(), 1)

    def count_passed(self, reason: PassReason) -> None:
        """One frame goes out as it came in."""
        with self._lock:
            self._passed[reason] += 1
            self._skipped.add(self._clock(), 1)

    def count_dropped(self) -> None:
        """One frame will not go out at all."""
        with self._lock:
            self._skipped.add(self._clock(), 1)

    def snapshot(self) -> Snapshot:
        """All numbers at this moment."""
        # Outside the lock: what is watched may have locks of its own.
        source, latencies = self.source and self.source(), self.times.latencies()
        depths = {name: depth() for name, depth in self.queues.items()}
        with self._lock:
            now = self._clock()
            seconds = now - self._began
            over = min(self._recent_seconds, seconds)
            camera_fps, process_fps, skipped_fps = (
                len(counted.latest(now)) / over if over > 0 else 0.0
                for counted in (self._read, self._restored, self._skipped)
            )
            return Snapshot(
                seconds=seconds,
                frames_read=self._read.count,
                frames_restored=self._restored.count,
                passed_because=dict(self._passed),
                frames_dropped=self._skipped.count - self._passed.total(),
                camera_fps=camera_fps,
                process_fps=process_fps,
                skipped_fps=skipped_fps,
                qp=self._qp.mean,
                qp_recent=self._qp.recent_mean(now),
                jpeg_quality=self._quality.mean,
                jpeg_quality_recent=self._quality.recent_mean(now),
                reconnects=source.reconnects if source else 0,
                corrupt_frames=source.corrupt_frames if source else 0,
                quantiser=self.work.quantiser,
                quantiser_moves=self.work.quantiser_moves,
                quantiser_unknown_frames=self.work.quantiser_unknown_frames,
                windows_run=self.work.windows_run,
                computed_share=self.work.computed_share,
                queue_depths=depths,
                latencies=latencies,
            )


class _Recent:
    """Values with their times: all of them summed up, those of the last seconds one by one."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._latest: deque[tuple[float, float]] = deque()
        self.count, self._sum = 0, 0.0

    def add(self, now: float, value: float) -> None:
        self.count += 1
        self._sum += value
        self._latest.append((now, value))
        self._forget(now)

    def latest(self, now: float) -> list[float]:
        self._forget(now)
        return [value for _, value in self._latest]

    @property
    def mean(self) -> float | None:
        return self._sum / self.count if self.count else None

    def recent_mean(self, now: float) -> float | None:
        latest = self.latest(now)
        return fmean(latest) if latest else None

    def _forget(self, now: float) -> None:
        while self._latest and self._latest[0][0] <= now - self._seconds:
            self._latest.popleft()


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)
