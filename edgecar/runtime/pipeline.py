"""Reading, restoring and using frames at the same time, in threads with bounded queues.

Every camera has a thread that reads. One thread restores for all, in turn, so that they share an
engine fairly. Whoever iterates uses the results. Frames of a camera stay in order.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from edgecar.closing import Closing
from edgecar.errors import EdgecarError, SettingsError
from edgecar.media.frame import Frame
from edgecar.media.live import LiveSource
from edgecar.redaction import text_redacted
from edgecar.runtime.camera import Camera, FrameSource, PipelineSettings, StreamFrame
from edgecar.runtime.restorer import Restorer, Round
from edgecar.runtime.stats import PassReason

STOP_SECONDS = 5.0  # to wait for threads at the end
ALL = 1 << 16  # cameras: more than there will be
SLOW_START = 0.25  # share of a measured time in the next estimate

_log = logging.getLogger(__name__)

Choose = Callable[[StreamFrame], Restorer | PassReason]
"""Function that returns the restorer of a frame, or the reason why it passes as it is."""

Failed = Callable[[Restorer, EdgecarError], PassReason]
"""Told of a restorer that failed; why its frames pass."""


class Pipeline(Closing):
    """Iterates over restored frames of all cameras as they become ready.

    A failure of a source or of the engine is raised after the frames that were restored before it,
    and ends all cameras. Leaving the ``with`` block stops everything within seconds.

    Args:
        sources: By name; closed with the pipeline.
        restorer: Shared by all; stays the caller's to close. A function chooses for every frame.
        settings: For all cameras.
        clock: Seconds; for tests.
        endless: Wait for cameras to be added where there are none, until `close`.
        failed: Called where a restorer fails, instead of ending all.
        together: Cameras of which a frame is restored in one go; engines that take batches of one
            shape like many. With others the next frame is chosen when the last one is done, which
            halves its age where there are four. None: by the restorer's engine.
    """

    def __init__(
        self,
        sources: Mapping[str, FrameSource],
        restorer: Restorer | Choose,
        settings: PipelineSettings | None = None,
        clock: Callable[[], float] = time.monotonic,
        *,
        endless: bool = False,
        failed: Failed | None = None,
        together: int | None = None,
    ) -> None:
        batches = isinstance(restorer, Restorer) and restorer.engine.info.shape is not None
        self._together = together or (ALL if batches else 1)
        self.settings = settings or PipelineSettings()
        self.cameras: dict[str, Camera] = {}
        """By name; those that run now."""
        self._restorer, self._clock, self._endless, self._failed = restorer, clock, endless, failed
        self._changed = threading.Condition()
        self._stopping = False
        self._failure: BaseException | None = None
        self._restore_seconds = 0.0
        self._turn: deque[Camera] = deque()
        self._begun: deque[_Round] = deque()
        self._thread = threading.Thread(target=self._restore, name="edgecar-restore", daemon=True)
        with self._changed:  # all of them are there before one is restored
            for name, source in sources.items():
                self.add(name, source)
        self._thread.start()

    def add(
        self, name: str, source: FrameSource, settings: PipelineSettings | None = None
    ) -> Camera:
        """Read one more camera; for any thread.

        Args:
            name: Name that no other running camera has.
            source: Closed with the camera.
            settings: For this one; default: those for all.

        Raises:
            SettingsError: A camera of that name runs.
        """
        camera = Camera(name, source, settings or self.settings)
        with self._changed:
            if name in self.cameras:
                raise SettingsError(f"a camera {name!r} runs already; choose another name")
            self.cameras[name] = camera
            self._turn.append(camera)
            thread = threading.Thread(
                target=self._read, args=(camera,), name="edgecar-read", daemon=True
            )
            camera.thread = thread
            thread.start()
            self._changed.notify_all()
        return camera

    def remove(self, name: str) -> None:
        """Stop a camera, others going on; for any thread. Frames of it that are done still come."""
        with self._changed:
            camera = self.cameras.pop(name)
            camera.removed = True
            camera.drop_waiting()
            self._changed.notify_all()
        if isinstance(camera.source, LiveSource):
            camera.source.close()
        if camera.thread is not None:
            camera.thread.join(STOP_SECONDS)

    def __iter__(self) -> Iterator[StreamFrame]:
        return self

    def __next__(self) -> StreamFrame:
        """The next frame of any camera; each camera's are in order."""
        with self._changed:
            while True:
                ready = next((camera for camera in self._turn if camera.done), None)
                if ready is not None:
                    frame = ready.done.popleft()
                    gone = self._taken_out()
                    self._changed.notify_all()
                    break
                if self._failure is not None:
                    raise self._failure
                broken = next((c for c in self._turn if c.ended and c.error is not None), None)
                if broken is not None and broken.error is not None:
                    raise broken.error
                over = not self._endless and all(camera.ended for camera in self._turn)
                if self._stopping or over:
                    raise StopIteration
                self._changed.wait()
        for camera in gone:
            camera.forget()
        ready.stats.times.add("age", self._clock() - frame.arrived_seconds)
        return frame

    @property
    def busy(self) -> bool:
        """True if frames are on their way."""
        with self._changed:
            return any(camera.read or camera.in_hand or camera.done for camera in self._turn)

    def close(self) -> None:
        """Stop all threads and close all sources; harmless when repeated."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
            cameras = list(self._turn)
        for camera in cameras:
            # A file must not be closed while its thread reads; that ends soon, and closes it.
            if isinstance(camera.source, LiveSource):
                camera.source.close()
        until = time.monotonic() + STOP_SECONDS
        for thread in [self._thread, *(camera.thread for camera in cameras)]:
            # One of them may run this itself: that of the collector of garbage is any thread's.
            if thread is not None and thread is not threading.current_thread():
                thread.join(max(0.0, until - time.monotonic()))
        with self._changed:
            for camera in cameras:
                camera.drop_waiting()
        for camera in cameras:
            camera.forget()

    def _read(self, camera: Camera) -> None:
        error: BaseException | None = None
        try:
            frames = iter(camera.source)
            while not (self._stopping or camera.removed):
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
            camera.read_to_end, camera.error = True, None if camera.removed else error
            gone = self._taken_out()
            self._changed.notify_all()
        for each in gone:
            each.forget()

    def _put(self, camera: Camera, frame: Frame) -> bool:
        """Queue a frame that was read; False if it is not wanted any more."""
        camera.stats.count_read(frame.coding)
        waiting = StreamFrame(frame, camera.name, camera.stats, self._clock())
        with self._changed:
            if camera.newest:
                camera.drop_waiting()
            while len(camera.read) >= camera.depth and not (self._stopping or camera.removed):
                self._changed.wait()
            if self._stopping or camera.removed:
                camera.stats.count_dropped()
                return False
            camera.read.append(waiting)
            self._changed.notify_all()
            return True

    def _taken_out(self) -> list[Camera]:
        """Take out removed cameras that nothing comes out of any more; the caller forgets them."""
        gone = [each for each in self._turn if each.removed and each.ended]
        for camera in gone:
            self._turn.remove(camera)
        return gone

    def _restore(self) -> None:
        """Begin the next round before the last one is finished, where the engine gains by that."""
        begun = self._begun
        try:
            while True:
                ahead = max((group.restorer.depth for r in begun for group in r.groups), default=1)
                frames = self._next_round(wait=not begun) if len(begun) < max(1, ahead) else None
                if frames:
                    begun.append(self._begin(frames))
                elif begun:
                    self._finish(begun[0])
                    begun.popleft()
                else:
                    return
        except BaseException as error:  # raised again where it can be caught
            with self._changed:
                self._failure = error
                self._stopping = True
                self._changed.notify_all()

    def _next_round(self, wait: bool) -> list[tuple[StreamFrame, Camera]] | None:
        """Take at most one frame of each camera; None when everything is over.

        Args:
            wait: Wait until there is a frame; else None is returned where there is none.
        """
        with self._changed:
            while not self._stopping:
                ready = [c for c in self._turn if c.read and len(c.done) < c.depth]
                if ready:
                    chosen = ready[: self._together]
                    frames = [(camera.read.popleft(), camera) for camera in chosen]
                    for camera in chosen:
                        camera.in_hand += 1
                        self._turn.remove(camera)
                        self._turn.append(camera)
                    self._changed.notify_all()
                    return frames
                ended = all(camera.read_to_end and not camera.read for camera in self._turn)
                if (ended and not self._endless) or not wait:
                    return None
                self._changed.wait()
        return None

    def _begin(self, frames: list[tuple[StreamFrame, Camera]]) -> "_Round":
        """Start to restore frames, each of another camera, or let them pass."""
        chosen: dict[Restorer, list[tuple[StreamFrame, Camera]]] = {}
        for frame, camera in frames:
            way = self._way_of(frame)
            reason = self._reason_to_pass(frame, camera, way) if isinstance(way, Restorer) else way
            if reason is None and isinstance(way, Restorer):
                chosen.setdefault(way, []).append((frame, camera))
            elif reason is not None:
                _pass(frame, camera, reason)
        begun = _Round(frames, [_Group(*pair) for pair in chosen.items()])
        for group in begun.groups:
            try:
                group.begun = group.restorer.begin(
                    [frame.before for frame, _ in group.frames],
                    [camera.name for _, camera in group.frames],
                )
                for _, camera in group.frames:
                    camera.restorers |= {group.restorer}
            except EdgecarError as error:
                self._give_up(group, error, begun)
        return begun

    def _finish(self, begun: "_Round") -> None:
        """Wait for the frames of a round, and give them out."""
        for group in begun.groups:
            if group.begun is None:
                continue
            try:
                restored = group.restorer.finish(group.begun)
            except EdgecarError as error:
                self._give_up(group, error, begun)
                continue
            seconds = time.perf_counter() - group.began
            self._restore_seconds += SLOW_START * (seconds - self._restore_seconds)
            for (frame, camera), after in zip(group.frames, restored, strict=True):
                frame.frame, frame.restored = after, True
                camera.stats.times.add("restore", seconds)
                camera.stats.count_restored()
        with self._changed:
            for frame, camera in begun.frames:
                camera.in_hand -= 1
                camera.done.append(frame)
            self._changed.notify_all()

    def _give_up(self, group: "_Group", error: EdgecarError, begun: "_Round") -> None:
        """Let all frames pass that a restorer has in hand when it fails."""
        if self._failed is None:
            raise error
        reason = self._failed(group.restorer, error)
        group.begun = None
        for other in (*begun.groups, *(other for r in self._begun for other in r.groups)):
            if other is group or (other.restorer is group.restorer and other.begun is not None):
                other.begun = None
                for frame, camera in other.frames:
                    if frame.passed_because is None:
                        _pass(frame, camera, reason)
        with self._changed:
            cameras = list(self._turn)
        for each in cameras:  # it may be closed now, and another one opened in its place
            each.forget(group.restorer)

    def _way_of(self, frame: StreamFrame) -> Restorer | PassReason:
        restorer = self._restorer
        return restorer if isinstance(restorer, Restorer) else restorer(frame)

    def _reason_to_pass(
        self, frame: StreamFrame, camera: Camera, restorer: Restorer
    ) -> PassReason | None:
        coding, settings = frame.before.coding, camera.settings
        limits = restorer.limits.but(settings.skip_below_qp, settings.skip_above_quality)
        reason = limits.reason_to_pass(coding)
        if reason is not None:
            if reason not in camera.told:
                camera.told.add(reason)
                _log.warning("%s: %s", text_redacted(camera.name), limits.in_words(reason, coding))
            return reason
        if settings.max_latency_ms is not None:
            age = self._clock() - frame.arrived_seconds
            if 1e3 * (age + self._restore_seconds) > settings.max_latency_ms:
                return "over_latency_budget"
        return None


@dataclass(eq=False)
class _Group:
    """Frames of a round that one restorer has in hand; `begun` is None once they passed."""

    restorer: Restorer
    frames: list[tuple[StreamFrame, Camera]]
    begun: Round | None = None
    began: float = field(default_factory=time.perf_counter)


@dataclass(eq=False)
class _Round:
    """At most one frame of each camera, with those of them that are being restored."""

    frames: list[tuple[StreamFrame, Camera]]
    groups: list[_Group]


def _pass(frame: StreamFrame, camera: Camera, reason: PassReason) -> None:
    """Let a frame go out as it came in."""
    frame.passed_because = reason
    camera.stats.count_passed(reason)
