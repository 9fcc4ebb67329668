"""Cameras side by side with one engine: added, changed and removed while others run."""

import logging
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from importlib.metadata import version
from typing import Any

import psutil
from pydantic import ValidationError

from edgecar.allocator import give_back_memory
from edgecar.artifact import shipped_names
from edgecar.closing import Closing
from edgecar.engines.select import PLANS
from edgecar.errors import SettingsError
from edgecar.redaction import redacted, text_redacted
from edgecar.runtime.camera import StreamFrame
from edgecar.runtime.pipeline import ALL, Pipeline
from edgecar.runtime.restorer import Restorer
from edgecar.runtime.stats import PassReason, Snapshot
from edgecar.serve.camera_run import CameraRun
from edgecar.serve.config import key_name, reason
from edgecar.serve.errors import NameTakenError, UnknownCameraError
from edgecar.serve.history import STEP_SECONDS
from edgecar.serve.limits import check_allowed
from edgecar.serve.logs import Redactor
from edgecar.serve.networks import Networks
from edgecar.serve.publishing import Publisher
from edgecar.serve.settings import Camera, Settings
from edgecar.serve.shedding import Shedder
from edgecar.serve.state import StateFile
from edgecar.serve.status import CameraStatus, EngineStatus, Health, ServiceStatus
from edgecar.spec import CODERS

LIVE_CHANGES = {"network", "shed", "priority", "coder", "publish"}
"""Settings that change while a camera runs; others begin it anew."""

DRAIN_SECONDS = 1.0
"""For frames on their way when the service ends."""

REBUILD_SECONDS = 1.0
"""From a failure of the pipeline itself to another one."""

_log = logging.getLogger(__name__)


