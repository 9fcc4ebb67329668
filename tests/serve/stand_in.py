"""A server that answers as `edgecar serve` does, from records that a test edits."""

import json
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import cv2
import numpy as np

import edgecar

PAGE = Path(edgecar.__file__).parent / "serve" / "page"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
KINDS = {".html": "text/html", ".js": "text/javascript", ".css": "text/css"}
KINDS[".svg"] = "image/svg+xml"
BEFORE, AFTER = 40, 215  # grey of the two pictures
STEP_SECONDS = 0.04  # a camera of 25 frames a second
LONGEST_WAIT_SECONDS = 1


def camera(name: str, **facts: object) -> dict:
    """The status of a camera that runs well."""
    record = {
        "name": name, "source": "rtsp://***@10.0.0.5/main", "state": "running", "error": None,
        "enabled": True, "network": "edgecar-s", "running": "edgecar-s", "shed": False,
        "engine": "openvino, int8, CPU", "codec": "h264", "width": 640, "height": 360,
        "sequence": 1, "camera_fps": 25.0, "process_fps": 24.8, "skipped_fps": 0.0,
        "passed_because": {"overload": 4}, "age_ms": {"p50": 20.1, "p95": 41.0},
        "computed_share": 0.21, "qp": 31.2, "reconnects": 0, "restarts": 0,
    }  # fmt: skip
    record["frames"] = {
        "read": 900, "restored": 896, "passed": 4, "dropped": 2, "in_flight": 1, "corrupt": 0,
    }  # fmt: skip
    record["outputs"] = [
        {"kind": "record", "target": "/var/lib/clips", "state": "running", "error": None,
         "frames": 100, "dropped": 0},
    ]  # fmt: skip
    return record | facts


def history_of(record: dict) -> dict:
    wave = [np.sin(i / 5) for i in range(60)]
    return {
        "step_seconds": 2,
        "camera_fps": [record["camera_fps"]] * 60,
        "process_fps": [24 + w for w in wave],
        "age_ms": [30 + 5 * w for w in wave],
        "computed_share": [None if 20 <= i < 30 else 0.2 + 0.1 * w for i, w in enumerate(wave)],
        "qp": [None] * 59 + [record["qp"]],
        "change_db": [38 + w for w in wave],
    }


def grey_pair(_name: str, width: int, height: int) -> np.ndarray:
    """What the page asks for: dark before, left of bright after."""
    pair = np.full((height, 2 * width, 3), BEFORE, np.uint8)
    pair[:, width:] = AFTER
    return pair


