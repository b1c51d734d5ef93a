"""An HTTP server that counts, in a process of its own so that it can be killed: no engine, but real connections.

``POST /generate {"tokens": n, "interval": seconds}`` answers n server-sent events, so far apart.
"""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncGenerator
from urllib.error import URLError

import orjson
from aiohttp import web

from tickertape.clients.engines.engine import Chunk, Engine, EngineInfo, Sampling, TokenIds
from tickertape.clients.engines.http import EngineConnection


class CountingEngine(Engine):
    """The client of :class:`CountingServer`: counts to ``max_tokens``."""

    def __init__(self, url: str, interval: float = 0.0) -> None:
        self.connection = EngineConnection(url)
        self.interval = interval

    async def start(self) -> EngineInfo:
        await self.connection.open()
        await self.connection.check("/health")
        return EngineInfo("counting", self.connection.url, "counter", 4096)

    async def check(self) -> None:
        await self.connection.check("/health")

    async def close(self) -> None:
        await self.connection.close()

    async def generate(
        self, prompt_ids: TokenIds, sampling: Sampling, *, request_id: str, chunk_tokens: int = 1
    ) -> AsyncGenerator[Chunk, None]:
        body = orjson.dumps({"tokens": sampling.max_tokens, "interval": self.interval})
        async with self.connection.events("/generate", body) as events:
            while payloads := await events.read():
                yield Chunk([int(payload) for payload in payloads], [0.0] * len(payloads))
        yield Chunk([], [], finish_reason="length")


class CountingServer:
    """The server's process; its port stays the same."""

    def __init__(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns when it answers."""
        self._process = subprocess.Popen([sys.executable, "-m", "tests.clients.sse_server", str(self.port)])
        deadline = time.monotonic() + 20
        while True:
            try:
                with urllib.request.urlopen(self.url + "/health", timeout=5):
                    return
            except URLError:
                assert time.monotonic() < deadline, "the counting server did not start"
                time.sleep(0.02)

    def kill(self) -> None:
        """As the kernel would: connections break, nobody is told."""
        if self._process is not None:
            os.kill(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        """It keeps its connections and says nothing any more."""
        if self._process is not None:
            os.kill(self._process.pid, signal.SIGSTOP)


async def _generate(request: web.Request) -> web.StreamResponse:
    asked = await request.json()
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    for number in range(asked["tokens"]):
        await asyncio.sleep(asked["interval"])
        await response.write(b"data: %d\n\n" % number)
    return response


async def _health(_: web.Request) -> web.Response:
    return web.Response()


if __name__ == "__main__":
    app = web.Application()
    app.add_routes([web.post("/generate", _generate), web.get("/health", _health)])
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=None)
