"""A llama.cpp server through ``/completion`` with token prompts, always streamed.

Streamed, because llama.cpp cancels only streamed requests when the connection closes; and because its stop strings
drop logprobs and it knows no stop token ids, both are applied here, token by token. Shapes were recorded from
``xllamacpp`` 2026.10.
"""

import math
from collections.abc import AsyncGenerator, Callable
from typing import Any

import orjson

from tickertape.clients.engines.engine import Chunk, EngineInfo, Sampling, TokenIds
from tickertape.clients.engines.errors import EngineNonsense, EngineRefused
from tickertape.clients.engines.http import EngineConnection
from tickertape.clients.engines.stopping import StopWatch


class LlamaCppEngine:
    """One llama.cpp server.

    Args:
        url: where it listens.
        api_key: its key, if it has one.
        token_bytes: the bytes of a token, for stop strings.
    """

    def __init__(self, url: str, *, api_key: str | None = None, token_bytes: Callable[[int], bytes]) -> None:
        self._connection = EngineConnection(url, api_key=api_key)
        self._token_bytes = token_bytes
        self._context = 0

    async def start(self) -> EngineInfo:
        await self._connection.open()
        props = await self._connection.get_json("/props")
        try:
            model = str(props.get("model_alias") or props["model_path"])
            self._context = int(props["default_generation_settings"]["n_ctx"])
        except (LookupError, TypeError, ValueError) as error:
            raise EngineNonsense(f"{self._connection.url}/props is not llama.cpp's: {props!r:.300}") from error
        return EngineInfo("llama.cpp", self._connection.url, model, self._context)

    async def check(self) -> None:
        await self._connection.check("/health")

    async def close(self) -> None:
        await self._connection.close()

    async def tokenize(self, text: str) -> list[int]:
        """The engine's own tokenisation of ordinary text."""
        body = orjson.dumps({"content": text, "add_special": False, "parse_special": False})
        answer = await self._connection.post_json("/tokenize", body)
        try:
            return [int(token) for token in answer["tokens"]]
        except (LookupError, TypeError, ValueError) as error:
            raise EngineNonsense(f"/tokenize answered {answer!r:.300}") from error

    async def generate(
        self,
        prompt_ids: TokenIds,
        sampling: Sampling,
        *,
        request_id: str,  # noqa: ARG002  (llama.cpp has no use for it)
    ) -> AsyncGenerator[Chunk, None]:
        if sampling.min_tokens:
            raise EngineRefused("the embedded engine does not support min_tokens", param="min_tokens")
        body = orjson.dumps(
            {"prompt": prompt_ids, **_parameters(sampling, self._context)}, option=orjson.OPT_SERIALIZE_NUMPY
        )
        watch = StopWatch(sampling.stop, () if sampling.ignore_eos else sampling.stop_token_ids)
        events = self._connection.stream_events("/completion", body)
        try:
            async for event in events:
                chunk = _chunk(event, sampling.top_logprobs)
                seen = (watch.sees(i, self._token_bytes(i)) for i in chunk.token_ids)
                stopped = next(((k, reason) for k, reason in enumerate(seen) if reason is not None), None)
                if stopped is not None:
                    yield _cut(chunk, *stopped)
                    return
                yield chunk
                if chunk.finish_reason is not None:
                    return
        finally:
            await events.aclose()  # closing the connection cancels the generation
        raise EngineNonsense("/completion ended its stream without saying why")


def _parameters(sampling: Sampling, context: int) -> dict[str, Any]:
    return {
        "n_predict": sampling.max_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": max(sampling.top_k, 0),
        "min_p": sampling.min_p,
        "typical_p": 1.0,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
        "repeat_penalty": sampling.repetition_penalty,
        "repeat_last_n": context,  # penalties look at everything, as they do in vLLM
        "seed": -1 if sampling.seed is None else sampling.seed % 2**32,
        "ignore_eos": sampling.ignore_eos,
        "logit_bias": [[token, bias] for token, bias in sampling.logit_bias.items()],
        "samplers": ["penalties", "top_k", "top_p", "min_p", "temperature"],
        "n_probs": max(1, sampling.top_logprobs),
        "post_sampling_probs": False,
        "return_tokens": True,
        "cache_prompt": True,
        "stream": True,
    }


_FINISH = {"eos": "stop", "word": "stop", "limit": "length"}


def _chunk(event: Any, top_logprobs: int) -> Chunk:
    """One event of the stream.

    Raises:
        EngineNonsense: an error event, a missing field, or tokens and logprobs of different number.
    """
    try:
        token_ids = [int(token) for token in event["tokens"]]
        probabilities = event.get("completion_probabilities", []) if token_ids else []
        finish = _FINISH[event["stop_type"]] if event["stop"] else None
        sampled = [int(each["id"]) for each in probabilities]
        logprobs = [float(each["logprob"]) for each in probabilities]
        tops = [{int(t["id"]): float(t["logprob"]) for t in each["top_logprobs"]} for each in probabilities]
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise EngineNonsense(f"/completion sent an event without tokens: {event!r:.300}") from error
    if sampled != token_ids:
        raise EngineNonsense(f"/completion gave logprobs of tokens {sampled}, but the tokens {token_ids}")
    logprobs = [value if math.isfinite(value) else math.nan for value in logprobs]
    return Chunk(token_ids, logprobs, tops if top_logprobs else None, finish)


def _cut(chunk: Chunk, at: int, reason: int | str) -> Chunk:
    """The chunk up to and including the token that ended the generation."""
    tops = None if chunk.top_logprobs is None else chunk.top_logprobs[: at + 1]
    return Chunk(chunk.token_ids[: at + 1], chunk.logprobs[: at + 1], tops, "stop", reason)
