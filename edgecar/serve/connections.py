"""Connections of callers that do not say what they want."""

import asyncio
from asyncio import Transport

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

REQUEST_SECONDS = 10.0
"""For all of a request to come, its body included; uvicorn waits for ever."""


class ImpatientProtocol(H11Protocol):
    """HTTP/1.1 that hangs up where a request does not come in time.

    A caller who opens connections and sends nothing, or a byte now and then, would soon hold all
    that there may be, with no need of a token.
    """

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._stop_watching()

    def _watch(self) -> None:
        if self.conn.their_state not in (h11.IDLE, h11.SEND_BODY):  # all of it is here
            self._stop_watching()
        elif self._timer is None:
            self._timer = self.loop.call_later(REQUEST_SECONDS, self._give_up)

    def _stop_watching(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give_up(self) -> None:
        self.transport.abort()
