"""Security of a service: who may call it, which files callers may name, and what is logged."""

import asyncio
import hashlib
import hmac
import ipaddress
import logging
import re
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote

from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edgecar.artifact import is_artifact_path
from edgecar.errors import SettingsError
from edgecar.media.sources import source_from
from edgecar.serve.settings import NAME, CameraSettings, Server

REQUEST_SECONDS = 10.0
"""Time in which the head of a request must arrive, and again for its body."""

LARGEST_BODY = 64 << 10
"""Bytes of a request; the settings of a camera take a few hundred."""

TOO_LARGE = 413, f"more than {LARGEST_BODY} bytes; send less"
COOKIE = "edgecar_session"
LOGIN = "/api/login"
OPEN_PATHS = ("/", "/healthz", "/readyz")
OPEN_FOLDER = "/static/"
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
LOCAL_NAMES = ("localhost", "127.0.0.1", "[::1]", "::1")

BURST_SECONDS = 4.0
"""A caller may send the requests of this many seconds at once."""

FAILURES_PER_SECOND = 1 / 6
FAILURES_AT_ONCE = 10
CALLERS = 4096
"""Addresses whose rate is remembered; the one that called longest ago is forgotten."""

HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
    "cache-control": "no-store",
}

SHORTEST_SECRET = 3
"""Replacing shorter ones in the log would garble every other word."""


