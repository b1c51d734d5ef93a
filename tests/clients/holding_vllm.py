"""A fake vLLM that samples at a pace of its own and holds tokens back as it is asked to (``stream_interval``)."""

import asyncio
import contextlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from aiohttp import web

from tests.engines import serving_aiohttp, vllm_event
from tickertape.clients.engines.vllm.requests import ABORT, COMPLETIONS, GENERATE

FIRST = 100
"""The tokens are 100, 101, …"""


class HoldingVllm:
    """Its requests, what it has sampled for each, and how many events that took.

    Args:
        lean: whether it has :data:`GENERATE`.
        can_abort: whether it has :data:`ABORT`.
        ignores: whether it ignores ``stream_interval``, as servers before 0.32 do.
        seconds: between two tokens.
    """

    def __init__(
        self, *, lean: bool = True, can_abort: bool = True, ignores: bool = False, seconds: float = 0.01
    ) -> None:
        self.asked: list[dict[str, Any]] = []
        self.sampled: dict[str, int] = {}
        self.events: dict[str, int] = {}
        self.aborted: list[str] = []
        self._lean = lean
        self._can_abort = can_abort
        self._ignores = ignores
        self._seconds = seconds

    @contextmanager
    def serving(self) -> Iterator[str]:
        """Yields its URL."""
        app = web.Application(client_max_size=2**24)
        app.router.add_post(COMPLETIONS, self._sample)
        if self._lean:
            app.router.add_post(GENERATE, self._sample)
        if self._can_abort:
            app.router.add_post(ABORT, self._abort)
        listing = {"data": [{"id": "holding", "max_model_len": 4096}]}
        for path, answer in {"/v1/models": listing, "/version": {"version": "0.32.0"}, "/health": {}}.items():
            app.router.add_get(path, self._answering(answer))
        with serving_aiohttp(app) as url:
            yield url

    def _answering(self, answer: Any) -> Any:
        async def handler(_: web.Request) -> web.Response:
            return web.json_response(answer)

        return handler

    async def _abort(self, request: web.Request) -> web.Response:
        self.aborted += (await request.json())["request_ids"]
        return web.json_response({"status": "aborted", "aborted": 1})

    async def _sample(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        if body.get("prompt_logprobs") is not None:
            return web.json_response({"error": {"message": "no scores"}}, status=400)
        asked = body.get("sampling_params", body)
        name = request.headers["X-Request-Id"]
        if not name.startswith("probe-"):
            self.asked.append(asked)
        own_id = f"generate-tokens-{name}" if request.path == GENERATE else f"cmpl-{name}-0"
        interval = 1 if self._ignores else asked["stream_interval"] or 1
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        self.sampled[name] = self.events[name] = sent = 0
        with contextlib.suppress(ConnectionError):
            while True:
                await asyncio.sleep(0 if name.startswith("probe-") else self._seconds)
                aborted = own_id in self.aborted
                self.sampled[name] += not aborted
                n_tokens = self.sampled[name]
                ended = "abort" if aborted else "length" if n_tokens == asked["max_tokens"] else None
                if ended or sent == 0 or n_tokens - sent >= interval:
                    await response.write(self._event(range(sent, n_tokens), n_tokens, ended, request.path == GENERATE))
                    self.events[name] += 1
                    sent = n_tokens
                if ended:
                    await response.write(b"data: [DONE]\n\n")
                    break
        return response

    def _event(self, numbers: range, n_tokens: int, ended: str | None, lean: bool) -> bytes:
        event = vllm_event([FIRST + k for k in numbers], [-(1 + k % 7) / 8 for k in numbers], ended, lean=lean)
        for span in event["choices"][0].get("weight_versions") or ():
            span["end"] = n_tokens
        return f"data: {json.dumps(event)}\n\n".encode()