class Service(Closing):
    """Runs until closed; every method is for any thread.

    Args:
        settings: Of the service.
        networks: Engines; for tests.
        redactor: Told of what must not be logged.

    Raises:
        SettingsError: The state of the last run cannot be read, or a network does not exist.
    """

    def __init__(
        self,
        settings: Settings,
        networks: Networks | None = None,
        redactor: Redactor | None = None,
    ) -> None:
        self.settings = settings
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
        self._lock = threading.RLock()  # of whoever changes cameras
        self._runs: dict[str, CameraRun] = {}
        self._shedder = Shedder()
        self._load = 0.0
        self._process = psutil.Process()
        self._process.cpu_percent()  # the first call only sets the mark
        self._cpu_share = 0.0
        self._began = time.monotonic()
        self._draining, self._closing = threading.Event(), threading.Event()
        self._pipeline = self._new_pipeline()
        for camera in cameras.values():
            self._runs[camera.name] = self._new_run(camera)
        for run in self._runs.values():
            run.start()
        self._threads = [
            threading.Thread(target=target, name=f"edgecar-{name}", daemon=True)
            for name, target in (("dispatch", self._dispatch), ("tick", self._tick))
        ]
        for thread in self._threads:
            thread.start()

    def names(self) -> list[str]:
        """Of all cameras, in the order they were added."""
        return list(self._runs)

    def find(self, name: str) -> CameraRun | None:
        """A camera; None if there is none of that name."""
        return self._runs.get(name)

    def run_of(self, name: str) -> CameraRun:
        """A camera.

        Raises:
            UnknownCameraError: There is none of that name.
        """
        run = self.find(name)
        if run is None:
            raise UnknownCameraError(f"no camera {name!r}; GET /api/cameras lists them")
        return run

    def add(self, camera: Camera, *, by_caller: bool = True) -> CameraStatus:
        """Run one more camera, and keep it for the next start.

        Args:
            camera: Its settings.
            by_caller: Its paths must lie in the server's folders.

        Raises:
            NameTakenError: There is one of that name.
            SettingsError: It is not allowed, or cannot be kept.
        """
        with self._lock:
            if camera.name in self._runs:
                raise NameTakenError(f"a camera {camera.name!r} exists; choose another name")
            limit = self.settings.server.max_cameras
            if len(self._runs) >= limit:
                raise SettingsError(f"{limit} cameras run, which is max_cameras; remove one first")
            if by_caller:
                check_allowed(camera, self.settings.server)
            self._state.note(camera.name, camera)
            run = self._new_run(camera)
            self._runs = {**self._runs, camera.name: run}
            run.start()
            return run.status

    def change(self, name: str, changes: Mapping[str, Any]) -> CameraStatus:
        """Change settings of a camera, others going on.

        Args:
            name: Of the camera; stays as it is.
            changes: Settings and their new values. A source or address that was shown without its
                password and comes back like that is left as it is.

        Raises:
            UnknownCameraError: There is none of that name.
            SettingsError: A setting is not understood or not allowed.
        """
        with self._lock:
            run = self.run_of(name)
            old = run.settings
            table = old.model_dump(mode="json")
            wanted = {k: v for k, v in changes.items() if not _is_redacted(v, table.get(k))}
            try:
                new = Camera.model_validate({**table, **wanted})
            except ValidationError as error:
                mistake = error.errors(include_url=False)[0]
                raise SettingsError(f"{key_name(mistake['loc'])}{reason(mistake)}") from error
            if new.name != name:
                raise SettingsError(f"a camera keeps its name; remove {name!r} and add another")
            check_allowed(new, self.settings.server, before=old)
            changed = {key for key in Camera.model_fields if getattr(new, key) != getattr(old, key)}
            if changed:
                self._state.note(name, new)
            self._redactor.hide_of(new)
            if changed <= LIVE_CHANGES:
                run.change(new)
            else:
                run.stop()
                run.change(new)
                run.start()
            return run.status

    def remove(self, name: str) -> None:
        """Stop a camera and forget it; its recordings stay.

        Raises:
            UnknownCameraError: There is none of that name.
        """
        with self._lock:
            run = self.run_of(name)
            self._state.note(name, None)
            self._runs = {n: each for n, each in self._runs.items() if n != name}
            run.stop()

    def statuses(self) -> list[CameraStatus]:
        """Return the status of every camera that is there now; others may be removed meanwhile."""
        return [run.status for run in self._runs.values()]

    @property
    def status(self) -> ServiceStatus:
        """The service as a whole."""
        names = {name for coder in CODERS for name in shipped_names(coder)}
        return ServiceStatus(
            version=version("edgecar"),
            uptime_seconds=round(time.monotonic() - self._began, 1),
            draining=self.draining,
            networks=sorted(names),
            load=round(self._load, 3),
            cpu_share=round(self._cpu_share, 3),
            memory_mib=round(self._process.memory_info().rss / (1 << 20), 1),
            engines=[
                EngineStatus(
                    network=each.network,
                    coder=each.coder,
                    engine=each.info.name,
                    provider=each.info.provider,
                    precision=each.info.precision,
                    device=each.info.device,
                )
                for each in self._networks.open
            ],
        )

    @property
    def health(self) -> Health:
        """Whether its threads run."""
        if self.draining:
            return Health(status="draining")
        alive = all(thread.is_alive() for thread in self._threads)
        return Health(status="ok" if alive else "failed")

    @property
    def load(self) -> float:
        """Share of the restoring thread's time that was spent lately."""
        return self._load

    @property
    def draining(self) -> bool:
        """Whether it ends."""
        return self._draining.is_set()

    def begin_draining(self) -> None:
        """Tell whoever asks that it ends; `close` does it. Safe in a signal's handler."""
        self._draining.set()

    def snapshots(self) -> dict[str, Snapshot]:
        """Counters of the cameras that run, by name."""
        cameras = {name: run.camera for name, run in self._runs.items()}
        return {name: camera.stats.snapshot() for name, camera in cameras.items() if camera}

    def close(self) -> None:
        """Restore what was read, finish all outputs, and stop, in less than 5 s."""
        with self._lock:
            if self._closing.is_set():
                return
            self._closing.set()
        self.begin_draining()
        runs = list(self._runs.values())
        cameras = [camera for camera in (run.camera for run in runs) if camera]
        with ThreadPoolExecutor(max(1, len(runs))) as pool:
            list(pool.map(CameraRun.stop_reading, runs))
            until = time.monotonic() + DRAIN_SECONDS
            while self._pipeline.busy and time.monotonic() < until:
                time.sleep(0.01)
            self._pipeline.close()
            list(pool.map(CameraRun.finish_outputs, runs))
        for camera in cameras:
            _log.info("camera %s: %s", camera.name, _counted(camera.stats.snapshot()))
        for thread in self._threads:
            thread.join(DRAIN_SECONDS)
        if self._publisher:
            self._publisher.close()
        self._networks.close()

    def _new_run(self, camera: Camera) -> CameraRun:
        self._redactor.hide_of(camera)
        return CameraRun(camera, self._pipeline, self._networks, self._publisher)

    def _new_pipeline(self) -> Pipeline:
        together = ALL if self.settings.engine.name in PLANS else None
        return Pipeline(
            {}, self._choose, endless=True, failed=self._networks.failed, together=together
        )

    def _choose(self, frame: StreamFrame) -> Restorer | PassReason:
        run = self._runs.get(frame.camera)
        return run.way_of(frame) if run else "as_asked"  # removed in this moment

    def _dispatch(self) -> None:
        """Give restored frames to their cameras; a failed pipeline is made anew."""
        while not self._closing.is_set():
            pipeline = self._pipeline
            try:
                for frame in pipeline:
                    run = self._runs.get(frame.camera)
                    if run:
                        run.deliver(frame)
            except Exception:
                _log.exception("the pipeline failed; it is made anew in %g s", REBUILD_SECONDS)
            if self._closing.wait(REBUILD_SECONDS):
                return
            with self._lock, suppress(Exception):
                pipeline.close()
                self._pipeline = self._new_pipeline()
                for run in self._runs.values():
                    run.moved_to(self._pipeline)

    def _tick(self) -> None:
        """Look at load, history and memory at a steady pace."""
        last = time.monotonic()
        while not self._closing.wait(STEP_SECONDS):
            try:
                now = time.monotonic()
                runs = list(self._runs.values())
                spent = sum([run.tick() for run in runs])
                self._load, last = spent / (now - last), now
                self._cpu_share = self._process.cpu_percent() / (100 * (psutil.cpu_count() or 1))
                self._shed(runs)
                give_back_memory()
            except Exception:  # figures are no reason to end
                _log.exception("looking at load failed")

    def _shed(self, runs: list[CameraRun]) -> None:
        demands = {run.settings.name: (run, run.demand) for run in runs}
        levels = self._shedder.levels([each for _, each in demands.values() if each])
        for name, level in levels.items():
            run = demands[name][0]
            if run.level != level:
                run.take_level(level)
                _log.warning("camera %s: load %.2f, now %s", name, self._load, run.running)


def _counted(now: Snapshot) -> str:
    """What became of every frame."""
    return (
        f"{now.frames_read} read, {now.frames_restored} restored, {now.frames_passed} passed, "
        f"{now.frames_dropped} dropped, {now.frames_in_flight} given up on their way"
    )


def _is_redacted(value: object, stored: object) -> bool:
    """Whether a value is a stored one as it was shown."""
    if isinstance(value, dict) and isinstance(stored, dict):
        return (
            bool(value)
            and {**stored, **value, "url": None} == {**stored, "url": None}
            and (_is_redacted(value.get("url"), stored.get("url")))
        )
    return (
        isinstance(value, str)
        and isinstance(stored, str)
        and "***" in value
        and value in (redacted(stored), text_redacted(stored))
    )
