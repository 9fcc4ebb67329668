"""The service over HTTP: a REST API, pictures, metrics and the page."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path as FilePath
from typing import Annotated, Any

from fastapi import APIRouter, Body, FastAPI, HTTPException, Path, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel

from edgecar.errors import EdgecarError, MediaError
from edgecar.serve.camera_run import CameraRun
from edgecar.serve.config import key_name, reason
from edgecar.serve.errors import NameTakenError, UnknownCameraError
from edgecar.serve.security import COOKIE, App, Guard, Sessions
from edgecar.serve.service import Service
from edgecar.serve.settings import NAME, Camera, Table
from edgecar.serve.status import CameraStatus, Health, HistoryTable, ServiceStatus
from edgecar.serve.view import View

PAGE = FilePath(__file__).parent / "page"
MEDIA_TYPES = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}

LONGEST_WAIT_SECONDS = 1.0
LOOK_SECONDS = 0.02
"""How soon a newer picture is noticed; below a frame's time at 30 frames a second."""

LARGEST_WIDTH = 7680
BOUNDARY = "edgecar-frame"
MISTAKE = 422


class Failure(BaseModel):
    """What went wrong, in one line."""

    detail: str


class Login(Table):
    """What a browser sends to get a session."""

    token: Annotated[str, Body(max_length=512)]


CameraName = Annotated[str, Path(pattern=NAME, max_length=64)]
Width = Annotated[int, Query(ge=16, le=LARGEST_WIDTH, description="Pixels, of one picture.")]
Sequence = Annotated[int, Query(ge=0, le=2**53, description="Wait for one after this.")]

Answers = dict[int | str, dict[str, Any]]
GUARDED: Answers = {status: {"model": Failure} for status in (400, 401, 403, 413, 415, 421, 429)}
OF_CAMERA: Answers = {404: {"model": Failure}, MISTAKE: {"model": Failure}}
CHANGING: Answers = {409: {"model": Failure}, **OF_CAMERA}


def application(service: Service) -> App:
    """The whole application, guarded.

    Args:
        service: Stays the caller's to close.
    """
    server = service.settings.server
    sessions = Sessions(server.token.get_secret_value() if server.token else None)
    app = FastAPI(
        title="edgecar serve",
        summary="Cameras with their compression artifacts removed.",
        docs_url=None,  # its assets come from elsewhere
        redoc_url=None,
        openapi_url="/api/openapi.json",
        exception_handlers={
            EdgecarError: _explained,
            RequestValidationError: _mistake,
        },
    )
    guard = Guard(app, server, sessions)
    app.include_router(_of_service(service))
    app.include_router(_of_cameras(service))
    app.include_router(_of_pictures(service))
    app.include_router(_of_browsers(sessions, guard))
    return guard


def _of_service(service: Service) -> APIRouter:
    router = APIRouter(responses=GUARDED)

    @router.get("/healthz", responses={503: {"model": Health}})
    def health(response: Response) -> Health:
        """Whether the service's threads run."""
        found = service.health
        response.status_code = 503 if found.status == "failed" else 200
        return found

    @router.get("/readyz", responses={503: {"model": Health}})
    def ready(response: Response) -> Health:
        """Whether it takes requests: not while it ends."""
        found = service.health
        response.status_code = 200 if found.status == "ok" else 503
        return found

    @router.get("/api/status")
    def status() -> ServiceStatus:
        """The service as a whole."""
        return service.status

    @router.get(
        "/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}}
    )
    def metrics() -> Response:
        """Counters of all cameras, for Prometheus."""
        from prometheus_client import CONTENT_TYPE_LATEST

        from edgecar.serve.metrics import metrics_text

        return Response(metrics_text(service), media_type=CONTENT_TYPE_LATEST)

    return router


def _of_cameras(service: Service) -> APIRouter:
    router = APIRouter(prefix="/api/cameras", responses=GUARDED)

    @router.get("")
    def all_cameras() -> list[CameraStatus]:
        """All cameras."""
        return service.statuses()

    @router.post("", status_code=201, responses=CHANGING)
    def add(camera: Camera) -> CameraStatus:
        """Run one more camera."""
        return service.add(camera)

    @router.get("/{name}", responses=OF_CAMERA)
    def one(name: CameraName) -> CameraStatus:
        """One camera."""
        return service.run_of(name).status

    @router.patch("/{name}", responses=CHANGING)
    def change(name: CameraName, changes: Annotated[dict[str, Any], Body()]) -> CameraStatus:
        """Change some of its settings; the others stay."""
        return service.change(name, changes)

    @router.delete("/{name}", status_code=204, response_class=Response, responses=OF_CAMERA)
    def remove(name: CameraName) -> Response:
        """Stop and forget it; recordings stay."""
        service.remove(name)
        return Response(status_code=204)

    @router.post("/{name}/start", responses=OF_CAMERA)
    def start(name: CameraName) -> CameraStatus:
        """Run it."""
        return service.change(name, {"enabled": True})

    @router.post("/{name}/stop", responses=OF_CAMERA)
    def stop(name: CameraName) -> CameraStatus:
        """Let it rest, until it is started."""
        return service.change(name, {"enabled": False})

    @router.get("/{name}/history", responses=OF_CAMERA)
    def history(name: CameraName) -> HistoryTable:
        """The last minutes."""
        return HistoryTable.model_validate(service.run_of(name).history.table())

    return router


