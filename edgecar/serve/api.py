"""The service over HTTP: a REST API, pictures, metrics and the page."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Body, FastAPI, HTTPException, Path, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, StreamingResponse
from fastapi.staticfiles import StaticFiles
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector
from pydantic import BaseModel

from edgecar.errors import EdgecarError
from edgecar.runtime.prometheus import metrics_from
from edgecar.serve.camera import CameraRun
from edgecar.serve.config import mistakes_in
from edgecar.serve.security import COOKIE, LOGIN, Guard
from edgecar.serve.service import Service
from edgecar.serve.settings import NAME, CameraSettings, Table
from edgecar.serve.status import CameraStatus, Health, HistoryTable, ServiceStatus, View

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

PAGE = FilePath(__file__).parent / "page"
LONGEST_WAIT_SECONDS = 1.0
LOOK_SECONDS = 0.02
"""Pause between two looks for a newer picture; shorter than a frame at 30 frames a second."""

LARGEST_WIDTH = 7680
BOUNDARY = "edgecar-frame"
MISTAKE = 422


class Failure(BaseModel):
    """Reason for a refusal, in one line."""

    detail: str


class Login(Table):
    """Body of a browser's login."""

    token: Annotated[str, Body(max_length=512)]


CameraName = Annotated[str, Path(pattern=NAME, max_length=64)]
Width = Annotated[int, Query(ge=16, le=LARGEST_WIDTH, description="Width of one picture, px.")]
Sequence = Annotated[int, Query(ge=0, le=2**53, description="Number of a picture.")]

Answers = dict[int | str, dict[str, Any]]
GUARDED: Answers = {
    status: {"model": Failure} for status in (400, 401, 403, 413, 415, 421, MISTAKE, 429)
}
UNKNOWN: Answers = {404: {"model": Failure}}
TAKEN: Answers = {409: {"model": Failure}}
UNHEALTHY: Answers = {503: {"model": Health}}
TEXT: Answers = {200: {"content": {"text/plain": {}}}}
JPEG: Answers = {200: {"content": {"image/jpeg": {}}}, 204: {"description": "Nothing newer."}}
MOTION_JPEG: Answers = {200: {"content": {"multipart/x-mixed-replace": {}}}}


def application(service: Service) -> Guard:
    """Return the whole application behind its guard; the caller closes the service."""
    app = FastAPI(
        title="edgecar serve",
        summary="Cameras with their compression artifacts removed.",
        docs_url=None,  # its scripts come from other servers
        redoc_url=None,
        openapi_url="/api/openapi.json",
        responses=GUARDED,
        exception_handlers={EdgecarError: _refused, RequestValidationError: _mistake},
    )
    guard = Guard(app, service.settings.server)
    _add_service(app, service)
    _add_page(app, guard)
    app.include_router(_cameras(service))
    app.include_router(_pictures(service))
    return guard


def _add_service(app: FastAPI, service: Service) -> None:
    @app.get("/healthz", responses=UNHEALTHY)
    def health(response: Response) -> Health:
        """Tell if the service's threads run."""
        found = service.health
        response.status_code = 503 if found.status == "failed" else 200
        return found

    @app.get("/readyz", responses=UNHEALTHY)
    def ready(response: Response) -> Health:
        """Tell if the service takes requests, which it does not while it ends."""
        found = service.health
        response.status_code = 200 if found.status == "ok" else 503
        return found

    @app.get("/api/status")
    def status() -> ServiceStatus:
        """Return the state of the whole service."""
        return service.status

    @app.get("/metrics", response_class=Response, responses=TEXT)
    def metrics() -> Response:
        """Return counters of all cameras for Prometheus."""
        registry = CollectorRegistry()
        registry.register(_Metrics(service))
        ProcessCollector(registry=registry)
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)


def _add_page(app: FastAPI, guard: Guard) -> None:
    @app.post(LOGIN, status_code=204, response_class=Response)
    def login(request: Request, wanted: Login) -> Response:
        """Begin a session for a browser."""
        session = guard.session_for(wanted.token, request)
        if session is None:
            raise HTTPException(401, "that is not the token; see the service's file")
        response = Response(status_code=204)
        response.set_cookie(COOKIE, session, httponly=True, samesite="strict")
        return response

    @app.get("/", include_in_schema=False)
    def page() -> Response:
        return FileResponse(PAGE / "index.html")

    app.mount("/static", StaticFiles(directory=PAGE))


