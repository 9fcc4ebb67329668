"""The real application in front of cameras that a test edits."""

import time
from contextlib import ExitStack
from types import SimpleNamespace

import cv2
import numpy as np

from edgecar.serve.api import application
from edgecar.serve.service import CallError
from edgecar.serve.settings import Server
from edgecar.serve.status import CameraStatus, Health, HistoryTable, ServiceStatus

BEFORE, AFTER = 40, 215  # grey of the two pictures
STEP_SECONDS = 0.04  # a camera of 25 frames a second
TOKEN = "a-token-of-some-length"


def camera(name: str, **facts: object) -> dict:
    """The status of a camera that runs well."""
    record = {
        "name": name, "source": "rtsp://***@10.0.0.5/main", "state": "running", "error": None,
        "enabled": True, "network": "edgecar-s", "running": "edgecar-s", "shed": False,
        "engine": "openvino, int8, CPU", "codec": "h264", "width": 640, "height": 360,
        "sequence": 1, "camera_fps": 25.0, "process_fps": 24.8, "skipped_fps": 0.0,
        "passed_because": {"overload": 4}, "age_ms": {"p50": 20.1, "p95": 41.0},
        "computed_share": 0.21, "qp": 31.2, "quantiser": 30.0, "quantiser_moves": 2,
        "quantiser_unknown_frames": 0, "reconnects": 0, "restarts": 0,
    }  # fmt: skip
    record["frames"] = {
        "read": 900, "restored": 896, "passed": 4, "dropped": 2, "in_flight": 1, "corrupt": 0,
    }  # fmt: skip
    output = {"kind": "record", "target": "/var/lib/clips", "state": "running", "frames": 100}
    return record | {"outputs": [output]} | facts


def history_of(record: dict) -> HistoryTable:
    wave = [np.sin(i / 5) for i in range(60)]
    return HistoryTable(
        step_seconds=2,
        camera_fps=[record["camera_fps"]] * 60,
        process_fps=[24 + w for w in wave],
        age_ms=[30 + 5 * w for w in wave],
        computed_share=[None if 20 <= i < 30 else 0.2 + 0.1 * w for i, w in enumerate(wave)],
        qp=[None] * 59 + [record["qp"]],
        change_db=[38 + w for w in wave],
    )


def grey_pair(_name: str, width: int, height: int) -> np.ndarray:
    """What the page asks for: dark before, left of bright after."""
    pair = np.full((height, 2 * width, 3), BEFORE, np.uint8)
    pair[:, width:] = AFTER
    return pair


class StandIn:
    """A service as the application sees it, and what it was asked for.

    `cameras`, `refusals` and `paint` may be edited. It listens while it is open.
    """

    draining, load = False, 0.62
    health = Health(status="ok")

    def __init__(self, served, cameras: list[dict]):
        self.cameras = {record["name"]: record for record in cameras}
        self.status = ServiceStatus(
            version="0.1.0", uptime_seconds=4000, draining=False, load=0.62, cpu_share=0.8,
            networks=["edgecar-xs", "edgecar-s", "edgecar-m"], memory_mib=312.5, engines=[],
        )  # fmt: skip
        self.paint = grey_pair
        self.refusals: list[str] = []  # of the next requests that change something
        self.silent: set[str] = set()  # cameras that run and send no picture
        self.asked: list[tuple] = []
        self.pictures: list[tuple[str, str]] = []  # camera and query
        self.in_flight = self.most_in_flight = 0
        self.began = time.monotonic()
        self._served, self._open = served, ExitStack()
        self.ask_for_token(None)
        self.open(0)

    def ask_for_token(self, token: str | None) -> None:
        """Forget all sessions."""
        self.settings = SimpleNamespace(server=Server(token=token))
        self.guard = application(self)

    def open(self, port: int) -> None:
        found = self._open.enter_context(self._served(self, port, self.answer))
        self.port, self.url = found.port, found.url

    def close(self) -> None:
        self._open.close()

    async def answer(self, scope, receive, send) -> None:
        """Answer as the application does, counting requests for pictures."""
        *_, name, rest = scope.get("path", "//").split("/")
        if rest != "frame.jpg":
            return await self.guard(scope, receive, send)
        self.pictures.append((name, scope["query_string"].decode()))
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)

        async def send_counted(message) -> None:
            # Before the last byte: the page may ask again as soon as it has it.
            self.in_flight -= not message.get("more_body", message["type"].endswith("start"))
            await send(message)

        return await self.guard(scope, receive, send_counted)

    def watched(self) -> set[str]:
        """The cameras of which a picture was asked for since the last call."""
        pictures, self.pictures = self.pictures, []
        return {name for name, _ in pictures}

    def begin_draining(self) -> None:
        pass

    def sequence(self) -> int:
        return int((time.monotonic() - self.began) / STEP_SECONDS) + 1

    def camera(self, name: str) -> SimpleNamespace:
        """A camera as it is at this moment."""
        if name not in self.cameras:
            raise CallError(f"no camera {name}", 404)
        record = self.cameras[name] | {"sequence": 0 if name in self.silent else self.sequence()}
        return _Camera(self, record)

    def statuses(self) -> list[CameraStatus]:
        return [self.camera(name).status for name in self.cameras]

    def _act(self, *asked) -> None:
        if self.refusals:
            raise CallError(self.refusals.pop(), 422)
        self.asked.append(asked)

    def add(self, settings) -> CameraStatus:
        if settings.name in self.cameras:
            raise CallError(f"a camera {settings.name} is there already: take another name", 409)
        given = settings.model_dump(exclude_unset=True)
        self._act("add", given)
        self.cameras[settings.name] = camera(**given)
        return self.camera(settings.name).status

    def change(self, name: str, changes: dict) -> CameraStatus:
        self._act("change", name, changes)
        if "enabled" in changes:
            self.cameras[name]["state"] = "running" if changes["enabled"] else "stopped"
        self.cameras[name] |= changes
        return self.camera(name).status

    def remove(self, name: str) -> None:
        self._act("remove", name)
        del self.cameras[name]


class _Camera:
    def __init__(self, home: StandIn, record: dict):
        self._home, self._record = home, record
        self.status, self.history = CameraStatus.model_validate(record), history_of(record)

    @property
    def sequence(self) -> int:
        record, home = self._record, self._home
        return 0 if record["name"] in home.silent else home.sequence()

    def jpeg(self, _view: str, width: int) -> tuple[bytes, int]:
        record = self._record
        width = min(width, record["width"])
        height = round(record["height"] * width / record["width"])
        pair = self._home.paint(record["name"], width, height)
        return cv2.imencode(".jpg", pair)[1].tobytes(), self.sequence
