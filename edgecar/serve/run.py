"""The process around a service: its log, its HTTP server, and an end within seconds."""

import asyncio
import json
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any, cast

import hypercorn.asyncio
from hypercorn.config import Config
from starlette.types import ASGIApp

from edgecar.errors import SettingsError
from edgecar.serve import security
from edgecar.serve.api import application
from edgecar.serve.security import Redactor
from edgecar.serve.service import Service

OPEN_REQUESTS_SECONDS = 1
"""Time for open requests when the service ends; endless streams are cut off after it."""

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

_log = logging.getLogger(__name__)


def listening_socket(host: str, port: int) -> socket.socket:
    """Return a socket that listens, so that a wrong address is known before anything is started.

    Raises:
        SettingsError: The address is unknown or taken.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise SettingsError(f"host {host} is not known ({error.strerror}); give another") from error
    try:
        return socket.create_server(address, family=family, backlog=128)
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise SettingsError(
            f"{host}:{port} cannot be listened at ({reason}); give a free port and an address of "
            "this machine"
        ) from error


def serve(service: Service, listening: socket.socket, started: Callable[[], None]) -> None:
    """Answer requests until SIGTERM, SIGINT or SIGHUP, then close the service and the socket.

    ``started`` is called once callers can connect.
    """

    async def answer_until_signalled() -> None:
        ended, loop = asyncio.Event(), asyncio.get_running_loop()
        for number in SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup ignores one
                loop.add_signal_handler(number, ended.set)
        try:
            started()
            await answer(application(service), listening, ended, service.begin_draining)
        finally:
            await asyncio.to_thread(service.close)
            _log.info("ended")

    asyncio.run(answer_until_signalled())


async def answer(
    app: ASGIApp, listening: socket.socket, ended: asyncio.Event, drain: Callable[[], None]
) -> None:
    """Answer HTTP requests until an event is set, then drain and close the socket.

    The server gives a request's head `REQUEST_SECONDS` to arrive, however many bytes come in that
    time; `Guard` limits the rest. A caller who sends a byte now and then holds nothing for long.
    """
    logger = logging.getLogger("hypercorn")
    logger.setLevel(logging.ERROR)
    settings = {
        "bind": [f"fd://{listening.detach()}"],
        "errorlog": logger,
        "include_server_header": False,
        "include_date_header": False,
        "keep_alive_timeout": security.REQUEST_SECONDS,
        "graceful_timeout": OPEN_REQUESTS_SECONDS,
    }
    config = Config.from_mapping(settings)
    answering = hypercorn.asyncio.serve(cast("Any", app), config, shutdown_trigger=ended.wait)
    serving = asyncio.create_task(answering)
    ending = asyncio.create_task(ended.wait())
    await asyncio.wait({serving, ending}, return_when=asyncio.FIRST_COMPLETED)
    ending.cancel()
    drain()
    # No longer: a caller who does not read an answer must not keep the service.
    await asyncio.wait({serving}, timeout=2 * OPEN_REQUESTS_SECONDS)
    if serving.done():
        serving.result()


def start_logging(*, as_json: bool) -> Redactor:
    """Send the log of the whole process to stderr; returns the filter to be told of secrets."""
    redactor = Redactor()
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(redactor)
    lines = logging.Formatter("%(asctime)s %(levelname)-7s %(message)s", "%Y-%m-%d %H:%M:%S")
    handler.setFormatter(JsonLines() if as_json else lines)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
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
