"""Thinking Machines' Tinker: a hosted service, through the sampling client of its own SDK.

A model there is a path of saved weights (``tinker://RUN/sampler_weights/step-42``) or a base model's name. Weights
behind a path never change, so a weight update is another engine: see ``docs/engines.md``.
"""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from threading import Thread
from typing import Any, TypeVar

import numpy as np

from tickertape.clients.engines.engine import (
    Chunk,
    Engine,
    EngineInfo,
    Feature,
    LogprobKind,
    Sampling,
    Scored,
    TokenIds,
)
from tickertape.clients.engines.errors import EngineError, EngineNonsense, EngineRefused, EngineUnavailable
from tickertape.clients.engines.tinker.answers import chunk_of, failure, scored
from tickertape.clients.engines.tinker.requests import parameters
from tickertape.clients.extras import needs

_log = logging.getLogger("tickertape")

#: Token ids that every vocabulary has.
_PROBE_PROMPT = (0, 1)
_PROBE_TOKENS = 8
_PROBE_TEMPERATURE = 2.0
#: Seconds for which one good answer proves that the service is there: it is asked by all the world.
_CHECKED_FOR = 30.0
#: Seconds that the service gets to end our session.
_FAREWELL = 5.0

T = TypeVar("T")


class TinkerEngine(Engine):
    """A sampler at Tinker.

    Args:
        weights: a path that begins with ``tinker://``, or a base model's name.
        api_key: without one, the SDK takes ``TINKER_API_KEY`` or what ``tinker auth login`` stored.
        base_url: of the service; without one, the SDK takes ``TINKER_BASE_URL`` or its own.
        start_timeout: seconds until a start counts as failed. The SDK itself would try for minutes.
    """

    def __init__(
        self, weights: str, *, api_key: str | None = None, base_url: str | None = None, start_timeout: float = 60.0
    ) -> None:
        self._weights = weights
        self._version = weights.rstrip("/").rpartition("/")[2] if weights.startswith("tinker://") else None
        self._account = {"api_key": api_key, "base_url": base_url}
        self._start_timeout = start_timeout
        self._connecting: Future[tuple[Any, Any, Any]] | None = None
        self._service: Any = None
        self._sampler: Any = None
        self._models: Any = None
        self._checked_at = -_CHECKED_FOR
        self._info = EngineInfo("tinker", weights, "", 0)

    async def start(self) -> EngineInfo:
        tinker = _sdk()
        try:
            async with asyncio.timeout(self._start_timeout):
                await self._connect()
                model = str(self._sampler.get_base_model())
                self._info = replace(
                    self._info,
                    model=model,
                    max_context=await self._max_context(model),
                    version=str(tinker.__version__),
                    endpoint="/api/v1/asample",
                    features=frozenset(
                        {Feature.SCORE, Feature.CACHED_TOKENS} | ({Feature.VERSIONS} if self._version else set())
                    ),
                )
                self._info = replace(self._info, logprobs=await self._probe_logprobs())
        except TimeoutError as error:
            raise EngineUnavailable(f"Tinker did not serve {self._weights} in {self._start_timeout:g} s") from error
        return self._info

    async def check(self) -> None:
        """Asks for the list of models, unless the service answered just now: sampling may take minutes, and nothing is
        reported of it meanwhile."""
        self._started()
        if time.monotonic() - self._checked_at > _CHECKED_FOR:
            await self._answer(self._models.get_server_capabilities)

    async def close(self) -> None:
        service, self._service, self._sampler = self._service, None, None
        if service is None:
            return
        try:
            async with asyncio.timeout(_FAREWELL):
                await self._answer(lambda: service.close("success"))
        except (TimeoutError, EngineError) as error:  # without our heartbeat it ends anyway
            _log.warning("the session at Tinker was not told to end: %s", error or "no answer in time")

    async def generate(
        self,
        prompt_ids: TokenIds,
        sampling: Sampling,
        *,
        request_id: str,  # noqa: ARG002  (Tinker numbers its requests itself)
        chunk_tokens: int = 1,  # noqa: ARG002  (its answers come complete)
    ) -> AsyncGenerator[Chunk, None]:
        tinker, sampler = _sdk(), self._started()
        asked = parameters(sampling, room=self._room(len(prompt_ids)))
        answer = await self._answer(
            lambda: sampler.sample(
                tinker.ModelInput.from_ints(np.asarray(prompt_ids).tolist()),
                1,
                tinker.SamplingParams(**asked),
                topk_sample_logprobs=sampling.top_logprobs,
            )
        )
        yield chunk_of(answer, replace(sampling, max_tokens=asked["max_tokens"]), self._version)

    async def policy_version(self) -> str | None:
        return self._version

    async def score(self, token_ids: Sequence[int], *, adapter: str | None = None) -> Scored:
        if adapter is not None:
            raise EngineRefused(f"Tinker knows no adapter {adapter!r} beside the weights", param="adapter")
        tinker, sampler = _sdk(), self._started()
        self._room(len(token_ids))  # it samples a token after them, which is not read
        prompt = tinker.ModelInput.from_ints([int(token) for token in token_ids])
        return scored(await self._answer(lambda: sampler.compute_logprobs(prompt)), token_ids)

    def _started(self) -> Any:
        if self._sampler is None:
            raise EngineUnavailable("Tinker is not connected")
        return self._sampler

    def _room(self, n_tokens: int) -> int:
        room = self._info.max_context - n_tokens
        if room < 1:
            raise EngineRefused(
                f"{n_tokens} tokens leave no room in the context of {self._info.max_context} that Tinker has for "
                f"{self._info.model}",
                param="max_tokens",
                context_exceeded=True,
            )
        return room

    async def _answer(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Returns what the service answers, its failures named. Cancelling the wait cancels the request there."""
        try:
            answer = await ask()
        except Exception as error:  # the SDK raises what it likes, builtins too
            named = failure(error)
            if isinstance(named, EngineUnavailable):
                self._checked_at = -_CHECKED_FOR
            raise named from error
        self._checked_at = time.monotonic()
        return answer

    async def _connect(self) -> None:
        """Makes the clients. Where the service is away the SDK blocks for minutes, in a thread that cannot be stopped:
        a later start waits for the same one."""
        connecting = self._connecting = self._connecting or _in_thread(self._make_clients)
        try:
            self._service, self._sampler, self._models = await self._answer(lambda: asyncio.wrap_future(connecting))
        except EngineError:
            self._service = None  # its session may have ended while it was away
            self._connecting = None
            raise
        self._connecting = None

    def _make_clients(self) -> tuple[Any, Any, Any]:
        """Blocks."""
        tinker = _sdk()
        service = self._service or tinker.ServiceClient(**self._account)
        named = "model_path" if self._version else "base_model"
        sampler = service.create_sampling_client(**{named: self._weights}).result()
        return service, sampler, tinker.RestClient(**self._account)

    async def _max_context(self, model: str) -> int:
        listed = await self._answer(self._models.get_server_capabilities)
        lengths = {served.model_name: served.max_context_length for served in listed.supported_models}
        if not (length := lengths.get(model)):
            raise EngineNonsense(f"Tinker does not tell the context of {model!r}, only of {sorted(map(str, lengths))}")
        return int(length)

    async def _probe_logprobs(self) -> LogprobKind:
        """Samples at another temperature, and has the same tokens scored, which is without one. Reports of what the
        service does differ."""
        sampling = Sampling(_PROBE_TOKENS, temperature=_PROBE_TEMPERATURE, ignore_eos=True)
        prompt = np.array(_PROBE_PROMPT, np.int32)
        sampled = [chunk async for chunk in self.generate(prompt, sampling, request_id="probe")]
        token_ids = [token for chunk in sampled for token in chunk.token_ids]
        if not token_ids:
            raise EngineNonsense("Tinker sampled nothing where no stop token was asked for")
        told = np.array([value for chunk in sampled for value in chunk.logprobs])
        raw = np.array((await self.score([*_PROBE_PROMPT, *token_ids])).logprobs[len(_PROBE_PROMPT) :])
        # On average they differ by the divergence of the two distributions, which is far above rounding.
        return LogprobKind.RAW if float(np.abs(told - raw).mean()) < 0.25 else LogprobKind.PROCESSED


def _sdk() -> Any:
    try:
        import tinker
    except ImportError as error:
        raise EngineUnavailable(needs("the Tinker engine", "tinker")) from error
    return tinker


def _in_thread(work: Callable[[], T]) -> Future[T]:
    """Does blocking work in a thread of its own, which does not keep the process from ending."""
    future: Future[T] = Future()
    future.set_running_or_notify_cancel()  # so that no task that waits for it can cancel it

    def run() -> None:
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001  (raised where the future is awaited)
            future.set_exception(error)
        else:
            future.set_result(result)

    Thread(target=run, daemon=True, name="tinker").start()
    return future