class StandIn:
    """The server and what it was asked for; `cameras`, `answers` and `token` may be edited."""

    def __init__(self, cameras: list[dict], paint=None):
        self.cameras = {record["name"]: record for record in cameras}
        self.status = {
            "version": "0.1.0", "uptime_seconds": 4000.0, "draining": False, "load": 0.62,
            "networks": ["edgecar-xs", "edgecar-s", "edgecar-m"], "cpu_share": 0.8,
            "memory_mib": 312.5, "engines": [],
        }  # fmt: skip
        self.paint = paint or grey_pair
        self.answers: dict[tuple[str, str], tuple[int, str]] = {}  # one refusal for one request
        self.silent: set[str] = set()  # cameras that run and send no picture
        self.token: str | None = None
        self.asked: list[tuple[str, str, object]] = []  # method, path and body of what is no GET
        self.pictures: list[tuple[str, dict]] = []  # camera and query
        self.lock = threading.Lock()
        self.in_flight = self.most_in_flight = 0
        self.began = time.monotonic()
        self.open(0)

    def open(self, port: int) -> None:
        self.closed = False
        handler = type("Handler", (_Handler,), {"home": self})
        self.server = _Server(("127.0.0.1", port), handler)
        self.port = self.server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self.closed = True  # connections that are open end with their next request
        self.server.shutdown()
        self.server.server_close()

    def sequence(self) -> int:
        return int((time.monotonic() - self.began) / STEP_SECONDS) + 1

    def watched(self) -> set[str]:
        """The cameras of which a picture was asked for since the last call."""
        with self.lock:
            names = {name for name, _ in self.pictures}
            self.pictures.clear()
        return names


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        # The page may give up on a picture it asked for.
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    home: StandIn
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def reply(self, code: int, body: bytes = b"", kind: str = "application/json", **more: str):
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Security-Policy", POLICY)
        for name, value in more.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def reply_json(self, code: int, value: object, **more: str) -> None:
        self.reply(code, json.dumps(value).encode(), **more)

    def refuse(self, code: int, detail: str) -> None:
        self.reply_json(code, {"detail": detail})

    def answer(self) -> None:
        url = urlsplit(self.path)
        path = unquote(url.path)
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else None
        home = self.home
        if home.closed:
            self.close_connection = True
            return
        if self.command != "GET":
            home.asked.append((self.command, path, body))
        if path == "/" or path.startswith("/static/"):
            self.file(path.removeprefix("/static/") if path != "/" else "index.html")
        elif path == "/api/login":
            self.login(body)
        elif home.token and f"edgecar={home.token}" not in self.headers.get("Cookie", ""):
            self.refuse(401, "this server needs its token: log in")
        elif (self.command, path) in home.answers:
            self.refuse(*home.answers.pop((self.command, path)))
        elif path == "/api/status":
            self.reply_json(200, home.status)
        elif path == "/api/cameras":
            self.cameras(body)
        else:
            name, _, rest = path.removeprefix("/api/cameras/").partition("/")
            self.one(name, rest, body, parse_qs(url.query))

    do_GET = do_POST = do_PATCH = do_DELETE = answer  # noqa: N815

    def file(self, name: str) -> None:
        path = PAGE / name
        if not path.is_file():
            return self.refuse(404, f"no file {name}")
        return self.reply(200, path.read_bytes(), KINDS[path.suffix])

    def login(self, body: dict) -> None:
        if body["token"] != self.home.token:
            return self.refuse(401, "wrong token: look at the server's settings")
        cookie = f"edgecar={body['token']}; HttpOnly; SameSite=Strict; Path=/"
        return self.reply(204, Set_Cookie=cookie)

    def cameras(self, body: dict | None) -> None:
        home = self.home
        if body is None:
            for record in home.cameras.values():
                record["sequence"] = home.sequence()
            return self.reply_json(200, list(home.cameras.values()))
        if body["name"] in home.cameras:
            return self.refuse(409, f"a camera {body['name']} is there already: take another name")
        home.cameras[body["name"]] = camera(**body)
        return self.reply_json(201, home.cameras[body["name"]])

    def one(self, name: str, rest: str, body: dict | None, query: dict) -> None:
        record = self.home.cameras.get(name)
        if record is None:
            return self.refuse(404, f"no camera {name}")
        if rest == "frame.jpg":
            return self.frame(name, record, {key: values[0] for key, values in query.items()})
        if rest == "history":
            return self.reply_json(200, history_of(record))
        if self.command == "DELETE":
            del self.home.cameras[name]
            return self.reply(204)
        if rest in ("start", "stop"):
            record["state"] = "running" if rest == "start" else "stopped"
        record |= body or {}
        return self.reply_json(200, record)

    def frame(self, name: str, record: dict, query: dict) -> None:
        home = self.home
        with home.lock:
            home.pictures.append((name, query))
            home.in_flight += 1
            home.most_in_flight = max(home.most_in_flight, home.in_flight)
        try:
            newer = int(query.get("newer_than", -(10**9)))
            if not self.wait_for(name, newer):
                return self.reply(204)
            width = min(int(query["width"]), record["width"])
            pair = home.paint(name, width, round(record["height"] * width / record["width"]))
            code = cv2.imencode(".jpg", pair)[1].tobytes()
            sequence = str(home.sequence())
        finally:
            with home.lock:  # before the reply: the page may ask again as soon as it has it
                home.in_flight -= 1
        return self.reply(200, code, "image/jpeg", X_Sequence=sequence)

    def wait_for(self, name: str, newer: int) -> bool:
        for _ in range(int(LONGEST_WAIT_SECONDS / STEP_SECONDS)):
            if self.home.sequence() > newer and name not in self.home.silent:
                return True
            time.sleep(STEP_SECONDS)
        return False
