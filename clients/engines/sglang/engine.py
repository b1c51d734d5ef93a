"""An SGLang server, through ``/generate`` with token prompts, streamed.

What a server does depends on the flags that it was started with: it tells most of them itself (``/server_info``), the
rest :meth:`SglangEngine.start` tries out. ``docs/engines.md`` says which flags bring what.
"""

import asyncio
import logging
import re
import uuid
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass

import numpy as np
import orjson
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
from tickertape.clients.engines.errors import (
    EngineCannot,
    EngineError,
    EngineNonsense,
    EngineRefused,
    EngineUnavailable,
)
from tickertape.clients.engines.http import CONNECT_TIMEOUT, EngineConnection, EventStream, refusal
from tickertape.clients.engines.sglang.answers import AnswerReader, scored
from tickertape.clients.engines.sglang.requests import GENERATE, beyond_the_vocabulary, generation, scoring
from tickertape.clients.engines.trying import SHAPE, Trial

_log = logging.getLogger(__name__)

#: Seconds that the order to abort a request may take.
_ABORT_TIMEOUT = 5.0
#: Seconds that an aborted request gets to give out what it has.
_LAST_CHUNKS_TIMEOUT = 2.0
#: Tokens of an event by which it is found out whether a server sends so many together.
_PROBE_CHUNK = 8
#: ``in_place`` would keep the cache that the old weights computed, for what it holds and for later prompts; SGLang then
#: calls an update failed that was to empty it. Retracted requests are read anew, and go on as from their tokens.
_PAUSE_MODES = {PauseMode.KEEP: "retract", PauseMode.ABORT: "abort"}
#: Token ids that every vocabulary has.
_PROBE_PROMPT = (0, 1)


@dataclass(frozen=True, slots=True)
class _Server:
    """The fields of ``/server_info``."""

    version: str
    model: str | None
    """The name that it was started with. ``/v1/models`` calls it by the path of its last weight update."""
    max_prompt: int
    """Tokens of the longest prompt that it reads."""
    max_context: int
    """Prompt and completion together, which is a little less than its ``--context-length``."""
    incremental: bool
    """True if events have new tokens only."""
    seeds: bool
    """True if a seed decides what is sampled."""
    features: frozenset[Feature]


