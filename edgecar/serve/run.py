"""A service as a process: HTTP server, signals, and an end within seconds."""

import logging
import signal
import socket
from collections.abc import Callable
from types import FrameType

import uvicorn

from edgecar.errors import SettingsError
from edgecar.serve.api import application
from edgecar.serve.connections import ImpatientProtocol
from edgecar.serve.security import App
from edgecar.serve.service import Service
from edgecar.serve.settings import Server

OPEN_REQUESTS_SECONDS = 1
"""For requests under way when the service ends; endless streams are cut off then."""

BACKLOG = 128
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

_log = logging.getLogger(__name__)


def listening_socket(host: str, port: int) -> socket.socket:
    """A socket that listens, before anything is started for it.

    Raises:
        SettingsError: The address cannot be had.
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


def http_config(app: App, server: Server) -> uvicorn.Config:
    """How the HTTP server runs."""
    return uvicorn.Config(
        app,
        http=ImpatientProtocol,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        # uvicorn believes whoever is on this machine, unless it is told not to.
        proxy_headers=bool(server.proxies),
        forwarded_allow_ips=list(server.proxies),
        timeout_graceful_shutdown=OPEN_REQUESTS_SECONDS,
        limit_concurrency=512,
        h11_max_incomplete_event_size=16 << 10,
    )


def serve(service: Service, listening: socket.socket, started: Callable[[], None]) -> None:
    """Answer requests until SIGTERM, SIGINT or SIGHUP; the service is closed at the end.

    Args:
        service: Closed whatever happens.
        listening: From `listening_socket`; closed.
        started: Called once requests are answered.
    """
    config = http_config(application(service), service.settings.server)
    server = _Server(config, service, started)
    # uvicorn listens to signals once it runs, and gives each on to the handler from before when it
    # has ended. One that comes earlier must end it as well.
    heard = [n for n in SIGNALS if signal.getsignal(n) is not signal.SIG_IGN]  # nohup ignores one
    before = {number: signal.signal(number, server.handle_exit) for number in heard}
    try:
        server.run(sockets=[listening])
    finally:
        service.close()
        listening.close()
        for number, handler in before.items():
            signal.signal(number, handler)
        _log.info("ended")


class _Server(uvicorn.Server):
    """Tells when it answers, and the service when it is to end.

    Args:
        config: Of the server.
        service: What is served.
        started: Called once requests are answered.
    """

    def __init__(
        self, config: uvicorn.Config, service: Service, started: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._service, self._tell = service, started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._tell()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._service.begin_draining()
        super().handle_exit(sig, frame)
