"""Cameras side by side with one engine: added, changed and removed while others run."""

import logging
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from importlib.metadata import version
from typing import Any

import psutil
from pydantic import ValidationError

from edgecar.allocator import give_back_memory
from edgecar.artifact import shipped_names
from edgecar.engines.select import PLANS
from edgecar.errors import SettingsError
from edgecar.redaction import redacted, text_redacted
from edgecar.runtime.camera import StreamFrame
from edgecar.runtime.pipeline import ALL, Pipeline
from edgecar.runtime.restorer import Restorer
from edgecar.runtime.stats import PassReason, Snapshot
from edgecar.serve.camera import STEP_SECONDS, CameraRun
from edgecar.serve.config import StateFile, mistakes_in
from edgecar.serve.networks import Networks, Shedder
from edgecar.serve.publishing import Publisher
from edgecar.serve.security import Redactor, check_allowed
from edgecar.serve.settings import CameraSettings, Settings
from edgecar.serve.status import CameraStatus, EngineStatus, Health, ServiceStatus
from edgecar.spec import WEIGHTS_FOR

LIVE_CHANGES = {"network", "shed", "priority", "coder", "purpose", "publish"}
"""Settings that change while a camera runs; all others start it again."""

DRAIN_SECONDS = 1.0
"""Time for frames in the pipeline when the service ends."""

REBUILD_SECONDS = 1.0
"""Pause after a failure of the pipeline itself, before a new one is made."""

_log = logging.getLogger(__name__)