def _cameras(service: Service) -> APIRouter:
    router = APIRouter(prefix="/api/cameras")

    @router.get("")
    def all_cameras() -> list[CameraStatus]:
        """Return the state of all cameras."""
        return service.statuses()

    @router.post("", status_code=201, responses=TAKEN)
    def add(camera: CameraSettings) -> CameraStatus:
        """Run one more camera."""
        return service.add(camera)

    @router.get("/{name}", responses=UNKNOWN)
    def one(name: CameraName) -> CameraStatus:
        """Return the state of one camera."""
        return service.camera(name).status

    @router.patch("/{name}", responses=UNKNOWN)
    def change(name: CameraName, changes: Annotated[dict[str, Any], Body()]) -> CameraStatus:
        """Change some settings of a camera; the others stay."""
        return service.change(name, changes)

    @router.delete("/{name}", status_code=204, response_class=Response, responses=UNKNOWN)
    def remove(name: CameraName) -> Response:
        """Stop a camera and forget it; its recordings stay."""
        service.remove(name)
        return Response(status_code=204)

    @router.post("/{name}/start", responses=UNKNOWN)
    def start(name: CameraName) -> CameraStatus:
        """Run a camera that was stopped."""
        return service.change(name, {"enabled": True})

    @router.post("/{name}/stop", responses=UNKNOWN)
    def stop(name: CameraName) -> CameraStatus:
        """Stop a camera until it is started again."""
        return service.change(name, {"enabled": False})

    @router.get("/{name}/history", responses=UNKNOWN)
    def history(name: CameraName) -> HistoryTable:
        """Return figures of the last minutes."""
        return service.camera(name).history

    return router


def _pictures(service: Service) -> APIRouter:
    router = APIRouter(prefix="/api/cameras/{name}", responses=UNKNOWN)

    @router.get("/frame.jpg", response_class=Response, responses=JPEG)
    async def frame(
        name: CameraName, view: View = "after", newer_than: Sequence = 0, width: Width = 640
    ) -> Response:
        """Return the newest picture as JPEG, once it is newer than a given one."""
        camera = service.camera(name)
        if not await _has_newer(camera, newer_than):
            return Response(status_code=204)
        data, sequence = await asyncio.to_thread(camera.jpeg, view, width)
        return Response(data, media_type="image/jpeg", headers={"X-Sequence": str(sequence)})

    @router.get("/stream.mjpg", response_class=StreamingResponse, responses=MOTION_JPEG)
    async def stream(
        name: CameraName, view: View = "after", width: Width = 640, frames: Sequence = 0
    ) -> StreamingResponse:
        """Send pictures as they come (Motion JPEG): ``frames`` of them, or without end."""
        pictures = _motion_jpeg(service, service.camera(name), view, width, frames)
        kind = f"multipart/x-mixed-replace; boundary={BOUNDARY}"
        return StreamingResponse(pictures, media_type=kind)

    return router


async def _has_newer(camera: CameraRun, than: int) -> bool:
    """Wait a moment for a picture that is newer than the given one."""
    for _ in range(round(LONGEST_WAIT_SECONDS / LOOK_SECONDS)):
        if camera.sequence > than:
            return True
        await asyncio.sleep(LOOK_SECONDS)
    return False


async def _motion_jpeg(
    service: Service, camera: CameraRun, view: View, width: int, frames: int
) -> AsyncIterator[bytes]:
    sequence = sent = 0
    while not service.draining and (not frames or sent < frames):
        if camera is not service.find(camera.settings.name):
            return  # removed
        if not await _has_newer(camera, sequence):
            continue
        data, sequence = await asyncio.to_thread(camera.jpeg, view, width)
        sent += 1
        head = f"--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
        yield head.encode() + data + b"\r\n"


async def _refused(_request: Request, error: Exception) -> Response:
    return JSONResponse({"detail": str(error)}, getattr(error, "status", MISTAKE))


async def _mistake(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    # A location begins with the part of the request that it is in.
    mistakes = mistakes_in([{**each, "loc": each["loc"][1:]} for each in error.errors()])
    return JSONResponse({"detail": mistakes}, MISTAKE)


class _Metrics(Collector):
    """Counters of all cameras, as `edgecar run --metrics-port` names them, and of the service."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def collect(self) -> Iterable["Metric"]:
        yield from metrics_from(self._service.snapshots())
        load = GaugeMetricFamily("edgecar_load_ratio", "Share of the restoring thread's time.")
        load.add_metric([], self._service.load)
        camera, output = ["camera_name"], ["camera_name", "kind"]
        up = GaugeMetricFamily("edgecar_camera_up", "1 while it runs.", labels=camera)
        shed = GaugeMetricFamily("edgecar_camera_shed", "1 under overload.", labels=camera)
        restarts = CounterMetricFamily("edgecar_restarts", "Times opened again.", labels=camera)
        written = CounterMetricFamily("edgecar_output_frames", "Frames written.", labels=output)
        lost = CounterMetricFamily("edgecar_output_dropped", "Frames left out.", labels=output)
        for status in self._service.statuses():
            up.add_metric([status.name], status.state == "running")
            shed.add_metric([status.name], status.shed)
            restarts.add_metric([status.name], status.restarts)
            for each in status.outputs:
                written.add_metric([status.name, each.kind], each.frames)
                lost.add_metric([status.name, each.kind], each.dropped)
        yield from (load, up, shed, restarts, written, lost)
