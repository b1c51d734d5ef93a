"""Faults of engines and clients, and what becomes of a call: `python -m tests.server.faults` prints the table.

``docs/limits.md`` holds it; ``test_faults.py`` plays every row with real sockets, whole and streamed, and checks that
the page says the same.
"""

import asyncio
import json
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from tests.engines import Handler, streaming, vllm_event

END = 151645
TOKENS = [100, 200]
SAMPLED = vllm_event(TOKENS, [-1.0, -2.0])


@dataclass(frozen=True)
class EngineFault:
    """What an engine does to a call, and what is heard and kept of it."""

    name: str
    play: Handler | None
    """``None``: the server is not there as it was, see ``test_faults.py``."""
    status: int
    """Of a whole answer; of a stream too, where no token came before."""
    code: str | None
    """In a whole answer's error, or in the event that ends a stream."""
    outcome: str
    kept: int
    """Tokens on tape."""
    event: bool = False
    """Whether a stream has begun, so that its end is an event."""
    retry_after: bool = False
    settings: tuple[tuple[str, Any], ...] = ()

    @property
    def row(self) -> list[str]:
        code = "" if self.code is None else f" `{self.code}`"
        after = ", `Retry-After`" if self.retry_after else ""
        stream = f"200, error event{code}" if self.event else "the same"
        return [self.name, f"{self.status}{code}{after}", stream, self.outcome, f"{self.kept}"]


@dataclass(frozen=True)
class ClientFault:
    """What a client does, and what becomes of its call."""

    name: str
    heard: str
    outcome: str
    """``none``: there is no call yet; ``its own``: that of a call without a fault."""
    kept: str

    @property
    def row(self) -> list[str]:
        return [self.name, self.heard, self.outcome, self.kept]


def _begun(*steps: Any) -> Handler:
    """Sends headers, then events; a function instead of an event is awaited."""

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for step in steps:
            if callable(step):
                await step(request)
            else:
                await response.write(f"data: {step if isinstance(step, str) else json.dumps(step)}\n\n".encode())
        return response

    return handler


async def _hang(request: web.Request) -> None:
    while request.transport is not None and not request.transport.is_closing():  # noqa: ASYNC110
        await asyncio.sleep(0.02)


async def _reset(request: web.Request) -> None:
    await asyncio.sleep(0.05)  # what was written has gone
    assert request.transport is not None
    request.transport.abort()
    await asyncio.sleep(0)


async def _hangs_before_headers(request: web.Request) -> web.StreamResponse:
    await _hang(request)
    return web.Response()


async def _resets_before_headers(request: web.Request) -> web.StreamResponse:
    await _reset(request)
    return web.Response()


