"""Engines for tests that are about something else than sampling.

Both are fakes and say so: :class:`ScriptedEngine` plays fixed completions through the real pipeline, and
:class:`FaultyVllm` is an HTTP server that misbehaves as it is told. What engines really answer is replayed from
recordings (``tests/data``) and shown on the embedded engine.
"""

import asyncio
import json
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

from tickertape.clients.engines.engine import Chunk, Engine, EngineInfo, Feature, PauseMode, Sampling, TokenIds
from tickertape.clients.engines.errors import EngineError
from tickertape.clients.engines.vllm.requests import COMPLETIONS, GENERATE


@dataclass
class Call:
    """What an engine was asked, and what it sampled."""

    prompt_ids: list[int]
    sampling: Sampling
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    closed: bool = False
    """Whether the caller closed the generation."""
    request_id: str = ""


class RecordingEngine(Engine):
    """A real engine, and a record of what went in and came out: the other side of VERBATIM."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.calls: list[Call] = []

    async def start(self) -> EngineInfo:
        return await self.engine.start()

    async def check(self) -> None:
        await self.engine.check()

    async def close(self) -> None:
        await self.engine.close()

    async def policy_version(self) -> str | None:
        return await self.engine.policy_version()

    async def pause(self, mode: PauseMode) -> None:
        await self.engine.pause(mode)

    async def resume(self) -> None:
        await self.engine.resume()

    async def generate(
        self, prompt_ids: TokenIds, sampling: Sampling, *, request_id: str, chunk_tokens: int = 1
    ) -> AsyncGenerator[Chunk, None]:
        call = Call(prompt_ids.tolist(), sampling, request_id=request_id)
        self.calls.append(call)
        engine = self.engine.generate(prompt_ids, sampling, request_id=request_id, chunk_tokens=chunk_tokens)
        async with aclosing(engine) as chunks:
            async for chunk in chunks:
                call.token_ids += chunk.token_ids
                call.logprobs += chunk.logprobs
                yield chunk


#: Token ids to play, or an error to raise after those that came before.
Script = Callable[[list[int], Sampling], Sequence[int | EngineError]]


class ScriptedEngine(Engine):
    """A fake engine that samples what ``script(prompt_ids, sampling)`` says, one token a chunk.

    Args:
        script: see :data:`Script`.
        max_context: what it says its context is.
        delay: seconds before each token.
        version: the policy version it reports.
    """

    features = frozenset({Feature.MIN_TOKENS})

    def __init__(
        self, script: Script, *, max_context: int = 4096, delay: float = 0.0, version: str | None = None
    ) -> None:
        self.script = script
        self.calls: list[Call] = []
        self._max_context = max_context
        self.delay = delay
        """Seconds before each token; may be changed."""
        self._version = version
        self._going = asyncio.Event()
        self._going.set()
        self._aborted = 0

    def hold(self, mode: PauseMode) -> None:
        """Stops sampling; with ``abort``, what is under way ends."""
        self._going.clear()
        self._aborted += mode is PauseMode.ABORT

    def go_on(self) -> None:
        self._going.set()

    async def start(self) -> EngineInfo:
        return EngineInfo("scripted", "nowhere", "scripted", self._max_context, features=self.features)

    async def check(self) -> None:
        return

    async def close(self) -> None:
        return

    async def generate(
        self,
        prompt_ids: TokenIds,
        sampling: Sampling,
        *,
        request_id: str,
        chunk_tokens: int = 1,
    ) -> AsyncGenerator[Chunk, None]:
        call = Call(prompt_ids.tolist(), sampling)
        self.calls.append(call)
        await self._going.wait()
        aborted = self._aborted
        try:
            for number, token in enumerate(self.script(call.prompt_ids, sampling)):
                if isinstance(token, EngineError):
                    raise token
                if number == sampling.max_tokens:
                    break
                await asyncio.sleep(self.delay)
                if self._aborted != aborted:
                    yield Chunk([], [], finish_reason="abort")
                    return
                await self._going.wait()
                logprob = -(1 + number % 7) / 8
                call.token_ids.append(token)
                call.logprobs.append(logprob)
                yield Chunk([token], [logprob], policy_version=self._version)
                if token in sampling.stop_token_ids:
                    yield Chunk([], [], finish_reason="stop", stop_reason=token)
                    return
            yield Chunk([], [], finish_reason="length")
        except (GeneratorExit, asyncio.CancelledError):
            call.closed = True
            raise


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@contextmanager
def faulty_vllm(
    handler: Handler,
    *,
    max_model_len: int = 4096,
    lean: bool = False,
    structure: bool = True,
    arrays: str | None = None,
    others: Mapping[str, Any] | None = None,
    port: int = 0,
) -> Iterator[str]:
    """An HTTP server in vLLM's place, which answers what a client tries out at start itself. Yields its URL.

    Args:
        handler: answers on the endpoint that samples.
        max_model_len: what it says its context is.
        lean: whether there is ``/inference/v1/generate`` beside ``/v1/completions``.
        structure: whether it holds to a structure.
        arrays: its ``routed_experts`` at start, base64 of an .npy file; then it has a ``sampling_mask`` too.
        port: a free one if none is given.
        others: JSON that is answered on other paths, whatever the method; ``/v1/models`` and ``/version`` among them.
    """
    listing = {"object": "list", "data": [{"id": "faulty", "object": "model", "max_model_len": max_model_len}]}
    answers = {"/v1/models": listing, "/version": {"version": "0.32.0"}, "/health": {}, **(others or {})}

    async def sample(request: web.Request) -> web.StreamResponse:
        if request.headers.get("X-Request-Id", "").startswith("probe-"):
            return await _answer_probe(request, structure, arrays)
        return await handler(request)

    async def answer(request: web.Request) -> web.Response:
        path = request.path_qs if request.path_qs in answers else request.path
        return web.json_response(answers[path]) if path in answers else web.json_response({"detail": "no"}, status=404)

    app = web.Application(client_max_size=2**24)
    app.add_routes([web.post(path, sample) for path in (COMPLETIONS, *([GENERATE] if lean else []))])
    app.add_routes([web.route("*", "/{path:.*}", answer)])
    with serving_aiohttp(app, port) as url:
        yield url


async def _answer_probe(request: web.Request, structure: bool, arrays: str | None) -> web.StreamResponse:
    """What vLLM with raw logprobs answers to requests for one token, for a prompt's logprobs, and for a structure."""
    body = await request.json()
    if "prompt_logprobs" in body:
        told = [None, *({str(token): {"logprob": -11.0}} for token in body["prompt"][1:])]
        return web.json_response({"choices": [{"prompt_token_ids": body["prompt"], "prompt_logprobs": told}]})
    asked = body.get("sampling_params", body)
    chosen = ord(asked["structured_outputs"]["choice"][0]) if structure and asked["structured_outputs"] else 7
    token_ids = [int(token) for token in asked["logit_bias"] or (chosen,)]
    if asked["max_tokens"] > 1:
        return await vllm_chunks(token_ids[0], -11.0, asked["max_tokens"], lean=request.path == GENERATE)(request)
    event = vllm_event(token_ids, [-11.0], "length", lean=request.path == GENERATE)
    if arrays is not None:
        event["choices"][0].update(routed_experts=arrays, sampling_mask=[token_ids])
    return await streaming([event, "[DONE]"])(request)


