"""One camera of a pipeline: its source, settings and queues, and the frames that come out of it."""

import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from edgecar.engines.base import Codes
from edgecar.errors import SettingsError
from edgecar.media.color import upright_bgr
from edgecar.media.frame import Frame
from edgecar.media.live import LiveSource
from edgecar.runtime.choice import NEVER_ABOVE_QUALITY, NEVER_BELOW_QP
from edgecar.runtime.restorer import Restorer
from edgecar.runtime.stats import PassReason, RunStats, Snapshot
from edgecar.spec import Policy

DEPTH = 3  # frames in a queue: enough to ride out an I-frame, little enough to bound memory


class FrameSource(Protocol):
    """Source of a pipeline: `edgecar.media.reader.Reader` or `edgecar.media.live.LiveReader`."""

    @property
    def live(self) -> bool: ...
    def __iter__(self) -> Iterator[Frame]: ...
    def close(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineSettings:
    """How frames are queued and which go out as they came in.

    Attributes:
        policy: ``block`` restores every frame, and the source waits; ``newest`` leaves out frames
            that a newer one has overtaken, and counts them. None: ``newest`` for live sources.
        max_latency_ms: A frame that would be older than this when it is restored passes as it is.
        skip_below_qp: H.264 frames finer than this mean QP pass as they are; 0: none. None: those
            finer than the weights were trained for.
        skip_above_quality: JPEG frames of a higher quality than this pass as they are; 100: none.
            None: those finer than the weights were trained for.
        quantiser: Told to networks that take one, for every frame: quality, 1 to 100, for weights
            for JPEG; else QP, 0 to 51. None: that of the frames.

    Raises:
        SettingsError: A limit is not above zero.
    """

    policy: Policy | None = None
    max_latency_ms: float | None = None
    skip_below_qp: float | None = None
    skip_above_quality: int | None = None
    quantiser: float | None = None

    def __post_init__(self) -> None:
        if self.max_latency_ms is not None and not self.max_latency_ms > 0:
            raise SettingsError(f"max_latency_ms is {self.max_latency_ms}; give a time above 0")

    def reads_coding(self, takes_quantiser: bool = True) -> bool:
        """Return True if frames must say how coarsely they were coded.

        Args:
            takes_quantiser: The network is told the quantiser, or it is not known which it will be.
        """
        limited = (self.skip_below_qp, self.skip_above_quality)
        told = takes_quantiser and self.quantiser is None
        return told or limited != (NEVER_BELOW_QP, NEVER_ABOVE_QUALITY)


class Camera:
    """One source on its way through a pipeline, whose lock guards everything but the counters."""

    def __init__(self, name: str, source: FrameSource, settings: PipelineSettings) -> None:
        self.name, self.source, self.settings = name, source, settings
        self.stats = RunStats()
        policy = settings.policy
        self.newest = policy == "newest" or (policy is None and source.live)
        self.depth = 1 if self.newest else DEPTH
        """Frames in each of the two queues."""
        self.read: deque[StreamFrame] = deque()
        self.done: deque[StreamFrame] = deque()
        self.in_hand = 0  # being restored
        self.removed = False
        self.read_to_end = False
        self.error: BaseException | None = None
        self.thread: threading.Thread | None = None
        self.restorers: set[Restorer] = set()
        """Restorers that restored a frame of this camera and still keep memory for it."""
        self.told: set[PassReason] = set()
        """Reasons to pass a frame that were logged."""
        self.stats.queues = {"read": lambda: len(self.read), "done": lambda: len(self.done)}
        if isinstance(source, LiveSource):
            self.stats.source = lambda: source.stats

    @property
    def ended(self) -> bool:
        """Nothing more will come out."""
        return self.read_to_end and not (self.read or self.in_hand or self.done)

    def forget(self, restorer: Restorer | None = None) -> None:
        """Free the memory that a restorer keeps for it; None: that of all restorers."""
        gone = self.restorers if restorer is None else {restorer} & self.restorers
        self.restorers = self.restorers - gone
        for each in gone:  # which may have to wait for a frame of another camera
            each.forget(self.name)

    def drop_waiting(self) -> None:
        """Leave out what waits to be restored."""
        for _ in range(len(self.read)):
            self.read.popleft()
            self.stats.count_dropped()


class StreamFrame:
    """A frame of a camera, restored or as it came in.

    Planes are shared with the restorer: copy them before you write into them.

    Attributes:
        frame: Planes, times and colour.
        before: The same frame as it was read.
        camera: The name of its camera.
        restored: False if it passed as it was.
        passed_because: Why it did; None for a frame that was restored.
        arrived_seconds: When it was read, on the clock of `time.monotonic`.
    """

    def __init__(self, before: Frame, camera: str, stats: RunStats, arrived_seconds: float) -> None:
        self.before = self.frame = before
        self.camera = camera
        self.restored = False
        self.passed_because: PassReason | None = None
        self.arrived_seconds = arrived_seconds
        self._stats = stats

    @property
    def pts(self) -> int | None:
        """When to show it, in ticks of ``frame.time_base``."""
        return self.frame.pts

    @property
    def pts_seconds(self) -> float | None:
        """When to show it."""
        if self.frame.pts is None or self.frame.time_base is None:
            return None
        return float(self.frame.pts * self.frame.time_base)

    @cached_property
    def bgr(self) -> Codes:
        """The picture, ``(H, W, 3)`` uint8, as OpenCV and detectors take it: upright."""
        return upright_bgr(self.frame)

    @property
    def stats(self) -> Snapshot:
        """Counters of the camera's frames so far."""
        return self._stats.snapshot()