async def _trickle(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    for _ in range(2):
        await response.write(f"data: {json.dumps(vllm_event([100], [-1.0]))}\n\n".encode())
        await asyncio.sleep(0.1)
    for _ in range(100):
        await response.write(b": working\n\n")
        await asyncio.sleep(0.1)
    return response


def _status(status: int, text: str = "no") -> Handler:
    async def handler(_: web.Request) -> web.Response:
        return web.json_response({"error": {"message": text}}, status=status)

    return handler


async def _html(_: web.Request) -> web.Response:
    return web.Response(text="<html>")


def _ended(*events: dict[str, Any]) -> Handler:
    return streaming([*events, "[DONE]"])


def _with(event: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"choices": [{**event["choices"][0], **fields}]}


_SHORT = {"token_logprobs": [-1.0], "top_logprobs": [{"token_id:100": -1.0}]}
healthy = _ended(vllm_event([9707, END], [-1.0, -2.0], "stop"))

ENGINE_FAULTS = [
    EngineFault("nobody listens", None, 502, "engine_unavailable", "engine_error", 0),
    EngineFault("accepts no connection", None, 504, "connect_timeout", "engine_error", 0),
    EngineFault("hangs before its headers", _hangs_before_headers, 504, "first_token_timeout", "engine_error", 0),
    EngineFault("hangs after its headers", _begun(_hang), 504, "first_token_timeout", "engine_error", 0),
    EngineFault("hangs between tokens", _begun(SAMPLED, _hang), 504, "token_timeout", "engine_error", 2, event=True),
    EngineFault(
        "is too slow in all",
        _trickle,
        504,
        "deadline",
        "aborted",
        2,
        event=True,
        settings=(("turn_timeout", 0.5), ("token_timeout", 5.0)),
    ),
    EngineFault("resets before its headers", _resets_before_headers, 502, "engine_unavailable", "engine_error", 0),
    EngineFault(
        "resets between tokens", _begun(SAMPLED, _reset), 502, "engine_unavailable", "engine_error", 2, event=True
    ),
    EngineFault("ends without saying why", _ended(SAMPLED), 502, "engine_unavailable", "engine_error", 2, event=True),
    EngineFault("answers 500", _status(500), 502, "engine_unavailable", "engine_error", 0),
    EngineFault("answers 503", _status(503), 502, "engine_unavailable", "engine_error", 0),
    EngineFault("answers 429", _status(429), 503, "engine_busy", "rejected", 0, retry_after=True),
    EngineFault("answers 400", _status(400), 400, "engine_refused", "rejected", 0),
    EngineFault(
        "says midway that it failed",
        _ended(SAMPLED, {"error": {"message": "oops", "code": 500}}),
        502,
        "engine_unavailable",
        "engine_error",
        2,
        event=True,
    ),
    EngineFault("answers no JSON", _html, 502, "engine_bad_response", "engine_error", 0),
    EngineFault(
        "sends no JSON midway", _begun(SAMPLED, "{oops"), 502, "engine_bad_response", "engine_error", 2, event=True
    ),
    EngineFault(
        "gives fewer logprobs than tokens",
        _ended(_with(SAMPLED, logprobs=_SHORT, finish_reason="stop")),
        502,
        "engine_bad_response",
        "engine_error",
        0,
    ),
    EngineFault(
        "gives a logprob above 0",
        _ended(vllm_event([100, 200], [-1.0, 0.5], "stop")),
        502,
        "engine_bad_response",
        "engine_error",
        0,
    ),
    EngineFault(
        "gives more tokens than were asked for",
        _ended(vllm_event([100] * 40, [-1.0] * 40, "length")),
        502,
        "engine_bad_response",
        "engine_error",
        0,
    ),
    EngineFault(
        "gives a token that is not in the vocabulary",
        _ended(vllm_event([100, 10_000_000], [-1.0, -1.0], "stop")),
        502,
        "engine_bad_response",
        "engine_error",
        0,
    ),
    EngineFault(
        "gives a negative token id",
        _ended(vllm_event([100, -1], [-1.0, -1.0], "stop")),
        502,
        "engine_bad_response",
        "engine_error",
        0,
    ),
]

CLIENT_FAULTS = [
    ClientFault("sends its head too slowly", "408 `request_timeout`", "none", "–"),
    ClientFault("sends its body too slowly", "408 `request_timeout`", "undelivered", "0"),
    ClientFault("goes away before its body is whole", "–", "undelivered", "0"),
    ClientFault("goes away while it is sampled, whole", "–", "undelivered", "what was sampled until then"),
    ClientFault("goes away while it is sampled, streamed", "–", "undelivered", "what was sampled until then"),
    ClientFault("stops reading a stream", "the connection ends", "undelivered", "what was sampled until then"),
    ClientFault("does not read a whole answer", "the connection ends", "its own", "all"),
    ClientFault("goes away after its answer", "all of it", "its own", "all"),
]


def table(titles: list[str], rows: list[list[str]]) -> str:
    """Markdown."""
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def engine_table() -> str:
    titles = ["the engine …", "a whole answer", "a stream", "outcome", "tokens kept (of 2)"]
    return table(titles, [fault.row for fault in ENGINE_FAULTS])


def client_table() -> str:
    return table(["the client …", "hears", "outcome", "tokens kept"], [fault.row for fault in CLIENT_FAULTS])


if __name__ == "__main__":
    print(engine_table())
    print()
    print(client_table())
