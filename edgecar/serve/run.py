"""The process around a service: its log, its HTTP server, and an end within seconds."""

import asyncio
import json
import logging
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import Literal

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from edgecar.errors import EdgecarError, SettingsError
from edgecar.serve.api import application
from edgecar.serve.security import Redactor
from edgecar.serve.service import Service

LogFormat = Literal["text", "json"]

REQUEST_SECONDS = 10.0
"""Time in which a whole request must arrive."""

OPEN_REQUESTS_SECONDS = 1
"""Time for open requests when the service ends; endless streams are cut off after it."""

LOOK_SECONDS = 0.05
"""Pause between two looks for a signal."""

BACKLOG = 128
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

_log = logging.getLogger(__name__)


def listening_socket(host: str, port: int) -> socket.socket:
    """Return a socket that listens, so that a wrong address is known before anything is started.

    Raises:
        SettingsError: The address is unknown or taken.
    """
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind)
    except OSError as error:
        raise SettingsError(f"host {host} is not known ({error.strerror}); give another") from error
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(BACKLOG)
    except OSError as error:
        listening.close()
        raise SettingsError(
            f"{host}:{port} cannot be listened at ({error.strerror}); give a free port and an "
            "address of this machine"
        ) from error
    return listening


def serve(service: Service, listening: socket.socket, started: Callable[[], None]) -> None:
    """Answer requests until SIGTERM, SIGINT or SIGHUP, then close the service and the socket.

    ``started`` is called once callers can connect.
    """
    received: list[int] = []
    wanted = [n for n in SIGNALS if signal.getsignal(n) is not signal.SIG_IGN]  # nohup ignores one
    before = {n: signal.signal(n, lambda number, _: received.append(number)) for n in wanted}
    try:
        with answering(service, listening) as server:
            started()
            while server.is_alive() and not received:
                time.sleep(LOOK_SECONDS)
        if not received:
            raise EdgecarError("the HTTP server failed; see the log")
    finally:
        service.close()
        for number, handler in before.items():
            signal.signal(number, handler)
        _log.info("ended")


@contextmanager
def answering(service: Service, listening: socket.socket) -> Iterator[threading.Thread]:
    """Answer HTTP requests in a thread while the block runs, then drain and close the socket."""
    settings = service.settings.server
    config = uvicorn.Config(
        application(service),
        http=ImpatientProtocol,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        # By default uvicorn believes everybody on this machine.
        proxy_headers=bool(settings.proxies),
        forwarded_allow_ips=list(settings.proxies),
        timeout_graceful_shutdown=OPEN_REQUESTS_SECONDS,
        limit_concurrency=512,
        h11_max_incomplete_event_size=16 << 10,
    )
    server = uvicorn.Server(config)
    # A thread of its own: in the main one uvicorn would take over the signals.
    thread = threading.Thread(
        target=server.run, kwargs={"sockets": [listening]}, name="edgecar-http", daemon=True
    )
    thread.start()
    try:
        yield thread
    finally:
        service.begin_draining()
        server.should_exit = True
        thread.join()
        listening.close()


class ImpatientProtocol(H11Protocol):
    """HTTP/1.1 that hangs up if a request does not arrive in time; uvicorn waits for ever.

    A caller who opens connections and sends a byte now and then would otherwise soon hold all that
    there may be, without a token. Middleware cannot see a request before its head is complete.
    """

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._timer:
            self._timer.cancel()

    def _watch(self) -> None:
        arriving = self.conn.their_state in (h11.IDLE, h11.SEND_BODY)
        if arriving and self._timer is None:
            self._timer = self.loop.call_later(REQUEST_SECONDS, self.transport.abort)
        elif not arriving and self._timer:
            self._timer.cancel()
            self._timer = None


def start_logging(kind: LogFormat) -> Redactor:
    """Send the log of the whole process to stderr; returns the filter to be told of secrets."""
    redactor = Redactor()
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(redactor)
    lines = logging.Formatter("%(asctime)s %(levelname)-7s %(message)s", "%Y-%m-%d %H:%M:%S")
    handler.setFormatter(JsonLines() if kind == "json" else lines)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    logging.getLogger("uvicorn").setLevel(logging.ERROR)  # its warnings are written by callers
    # Both would otherwise print past the log, passwords included.
    logging.captureWarnings(True)
    threading.excepthook = _log_failure_of_thread
    return redactor


def _log_failure_of_thread(failure: threading.ExceptHookArgs) -> None:
    name = failure.thread.name if failure.thread else "a thread"
    _log.error("%s ended", name, exc_info=failure.exc_value)


class JsonLines(logging.Formatter):
    """One JSON object per line."""

    def format(self, record: logging.LogRecord) -> str:
        created = datetime.fromtimestamp(record.created, timezone.utc)
        line = {
            "time": created.isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_text:
            line["traceback"] = record.exc_text
        return json.dumps(line)
