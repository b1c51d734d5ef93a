"""A vLLM server, through its lean token endpoint ``/inference/v1/generate`` where it has it, else ``/v1/completions``.

What a server has depends on its version and on the flags that it was started with, so :mod:`starting` tries it out
instead of asking for a version. ``docs/engines.md`` says which flags bring what.
"""

import asyncio
import logging
import uuid
from collections.abc import AsyncGenerator, Sequence

from aiohttp import ClientError

from tickertape.clients.engines.answers import known_version
from tickertape.clients.engines.engine import (
    Chunk,
    Engine,
    EngineInfo,
    Feature,
    LogprobKind,
    PauseMode,
    Sampling,
    Scored,
    TokenIds,
)
from tickertape.clients.engines.errors import EngineCannot, EngineError, EngineNonsense, EngineRefused
from tickertape.clients.engines.http import CONNECT_TIMEOUT, EngineConnection, EventStream
from tickertape.clients.engines.vllm.answers import AnswerReader, scored
from tickertape.clients.engines.vllm.requests import (
    ABORT,
    COMPLETIONS,
    abort_order,
    generation,
    scoring,
    scoring_with_last_forced,
)
from tickertape.clients.engines.vllm.starting import PROMPT, VllmStart

_log = logging.getLogger(__name__)

#: Seconds that an aborted request gets to give out what it has.
_ABORT_TIMEOUT = 2.0


class VllmEngine(Engine):
    """One vLLM server.

    Args:
        url: where it listens.
        api_key: its ``--api-key``, if it has one.
        probe_timeout: seconds that a probe may take at start; a server that is up but does not sample is not served.
        connect_timeout: seconds to a connection.
        context: tokens of context, if the server does not say so itself.
    """

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        probe_timeout: float = 60.0,
        connect_timeout: float = CONNECT_TIMEOUT,
        context: int | None = None,
    ) -> None:
        self._connection = EngineConnection(url, api_key=api_key, connect_timeout=connect_timeout)
        self._probe_timeout = probe_timeout
        self._context = context
        self._info = EngineInfo("vllm", self._connection.url, "", 0)
        self._health_path = "/health"
        self._says_version = False

    async def start(self) -> EngineInfo:
        await self._connection.open()
        start = VllmStart(
            self._connection, self._stream, self._score_probe, timeout=self._probe_timeout, context=self._context
        )
        found = await start.find_out()
        self._info, self._health_path, self._says_version = found.info, found.health_path, found.says_version
        return self._info

    async def check(self) -> None:
        await self._connection.check(self._health_path)

    async def close(self) -> None:
        await self._connection.close()

    def generate(
        self, prompt_ids: TokenIds, sampling: Sampling, *, request_id: str, chunk_tokens: int = 1
    ) -> AsyncGenerator[Chunk, None]:
        self._refuse_what_is_missing(sampling)
        endpoint = self._info.endpoint
        model = self._info.model if sampling.adapter is None else sampling.adapter
        every = chunk_tokens if Feature.CHUNKS in self._info.features else 1
        body = generation(endpoint, model, prompt_ids, sampling, every)
        holds_back = every > 1 and Feature.ABORT in self._info.features
        return self._stream(self._reader(endpoint, sampling), endpoint, body, request_id, holds_back=holds_back)

    async def policy_version(self) -> str | None:
        if not self._says_version:
            return None  # no such path, without VLLM_SERVER_DEV_MODE=1
        try:
            version = (await self._connection.get_json("/weight_info"))["weight_version"]
        except (LookupError, TypeError) as error:
            raise EngineNonsense(f"{self._connection.url}/weight_info names no weight_version") from error
        return known_version(version)

    async def pause(self, mode: PauseMode) -> None:
        self._need_pause()
        await self._connection.post_json(f"/pause?mode={mode}", b"")

    async def resume(self) -> None:
        self._need_pause()
        await self._connection.post_json("/resume", b"")

    async def score(self, token_ids: Sequence[int], *, adapter: str | None = None) -> Scored:
        model = self._info.model if adapter is None else adapter
        if len(token_ids) != self._info.max_context:
            return await self._score(model, token_ids)
        if self._info.logprobs is LogprobKind.PROCESSED:
            raise EngineCannot(
                f"{self._connection.url} gives no raw logprob of the last of {len(token_ids)} tokens, which fill its "
                "context, because it runs with processed logprobs"
            )
        body = scoring_with_last_forced(model, token_ids)
        return scored(await self._connection.post_json(COMPLETIONS, body), [int(token_ids[-1])])

    def _need_pause(self) -> None:
        if Feature.PAUSE not in self._info.features:
            raise EngineCannot(f"{self._connection.url} runs without VLLM_SERVER_DEV_MODE=1, so it cannot be paused")

    def _refuse_what_is_missing(self, sampling: Sampling) -> None:
        features = self._info.features
        for name, asked in (("logit_bias", sampling.logit_bias), ("top_logprobs", sampling.top_logprobs)):
            if asked and (reason := self._info.missing.get(name)) is not None:
                raise EngineRefused(f"{self._connection.url} has no {name}: {reason}", param=name)
        if sampling.structure is not None and Feature.STRUCTURE not in features:
            raise EngineCannot(f"{self._connection.url} does not decode to a structure ({sampling.structure.kind})")
        if missing := set(sampling.token_arrays) - {feature.value for feature in features}:
            raise EngineCannot(f"{self._connection.url} does not report {', '.join(sorted(missing))}")

    def _reader(self, endpoint: str, sampling: Sampling) -> AnswerReader:
        return AnswerReader(self._connection.url + endpoint, endpoint, sampling)

    async def _stream(
        self, reader: AnswerReader, endpoint: str, body: bytes, request_id: str, *, holds_back: bool = False
    ) -> AsyncGenerator[Chunk, None]:
        """Posts a request and reads its answer. ``holds_back``: the server may have sampled tokens that it has not yet
        sent, and gives them out when it aborts."""
        async with self._connection.events(endpoint, body, {"X-Request-Id": request_id}) as events:
            try:
                while payloads := await events.read():
                    for chunk in reader.read(payloads):
                        yield chunk
            except asyncio.CancelledError:
                if holds_back:
                    for chunk in await self._abort(reader, endpoint, request_id, events):
                        yield chunk
                raise
        reader.check_ended()

    async def _abort(self, reader: AnswerReader, endpoint: str, request_id: str, events: EventStream) -> list[Chunk]:
        """Has a request aborted; returns what was sampled and not sent."""
        chunks: list[Chunk] = []
        try:
            async with asyncio.timeout(_ABORT_TIMEOUT):
                await self._connection.post(ABORT, abort_order(endpoint, request_id))
                while not reader.ended and (payloads := await events.read()):
                    chunks += reader.read(payloads)
        except (EngineError, ClientError, OSError) as error:
            _log.warning("%s gave no last tokens of %s: %r", self._connection.url, request_id, error)
        return chunks

    async def _score_probe(self, model: str) -> Scored:
        return await self._score(model, PROMPT, f"probe-{uuid.uuid4().hex}")

    async def _score(self, model: str, token_ids: Sequence[int], request_id: str | None = None) -> Scored:
        headers = None if request_id is None else {"X-Request-Id": request_id}
        return scored(await self._connection.post_json(COMPLETIONS, scoring(model, token_ids), headers))