class Rate:
    """Token bucket for each caller: ``per_second`` on average, ``at_once`` after a pause."""

    def __init__(
        self, per_second: float, at_once: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._per_second, self._at_once, self._clock = per_second, at_once, clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # tokens left, when

    def allows(self, caller: str, cost: float = 1.0) -> bool:
        """Take ``cost`` from a caller's bucket; False if less than one token is left in it."""
        now = self._clock()
        left, seconds = self._buckets.pop(caller, (self._at_once, now))
        left = min(self._at_once, left + (now - seconds) * self._per_second)
        allowed = left >= max(cost, 1.0)
        self._buckets[caller] = left - cost if allowed else left, now
        if len(self._buckets) > CALLERS:
            self._buckets.popitem(last=False)
        return allowed


class Guard:
    """ASGI middleware that checks every request and adds security headers to every answer."""

    def __init__(self, app: ASGIApp, server: Server) -> None:
        self.app = app
        self._server = server
        self._token = _digest(server.token.get_secret_value()) if server.token else None
        self._session = secrets.token_urlsafe(32)  # browsers cannot send a token with a picture
        per_second = server.requests_per_second
        self._requests = Rate(per_second, BURST_SECONDS * per_second)
        self._failures = Rate(FAILURES_PER_SECOND, FAILURES_AT_ONCE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        if scope["type"] != "http":
            return  # no websockets

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        refused = self._refusal(Request(scope))
        if refused:
            status, detail = refused
            headers = {"WWW-Authenticate": "Bearer"} if status == 401 else None
            answer = JSONResponse({"detail": detail}, status, headers)
            await answer(scope, receive, send_with_headers)
        else:
            await self.app(scope, _limited(receive), send_with_headers)

    def session_for(self, token: str, request: Request) -> str | None:
        """Return the cookie's value for a browser that knows the token; None if it does not."""
        if self._knows(token):
            return self._session
        self._failures.allows(self._caller(request))
        return None

    def _refusal(self, request: Request) -> tuple[int, str] | None:
        """Return status and reason if a request must go no further."""
        headers, path = request.headers, request.scope["path"]
        host, caller = headers.get("host", ""), self._caller(request)
        if not self._is_ours(host):
            return 421, f"this is not {host[:64]!r}; add it to server.hosts in the service's file"
        if not self._requests.allows(caller):
            return 429, "too many requests; wait a second"
        length = headers.get("content-length", "0")
        if request.method not in SAFE_METHODS:
            origin = headers.get("origin")
            if origin and origin.partition("://")[2] != host:
                return 403, "the request comes from another site's page; use this server's own"
            has_body = length != "0" or "transfer-encoding" in headers
            if has_body and not headers.get("content-type", "").startswith("application/json"):
                # Forms of other sites can send any type but this one.
                return 415, "the body is no JSON; send Content-Type: application/json"
        if path not in OPEN_PATHS and not path.startswith(OPEN_FOLDER):
            if not self._failures.allows(caller, cost=0):
                return 429, "too many wrong tokens; wait a minute"
            if path != LOGIN and not self._admits(request):
                if "authorization" in headers:
                    self._failures.allows(caller)
                return 401, "a token is needed; send Authorization: Bearer TOKEN, or log in"
        if not length.isdecimal() or len(length) > 9 or int(length) > LARGEST_BODY:
            return TOO_LARGE
        return None

    def _is_ours(self, host: str) -> bool:
        """Return True for a name of this server; pages of other names that lead here get none."""
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host
        server = self._server
        is_address = name.startswith("[") or name.replace(".", "").isdecimal()
        if is_address and not server.local:
            return True  # no page has an address as its name
        own = {*server.hosts, server.host, *LOCAL_NAMES}  # nor one of the local names
        return name.lower() in {each.lower() for each in own}

    def _caller(self, request: Request) -> str:
        """Return the address that a request comes from; a known proxy says for whom it calls."""
        caller = request.client.host if request.client else ""
        forwarded = ",".join(request.headers.getlist("x-forwarded-for")).split(",")
        while forwarded and self._is_proxy(caller):
            caller = forwarded.pop().strip() or caller
        return caller

    def _is_proxy(self, address: str) -> bool:
        if not self._server.proxies:
            return False
        try:
            return any(ipaddress.ip_address(address) in each for each in self._server.proxies)
        except ValueError:
            return False

    def _admits(self, request: Request) -> bool:
        if self._token is None:
            return True
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and self._knows(token.strip()):
            return True
        session = request.cookies.get(COOKIE, "")
        return hmac.compare_digest(_digest(session), _digest(self._session))

    def _knows(self, token: str) -> bool:
        """Compare in a time that does not tell how much of a token is right."""
        return self._token is None or hmac.compare_digest(_digest(token), self._token)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


def _limited(receive: Receive) -> Receive:
    """Refuse a body that is too large, and hang up on a caller that does not end it in time."""
    left, until, arriving = LARGEST_BODY, time.monotonic() + REQUEST_SECONDS, True

    async def limited() -> Message:
        nonlocal left, arriving
        if not arriving:
            return await receive()
        try:
            message = await asyncio.wait_for(receive(), max(0.0, until - time.monotonic()))
        except asyncio.TimeoutError:
            return {"type": "http.disconnect"}
        arriving = message.get("more_body", False)
        left -= len(message.get("body", b""))
        if left < 0:
            raise HTTPException(*TOO_LARGE)
        return message

    return limited


def check_allowed(
    camera: CameraSettings, server: Server, before: CameraSettings | None = None
) -> None:
    """Refuse paths outside the server's folders.

    The service's own file may name any path: its author has the machine. A path that it named is
    not checked again when a caller changes something else of the camera.

    Raises:
        SettingsError: A path lies outside.
    """
    known = _paths(before) if before else []
    for kind, path in _paths(camera):
        if (kind, path) not in known and not _is_inside(path, server.folders):
            raise SettingsError(
                f"{kind} {path} is in none of the server's folders "
                f"({', '.join(map(str, server.folders)) or 'it has none'}); "
                "add its folder to server.folders in the service's file"
            )


def _paths(camera: CameraSettings) -> list[tuple[str, Path]]:
    """Return all files and folders that a camera names, each with its kind."""
    paths = []
    source = source_from(camera.source)  # parsed as it will be when it is opened
    if source.path is not None:
        paths.append(("source", source.path))
    if camera.record:
        # The camera's own folder in it may be a link.
        paths.append(("recording folder", camera.record.folder / camera.name))
    for network in camera.networks:
        # Anything but a plain name may lead out of the folder of shipped weights.
        if not re.fullmatch(NAME, network) or is_artifact_path(network):
            paths.append(("network", Path(network)))
    return paths


def _is_inside(path: Path, folders: tuple[Path, ...]) -> bool:
    try:
        real = path.resolve()
        return any(real.is_relative_to(folder.resolve()) for folder in folders)
    except (OSError, ValueError, RuntimeError):  # a zero byte, or links in a circle
        return False


class Redactor(logging.Filter):
    """Log filter that replaces secrets in messages and tracebacks, and keeps each in one line."""

    def __init__(self) -> None:
        super().__init__()
        self._secrets: set[str] = set()

    def hide(self, *secrets: str) -> None:
        """Replace these from now on."""
        self._secrets.update(each for each in secrets if len(each) >= SHORTEST_SECRET)

    def hide_those_of(self, camera: CameraSettings) -> None:
        """Replace the logins and the values of queries in a camera's addresses from now on."""
        for url in (camera.source, camera.push.url if camera.push else ""):
            login = url.partition("://")[2].rpartition("@")[0]
            query = re.split("[&#]", url.partition("?")[2])
            values = [part.partition("=")[2] for part in query]
            for secret in (login, login.partition(":")[2], *values):
                self.hide(secret, unquote(secret))

    def redacted(self, text: str) -> str:
        """Return the text with every secret replaced."""
        for secret in sorted(self._secrets, key=len, reverse=True):
            text = text.replace(secret, "***")
        return text

    def filter(self, record: logging.LogRecord) -> bool:
        try:
            message = record.getMessage()
        except Exception:  # a mistake in what is logged is no reason to fail
            message = f"{record.msg} {record.args}"
        # Nothing may begin a line of its own, or control the terminal.
        record.msg = "".join(
            c if c.isprintable() else c.encode("unicode_escape").decode()
            for c in self.redacted(message)
        )
        record.args = None
        if record.exc_info:  # formatters use this text instead of their own
            record.exc_text = self.redacted(logging.Formatter().formatException(record.exc_info))
        return True
