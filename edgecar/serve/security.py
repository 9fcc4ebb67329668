"""Who may call, how often and with what: one layer around the whole HTTP application."""

import hashlib
import hmac
import json
import secrets
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from typing import Any

from edgecar.serve.settings import Server

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

LARGEST_BODY = 64 << 10
"""Bytes; the settings of a camera are some hundred."""

COOKIE = "edgecar_session"
SESSIONS = 256
"""Logins remembered; the oldest ends."""

OPEN_PATHS = ("/", "/healthz", "/readyz", "/api/login")
OPEN_FOLDER = "/static/"
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")

BURST_SECONDS = 4.0
"""A caller may make the requests of so many seconds at once."""

FAILURES_PER_SECOND = 1 / 6
FAILURES_AT_ONCE = 10
CALLERS = 4096
"""Addresses whose rate is remembered; the one that called longest ago goes."""

LOCAL_NAMES = ("localhost", "127.0.0.1", "[::1]", "::1")

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


@dataclass
class _Bucket:
    left: float
    seconds: float


class Rate:
    """Allows so many requests a second from each caller, and some at once.

    Args:
        per_second: In the long run.
        at_once: After a pause.
        clock: Seconds.
    """

    def __init__(
        self, per_second: float, at_once: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._per_second, self._at_once, self._clock = per_second, at_once, clock
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def allows(self, caller: str, cost: float = 1.0) -> bool:
        """Whether one more is allowed; counts it if it is."""
        now = self._clock()
        bucket = self._buckets.pop(caller, None) or _Bucket(self._at_once, now)
        refilled = bucket.left + (now - bucket.seconds) * self._per_second
        bucket.left, bucket.seconds = min(self._at_once, refilled), now
        self._buckets[caller] = bucket
        while len(self._buckets) > CALLERS:
            self._buckets.popitem(last=False)
        if bucket.left < max(cost, 1.0):
            return False
        bucket.left -= cost
        return True


class Sessions:
    """Logins of browsers, whose pictures cannot send a token.

    Args:
        token: What they must know; None lets everybody in.
    """

    def __init__(self, token: str | None) -> None:
        self._digest = _digest(token) if token else None
        self._open: OrderedDict[str, None] = OrderedDict()

    @property
    def guarded(self) -> bool:
        """Whether a token is needed at all."""
        return self._digest is not None

    def knows(self, token: str) -> bool:
        """Whether it is the token, in a time that does not tell how much of it is right."""
        return self._digest is None or hmac.compare_digest(_digest(token), self._digest)

    def begin(self) -> str:
        """A new session's secret."""
        session = secrets.token_urlsafe(32)
        self._open[session] = None
        while len(self._open) > SESSIONS:
            self._open.popitem(last=False)
        return session

    def admits(self, headers: dict[str, str]) -> bool:
        """Whether a request comes from one who knows the token."""
        if self._digest is None:
            return True
        kind, _, token = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and self.knows(token.strip()):
            return True
        try:
            cookies = SimpleCookie(headers.get("cookie", ""))
        except CookieError:
            return False
        return COOKIE in cookies and cookies[COOKIE].value in self._open


class Guard:
    """Checks every request before the application sees it, and adds headers to every answer.

    Args:
        app: The application.
        server: Names, token and limits.
        sessions: Logins.
    """

    def __init__(self, app: App, server: Server, sessions: Sessions) -> None:
        self._app, self._server, self._sessions = app, server, sessions
        per_second = server.requests_per_second
        self._rate = Rate(per_second, BURST_SECONDS * per_second)
        self._failures = Rate(FAILURES_PER_SECOND, FAILURES_AT_ONCE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request (ASGI)."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return  # no websockets
        headers = {k.decode("latin-1").lower(): v.decode("latin-1") for k, v in scope["headers"]}
        caller = scope["client"][0] if scope.get("client") else ""
        refused = self._refused(scope, headers, caller)
        if refused:
            await _answer(*refused, _guarded(send))
            return
        body = await _body(receive, headers)
        if body is None:
            await _answer(413, f"more than {LARGEST_BODY} bytes; send less", _guarded(send))
            return
        await self._app(scope, _replayed(body, receive), _guarded(send))

    def _refused(
        self, scope: Scope, headers: dict[str, str], caller: str
    ) -> tuple[int, str] | None:
        """Status and reason, if a request goes no further."""
        host = headers.get("host", "")
        if not self._is_ours(host):
            return 421, f"this is not {host[:64]!r}; add it to server.hosts in the service's file"
        if not self._rate.allows(caller):
            return 429, "too many requests; wait a second"
        if scope["method"] not in SAFE_METHODS:
            origin = headers.get("origin")
            if origin and origin.partition("://")[2] != host:
                return 403, "the request comes from another site's page; use this server's own"
            has_body = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
            if has_body and not headers.get("content-type", "").startswith("application/json"):
                # Which no form of another site can send.
                return 415, "the body is no JSON; send Content-Type: application/json"
        if self._is_open(scope["path"]) and scope["path"] != "/api/login":
            return None
        if not self._failures.allows(caller, cost=0):
            return 429, "too many wrong tokens; wait a minute"
        if scope["path"] == "/api/login":
            return None
        if not self._sessions.admits(headers):
            if "authorization" in headers:
                self.note_failure(caller)
            return 401, "a token is needed; send Authorization: Bearer TOKEN, or log in"
        return None

    def note_failure(self, caller: str) -> None:
        """A wrong token was tried."""
        self._failures.allows(caller)

    def _is_ours(self, host: str) -> bool:
        """Whether a name is this server's; pages of other names that lead here get nothing."""
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host
        server = self._server
        # No page of another name can call itself one of the local ones.
        own = {*server.hosts, server.host, *LOCAL_NAMES}
        if not server.local and _is_address(name):
            return True  # a page of another name cannot have an address as its own
        return name.lower() in {each.lower() for each in own}

    def _is_open(self, path: str) -> bool:
        return path in OPEN_PATHS or path.startswith(OPEN_FOLDER)


def _is_address(name: str) -> bool:
    return name.startswith("[") or name.replace(".", "").isdecimal()


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


def _guarded(send: Send) -> Send:
    """The same, with headers that keep a browser from doing more than it should."""

    async def with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            there = {key.lower() for key, _ in message.get("headers", [])}
            more = [(k.encode(), v.encode()) for k, v in HEADERS.items() if k.encode() not in there]
            message["headers"] = [*message.get("headers", []), *more]
        await send(message)

    return with_headers


async def _body(receive: Receive, headers: dict[str, str]) -> bytes | None:
    """The whole body; None if it is too large, as soon as that shows."""
    stated = headers.get("content-length", "0")
    if not stated.isdecimal() or len(stated) > 9 or int(stated) > LARGEST_BODY:
        return None
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return body
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > LARGEST_BODY:
            return None
    return body


def _replayed(body: bytes, receive: Receive) -> Receive:
    """Gives a body that was read once more, then what comes after it."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


async def _answer(status: int, detail: str, send: Send) -> None:
    body = json.dumps({"detail": detail}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
