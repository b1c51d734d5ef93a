"""The abilities of a server that speaks vLLM's protocol: tried out, not believed.

Needed is what a turn needs: a model of a known context, and tokens sampled from a prompt of token ids, each with its id
and its logprob. All else is optional. What does not answer as it should is not there: :attr:`EngineInfo.missing` names
it, with the reason, and the server is used without it.
"""

import asyncio
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import orjson

from tickertape.clients.engines.engine import (
    Chunk,
    EngineInfo,
    Feature,
    LogprobKind,
    Sampling,
    Scored,
    Structure,
    StructureKind,
)
from tickertape.clients.engines.errors import (
    EngineCannot,
    EngineError,
    EngineNonsense,
    EngineRefused,
    EngineUnavailable,
)
from tickertape.clients.engines.http import EngineConnection, refusal
from tickertape.clients.engines.trying import SHAPE, Trial
from tickertape.clients.engines.vllm.answers import AnswerReader
from tickertape.clients.engines.vllm.requests import ABORT, COMPLETIONS, GENERATE, generation

#: Token ids that every vocabulary has.
PROMPT = (0, 1)
#: Tokens that a probe forces, one after the other: no model finds both of them more likely than not.
_FORCED = (1, 2)
#: Tokens of an event by which it is found out whether a server sends so many together.
_CHUNK = 8
#: Of a logprob; what is above it is a logit.
_MOST = 1e-3

#: The reader, the endpoint, the body and the request's id.
Stream: TypeAlias = Callable[[AnswerReader, str, bytes, str], AsyncGenerator[Chunk, None]]


@dataclass(frozen=True, slots=True)
class Found:
    """A server that can be used."""

    info: EngineInfo
    health_path: str
    """The path that answers 2xx while it is well."""
    says_version: bool
    """True if it has ``/weight_info``."""


