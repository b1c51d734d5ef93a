"""A fake of Tinker's service, which tests cannot reach: its wire protocol as its SDK speaks it, ``tinker`` 0.38.

It samples from a small table of its own, so that tokens, logprobs and scores belong together as a model's would. What
the service really does beyond the protocol is not known from here.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from aiohttp import web
from tinker.proto import tinker_public_pb2 as wire

from tests.engines import Handler

VOCABULARY = 64
KEY = "tml-test"
_LOGITS = np.random.default_rng(5).normal(scale=4, size=(VOCABULARY, VOCABULARY))


def distribution(token: int, temperature: float = 1.0) -> npt.NDArray[np.float32]:
    """Logprobs of what follows a token, float32[VOCABULARY]."""
    logits = _LOGITS[token] / temperature
    return np.asarray(logits - np.logaddexp.reduce(logits), np.float32)


@dataclass
class FakeTinker:
    """One service. Faults are set on it."""

    processed: bool = False
    """Whether logprobs are after temperature."""
    context: int | None = 256
    refusal: tuple[int, str] | None = None
    """What sampling is answered with, if not with a promise."""
    failure: dict[str, str] | None = None
    """What a promise ends with, if not with tokens."""
    held: bool = False
    """Whether promises stay unfulfilled."""
    spoil: Callable[[Any], None] = lambda answer: None
    """Changes an answer's protobuf before it is sent."""

    url: str = ""
    asked: list[dict[str, Any]] = field(default_factory=list)
    """Bodies of sampling requests."""
    sessions: list[dict[str, Any]] = field(default_factory=list)
    """Bodies of requests for a sampler."""
    keys: set[str | None] = field(default_factory=set)
    cancelled: list[str] = field(default_factory=list)
    finished: list[str] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when something was asked or cancelled."""
    listings: int = 0

    async def config(self, request: web.Request) -> web.Response:
        self.keys.add(request.headers.get("X-API-Key"))
        return web.json_response({"sample_cancel_enabled": True})

    async def create_session(self, request: web.Request) -> web.Response:
        return web.json_response({"type": "create_session", "session_id": "session"})

    async def finish_session(self, request: web.Request) -> web.Response:
        self.finished.append(request.match_info["id"])
        return web.json_response({})

    async def create_sampler(self, request: web.Request) -> web.Response:
        self.sessions.append(await request.json())
        return web.json_response({"sampling_session_id": "sampler"})

    async def sampler(self, request: web.Request) -> web.Response:
        return web.json_response({"sampler_id": "sampler", "base_model": "Tiny/Base"})

    async def capabilities(self, request: web.Request) -> web.Response:
        self.listings += 1
        model = {"model_name": "Tiny/Base", "max_context_length": self.context}
        return web.json_response({"supported_models": [{"model_name": "Other/Base", "max_context_length": 1}, model]})

    async def sample(self, request: web.Request) -> web.Response:
        if self.refusal is not None:
            status, detail = self.refusal
            return web.json_response({"detail": detail}, status=status)
        self.asked.append(await request.json())
        self.changed.set()
        number = len(self.asked) - 1
        return web.json_response({"request_id": str(number), "sample_sequence_ids": [f"sequence-{number}"]})

    async def retrieve(self, request: web.Request) -> web.Response:
        if self.held:
            await asyncio.sleep(0.02)
            return web.json_response({"type": "try_again", "queue_state": "active"}, status=408)
        if self.failure is not None:
            return web.json_response(self.failure)
        asked = self.asked[int((await request.json())["request_id"])]
        answer = self._answer(asked)
        self.spoil(answer)
        return web.Response(body=answer.SerializeToString(), content_type="application/x-protobuf")

    async def cancel(self, request: web.Request) -> web.Response:
        self.cancelled.append((await request.json())["request_id"])
        self.changed.set()
        return web.json_response({})

    def _answer(self, asked: dict[str, Any]) -> Any:
        prompt = [token for chunk in asked["prompt"]["chunks"] for token in chunk["tokens"]]
        params, k = asked["sampling_params"], asked["topk_sample_logprobs"]
        stops, temperature = params.get("stop", []), params["temperature"]
        draw = np.random.default_rng(params.get("seed", 1))
        tokens: list[int] = []
        told = []
        while len(tokens) < params["max_tokens"] and (not tokens or tokens[-1] not in stops):
            last = (prompt + tokens)[-1]
            drawn_from = distribution(last, temperature or 1e-3)
            told.append(drawn_from if self.processed else distribution(last))
            probabilities = np.exp(drawn_from.astype(np.float64))
            tokens.append(int(draw.choice(VOCABULARY, p=probabilities / probabilities.sum())))
        stopped = bool(tokens) and tokens[-1] in stops
        sequence = wire.SampledSequence(
            stop_reason=wire.STOP_REASON_STOP if stopped else wire.STOP_REASON_LENGTH,
            tokens=np.array(tokens, np.int32).tobytes(),
            logprobs=np.array([row[t] for row, t in zip(told, tokens, strict=True)], np.float32).tobytes(),
        )
        if k:
            order = np.array([np.argsort(-row)[:k] for row in told], np.int32)
            sequence.topk_sampled_logprobs.k, sequence.topk_sampled_logprobs.length = k, len(tokens)
            sequence.topk_sampled_logprobs.token_ids = order.tobytes()
            sequence.topk_sampled_logprobs.logprobs = np.take_along_axis(np.array(told), order, 1).tobytes()
        answer = wire.SampleResponse(sequences=[sequence], prompt_cache_hit_tokens=len(prompt) // 2)
        if asked.get("prompt_logprobs"):
            pairs = itertools.pairwise(prompt)
            answer.prompt_logprobs = np.array([np.nan, *(distribution(a)[b] for a, b in pairs)], np.float32).tobytes()
        return answer

    def routes(self) -> dict[str, Handler]:
        """What answers which path."""
        return {
            "POST /api/v1/client/config": self.config,
            "POST /api/v1/client/dynamic_config": self.config,
            "POST /api/v1/create_session": self.create_session,
            "POST /api/v1/sessions/{id}/finish": self.finish_session,
            "POST /api/v1/create_sampling_session": self.create_sampler,
            "GET /api/v1/samplers/sampler": self.sampler,
            "GET /api/v1/get_server_capabilities": self.capabilities,
            "POST /api/v1/asample": self.sample,
            "POST /api/v1/retrieve_future": self.retrieve,
            "POST /api/v1/cancel_future": self.cancel,
        }


async def _last_on_its_connection(request: web.Request, response: web.StreamResponse) -> None:
    """The SDK leaves some of its connections open, which would be warned of in whatever test runs next."""
    response.headers["Connection"] = "close"


@asynccontextmanager
async def fake_tinker(**faults: Any) -> AsyncIterator[FakeTinker]:
    """A service that listens."""
    service = FakeTinker(**faults)
    app = web.Application()
    app.on_response_prepare.append(_last_on_its_connection)
    for route, handler in service.routes().items():
        app.router.add_route(*route.split(), handler)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    service.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield service
    finally:
        await runner.cleanup()