class SglangEngine(Engine):
    """One SGLang server.

    Args:
        url: where it listens.
        api_key: its ``--api-key``, if it has one.
        probe_timeout: seconds that a probe may take at start; a server that is up but does not sample is not served.
        connect_timeout: seconds to a connection.
    """

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        probe_timeout: float = 60.0,
        connect_timeout: float = CONNECT_TIMEOUT,
    ) -> None:
        self._connection = EngineConnection(url, api_key=api_key, connect_timeout=connect_timeout)
        self._probe_timeout = probe_timeout
        self._server = _Server("", None, 0, 0, incremental=False, seeds=False, features=frozenset())
        self._vocab_size: int | None = None
        self._says_version = False
        self._info = EngineInfo("sglang", self._connection.url, "", 0)
        self._aborting: set[asyncio.Task[None]] = set()

    async def start(self) -> EngineInfo:
        await self._connection.open()
        trial = Trial(self._connection.url, self._probe_timeout)
        await self._check_ready(trial)
        model, adapters = await self._models()
        self._server = await self._server_info(trial)
        self._says_version = bool(await trial.optional("policy_version", self._has_version()))
        try:
            async with asyncio.timeout(self._probe_timeout):
                features = await self._probe_sampling()
        except TimeoutError as error:
            raise EngineUnavailable(
                f"{self._connection.url} is up, but sampled nothing within {self._probe_timeout:g} s"
            ) from error
        self._vocab_size = await trial.optional("vocabulary", self._find_vocab_size())
        logprobs = await trial.optional("top_logprobs", self._probe_logprobs())
        if await trial.optional(Feature.SCORE, self._has_score()):
            features.add(Feature.SCORE)
        if await trial.optional(Feature.CHUNKS, self._has_chunks()):
            features.add(Feature.CHUNKS)
        self._info = EngineInfo(
            name="sglang",
            url=self._connection.url,
            model=self._server.model or model,
            max_context=self._server.max_context,
            version=self._server.version,
            endpoint=GENERATE,
            logprobs=logprobs or LogprobKind.PROCESSED,  # as SGLang's are unless it is ordered otherwise
            adapters=adapters,
            features=self._server.features | features,
            missing=trial.missing,
        )
        return self._info

    async def check(self) -> None:
        """Checks that its HTTP server answers, which ends together with the scheduler's process. ``/health`` would
        sample a token, and ``/server_info`` waits for the scheduler, so that a long prefill would look like a dead
        engine."""
        await self._connection.check("/model_info" if self._says_version else "/v1/models")

    async def close(self) -> None:
        if self._aborting:
            await asyncio.wait(self._aborting)
        await self._connection.close()

    def generate(
        self, prompt_ids: TokenIds, sampling: Sampling, *, request_id: str, chunk_tokens: int = 1
    ) -> AsyncGenerator[Chunk, None]:
        self._refuse_what_is_missing(sampling)
        self._refuse_bad_tokens(prompt_ids)
        every = chunk_tokens if Feature.CHUNKS in self._info.features else 1
        return self._stream(self._reader(len(prompt_ids), sampling), prompt_ids, request_id, every)

    async def policy_version(self) -> str | None:
        return known_version(await self._weight_version()) if self._says_version else None

    async def pause(self, mode: PauseMode) -> None:
        await self._connection.post_json("/pause_generation", orjson.dumps({"mode": _PAUSE_MODES[mode]}))

    async def resume(self) -> None:
        await self._connection.post_json("/continue_generation", b"{}")

    async def score(self, token_ids: Sequence[int], *, adapter: str | None = None) -> Scored:
        self._refuse_bad_tokens(np.asarray(token_ids, np.int64))
        return scored(await self._connection.post_json(GENERATE, scoring(token_ids, adapter)))

    def _refuse_what_is_missing(self, sampling: Sampling) -> None:
        if sampling.structure is not None and Feature.STRUCTURE not in self._server.features:
            raise EngineCannot(f"{self._connection.url} does not decode to a structure ({sampling.structure.kind})")
        if sampling.top_logprobs and (reason := self._info.missing.get("top_logprobs")) is not None:
            raise EngineRefused(f"{self._connection.url} has no top_logprobs: {reason}", param="top_logprobs")
        if missing := set(sampling.token_arrays) - {feature.value for feature in self._server.features}:
            raise EngineCannot(f"{self._connection.url} does not report {', '.join(sorted(missing))}")
        if sampling.seed is not None and not self._server.seeds:
            raise EngineRefused(
                f"{self._connection.url} ignores seeds; SGLang needs --enable-deterministic-inference for them",
                param="seed",
            )

    def _refuse_bad_tokens(self, token_ids: TokenIds | np.ndarray[tuple[int], np.dtype[np.int64]]) -> None:
        """A prompt that is too long SGLang would refuse itself; a token beyond its vocabulary ends the whole server."""
        if len(token_ids) > self._server.max_prompt:
            raise EngineRefused(
                f"{self._connection.url} reads prompts of at most {self._server.max_prompt} tokens, "
                f"not of {len(token_ids)}",
                context_exceeded=True,
            )
        if self._vocab_size is None or not len(token_ids):
            return
        if not 0 <= int(token_ids.min()) <= int(token_ids.max()) < self._vocab_size:
            bad = next(int(token) for token in token_ids if not 0 <= token < self._vocab_size)
            raise EngineRefused(f"token {bad} is beyond the vocabulary of {self._connection.url}: {self._vocab_size}")

    def _reader(self, n_prompt: int, sampling: Sampling) -> AnswerReader:
        return AnswerReader(self._connection.url + GENERATE, n_prompt, sampling, incremental=self._server.incremental)

    async def _stream(
        self, reader: AnswerReader, prompt_ids: TokenIds, request_id: str, chunk_tokens: int = 1
    ) -> AsyncGenerator[Chunk, None]:
        # /abort_request aborts every request whose id begins with the one given, so no id may begin another.
        rid = f"{request_id};"
        asked = reader.asked
        max_new_tokens = min(asked.max_tokens, self._server.max_context - len(prompt_ids))
        body = generation(prompt_ids, asked, max_new_tokens, rid, chunk_tokens)
        try:
            async with self._connection.events(GENERATE, body) as events:
                try:
                    while payloads := await events.read():
                        for chunk in reader.read(payloads):
                            yield chunk
                except asyncio.CancelledError:
                    if chunk_tokens > 1:
                        for chunk in await self._last_chunks(reader, rid, events):
                            yield chunk
                    raise
            reader.check_ended()
        except EngineRefused:
            reader.finished = True
            raise
        finally:
            if not reader.finished:
                await self._abort(rid)

    async def _last_chunks(self, reader: AnswerReader, rid: str, events: EventStream) -> list[Chunk]:
        """Has a request aborted; returns what was sampled and not sent."""
        chunks: list[Chunk] = []
        try:
            async with asyncio.timeout(_LAST_CHUNKS_TIMEOUT):
                await self._abort(rid)
                while not reader.finished and (payloads := await events.read()):
                    chunks += reader.read(payloads)
        except (EngineError, ClientError, OSError) as error:
            _log.warning("%s gave no last tokens of %s: %r", self._connection.url, rid, error)
        return chunks

    async def _abort(self, rid: str) -> None:
        """Frees the request at once: SGLang itself does it two seconds after the connection is closed. Goes on when
        the caller is cancelled, within :data:`_ABORT_TIMEOUT`."""
        task = asyncio.create_task(self._post_abort(rid))
        self._aborting.add(task)
        task.add_done_callback(self._aborting.discard)
        await asyncio.shield(task)

    async def _post_abort(self, rid: str) -> None:
        try:
            async with asyncio.timeout(_ABORT_TIMEOUT):
                await self._connection.post("/abort_request", orjson.dumps({"rid": rid}))
        except (EngineError, TimeoutError) as error:
            _log.warning("%s was not told to abort %s: %s", self._connection.url, rid, error)

    async def _check_ready(self, trial: Trial) -> None:
        """While it is paused it samples nothing, not even for a probe."""
        status, body = await self._connection.status("/ready")
        if status >= 500:
            raise refusal(status, body, f"{self._connection.url}/ready")
        if not 200 <= status < 300:
            trial.note("ready", f"{self._connection.url}/ready answered {status}")

    async def _weight_version(self) -> str | None:
        answer = await self._connection.get_json("/model_info")
        try:
            version: str | None = answer["weight_version"]
        except (LookupError, TypeError) as error:
            raise EngineNonsense(
                f"{self._connection.url}/model_info names no weight_version: {answer!r:.300}"
            ) from error
        return version

    async def _has_version(self) -> bool:
        await self._weight_version()
        return True

    async def _models(self) -> tuple[str, tuple[str, ...]]:
        """The model, and the adapters beside it, which are listed with the model as their parent."""
        listing = await self._connection.get_json("/v1/models")
        try:
            model = next(served for served in listing["data"] if not served.get("parent"))
            return str(model["id"]), tuple(str(served["id"]) for served in listing["data"] if served.get("parent"))
        except (LookupError, TypeError, ValueError, AttributeError, StopIteration) as error:
            raise EngineNonsense(f"{self._connection.url}/v1/models is not SGLang's: {listing!r:.300}") from error

    async def _server_info(self, trial: Trial) -> _Server:
        """Its flags. Those that it does not name are taken for what they are by default."""
        told = await self._connection.get_json("/server_info")
        features = {Feature.ABORT, Feature.PAUSE, Feature.MIN_TOKENS, Feature.SAMPLING_MASK}
        try:
            longest = int(told["max_req_input_len"])  # refuses prompts of that length, and stops 4 tokens after it
            if told.get("grammar_backend") not in (None, "none"):
                features.add(Feature.STRUCTURE)
            else:
                trial.note(Feature.STRUCTURE, f"{self._connection.url}/server_info names no grammar_backend")
            if told.get("enable_return_routed_experts"):
                features.add(Feature.ROUTED_EXPERTS)
            return _Server(
                version=str(told.get("version", "")),
                model=told.get("served_model_name"),
                max_prompt=longest - 1,
                max_context=longest + 4,
                incremental=bool(told.get("incremental_streaming_output")),
                seeds=bool(told.get("enable_deterministic_inference")),
                features=frozenset(features),
            )
        except SHAPE as error:
            raise EngineNonsense(
                f"{self._connection.url}/server_info does not say how long prompts may be (max_req_input_len): "
                f"{told!r:.300}"
            ) from error

    async def _find_vocab_size(self) -> int:
        """SGLang tells the size of its vocabulary only when it refuses a token id in ``logit_bias``."""
        try:
            await self._connection.post_json(GENERATE, beyond_the_vocabulary())
        except EngineRefused as refused:
            if found := re.search(r"logit_bias.*\[0, (\d+)\]", str(refused)):
                return int(found[1]) + 1
        raise EngineCannot(f"{self._connection.url} does not say how large it is: token ids of prompts are not checked")

    async def _probe_sampling(self) -> set[Feature]:
        """Has one token sampled as a turn has them, and returns what the answer proves."""
        sampling = Sampling(1, ignore_eos=True)
        reader = self._reader(len(_PROBE_PROMPT), sampling)
        try:
            chunks = await self._sampled(reader)
        except (EngineRefused, EngineNonsense) as error:
            raise EngineNonsense(
                f"{self._connection.url} cannot take turns: {GENERATE} must sample from a prompt of token ids, and "
                f"give the id and the logprob of each token: {error}"
            ) from error
        logprobs = [value for chunk in chunks for value in chunk.logprobs]
        if len(logprobs) != 1:
            raise EngineNonsense(
                f"{self._connection.url}{GENERATE} sampled {len(logprobs)} tokens for max_new_tokens 1"
            )
        return reader.features

    async def _probe_logprobs(self) -> LogprobKind:
        """At half the temperature the two likeliest tokens are twice as far apart, unless logprobs are from before."""
        gap, halved = [await self._probe_gap(temperature) for temperature in (1.0, 0.5)]
        return LogprobKind.RAW if gap > 0 and halved < 1.5 * gap else LogprobKind.PROCESSED

    async def _probe_gap(self, temperature: float) -> float:
        """Has one token sampled, and returns how far the logprobs of the two likeliest are apart."""
        sampling = Sampling(1, temperature=temperature, ignore_eos=True, top_logprobs=2)
        chunks = await self._sampled(self._reader(len(_PROBE_PROMPT), sampling))
        tops = [top for chunk in chunks for top in chunk.top_logprobs or ()]
        if len(tops) != 1 or len(tops[0]) != 2:
            raise EngineNonsense(f"{self._connection.url}{GENERATE} gave {tops} for two alternatives to one token")
        return max(tops[0].values()) - min(tops[0].values())

    async def _sampled(self, reader: AnswerReader, chunk_tokens: int = 1) -> list[Chunk]:
        prompt = np.array(_PROBE_PROMPT, np.int32)
        return [chunk async for chunk in self._stream(reader, prompt, f"probe-{uuid.uuid4().hex}", chunk_tokens)]

    async def _has_chunks(self) -> bool:
        """Events must hold as many tokens as are asked for; a server that does not know the parameter refuses it."""
        sampling = Sampling(_PROBE_CHUNK + 1, ignore_eos=True)
        reader = self._reader(len(_PROBE_PROMPT), sampling)
        n_tokens = sum(len(chunk.token_ids) for chunk in await self._sampled(reader, _PROBE_CHUNK))
        if n_tokens != sampling.max_tokens or reader.n_events > 2:  # the first token, and the others with the end
            raise EngineCannot(f"{self._connection.url}{GENERATE} sent {n_tokens} tokens in {reader.n_events} events")
        return True

    async def _has_score(self) -> bool:
        echo = (await self.score(_PROBE_PROMPT)).token_ids
        if echo != list(_PROBE_PROMPT):
            raise EngineCannot(f"{self._connection.url}{GENERATE} echoed {echo} when {list(_PROBE_PROMPT)} was scored")
        return True
