"""Reading, restoring and using frames at the same time, in threads with bounded queues.

Every camera has a thread that reads. One thread restores for all, in turn, so that they share an
engine fairly. Whoever iterates uses the results. Frames of a camera stay in order.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from edgecar.errors import EdgecarError, SettingsError
from edgecar.media.frame import Frame
from edgecar.media.live import LiveSource
from edgecar.redaction import text_redacted
from edgecar.runtime.camera import Camera, FrameSource, PipelineSettings, StreamFrame
from edgecar.runtime.quantisers import quantiser_from_setting
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

Taken = list[tuple[StreamFrame, Camera]]
"""Frames that were taken from queues, each of another camera."""


@dataclass(eq=False)
class _Group:
    """Frames that one restorer has in hand, or the failure to begin them; None once they passed."""

    restorer: Restorer
    frames: Taken = field(default_factory=list)
    begun: Round | BaseException | None = None


class Pipeline(AbstractContextManager["Pipeline"]):
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
            shape like many. With 1, a live camera's next frame is chosen when the last one is done:
            it is as new as can be. None: by the restorer's engine.
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
        self._restore_seconds = self._finished_at = 0.0
        self._turn: deque[Camera] = deque()
        self._rounds: deque[tuple[Taken, list[_Group], float]] = deque()
        """On their way: all frames, those of them that are being restored, and since when."""
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
            SettingsError: A camera of that name runs, or the restorer takes no such quantiser.
        """
        camera = Camera(name, source, settings or self.settings)
        if camera.settings.quantiser is not None and isinstance(self._restorer, Restorer):
            quantiser_from_setting(camera.settings.quantiser, self._restorer.metadata)
        with self._changed:
            if name in self.cameras:
                raise SettingsError(f"a camera {name!r} runs already; choose another name")
            self.cameras[name] = camera
            self._turn.append(camera)
            camera.thread = threading.Thread(
                target=self._read, args=(camera,), name="edgecar-read", daemon=True
            )
            camera.thread.start()
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
            while not (ready := next((camera for camera in self._turn if camera.done), None)):
                broken = (camera.error for camera in self._turn if camera.ended and camera.error)
                if failure := self._failure or next(broken, None):
                    raise failure
                over = not self._endless and all(camera.ended for camera in self._turn)
                if self._stopping or over:
                    raise StopIteration
                self._changed.wait()
            frame = ready.done.popleft()
            gone = self._taken_out()
            self._changed.notify_all()
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

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read(self, camera: Camera) -> None:
        """Queue a camera's frames until it ends, and close it."""
        error: BaseException | None = None
        try:
            frames = iter(camera.source)
            while not (self._stopping or camera.removed):
                with camera.stats.times.timed("read"):
                    frame = next(frames, None)
                if frame is None:
                    break
                self._put(camera, frame)
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

    def _put(self, camera: Camera, frame: Frame) -> None:
        """Queue a frame that was read, unless nobody wants it any more."""
        camera.stats.count_read(frame.coding)
        waiting = StreamFrame(frame, camera.name, camera.stats, self._clock())
        with self._changed:
            if camera.newest:
                camera.drop_waiting()
            while len(camera.read) >= camera.depth and not (self._stopping or camera.removed):
                self._changed.wait()
            if self._stopping or camera.removed:
                camera.stats.count_dropped()
            else:
                camera.read.append(waiting)
                self._changed.notify_all()

    def _taken_out(self) -> list[Camera]:
        """Take out removed cameras that nothing comes out of any more; the caller forgets them."""
        gone = [each for each in self._turn if each.removed and each.ended]
        for camera in gone:
            self._turn.remove(camera)
        return gone

    def _restore(self) -> None:
        """Begin the next round before the last one is finished, where the engine gains by that."""
        rounds = self._rounds
        try:
            while True:
                depths = [group.restorer.depth for _, groups, _ in rounds for group in groups]
                ahead = len(rounds) < max(depths, default=1)
                if ahead and (taken := self._take(wait=not rounds)):
                    self._begin(taken)
                elif rounds:
                    self._finish(*rounds[0])
                    rounds.popleft()
                else:
                    return
        except BaseException as error:  # raised again where it can be caught
            with self._changed:
                self._failure = error
                self._stopping = True
                self._changed.notify_all()

    def _take(self, wait: bool) -> Taken:
        """Take at most one frame of each camera; none when everything is over.

        Args:
            wait: Wait until there is a frame.
        """
        with self._changed:
            while not self._stopping:
                ready = [c for c in self._turn if c.read and len(c.done) < c.depth]
                if self._together == 1 and not wait:
                    ready = [camera for camera in ready if not camera.newest]
                if ready:
                    chosen = ready[: self._together]
                    taken = [(camera.read.popleft(), camera) for camera in chosen]
                    for camera in chosen:
                        camera.in_hand += 1
                        self._turn.remove(camera)
                        self._turn.append(camera)
                    self._changed.notify_all()
                    return taken
                ended = all(camera.read_to_end and not camera.read for camera in self._turn)
                if (ended and not self._endless) or not wait:
                    break
                self._changed.wait()
        return []

    def _begin(self, taken: Taken) -> None:
        """Start to restore frames, or let them pass."""
        groups: dict[Restorer, _Group] = {}
        for frame, camera in taken:
            way = self._way_of(frame, camera)
            if isinstance(way, Restorer):
                groups.setdefault(way, _Group(way)).frames.append((frame, camera))
            else:
                _pass(frame, camera, way)
        self._rounds.append((taken, list(groups.values()), time.perf_counter()))
        for group in groups.values():
            frames = [frame.before for frame, _ in group.frames]
            names = [camera.name for _, camera in group.frames]
            quantisers = [camera.settings.quantiser for _, camera in group.frames]
            for _, camera in group.frames:
                camera.restorers |= {group.restorer}
            try:
                group.begun = group.restorer.begin(frames, names, quantisers)
            except BaseException as error:  # raised after the frames that were begun before
                group.begun = error

    def _finish(self, taken: Taken, groups: list[_Group], began: float) -> None:
        """Wait for the frames of a round, and give them out."""
        for group in groups:
            if group.begun is None:
                continue
            try:
                if isinstance(group.begun, BaseException):
                    raise group.begun
                restored = group.restorer.finish(group.begun)
            except EdgecarError as error:
                self._give_up(group.restorer, error)
                continue
            now = time.perf_counter()
            seconds = now - max(began, self._finished_at)  # it may have waited for the one before
            self._finished_at = now
            self._restore_seconds += SLOW_START * (seconds - self._restore_seconds)
            tickets, told = group.begun.tickets, group.begun.told
            results = zip(group.frames, restored, tickets, told, strict=True)
            for (frame, camera), after, done, quantiser in results:
                frame.frame, frame.restored = after, True
                work = done.tiles, done.pixels, done.seconds
                camera.stats.work.count(after.size, *work, quantiser)
                camera.stats.times.add("restore", seconds)
                camera.stats.count_restored()
        with self._changed:
            for frame, camera in taken:
                camera.in_hand -= 1
                camera.done.append(frame)
            self._changed.notify_all()

    def _give_up(self, restorer: Restorer, error: EdgecarError) -> None:
        """Let all frames pass that a restorer has in hand when it fails."""
        if self._failed is None:
            raise error
        reason = self._failed(restorer, error)
        for group in [group for _, groups, _ in self._rounds for group in groups]:
            if group.restorer is restorer and group.begun is not None:
                group.begun = None
                for frame, camera in group.frames:
                    _pass(frame, camera, reason)
        with self._changed:
            cameras = list(self._turn)
        for each in cameras:  # it may be closed now, and another one opened in its place
            each.forget(restorer)

    def _way_of(self, frame: StreamFrame, camera: Camera) -> Restorer | PassReason:
        """Return the restorer of a frame, or the reason why it passes."""
        restorer = self._restorer
        if not isinstance(restorer, Restorer):
            way = restorer(frame)
            if not isinstance(way, Restorer):
                return way
            restorer = way
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
            wait = (len(self._rounds) + 1) * self._restore_seconds
            if 1e3 * (age + wait) > settings.max_latency_ms:
                return "over_latency_budget"
        return restorer


def _pass(frame: StreamFrame, camera: Camera, reason: PassReason) -> None:
    """Let a frame go out as it came in."""
    frame.passed_because = reason
    camera.stats.count_passed(reason)