def _of_pictures(service: Service) -> APIRouter:
    router = APIRouter(prefix="/api/cameras/{name}", responses={**GUARDED, **OF_CAMERA})
    jpeg: Answers = {200: {"content": {"image/jpeg": {}}}, 204: {"description": "Nothing newer."}}

    @router.get("/frame.jpg", response_class=Response, responses=jpeg)
    async def frame(
        name: CameraName, view: View = "after", newer_than: Sequence = 0, width: Width = 640
    ) -> Response:
        """The newest picture as JPEG."""
        run = service.run_of(name)
        if not await _newer(run, newer_than):
            return Response(status_code=204)
        data, sequence = await asyncio.to_thread(run.latest.jpeg, view, width)
        return Response(data, media_type="image/jpeg", headers={"X-Sequence": str(sequence)})

    @router.get(
        "/stream.mjpg",
        response_class=StreamingResponse,
        responses={200: {"content": {"multipart/x-mixed-replace": {}}}},
    )
    async def stream(
        name: CameraName, view: View = "after", width: Width = 640, frames: Sequence = 0
    ) -> StreamingResponse:
        """Pictures as they come (Motion JPEG), ``frames`` of them or for ever."""
        run = service.run_of(name)
        kind = f"multipart/x-mixed-replace; boundary={BOUNDARY}"
        return StreamingResponse(_pictures(service, run, view, width, frames), media_type=kind)

    return router


def _of_browsers(sessions: Sessions, guard: Guard) -> APIRouter:
    router = APIRouter(responses=GUARDED)

    @router.post("/api/login", status_code=204, response_class=Response, responses=OF_CAMERA)
    def login(request: Request, wanted: Login) -> Response:
        """Begin a session for a browser."""
        if not sessions.knows(wanted.token):
            guard.note_failure(request.client.host if request.client else "")
            raise HTTPException(401, "that is not the token; see the service's file")
        response = Response(status_code=204)
        response.set_cookie(COOKIE, sessions.begin(), httponly=True, samesite="strict")
        return response

    @router.get("/", include_in_schema=False)
    def page() -> Response:
        return _file(PAGE / "index.html")

    files = {path.name: path for path in PAGE.iterdir() if path.suffix in MEDIA_TYPES}

    @router.get("/static/{name}", include_in_schema=False)
    def static(name: str) -> Response:
        if name not in files:
            raise HTTPException(404, "no such file; see /")
        return _file(files[name])

    return router


async def _newer(run: CameraRun, than: int) -> bool:
    """Whether there is a newer picture, or comes one soon."""
    loop = asyncio.get_running_loop()
    until = loop.time() + LONGEST_WAIT_SECONDS
    while run.latest.sequence <= than:
        if loop.time() >= until:
            return False
        await asyncio.sleep(LOOK_SECONDS)
    return True


async def _pictures(
    service: Service, run: CameraRun, view: View, width: int, frames: int
) -> AsyncIterator[bytes]:
    sequence = sent = 0
    while not service.draining and (not frames or sent < frames):
        if run is not service.find(run.settings.name):
            return  # removed
        if not await _newer(run, sequence):
            continue
        try:
            data, sequence = await asyncio.to_thread(run.latest.jpeg, view, width)
        except MediaError:
            continue
        sent += 1
        head = f"--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
        yield head.encode() + data + b"\r\n"


def _file(path: FilePath) -> Response:
    return Response(path.read_bytes(), media_type=MEDIA_TYPES[path.suffix])


async def _explained(_request: Request, error: Exception) -> Response:
    statuses: dict[type[Exception], int] = {UnknownCameraError: 404, NameTakenError: 409}
    status = statuses.get(type(error), MISTAKE)
    return JSONResponse({"detail": str(error)}, status)


async def _mistake(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    mistakes = [f"{key_name(e['loc'][1:])}{reason(e)}" for e in error.errors()]
    return JSONResponse({"detail": "; ".join(mistakes)}, MISTAKE)
