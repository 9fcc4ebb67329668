"""Read ∥ restore ∥ use, in threads with bounded queues, for one camera or several.

Every camera has a thread that reads. One thread restores for all, in turn, so that they share an
engine fairly. Whoever iterates uses the results. Frames of a camera stay in order.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from edgecar.closing import Closing
from edgecar.engines.base import Codes
from edgecar.errors import SettingsError
from edgecar.media.color import bgr_from_frame
from edgecar.media.frame import Frame
from edgecar.media.live import LiveReader
from edgecar.runtime.restorer import Restorer
from edgecar.runtime.stats import PassReason, RunStats, Snapshot
from edgecar.spec import Policy

DEPTH = 3  # frames in a queue: enough to ride out an I-frame, little enough to bound memory
STOP_SECONDS = 5.0  # to wait for threads at the end
SLOW_START = 0.25  # share of a measured time in the next estimate


class FrameSource(Protocol):
    """What a pipeline reads: `edgecar.media.reader.Reader`, `edgecar.media.live.LiveReader`."""

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
        skip_below_qp: Frames coded finer than this mean QP pass as they are.
        skip_above_quality: JPEG frames of a higher quality than this pass as they are.

    Raises:
        SettingsError: A limit is not above zero.
    """

    policy: Policy | None = None
    max_latency_ms: float | None = None
    skip_below_qp: float | None = None
    skip_above_quality: int | None = None

    def __post_init__(self) -> None:
        if self.max_latency_ms is not None and not self.max_latency_ms > 0:
            raise SettingsError(f"max_latency_ms is {self.max_latency_ms}; give a time above 0")

    @property
    def reads_coding(self) -> bool:
        """Whether frames must say how coarsely they were coded."""
        return self.skip_below_qp is not None or self.skip_above_quality is not None


class StreamFrame:
    """A frame of a camera, restored or as it came in.

    Attributes:
        frame: Planes, times and colour.
        before: The same frame as it was read.
        camera: The name of its camera.
        restored: False if it passed as it was.
        arrived_seconds: When it was read, on the clock of `time.monotonic`.
    """

    def __init__(self, before: Frame, camera: "Camera", arrived_seconds: float) -> None:
        self.before = self.frame = before
        self.restored = False
        self.arrived_seconds = arrived_seconds
        self._camera = camera

    @property
    def camera(self) -> str:
        """The name of its camera."""
        return self._camera.name

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
        """The picture, ``(H, W, 3)`` uint8, as OpenCV and detectors take it."""
        return bgr_from_frame(self.frame)

    @property
    def stats(self) -> Snapshot:
        """What became of the camera's frames so far."""
        return self._camera.stats.snapshot()


class Camera:
    """One source on its way through a pipeline."""

    def __init__(self, name: str, source: FrameSource, policy: Policy | None) -> None:
        self.name, self.source = name, source
        self.stats = RunStats()
        self.newest = policy == "newest" or (policy is None and source.live)
        self.depth = 1 if self.newest else DEPTH
        self.read: deque[StreamFrame] = deque()
        self.done: deque[StreamFrame] = deque()
        self.in_hand = 0  # being restored
        self.read_to_end = False
        self.error: BaseException | None = None
        self.stats.watch_queue("read", lambda: len(self.read))
        self.stats.watch_queue("done", lambda: len(self.done))
        if isinstance(source, LiveReader):
            self.stats.watch_source(lambda: source.stats)

    @property
    def ended(self) -> bool:
        """Nothing more will come out."""
        return self.read_to_end and not (self.read or self.in_hand or self.done)


