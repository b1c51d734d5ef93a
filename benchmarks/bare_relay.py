"""The limit for a proxy of this kind: the same server and the same client, and nothing in between.

uvicorn with uvloop and httptools takes the request, aiohttp sends its bytes to the engine's `/v1/completions` and the
engine's bytes go back, those of a stream as they come. What Tickertape costs on top of this is what its work costs.
"""

import argparse
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import aiohttp
import uvicorn

Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]

HEADERS = {"content-type": "application/json"}


class BareRelay:
    """An ASGI application that forwards bodies."""

    def __init__(self, engine: str) -> None:
        self._url = f"{engine}/v1/completions"

    async def __call__(self, scope: Event, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["method"] == "GET":
            await self._answer(send, 200, b"")
        else:
            async with self._client.post(self._url, data=await self._body(receive), headers=HEADERS) as answer:
                if answer.content_type == "text/event-stream":
                    await self._stream(send, answer)
                else:
                    await self._answer(send, answer.status, await answer.read())

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as self._client:
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})

    async def _body(self, receive: Receive) -> bytes:
        chunks = []
        more = True
        while more:
            event = await receive()
            chunks.append(event.get("body", b""))
            more = event.get("more_body", False)
        return b"".join(chunks)

    async def _answer(self, send: Send, status: int, body: bytes) -> None:
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _stream(self, send: Send, answer: aiohttp.ClientResponse) -> None:
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        async for data in answer.content.iter_any():
            await send({"type": "http.response.body", "body": data, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--port", type=int, required=True)
    options.add_argument("--engine", required=True, help="base URL of the engine, without /v1")
    given = options.parse_args()
    app = BareRelay(given.engine)
    uvicorn.run(app, host="127.0.0.1", port=given.port, loop="uvloop", http="httptools", log_level="warning")


if __name__ == "__main__":
    main()
