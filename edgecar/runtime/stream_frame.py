"""A frame on its way through a pipeline, and out of it."""

from functools import cached_property

from edgecar.engines.base import Codes
from edgecar.media.color import upright_bgr
from edgecar.media.frame import Frame
from edgecar.runtime.stats import PassReason, RunStats, Snapshot


class StreamFrame:
    """A frame of a camera, restored or as it came in.

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
        """What became of the camera's frames so far."""
        return self._stats.snapshot()