def vllm_event(
    token_ids: list[int], logprobs: list[float], finish_reason: str | None = None, *, lean: bool = False
) -> dict[str, Any]:
    """An event of a streamed answer of vLLM's."""
    choice: dict[str, Any] = {"index": 0, "token_ids": token_ids, "finish_reason": finish_reason, "stop_reason": None}
    if not lean:
        tops = [{f"token_id:{token}": value} for token, value in zip(token_ids, logprobs, strict=False)]
        return {"choices": [{**choice, "logprobs": {"token_logprobs": logprobs, "top_logprobs": tops}}]}
    pairs = [{"token_id": token, "logprob": value} for token, value in zip(token_ids, logprobs, strict=False)]
    spans = [{"version": "default", "start": 0, "end": len(token_ids)}] if finish_reason else None
    content = [{**pair, "top_logprobs": [pair]} for pair in pairs]
    return {"choices": [{**choice, "logprobs": {"content": content}, "weight_versions": spans}]}


def vllm_chunks(token_id: int, logprob: float, n_tokens: int, *, lean: bool = False) -> Handler:
    """Answers as a vLLM with a large ``stream_interval`` does: the first token at once, the others together."""
    others = vllm_event([token_id] * (n_tokens - 1), [logprob] * (n_tokens - 1), "length", lean=lean)
    for span in others["choices"][0].get("weight_versions") or ():
        span["end"] = n_tokens
    return streaming([vllm_event([token_id], [logprob], lean=lean), others, "[DONE]"])


