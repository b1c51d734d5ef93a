"""Clients' connections: how many there are, and how long they may take to send a request and to read an answer.

One look at all of them now and then costs less than timers of each. A client that is cut off is to the rest of the
server one that went away.
"""

import asyncio
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from tickertape.server.errors import ProxyError
from tickertape.server.http.protocol import BoundedProtocol

#: What orchestrators and monitors ask, who must hear of it when there are too many connections.
_ALWAYS = ("/health", "/ready", "/metrics")
#: Connections beyond the most that are answered at all, with a refusal.
_REFUSED_AT_ONCE = 1024
#: Seconds of silence after which a client's host is asked whether it is there, seconds between asking, and how often.
_KEEPALIVE = (30, 10, 3)
#: Bytes that the kernel holds for a client beyond what is on its way. By default it is megabytes, and who does not read
#: would not be found out before.
_UNSENT = 128 * 1024


class TooManyConnections(ProxyError):
    """There are more connections than are served."""

    status = 503
    code = "too_many_connections"
    headers: Mapping[str, str] = {"Retry-After": "1"}


class RequestTooSlow(ProxyError):
    """The request did not arrive in time."""

    status = 408
    type = "invalid_request_error"
    code = "request_timeout"


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """Limits of what clients may take."""

    most: int = 16384
    """Connections at once."""
    request_seconds: float = 60.0
    """From a request's first byte to its last, and from a connection to its first byte."""
    send_seconds: float = 60.0
    """That a client may leave an answer unread."""


class Connection(BoundedProtocol):
    """One that is bounded in time as well.

    Args:
        limits: see there.
        refuse: answers requests on connections beyond the most.
        uvicorns: what uvicorn gives its own.
    """

    def __init__(self, *, limits: ConnectionLimits, refuse: ASGIApp, **uvicorns: Any) -> None:
        super().__init__(**uvicorns)
        self._limits = limits
        self._refusal = refuse
        self._arriving_since: float | None = self.loop.time()
        self._unread_since: float | None = None
        self._heard = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        super().connection_made(transport)
        others = len(self.connections) - 1
        if others >= self._limits.most + _REFUSED_AT_ONCE:
            transport.abort()
        elif others >= self._limits.most:
            self.app: Any = _Refusing(self.app, self._refusal)

    def data_received(self, data: bytes) -> None:
        self._heard = True
        if self._arriving_since is None and (self.cycle is None or self.cycle.response_complete):
            self._arriving_since = self.loop.time()
        super().data_received(data)

    def on_message_begin(self) -> None:
        if self._arriving_since is None:  # it was sent before the answer to the last one
            self._arriving_since = self.loop.time()
        super().on_message_begin()

    def on_message_complete(self) -> None:
        if not self._wants_upgrade:
            self._arriving_since = None
        super().on_message_complete()

    def on_response_complete(self) -> None:
        if self._arriving_since is not None and (self.pipeline or not self.cycle.more_body):
            # The next request has begun, and little of it was read while this one was answered.
            self._arriving_since = self.loop.time()
        super().on_response_complete()

    def pause_writing(self) -> None:
        self._unread_since = self.loop.time()
        super().pause_writing()

    def resume_writing(self) -> None:
        self._unread_since = None
        super().resume_writing()

    def look(self, now: float) -> None:
        """Ends it if its client takes too long."""
        if self.transport.is_closing() and self._unread_since is None:
            return
        if self._unread_since is not None and now - self._unread_since > self._limits.send_seconds:
            self.transport.abort()
        elif self._arriving_since is not None and now - self._arriving_since > self._limits.request_seconds:
            cycle = self.cycle
            if self.pipeline or (cycle is not None and not cycle.response_complete and not cycle.more_body):
                return  # it waits for the answers to those before it
            if self._heard:
                self.end(RequestTooSlow(f"the request did not arrive within {self._limits.request_seconds:g} s"))
            self.transport.close()


class _Refusing:
    """The application on a connection beyond the most."""

    def __init__(self, app: ASGIApp, refuse: ASGIApp) -> None:
        self._app = app
        self._refuse = refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await (self._app if scope["path"] in _ALWAYS else self._refuse)(scope, receive, send)


def watch_peers(listening: socket.socket, send_seconds: float) -> None:
    """Has the kernel end connections whose client's host is gone without a word, and hold little for clients that do
    not read; connections that are accepted inherit it.

    Args:
        listening: listens.
        send_seconds: after which what was sent must have been acknowledged.
    """
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    options = dict(zip(("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT"), _KEEPALIVE, strict=True))
    options |= {"TCP_USER_TIMEOUT": int(send_seconds * 1000), "TCP_NOTSENT_LOWAT": _UNSENT}
    for name, value in options.items():
        if hasattr(socket, name):  # not every system has all of them
            listening.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
