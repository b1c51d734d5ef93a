"""A vLLM server, through its lean token endpoint ``/inference/v1/generate`` where it has it, else ``/v1/completions``.

What a server has depends on its version and on the flags that it was started with, so :meth:`VllmEngine.start` tries
it out instead of asking for a version. ``docs/engines.md`` says which flags bring what.
"""

import asyncio
import uuid
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

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
    Structure,
    StructureKind,
    TokenIds,
)
from tickertape.clients.engines.errors import EngineCannot, EngineNonsense, EngineRefused, EngineUnavailable
from tickertape.clients.engines.http import CONNECT_TIMEOUT, EngineConnection
from tickertape.clients.engines.vllm.answers import AnswerReader, scored
from tickertape.clients.engines.vllm.requests import (
    COMPLETIONS,
    GENERATE,
    generation,
    scoring,
    scoring_with_last_forced,
)

#: Token ids that every vocabulary has.
_PROBE_PROMPT = (0, 1)
#: Tokens that a probe forces, one after the other: no model finds both of them more likely than not.
_FORCED = (1, 2)


class VllmEngine(Engine):
    """One vLLM server.

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
        self._info = EngineInfo("vllm", self._connection.url, "", 0)

    async def start(self) -> EngineInfo:
        await self._connection.open()
        model, max_context, adapters = await self._models()
        pausable = await self._can_pause()
        try:
            async with asyncio.timeout(self._probe_timeout):
                endpoint, features, logprobs = await self._probe(model)
        except TimeoutError as error:
            raise EngineUnavailable(
                f"{self._connection.url} is up, but sampled nothing within {self._probe_timeout:g} s"
            ) from error
        if pausable:
            features |= {Feature.PAUSE}
        self._info = EngineInfo(
            name="vllm",
            url=self._connection.url,
            model=model,
            max_context=max_context,
            version=await self._version(),
            endpoint=endpoint,
            logprobs=logprobs,
            adapters=adapters,
            features=features,
        )
        return self._info

    async def check(self) -> None:
        await self._connection.check("/health")

    async def close(self) -> None:
        await self._connection.close()

    async def generate(
        self, prompt_ids: TokenIds, sampling: Sampling, *, request_id: str
    ) -> AsyncGenerator[Chunk, None]:
        self._refuse_what_is_missing(sampling)
        reader = self._reader(self._info.endpoint, sampling)
        model = self._info.model if sampling.adapter is None else sampling.adapter
        async with aclosing(
            self._stream(reader, self._info.endpoint, model, prompt_ids, sampling, request_id)
        ) as chunks:
            async for chunk in chunks:
                yield chunk

    async def policy_version(self) -> str | None:
        try:
            version = (await self._connection.get_json("/weight_info"))["weight_version"]
        except EngineRefused:
            return None  # no such path, without VLLM_SERVER_DEV_MODE=1
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
        if sampling.structure is not None and Feature.STRUCTURE not in features:
            raise EngineCannot(f"{self._connection.url} does not decode to a structure ({sampling.structure.kind})")
        if missing := set(sampling.token_arrays) - {feature.value for feature in features}:
            raise EngineCannot(f"{self._connection.url} does not report {', '.join(sorted(missing))}")

    def _reader(self, endpoint: str, sampling: Sampling) -> AnswerReader:
        return AnswerReader(self._connection.url + endpoint, endpoint, sampling)

    async def _stream(
        self,
        reader: AnswerReader,
        endpoint: str,
        model: str,
        prompt_ids: TokenIds | Sequence[int],
        sampling: Sampling,
        request_id: str,
    ) -> AsyncGenerator[Chunk, None]:
        body = generation(endpoint, model, prompt_ids, sampling)
        silent = True
        async with aclosing(self._connection.post_events(endpoint, body, {"X-Request-Id": request_id})) as events:
            async for payloads in events:
                silent = False
                for chunk in reader.read(payloads):
                    yield chunk
        if silent:
            raise EngineNonsense(f"{self._connection.url}{endpoint} answered without a single event")
        reader.check_ended()

    async def _score(self, model: str, token_ids: Sequence[int], request_id: str | None = None) -> Scored:
        headers = None if request_id is None else {"X-Request-Id": request_id}
        return scored(await self._connection.post_json(COMPLETIONS, scoring(model, token_ids), headers))

    async def _models(self) -> tuple[str, int, tuple[str, ...]]:
        """The model, its context, and the adapters beside it, which are listed with the model as their parent."""
        listing = await self._connection.get_json("/v1/models")
        try:
            model = next(served for served in listing["data"] if not served.get("parent"))
            adapters = tuple(str(served["id"]) for served in listing["data"] if served.get("parent"))
            return str(model["id"]), int(model["max_model_len"]), adapters
        except (LookupError, TypeError, ValueError, AttributeError, StopIteration) as error:
            raise EngineNonsense(f"{self._connection.url}/v1/models is not vLLM's: {listing!r:.300}") from error

    async def _version(self) -> str:
        answer = await self._connection.get_json("/version")
        try:
            return str(answer["version"])
        except (LookupError, TypeError) as error:
            raise EngineNonsense(f"{self._connection.url}/version is not vLLM's: {answer!r:.300}") from error

    async def _can_pause(self) -> bool:
        """Whether there is ``/pause``. While a server is paused it samples nothing, not even for a probe."""
        try:
            paused = (await self._connection.get_json("/is_paused"))["is_paused"]
        except EngineRefused:
            return False
        except (LookupError, TypeError) as error:
            raise EngineNonsense(f"{self._connection.url}/is_paused does not say whether it is paused") from error
        if paused:
            raise EngineUnavailable(f"{self._connection.url} is paused")
        return True

    async def _probe(self, model: str) -> tuple[str, frozenset[Feature], LogprobKind]:
        """Tries out what the server really does, with a few requests of one token each."""
        endpoint, features, first = await self._probe_endpoint(model)
        _, second = await self._probe_sampling(endpoint, model, _FORCED[1])
        if await self._has_structure(endpoint, model):
            features |= {Feature.STRUCTURE}
        if await self._has_score(model):
            features |= {Feature.SCORE}
        # A forced token keeps its own small probability if logprobs are raw, and has all of it if they are processed.
        processed = min(first, second) > -0.5
        return (
            endpoint,
            frozenset(features | {Feature.MIN_TOKENS}),
            LogprobKind.PROCESSED if processed else LogprobKind.RAW,
        )

    async def _probe_endpoint(self, model: str) -> tuple[str, set[Feature], float]:
        """The lean endpoint, unless it is closed (404, or 403 without ``--enable-scale-out``) or answers otherwise than
        since vLLM 0.32."""
        try:
            features, logprob = await self._probe_sampling(GENERATE, model, _FORCED[0])
            if Feature.VERSIONS in features:
                return GENERATE, features, logprob
        except (EngineRefused, EngineNonsense):
            pass
        return COMPLETIONS, *await self._probe_sampling(COMPLETIONS, model, _FORCED[0])

    async def _probe_sampling(self, endpoint: str, model: str, forced: int) -> tuple[set[Feature], float]:
        """Has one token sampled, and returns its logprob."""
        sampling = Sampling(1, temperature=0.0, logit_bias={forced: 100.0}, ignore_eos=True, top_logprobs=1)
        reader = self._reader(endpoint, sampling)
        chunks = [c async for c in self._stream(reader, endpoint, model, _PROBE_PROMPT, sampling, _probe_id())]
        token_ids = [token for chunk in chunks for token in chunk.token_ids]
        if token_ids != [forced]:
            raise EngineNonsense(f"{self._connection.url}{endpoint} sampled {token_ids} when {forced} was forced")
        (logprob,) = [value for chunk in chunks for value in chunk.logprobs]
        if any(value > 1e-3 for chunk in chunks for top in chunk.top_logprobs or () for value in top.values()):
            raise EngineNonsense(f"{self._connection.url} reports logits for logprobs (--logprobs-mode)")
        return reader.features, logprob

    async def _has_structure(self, endpoint: str, model: str) -> bool:
        """Whether a structure decides what is sampled: vLLM before 0.12 ignores the field, and a server without a
        tokenizer refuses it."""
        sampled = []
        for letter in "ab":
            structure = Structure(StructureKind.CHOICE, [letter])
            sampling = Sampling(1, temperature=0.0, ignore_eos=True, structure=structure)
            chunks = self._stream(
                self._reader(endpoint, sampling), endpoint, model, _PROBE_PROMPT, sampling, _probe_id()
            )
            try:
                sampled.append([token async for chunk in chunks for token in chunk.token_ids])
            except EngineRefused:
                return False
        return sampled[0] != sampled[1]

    async def _has_score(self, model: str) -> bool:
        try:
            return len((await self._score(model, _PROBE_PROMPT, _probe_id())).logprobs) == len(_PROBE_PROMPT)
        except EngineRefused:
            return False


def _probe_id() -> str:
    return f"probe-{uuid.uuid4().hex}"