class CallError(SettingsError):
    """A request that cannot be carried out, and the HTTP status of the answer."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class Service(AbstractContextManager["Service"]):
    """Runs cameras until it is closed; every method is for any thread.

    Raises:
        SettingsError: The state of the last run cannot be read.
    """

    def __init__(
        self,
        settings: Settings,
        networks: Networks | None = None,
        redactor: Redactor | None = None,
    ) -> None:
        self.settings = settings
        self.load = 0.0
        """Share of the restoring thread's time that was spent in the latest seconds."""
        self._redactor = redactor or Redactor()
        if settings.server.token:
            self._redactor.hide(settings.server.token.get_secret_value())
        self._networks = networks or Networks(settings.engine)
        self._state = StateFile(settings.state)
        cameras = self._state.load({camera.name: camera for camera in settings.camera})
        self._publisher: Publisher | None = None
        if settings.publish:
            self._publisher = Publisher(settings.publish, settings.server.max_cameras)
            self._publisher.start()
        self._changing = threading.RLock()
        self._shedder = Shedder()
        self._process = psutil.Process()
        self._process.cpu_percent()  # the first call only sets the mark
        self._cpu_share = 0.0
        self._began = time.monotonic()
        self._draining, self._closing = threading.Event(), threading.Event()
        self._pipeline = self._new_pipeline()
        # Replaced as a whole, so that other threads can read it at any time.
        self._cameras = {name: self._new_camera(each) for name, each in cameras.items()}
        for camera in self._cameras.values():
            camera.start()
        self._threads = [
            threading.Thread(target=target, name=f"edgecar-{name}", daemon=True)
            for name, target in (("dispatch", self._dispatch), ("tick", self._tick))
        ]
        for thread in self._threads:
            thread.start()

    def names(self) -> list[str]:
        """Return the names of all cameras, in the order they were added."""
        return list(self._cameras)

    def find(self, name: str) -> CameraRun | None:
        """Return a camera; None if there is none of that name."""
        return self._cameras.get(name)

    def camera(self, name: str) -> CameraRun:
        """Return a camera; raises `CallError` if there is none of that name."""
        camera = self.find(name)
        if camera is None:
            raise CallError(f"no camera {name!r}; GET /api/cameras lists them", 404)
        return camera

    def add(self, settings: CameraSettings) -> CameraStatus:
        """Run one more camera, and keep it for the next start.

        Raises:
            CallError: There is a camera of that name.
            SettingsError: The camera is not allowed, or cannot be kept.
        """
        with self._changing:
            name = settings.name
            if name in self._cameras:
                raise CallError(f"a camera {name!r} exists; choose another name", 409)
            limit = self.settings.server.max_cameras
            if len(self._cameras) >= limit:
                raise SettingsError(f"{limit} cameras run, which is max_cameras; remove one first")
            check_allowed(settings, self.settings.server)
            self._state.note(name, settings)
            camera = self._new_camera(settings)
            self._cameras = {**self._cameras, name: camera}
            camera.start()
            return camera.status

    def change(self, name: str, changes: Mapping[str, Any]) -> CameraStatus:
        """Change settings of a camera while others go on.

        An address that comes back as it was shown, without its password, is left as it is.

        Raises:
            CallError: There is no camera of that name.
            SettingsError: A setting is wrong or not allowed.
        """
        with self._changing:
            camera = self.camera(name)
            old = camera.settings
            table = old.model_dump(mode="json")
            wanted = {k: v for k, v in changes.items() if not _is_redacted(v, table.get(k))}
            try:
                new = CameraSettings.model_validate({**table, **wanted})
            except ValidationError as error:
                raise SettingsError(mistakes_in(error.errors())) from error
            if new.name != name:
                raise SettingsError(f"a camera keeps its name; remove {name!r} and add another")
            check_allowed(new, self.settings.server, before=old)
            changed = {k for k in CameraSettings.model_fields if getattr(new, k) != getattr(old, k)}
            if changed:
                self._state.note(name, new)
            self._redactor.hide_those_of(new)
            camera.change(new, restart=not changed <= LIVE_CHANGES)
            return camera.status

    def remove(self, name: str) -> None:
        """Stop a camera and forget it; its recordings stay."""
        with self._changing:
            camera = self.camera(name)
            self._state.note(name, None)
            self._cameras = {n: each for n, each in self._cameras.items() if n != name}
            camera.stop_reading()
            camera.finish_outputs()

    def statuses(self) -> list[CameraStatus]:
        """Return the status of every camera; some may be removed meanwhile."""
        return [camera.status for camera in self._cameras.values()]

    @property
    def status(self) -> ServiceStatus:
        """State of the service as a whole."""
        engines = []
        for (network, weights_for), restorer in self._networks.open.items():
            info = restorer.engine.info
            facts = {"provider": info.provider, "precision": info.precision, "device": info.device}
            engines.append(
                EngineStatus(network=network, weights_for=weights_for, engine=info.name, **facts)
            )
        return ServiceStatus(
            version=version("edgecar"),
            uptime_seconds=round(time.monotonic() - self._began, 1),
            draining=self.draining,
            networks=sorted({name for each in WEIGHTS_FOR for name in shipped_names(each)}),
            load=round(self.load, 3),
            cpu_share=round(self._cpu_share, 3),
            memory_mib=round(self._process.memory_info().rss / (1 << 20), 1),
            engines=engines,
        )

    @property
    def health(self) -> Health:
        """Health of the service's threads."""
        if self.draining:
            return Health(status="draining")
        alive = all(thread.is_alive() for thread in self._threads)
        return Health(status="ok" if alive else "failed")

    @property
    def draining(self) -> bool:
        """True once the service is ending."""
        return self._draining.is_set()

    def begin_draining(self) -> None:
        """Tell callers that the service is ending; `close` ends it."""
        self._draining.set()

    def snapshots(self) -> dict[str, Snapshot]:
        """Return the counters of the cameras that run, by name."""
        places = {name: camera.place for name, camera in self._cameras.items()}
        return {name: place.stats.snapshot() for name, place in places.items() if place}

    def close(self) -> None:
        """Restore what was read, finish all outputs, and stop, in less than 5 s."""
        with self._changing:
            if self._closing.is_set():
                return
            self._closing.set()
        self.begin_draining()
        cameras = list(self._cameras.values())
        places = [place for place in (camera.place for camera in cameras) if place]
        with ThreadPoolExecutor(max(1, len(cameras))) as pool:
            list(pool.map(CameraRun.stop_reading, cameras))
            until = time.monotonic() + DRAIN_SECONDS
            while self._pipeline.busy and time.monotonic() < until:
                time.sleep(0.01)
            self._pipeline.close()
            list(pool.map(CameraRun.finish_outputs, cameras))
        for place in places:
            now = place.stats.snapshot()
            counts = ", ".join(f"{count} {outcome}" for outcome, count in now.outcomes.items())
            _log.info(
                *("camera %s: %d read, %s, %d given up on their way", place.name),
                *(now.frames_read, counts, now.frames_in_flight),
            )
        for thread in self._threads:
            thread.join(DRAIN_SECONDS)
        if self._publisher:
            self._publisher.close()
        self._networks.close()

    def __exit__(self, *_: object) -> None:
        self.close()

    def _new_camera(self, settings: CameraSettings) -> CameraRun:
        self._redactor.hide_those_of(settings)
        return CameraRun(settings, self._pipeline, self._networks, self._publisher)

    def _new_pipeline(self) -> Pipeline:
        together = ALL if self.settings.engine.name in PLANS else None
        return Pipeline(
            {}, self._choose, endless=True, failed=self._networks.failed, together=together
        )

    def _choose(self, frame: StreamFrame) -> Restorer | PassReason:
        camera = self.find(frame.camera)
        return camera.choose(frame) if camera else "as_asked"  # removed in this moment

    def _dispatch(self) -> None:
        """Give restored frames to their cameras; replace the pipeline if it fails."""
        while not self._closing.is_set():
            try:
                for frame in self._pipeline:
                    camera = self.find(frame.camera)
                    if camera:
                        camera.deliver(frame)
            except Exception:
                _log.exception("the pipeline failed; it is replaced in %g s", REBUILD_SECONDS)
            if self._closing.wait(REBUILD_SECONDS):
                return
            with self._changing, suppress(Exception):
                self._pipeline.close()
                self._pipeline = self._new_pipeline()
                for camera in self._cameras.values():
                    camera.move_to(self._pipeline)

    def _tick(self) -> None:
        """Sample load, history and memory at a steady pace, and shed load."""
        last = time.monotonic()
        while not self._closing.wait(STEP_SECONDS):
            try:
                now, cameras = time.monotonic(), self._cameras
                spent = sum([camera.tick() for camera in cameras.values()])
                self.load, last = spent / (now - last), now
                self._cpu_share = self._process.cpu_percent() / (100 * (psutil.cpu_count() or 1))
                demands = [demand for camera in cameras.values() if (demand := camera.demand)]
                for name, level in self._shedder.levels(demands).items():
                    if cameras[name].level != level:
                        cameras[name].take_level(level)
                        running = cameras[name].running
                        _log.warning("camera %s: load %.2f, now %s", name, self.load, running)
                give_back_memory()
            except Exception:  # a failure here must not end the service
                _log.exception("sampling load and history failed")


def _is_redacted(value: object, stored: object) -> bool:
    """Return True for a stored value that comes back as it was shown, without its password."""
    if isinstance(value, dict) and isinstance(stored, dict):
        same = {**stored, **value, "url": None} == {**stored, "url": None}
        return bool(value) and same and _is_redacted(value.get("url"), stored.get("url"))
    if not isinstance(value, str) or not isinstance(stored, str) or "***" not in value:
        return False
    return value in (redacted(stored), text_redacted(stored))
