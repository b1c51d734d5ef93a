"""Where a request ends: bytes that one declares as its body are never read as another request, in whatever segments
they come, whatever its headers ask for, and however early it is answered.

The connection is the server's own, on a transport in memory, before an application that says what it got.
"""

import asyncio
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from starlette.types import Receive, Scope, Send
from uvicorn import Config
from uvicorn.server import ServerState

from tests.server.raw_http import statuses
from tickertape.server.http.connections import Connection, ConnectionLimits

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
UPGRADE = b"Connection: Upgrade\r\nUpgrade: h2c\r\n"


class Wire(asyncio.Transport):
    """A transport in memory, which keeps what was written and gives no more than it is asked to read."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.closed = self.paused = False

    def write(self, data: Any) -> None:
        if not self.closed:
            self.written += bytes(data)

    def close(self) -> None:
        self.closed = True

    abort = close

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False


@dataclass
class Seen:
    """What the application got of the requests, in order."""

    requests: list[tuple[str, str, bytes]] = field(default_factory=list)
    headers: list[dict[bytes, bytes]] = field(default_factory=list)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.headers.append(dict(scope["headers"]))
        if scope["path"] == "/refused":  # an answer before a byte of its body is read
            self.requests.append((scope["method"], scope["path"], b""))
        else:
            body, more = b"", True
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return
                body += message.get("body", b"")
                more = message.get("more_body", False)
            self.requests.append((scope["method"], scope["path"], body))
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})


@dataclass
class Played:
    """What became of bytes on one connection."""

    seen: Seen
    written: bytes
    closed: bool


def play(*segments: bytes, seconds: float = 60.0, later: float = 0.0) -> Played:
    """Has a connection read segments.

    Args:
        segments: as they come.
        seconds: that a request may take to arrive.
        later: seconds after the last of them at which the connection is looked at.
    """

    async def run() -> Played:
        seen = Seen()
        config = Config(seen, http="httptools", ws="none", lifespan="off", log_config=None, server_header=False)
        config.load()
        limits = ConnectionLimits(request_seconds=seconds)
        connection = Connection(limits=limits, refuse=seen, config=config, server_state=ServerState(), app_state={})
        wire = Wire()
        connection.connection_made(wire)
        for segment in segments:
            for _ in range(20):
                if not wire.paused:
                    break
                await asyncio.sleep(0)
            if wire.closed:
                break
            connection.data_received(segment)
            await asyncio.sleep(0)
        for _ in range(20):
            await asyncio.sleep(0)
        connection.look(connection.loop.time() + later)
        closed = wire.closed
        connection.connection_lost(None)
        return Played(seen, wire.written, closed)

    return asyncio.run(run())


@dataclass(frozen=True)
class Sent:
    """A request that is well formed."""

    path: str
    body: bytes
    chunks: tuple[int, ...] | None
    headers: bytes

    def wire(self) -> bytes:
        head = b"POST %s HTTP/1.1\r\nHost: a\r\n" % self.path.encode() + self.headers
        if self.chunks is None:
            return head + b"Content-Length: %d\r\n\r\n" % len(self.body) + self.body
        pieces, at = [], 0
        for end in sorted({min(cut, len(self.body)) for cut in self.chunks} | {len(self.body)}):
            if end > at:
                pieces.append(b"%x\r\n%s\r\n" % (end - at, self.body[at:end]))
            at = end
        return head + b"Transfer-Encoding: chunked\r\n\r\n" + b"".join(pieces) + b"0\r\n\r\n"


HEADERS = [
    b"",
    UPGRADE,
    b"Upgrade: websocket\r\nConnection: keep-alive, Upgrade\r\nSec-WebSocket-Key: eA==\r\n",
    b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAA\r\n",
    b"Connection: upgrade\r\nUpgrade: TLS/1.3, anything\r\nUpgrade: more\r\n",
    b"Connection: Upgrade\r\n",
    b"Upgrade: h2c\r\n",
]
BODIES = st.one_of(
    st.sampled_from([b"", SMUGGLED, SMUGGLED * 2, b"0\r\n\r\n" + SMUGGLED, b"\r\n\r\n", b"x" * 70_000 + SMUGGLED]),
    st.binary(max_size=40),
)
REQUESTS = st.builds(
    Sent,
    st.sampled_from(["/read", "/refused"]),
    BODIES,
    st.none() | st.lists(st.integers(1, 60), max_size=3).map(tuple),
    st.sampled_from(HEADERS),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(REQUESTS, min_size=1, max_size=4), st.lists(st.integers(1, 400), max_size=6))
@example([Sent("/read", SMUGGLED, None, UPGRADE)], [100])
@example([Sent("/read", SMUGGLED, (7,), UPGRADE), Sent("/refused", SMUGGLED, None, UPGRADE)], [80])
@example([Sent("/refused", b"x" * 70_000 + SMUGGLED, None, b""), Sent("/read", b"", None, b"")], [70])
def test_requests_are_those_that_were_sent(sent: Sequence[Sent], cuts: Sequence[int]) -> None:
    """In order, each with its body, whatever segments they come in."""
    stream = b"".join(each.wire() for each in sent)
    places = sorted({cut % len(stream) for cut in cuts} - {0})
    segments = [stream[a:b] for a, b in zip([0, *places], [*places, len(stream)], strict=True)]
    played = play(*segments)
    assert played.seen.requests == [("POST", each.path, each.body if each.path == "/read" else b"") for each in sent]
    assert statuses(played.written) == [200] * len(sent)
    assert not played.closed


def test_upgrade_is_not_offered_and_the_other_headers_are_as_they_were() -> None:
    head = b"GET /read?a=b HTTP/1.1\r\nHost: a\r\nX-A: \xff b\r\n"
    played = play(head + b"Connection: close, Upgrade\r\nUpgrade: h2c\r\nX-B: c\r\n\r\n")
    assert played.seen.requests == [("GET", "/read", b"")]
    assert played.seen.headers == [{b"host": b"a", b"x-a": b"\xff b", b"connection": b"close", b"x-b": b"c"}]
    assert statuses(played.written) == [200]
    assert played.closed  # as it asked


@pytest.mark.parametrize(
    ("head", "why"),
    [
        (b"POST /read HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", "only 'chunked'"),
        (b"POST /read HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", ""),
        (b"POST /read HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", "for HTTP/1.1"),
        (b"POST /read HTTP/1.0\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n", "for HTTP/1.1"),
        (b"POST /read HTTP/2.0\r\nHost: a\r\nContent-Length: 0\r\n\r\n", "HTTP/2.0"),
        (b"POST /read HTTP/1.1\r\nContent-Length: 0\r\n\r\n", "0 Host headers"),
        (b"POST /read HTTP/1.1\r\nHost: a\r\nHost: b\r\nContent-Length: 0\r\n\r\n", "2 Host headers"),
        (b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", "CONNECT"),
        (b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n", "CONNECT"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", ""),
        (
            b"POST /read HTTP/1.1\r\nHost: a\r\n"
            + UPGRADE
            + b"Transfer-Encoding: chunked\r\nContent-Length: 9\r\n\r\n",
            "",
        ),
    ],
)
def test_what_could_be_framed_in_two_ways_ends_the_connection(head: bytes, why: str) -> None:
    for segments in ((head + SMUGGLED,), (head, SMUGGLED), (head + b"0\r\n\r\n", SMUGGLED)):
        played = play(*segments)
        assert played.seen.requests == []
        assert statuses(played.written) == [400]
        assert played.closed
        error = json.loads(played.written.partition(b"\r\n\r\n")[2])["error"]
        assert error["code"] == "malformed_request"
        assert why in error["message"]


def test_a_body_that_may_never_be_sent_ends_the_connection() -> None:
    """A final answer to ``Expect: 100-continue``: the client may send the body or leave it out."""
    expecting = b"Host: a\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(SMUGGLED)
    for path in (b"/refused", b"/read"):
        played = play(b"POST %s HTTP/1.1\r\n" % path + expecting, SMUGGLED)
        assert [path for _, path, _ in played.seen.requests] == [path.decode()]
        assert statuses(played.written) == ([200] if path == b"/refused" else [100, 200])
        assert b"connection: close" in played.written
        assert played.closed


def test_nothing_is_written_into_another_answer() -> None:
    """What is wrong behind a request that is not answered yet closes the connection, without a word that would be read
    as that answer."""
    waiting = b"POST /read HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n"
    played = play(waiting + b"abc" + b"nonsense\r\n\r\n")
    assert statuses(played.written) in ([], [200])
    played = play(b"POST /read HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")
    assert statuses(played.written) == [400]  # it is the answer to this very request
    assert played.closed


def test_a_request_behind_another_is_timed_too() -> None:
    """Its head came with the one before; its body never does."""
    first = b"GET /read HTTP/1.1\r\nHost: a\r\n\r\n"
    half = b"POST /read HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc"
    for cut in (len(half), len(half) - 3, 20):
        played = play(first + half[:cut], seconds=5, later=4)
        assert (statuses(played.written), played.closed) == ([200], False)
        played = play(first + half[:cut], seconds=5, later=6)
        assert statuses(played.written) == [200, 408]
        assert played.closed
        assert re.search(rb'"code":"request_timeout"', played.written)
