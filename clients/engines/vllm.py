"""vLLM through ``/v1/completions`` with token prompts.

Since vLLM 0.12 ``return_token_ids`` gives the sampled ids back and ``logprobs: 0`` one logprob for each, the stop token
included; both line up 1:1. Shapes were recorded from vLLM 0.32.
"""

import math
from collections.abc import AsyncGenerator
from typing import Any

import orjson

from tickertape.clients.engines.engine import Chunk, Engine, EngineInfo, Feature, Sampling, TokenIds
from tickertape.clients.engines.errors import EngineNonsense
from tickertape.clients.engines.http import EngineConnection

_TOKEN_ID = "token_id:"  # noqa: S105  (how vLLM spells a token with return_tokens_as_token_ids)


class VllmEngine(Engine):
    """One vLLM server."""

    def __init__(self, url: str, *, api_key: str | None = None) -> None:
        self._connection = EngineConnection(url, api_key=api_key)
        self._model = ""

    async def start(self) -> EngineInfo:
        await self._connection.open()
        listing = await self._connection.get_json("/v1/models")
        try:
            served = listing["data"][0]
            info = EngineInfo(
                "vllm",
                self._connection.url,
                str(served["id"]),
                int(served["max_model_len"]),
                features=frozenset({Feature.MIN_TOKENS}),
            )
        except (LookupError, TypeError, ValueError) as error:
            raise EngineNonsense(f"{self._connection.url}/v1/models is not vLLM's: {listing!r:.300}") from error
        self._model = info.model
        return info

    async def check(self) -> None:
        await self._connection.check("/health")

    async def close(self) -> None:
        await self._connection.close()

    async def generate(
        self, prompt_ids: TokenIds, sampling: Sampling, *, request_id: str
    ) -> AsyncGenerator[Chunk, None]:
        body = orjson.dumps(
            {"model": self._model, "prompt": prompt_ids, **_parameters(sampling)},
            option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS,
        )
        answer = await self._connection.post_json("/v1/completions", body, {"X-Request-Id": request_id})
        yield _chunk(answer, sampling.top_logprobs)


def _parameters(sampling: Sampling) -> dict[str, Any]:
    return {
        "max_tokens": sampling.max_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "min_p": sampling.min_p,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
        "repetition_penalty": sampling.repetition_penalty,
        "seed": sampling.seed,
        "stop": list(sampling.stop),
        "stop_token_ids": list(sampling.stop_token_ids),
        "ignore_eos": sampling.ignore_eos,
        "min_tokens": sampling.min_tokens,
        "logit_bias": dict(sampling.logit_bias) or None,
        "n": 1,
        "stream": False,
        "echo": False,
        "logprobs": sampling.top_logprobs,
        "return_token_ids": True,
        "return_tokens_as_token_ids": True,
        "include_stop_str_in_output": True,
        "skip_special_tokens": False,
        "spaces_between_special_tokens": False,
    }


def _chunk(answer: Any, top_logprobs: int) -> Chunk:
    """The one choice of an answer.

    Raises:
        EngineNonsense: a field is missing or of the wrong type, or tokens and logprobs differ in number.
    """
    try:
        (choice,) = answer["choices"]
        token_ids, logprobs = choice["token_ids"], choice["logprobs"]["token_logprobs"]
        finish_reason = choice["finish_reason"]
    except (LookupError, TypeError, ValueError) as error:
        raise EngineNonsense(
            f"/v1/completions answered without sampled token ids and logprobs: {answer!r:.300}"
        ) from error
    if not isinstance(token_ids, list) or not isinstance(logprobs, list) or len(token_ids) != len(logprobs):
        raise EngineNonsense(f"/v1/completions gave {_count(token_ids)} token ids and {_count(logprobs)} logprobs")
    if set(map(type, token_ids)) - {int}:
        raise EngineNonsense(f"/v1/completions gave token ids that are no integers: {token_ids!r:.300}")
    if set(map(type, logprobs)) - {float, int, type(None)}:
        raise EngineNonsense(f"/v1/completions gave logprobs that are no numbers: {logprobs!r:.300}")
    if finish_reason not in ("stop", "length", "abort"):
        raise EngineNonsense(f"/v1/completions ended with the unknown finish_reason {finish_reason!r}")
    return Chunk(
        token_ids=token_ids,
        logprobs=[math.nan if value is None else value for value in logprobs],
        top_logprobs=_alternatives(choice["logprobs"]) if top_logprobs else None,
        finish_reason=finish_reason,
        stop_reason=choice.get("stop_reason"),
    )


def _alternatives(logprobs: dict[str, Any]) -> list[dict[int, float]]:
    try:
        return [
            {int(token.removeprefix(_TOKEN_ID)): float(value) for token, value in (top or {}).items()}
            for top in logprobs["top_logprobs"]
        ]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise EngineNonsense(f"/v1/completions gave unreadable top_logprobs: {logprobs!r:.300}") from error


def _count(value: object) -> str:
    return str(len(value)) if isinstance(value, list) else "no"