class VllmStart:
    """Tries a server out.

    Args:
        connection: to it, open.
        stream: samples, as ``VllmEngine._stream``.
        score: has two tokens scored by the model of that name.
        timeout: seconds that sampling may take, and each optional thing.
        context: tokens of context of a server that does not say so itself.
    """

    def __init__(
        self,
        connection: EngineConnection,
        stream: Stream,
        score: Callable[[str], Awaitable[Scored]],
        *,
        timeout: float,
        context: int | None,
    ) -> None:
        self._connection = connection
        self._url = connection.url
        self._stream = stream
        self._score = score
        self._timeout = timeout
        self._context = context
        self._model = ""
        self._endpoint = ""
        self._features: set[Feature] = {Feature.MIN_TOKENS}
        self._trial = Trial(connection.url, timeout)

    async def find_out(self) -> Found:
        """
        Raises:
            EngineError: it cannot be used, now or at all; the text says which of the things that are needed it lacks.
        """
        self._model, max_context, adapters = await self._models()
        health_path = await self._find_health()
        await self._try_pause()
        try:
            async with asyncio.timeout(self._timeout):
                self._endpoint = await self._find_endpoint()
        except TimeoutError as error:
            raise EngineUnavailable(f"{self._url} is up, but sampled nothing within {self._timeout:g} s") from error
        # One after the other: a batch of all of them is what no other client makes of a server.
        kind = await self._trial.optional("logit_bias", self._kind_by_force())
        tops = await self._trial.optional("top_logprobs", self._alternatives(1.0))
        version = await self._trial.optional("software_version", self._text("/version", "version"))
        weights = await self._trial.optional("policy_version", self._text("/weight_info", "weight_version"))
        await self._trial.optional(Feature.STRUCTURE, self._try_structure())
        await self._trial.optional(Feature.SCORE, self._try_score())
        await self._trial.optional(Feature.CHUNKS, self._try_chunks())
        await self._trial.optional(Feature.ABORT, self._try_abort())
        self._refuse_logits([value for top in tops or () for value in top.values()])
        info = EngineInfo(
            name="vllm",
            url=self._url,
            model=self._model,
            max_context=max_context,
            version=version or "",
            endpoint=self._endpoint,
            logprobs=kind or await self._kind_by_temperature(tops),
            adapters=adapters,
            features=frozenset(self._features),
            missing=self._trial.missing,
        )
        return Found(info, health_path, weights is not None)

    # What is needed.

    async def _models(self) -> tuple[str, int, tuple[str, ...]]:
        """The model, its context, and the adapters beside it, which are listed with the model as their parent."""
        listing = await self._connection.get_json("/v1/models")
        try:
            model = next(served for served in listing["data"] if not served.get("parent"))
            adapters = tuple(str(served["id"]) for served in listing["data"] if served.get("parent"))
            name, context = str(model["id"]), model.get("max_model_len") or self._context
            if context is not None:
                return name, int(context), adapters
        except (*SHAPE, StopIteration) as error:
            raise EngineNonsense(f"{self._url}/v1/models is not vLLM's: {listing!r:.300}") from error
        raise EngineNonsense(
            f"{self._url}/v1/models does not say how long the model's context is (max_model_len): give it with "
            "--context, or as context in /admin/engines"
        )

    async def _find_health(self) -> str:
        """Finds the path at which it says that it is well: a server without ``/health`` lists its models while it
        is."""
        status, body = await self._connection.status("/health")
        if status >= 500:
            raise refusal(status, body, f"{self._url}/health")
        if 200 <= status < 300:
            return "/health"
        self._trial.note("health", f"{self._url}/health answered {status}; /v1/models is asked instead")
        return "/v1/models"

    async def _find_endpoint(self) -> str:
        """The lean endpoint, unless it is closed (404, or 403 without ``--enable-scale-out``) or answers otherwise than
        since vLLM 0.32."""
        try:
            features = await self._sample_one(GENERATE)
            if Feature.VERSIONS in features:
                self._features |= features
                return GENERATE
            self._trial.note(Feature.VERSIONS, f"{self._url}{GENERATE} names no weight_versions")
        except EngineError as error:
            self._trial.note(Feature.VERSIONS, str(error))
        try:
            self._features |= await self._sample_one(COMPLETIONS)
        except (EngineRefused, EngineNonsense) as error:
            raise EngineNonsense(
                f"{self._url} cannot take turns: {COMPLETIONS} must sample from a prompt of token ids, and give the id "
                f"and the logprob of each token: {error}"
            ) from error
        return COMPLETIONS

    async def _sample_one(self, endpoint: str) -> set[Feature]:
        """Has a token sampled as a turn has them, and returns which features the answer proves."""
        reader = AnswerReader(self._url + endpoint, endpoint, sampling := Sampling(1, ignore_eos=True))
        chunk = await self._sample(endpoint, sampling, reader)
        if len(chunk.token_ids) != 1 or chunk.logprobs[0] != chunk.logprobs[0]:
            raise EngineNonsense(
                f"{self._url}{endpoint} sampled {chunk.token_ids} with logprobs {chunk.logprobs} for max_tokens 1"
            )
        self._refuse_logits(chunk.logprobs)
        return reader.features

    async def _sample(
        self, endpoint: str, sampling: Sampling, reader: AnswerReader | None = None, chunk_tokens: int = 1
    ) -> Chunk:
        """A completion of :data:`PROMPT`, in one piece."""
        reader = reader or AnswerReader(self._url + endpoint, endpoint, sampling)
        body = generation(endpoint, self._model, PROMPT, sampling, chunk_tokens)
        chunks = [chunk async for chunk in self._stream(reader, endpoint, body, _probe_id())]
        return Chunk(
            token_ids=[token for chunk in chunks for token in chunk.token_ids],
            logprobs=[value for chunk in chunks for value in chunk.logprobs],
            top_logprobs=[top for chunk in chunks for top in chunk.top_logprobs or ()],
        )

    def _refuse_logits(self, logprobs: Sequence[float]) -> None:
        if any(value > _MOST for value in logprobs):
            raise EngineNonsense(f"{self._url} reports logits for logprobs (--logprobs-mode)")

    # What is optional.

    async def _try_pause(self) -> None:
        """While a server is paused it samples nothing, not even for a probe."""
        paused = await self._trial.optional(Feature.PAUSE, self._field("/is_paused", "is_paused"))
        if paused:
            raise EngineUnavailable(f"{self._url} is paused")
        if paused is not None:
            self._features.add(Feature.PAUSE)

    async def _field(self, path: str, name: str) -> Any:
        answer = await self._connection.get_json(path)
        try:
            return answer[name]
        except (LookupError, TypeError) as error:
            raise EngineNonsense(f"{self._url}{path} names no {name}: {answer!r:.300}") from error

    async def _text(self, path: str, name: str) -> str:
        return str(await self._field(path, name))

    async def _kind_by_force(self) -> LogprobKind:
        """A token that a bias forces keeps its small probability if logprobs are raw, and has all of it if they are
        processed."""
        logprobs: list[float] = []
        for forced in _FORCED:
            sampling = Sampling(1, temperature=0.0, logit_bias={forced: 100.0}, ignore_eos=True)
            chunk = await self._sample(self._endpoint, sampling)
            if chunk.token_ids != [forced]:
                raise EngineCannot(f"{self._url}{self._endpoint} sampled {chunk.token_ids} when {forced} was forced")
            logprobs += chunk.logprobs
        return LogprobKind.PROCESSED if min(logprobs) > -0.5 else LogprobKind.RAW

    async def _alternatives(self, temperature: float) -> list[dict[int, float]]:
        """The two likeliest tokens, with their logprobs."""
        sampling = Sampling(1, temperature=temperature, ignore_eos=True, top_logprobs=2)
        tops = (await self._sample(self._endpoint, sampling)).top_logprobs or []
        if not tops or not tops[0]:
            raise EngineCannot(f"{self._url}{self._endpoint} reports no alternatives")
        return tops

    async def _kind_by_temperature(self, tops: list[dict[int, float]] | None) -> LogprobKind:
        """At half the temperature the two likeliest tokens are twice as far apart, unless logprobs are raw. For servers
        that ignore ``logit_bias``."""
        halved = None if tops is None else await self._trial.optional("top_logprobs", self._alternatives(0.5))
        if tops is None or halved is None or len(tops[0]) < 2 or len(halved[0]) < 2:
            self._trial.note("logprob_kind", "it shows neither by logit_bias nor by top_logprobs: taken for raw")
            return LogprobKind.RAW
        wide, narrow = (max(each[0].values()) - min(each[0].values()) for each in (halved, tops))
        return LogprobKind.PROCESSED if narrow > 0 and wide > 1.5 * narrow else LogprobKind.RAW

    async def _try_structure(self) -> None:
        """Two different structures must give two different tokens: vLLM before 0.12 ignores the field."""
        sampled = []
        for letter in "ab":
            structure = Structure(StructureKind.CHOICE, [letter])
            sampling = Sampling(1, temperature=0.0, ignore_eos=True, structure=structure)
            sampled.append((await self._sample(self._endpoint, sampling)).token_ids)
        if sampled[0] == sampled[1]:
            raise EngineCannot(f"{self._url}{self._endpoint} sampled {sampled[0]} whatever the structure")
        self._features.add(Feature.STRUCTURE)

    async def _try_chunks(self) -> None:
        """Events must hold as many tokens as are asked for, as since vLLM 0.32; older servers ignore the field."""
        sampling = Sampling(_CHUNK + 1, temperature=0.0, ignore_eos=True)
        reader = AnswerReader(self._url + self._endpoint, self._endpoint, sampling)
        n_tokens = len((await self._sample(self._endpoint, sampling, reader, _CHUNK)).token_ids)
        if n_tokens != sampling.max_tokens or reader.n_events > 2:  # the first token, and the others with the end
            raise EngineCannot(f"{self._url}{self._endpoint} sent {n_tokens} tokens in {reader.n_events} events")
        self._features.add(Feature.CHUNKS)

    async def _try_abort(self) -> None:
        """A request that was never made is aborted. vLLM answers nothing, or in dev mode an object."""
        answer = await self._connection.post(ABORT, orjson.dumps({"request_ids": [_probe_id()]}))
        if answer and not isinstance(orjson.loads(answer), dict):
            raise EngineCannot(f"{self._url}{ABORT} answered {answer[:100]!r}")
        self._features.add(Feature.ABORT)

    async def _try_score(self) -> None:
        scored = await self._score(self._model)
        if len(scored.logprobs) != len(PROMPT):
            raise EngineCannot(f"{self._url}{COMPLETIONS} scored {len(scored.logprobs)} of {len(PROMPT)} tokens")
        self._features.add(Feature.SCORE)


def _probe_id() -> str:
    return f"probe-{uuid.uuid4().hex}"
