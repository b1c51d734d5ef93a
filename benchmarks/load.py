"""The load generator: requests that are bytes already, over keep-alive connections, as cheaply as Python can.

A request is a sequence of byte strings, written as they are: long contexts are built once and shared between requests.
"""

import asyncio
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import cast

import httptools
import uvloop

Request = Sequence[bytes]


class BadAnswerError(RuntimeError):
    """The server answered something other than 200; what was measured would not be what was meant."""


def post(path: str, *body: bytes) -> Request:
    size = sum(map(len, body))
    head = f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
    return (f"{head}content-length: {size}\r\n\r\n".encode(), *body)


def get(path: str) -> Request:
    return (f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n".encode(),)


class Answer:
    """Reads one response after another; `complete` until the next `expect`."""

    def __init__(self) -> None:
        self.expect()
        self._parser = httptools.HttpResponseParser(self)

    def expect(self) -> None:
        self.complete = False
        self._chunks: list[bytes] = []

    def feed(self, data: bytes) -> None:
        self._parser.feed_data(data)
        if self.complete and self._parser.get_status_code() != 200:
            raise BadAnswerError(f"HTTP {self._parser.get_status_code()}: {self.body[:2000].decode(errors='replace')}")

    def on_body(self, body: bytes) -> None:
        self._chunks.append(body)

    def on_message_complete(self) -> None:
        self.complete = True

    @property
    def body(self) -> bytes:
        return b"".join(self._chunks)


class Caller:
    """One blocking connection: the way to time a single request with nothing else in the way."""

    def __init__(self, port: int, timeout: float = 60) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._answer = Answer()

    def call(self, request: Request) -> bytes:
        """The body of the answer."""
        return self.timed(request)[1]

    def timed(self, request: Request) -> tuple[float, bytes]:
        """Seconds from the first byte sent to the last byte received, and the body of the answer."""
        message = b"".join(request)
        self._answer.expect()
        start = time.perf_counter()
        self._socket.sendall(message)
        while not self._answer.complete:
            data = self._socket.recv(1 << 18)
            if not data:
                raise BadAnswerError("the connection was closed before the answer was complete")
            self._answer.feed(data)
        return time.perf_counter() - start, self._answer.body

    def close(self) -> None:
        self._socket.close()


@dataclass
class Load:
    """A closed loop: every connection sends its next request when its answer has come, until the time is over."""

    requests: Iterator[Request]
    warm_up: float
    seconds: float
    finished: list[float] = field(default_factory=list)
    """When each answer was complete, from the start, those during warm-up and after the end included."""

    def run(self, port: int, connections: int) -> None:
        uvloop.run(self._run(port, connections))

    def rate(self) -> float:
        """Answers per second between the end of the warm-up and the end of the time."""
        over = self.warm_up + self.seconds
        return sum(self.warm_up <= at < over for at in self.finished) / self.seconds

    async def _run(self, port: int, connections: int) -> None:
        loop = asyncio.get_running_loop()
        lanes = [_Lane(self) for _ in range(connections)]
        for lane in lanes:
            await loop.create_connection(lambda lane=lane: lane, "127.0.0.1", port)  # type: ignore[misc]
        self._start = time.perf_counter()
        for lane in lanes:
            lane.send()
        await asyncio.wait_for(asyncio.gather(*(lane.done for lane in lanes)), self.warm_up + self.seconds + 60)

    def note(self) -> bool:
        """Count an answer; whether there is time for another."""
        at = time.perf_counter() - self._start
        self.finished.append(at)
        return at < self.warm_up + self.seconds


class _Lane(asyncio.Protocol):
    def __init__(self, load: Load) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._load = load
        self._answer = Answer()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def send(self) -> None:
        self._answer.expect()
        self._transport.writelines(next(self._load.requests))

    def data_received(self, data: bytes) -> None:
        try:
            self._answer.feed(data)
        except (BadAnswerError, httptools.HttpParserError) as error:
            self._end(error)
            return
        if self._answer.complete:
            if self._load.note():
                self.send()
            else:
                self._end()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(BadAnswerError(f"the connection was lost: {exc}"))

    def _end(self, error: Exception | None = None) -> None:
        if self.done.done():
            return
        if error is None:
            self.done.set_result(None)
        else:
            self.done.set_exception(error)
        self._transport.close()