def streaming(events: Sequence[Any], *, together: bool = True) -> Handler:
    """Answers with server-sent events: JSON, or strings as they are, in one write or each in one of its own."""

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        lines = [f"data: {event if isinstance(event, str) else json.dumps(event)}\n\n".encode() for event in events]
        for line in [b"".join(lines)] if together else lines:
            await response.write(line)
            await asyncio.sleep(0)
        await response.write_eof()
        return response

    return handler


@contextmanager
def serving_aiohttp(app: web.Application, port: int = 0) -> Iterator[str]:
    """Serves ``app`` on a loopback port, a free one if none is given, on a thread of its own."""
    loop = asyncio.new_event_loop()
    started: Future[int] = Future()

    async def run() -> None:
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", port, reuse_address=True)
        await site.start()
        started.set_result(runner.addresses[0][1])
        await stop.wait()
        await runner.cleanup()
        await asyncio.sleep(0.02)  # connections are closed by callbacks; a loop that ends before leaves them open

    stop = asyncio.Event()
    thread = threading.Thread(target=loop.run_until_complete, args=(run(),), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{started.result(timeout=10)}"
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
        loop.close()


SGLANG_RECORDED = Path(__file__).parent / "data" / "sglang-0.5.23"


@contextmanager
def faulty_sglang(
    handler: Handler, *, others: Mapping[str, Handler] | None = None, **server_info: Any
) -> Iterator[str]:
    """An HTTP server in SGLang's place; ``handler`` answers ``/generate``, but for what the client tries out at start,
    which is answered as SGLang 0.5.23 did. Yields its URL.

    Args:
        handler: see there.
        others: other answers, by path, or by the name of what is recorded of a request of the start.
        **server_info: fields of ``/server_info`` that are different from what was recorded.
    """

    def answer(name: str, **changes: Any) -> Callable[[web.Request], Awaitable[web.Response]]:
        case = json.loads((SGLANG_RECORDED / f"{name}.json").read_text())

        async def answering(_: web.Request) -> web.Response:
            if "sse" in case:
                return web.Response(text=sse(case["sse"]), content_type="text/event-stream")
            return web.json_response(case["response"] | changes, status=case["status"])

        return answering

    async def ready(_: web.Request) -> web.Response:
        return web.Response()

    probes = {
        name: answer(name) for name in ("vocabulary", "probe_hot", "probe_cold", "probe_score", "probe_chunks")
    } | (others or {})

    async def generate(request: web.Request) -> web.StreamResponse:
        asked = await request.json()
        if str(2**31 - 1) in (asked["sampling_params"]["logit_bias"] or {}):
            return await probes["vocabulary"](request)
        if "stream_interval" in asked["sampling_params"] and asked["rid"].startswith("probe-"):
            return await probes["probe_chunks"](request)
        if asked.get("rid", "").startswith("probe-"):
            return await probes["probe_hot" if asked["sampling_params"]["temperature"] == 1.0 else "probe_cold"](
                request
            )
        if asked["input_ids"] == [0, 1]:
            return await probes["probe_score"](request)
        return await handler(request)

    app = web.Application(client_max_size=2**24)
    answers: dict[str, Handler] = {
        "/generate": generate,
        "/abort_request": handler,
        "/ready": ready,
        "/v1/models": answer("models"),
        "/model_info": answer("model_info"),
        "/server_info": answer("server_info", **server_info),
    }
    app.add_routes(
        [web.route("*", path, play) for path, play in {**answers, **(others or {})}.items() if path[0] == "/"]
    )
    with serving_aiohttp(app) as url:
        yield url


def sse(events: Sequence[Any]) -> str:
    """Server-sent events; text stays as it is."""
    return "".join(f"data: {event if isinstance(event, str) else json.dumps(event)}\n\n" for event in events)