class Pipeline(Closing):
    """Iterates over restored frames of all cameras as they become ready.

    A failure of a source or of the engine is raised after the frames that were restored before it,
    and ends all cameras. Leaving the ``with`` block stops everything within seconds.

    Args:
        sources: By name; closed with the pipeline.
        restorer: Shared by all; stays the caller's to close.
        settings: For all cameras.
        clock: Seconds; for tests.
    """

    def __init__(
        self,
        sources: Mapping[str, FrameSource],
        restorer: Restorer,
        settings: PipelineSettings | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.settings = settings or PipelineSettings()
        self.cameras = {
            name: Camera(name, source, self.settings.policy) for name, source in sources.items()
        }
        self._restorer, self._clock = restorer, clock
        self._changed = threading.Condition()
        self._stopping = False
        self._failure: BaseException | None = None
        self._restore_seconds = 0.0
        self._turn = deque(self.cameras.values())
        self._threads = [
            threading.Thread(target=self._read, args=(camera,), name="edgecar-read", daemon=True)
            for camera in self.cameras.values()
        ]
        self._threads.append(
            threading.Thread(target=self._restore, name="edgecar-restore", daemon=True)
        )
        for camera in self.cameras.values():
            camera.stats.watch_restorer(lambda: restorer.stats)
        for thread in self._threads:
            thread.start()

    def __iter__(self) -> Iterator[StreamFrame]:
        return self

    def __next__(self) -> StreamFrame:
        """The next frame of any camera; each camera's are in order."""
        with self._changed:
            while True:
                ready = next((camera for camera in self._turn if camera.done), None)
                if ready is not None:
                    frame = ready.done.popleft()
                    self._changed.notify_all()
                    break
                if self._failure is not None:
                    raise self._failure
                broken = next((c for c in self._turn if c.ended and c.error is not None), None)
                if broken is not None and broken.error is not None:
                    raise broken.error
                if self._stopping or all(camera.ended for camera in self._turn):
                    raise StopIteration
                self._changed.wait()
        ready.stats.times.add("age", self._clock() - frame.arrived_seconds)
        return frame

    def close(self) -> None:
        """Stop all threads and close all sources; harmless when repeated."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        for camera in self.cameras.values():
            # A file must not be closed while its thread reads; that ends soon, and closes it.
            if isinstance(camera.source, LiveReader):
                camera.source.close()
        until = time.monotonic() + STOP_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
        for camera in self.cameras.values():
            while camera.read:
                camera.read.popleft()
                camera.stats.count_dropped()

    def _read(self, camera: Camera) -> None:
        error: BaseException | None = None
        try:
            frames = iter(camera.source)
            while not self._stopping:
                with camera.stats.times.timed("read"):
                    frame = next(frames, None)
                if frame is None or not self._put(camera, frame):
                    break
        except BaseException as caught:  # raised again where it can be caught
            error = caught
        try:
            camera.source.close()
        except BaseException as caught:  # who waits must hear of the end all the same
            error = error or caught
        with self._changed:
            camera.read_to_end, camera.error = True, error
            self._changed.notify_all()

    def _put(self, camera: Camera, frame: Frame) -> bool:
        """Queue a frame that was read; False if everything stops."""
        camera.stats.count_read(frame.coding)
        waiting = StreamFrame(frame, camera, self._clock())
        with self._changed:
            if camera.newest:
                for _ in range(len(camera.read)):
                    camera.read.popleft()
                    camera.stats.count_dropped()
            while len(camera.read) >= camera.depth and not self._stopping:
                self._changed.wait()
            if self._stopping:
                camera.stats.count_dropped()
                return False
            camera.read.append(waiting)
            self._changed.notify_all()
            return True

    def _restore(self) -> None:
        try:
            while (frames := self._next_round()) is not None:
                self._bring_up(frames)
                with self._changed:
                    for frame, camera in frames:
                        camera.in_hand -= 1
                        camera.done.append(frame)
                    self._changed.notify_all()
        except BaseException as error:  # raised again where it can be caught
            with self._changed:
                self._failure = error
                self._stopping = True
                self._changed.notify_all()

    def _next_round(self) -> list[tuple[StreamFrame, Camera]] | None:
        """At most one frame of each camera; None when everything is over."""
        with self._changed:
            while not self._stopping:
                ready = [c for c in self._turn if c.read and len(c.done) < c.depth]
                if ready:
                    frames = [(camera.read.popleft(), camera) for camera in ready]
                    for camera in ready:
                        camera.in_hand += 1
                    self._turn.rotate(-1)
                    self._changed.notify_all()
                    return frames
                if all(camera.read_to_end and not camera.read for camera in self._turn):
                    return None
                self._changed.wait()
        return None

    def _bring_up(self, frames: list[tuple[StreamFrame, Camera]]) -> None:
        """Restore frames, each of another camera, or let them pass."""
        reasons = [self._reason_to_pass(frame) for frame, _ in frames]
        for (_, camera), reason in zip(frames, reasons, strict=True):
            if reason is not None:
                camera.stats.count_passed(reason)
        chosen = [each for each, reason in zip(frames, reasons, strict=True) if reason is None]
        if not chosen:
            return
        began = time.perf_counter()
        restored = self._restorer.restore_all(
            [frame.before for frame, _ in chosen], [camera.name for _, camera in chosen]
        )
        seconds = time.perf_counter() - began
        self._restore_seconds += SLOW_START * (seconds - self._restore_seconds)
        for (frame, camera), after in zip(chosen, restored, strict=True):
            frame.frame, frame.restored = after, True
            camera.stats.times.add("restore", seconds)
            camera.stats.count_restored()

    def _reason_to_pass(self, frame: StreamFrame) -> PassReason | None:
        settings, coding = self.settings, frame.before.coding
        if coding.is_finer(than_qp=settings.skip_below_qp):
            return "below_qp"
        if coding.is_finer(than_quality=settings.skip_above_quality):
            return "above_quality"
        if settings.max_latency_ms is not None:
            age = self._clock() - frame.arrived_seconds
            if 1e3 * (age + self._restore_seconds) > settings.max_latency_ms:
                return "over_latency_budget"
        return None
