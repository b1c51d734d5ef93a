"""A llama.cpp server through ``/completion`` with token prompts, a few tokens a call.

Streamed answers of llama.cpp lose tokens: while the text ends inside a character, tokens are neither sent nor given
logprobs, and never made up for. Complete answers have every token, but cannot be cancelled and know no stop token ids.
So a generation is a row of short complete ones, each continuing the exact tokens of the last in the same slot, whose
cache makes that cheap; stops are applied here, and logprobs that llama.cpp left out are asked for. Measured on
``xllamacpp`` 2026.10.
"""

import asyncio
import math
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import orjson

from tickertape.clients.engines.engine import Chunk, Engine, EngineInfo, Sampling, TokenIds
from tickertape.clients.engines.errors import EngineNonsense, EngineRefused
from tickertape.clients.engines.http import EngineConnection
from tickertape.clients.engines.stopping import StopWatch, cut

#: Tokens a call: how far a generation goes on after it was cancelled.
_STEP = 16
#: Alternatives to look through for a logprob that was left out; the second time, the complete vocabulary.
_NEAR = 256


class LlamaCppEngine(Engine):
    """One llama.cpp server.

    Args:
        url: where it listens.
        api_key: its key, if it has one.
        token_bytes: the bytes of a token.
        vocab_size: how many token ids there are.
    """

    def __init__(
        self, url: str, *, api_key: str | None = None, token_bytes: Callable[[int], bytes], vocab_size: int
    ) -> None:
        self._connection = EngineConnection(url, api_key=api_key)
        self._token_bytes = token_bytes
        self._vocab_size = vocab_size
        self._context = 0
        self._slots = _Slots(1)

    async def start(self) -> EngineInfo:
        await self._connection.open()
        props = await self._connection.get_json("/props")
        try:
            model = str(props.get("model_alias") or props["model_path"])
            self._context = int(props["default_generation_settings"]["n_ctx"])
            self._slots = _Slots(int(props["total_slots"]))
        except (LookupError, TypeError, ValueError) as error:
            raise EngineNonsense(f"{self._connection.url}/props is not llama.cpp's: {props!r:.300}") from error
        return EngineInfo("llama.cpp", self._connection.url, model, self._context, endpoint="/completion")

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
        chunk_tokens: int = 1,  # noqa: ARG002  (it answers in pieces of its own)
    ) -> AsyncGenerator[Chunk, None]:
        if sampling.min_tokens:
            raise EngineRefused("the embedded engine does not support min_tokens", param="min_tokens")
        watch = StopWatch(sampling.stop, () if sampling.ignore_eos else sampling.stop_token_ids)
        stream, left = prompt_ids, sampling.max_tokens
        async with self._slots.take(prompt_ids) as slot:
            while True:
                step = min(left, _STEP)
                answer = await self._complete(stream, slot, _parameters(sampling, self._context, step, left))
                chunk = await self._chunk(answer, stream, slot, sampling.top_logprobs, last=step == left)
                stream = np.concatenate([stream, np.array(chunk.token_ids, np.int32)])
                slot.holds = stream
                left -= len(chunk.token_ids)
                stopped = watch.first(chunk.token_ids, self._token_bytes)
                if stopped is not None:
                    yield cut(chunk, *stopped)
                    return
                yield chunk
                if chunk.finish_reason is not None:
                    return

    async def _complete(self, stream: TokenIds, slot: "_Slot", parameters: dict[str, Any]) -> Any:
        request = {"prompt": stream, "id_slot": slot.number, **parameters}
        return await self._connection.post_json("/completion", orjson.dumps(request, option=orjson.OPT_SERIALIZE_NUMPY))

    async def _chunk(self, answer: Any, stream: TokenIds, slot: "_Slot", top_logprobs: int, *, last: bool) -> Chunk:
        """An answer, with a logprob for each token.

        Raises:
            EngineNonsense: a field is missing, or logprobs are of other tokens than those sampled.
        """
        try:
            token_ids = [int(token) for token in answer["tokens"]]
            told = [_tops(each) for each in answer.get("completion_probabilities", ())]
            finish = "stop" if answer["stop_type"] == "eos" else "length" if last or len(token_ids) < _STEP else None
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise EngineNonsense(f"/completion answered without sampled tokens: {answer!r:.300}") from error
        tops: list[dict[int, float]] = []
        text = b""
        for number, token in enumerate(token_ids):
            text += self._token_bytes(token)
            if _ends_inside_character(text):
                tops.append(await self._ask_for_tops([*stream, *token_ids[:number]], token, slot))
                continue
            if not told or token not in told[0]:
                raise EngineNonsense(f"/completion gave no logprob of token {token}, number {number} of {token_ids}")
            tops.append(told.pop(0))
        logprobs = [
            top[token] if math.isfinite(top[token]) else math.nan for token, top in zip(token_ids, tops, strict=True)
        ]
        return Chunk(token_ids, logprobs, [_best(top, top_logprobs) for top in tops] if top_logprobs else None, finish)

    async def _ask_for_tops(self, stream: Sequence[int], token: int, slot: "_Slot") -> dict[int, float]:
        """The likeliest next tokens after ``stream``, ``token`` among them. What is sampled meanwhile is forced to be a
        whole character, so that llama.cpp tells; logprobs are of the model, before any bias."""
        whole = next(i for i in range(self._vocab_size) if self._token_bytes(i) == b"a")
        top: dict[int, float] = {}
        for n_probs in (_NEAR, self._vocab_size):
            forced = {"n_predict": 1, "n_probs": n_probs, "logit_bias": [[whole, 1e6]], "temperature": 0.0}
            answer = await self._complete(np.array(stream, np.int32), slot, {**forced, "return_tokens": True})
            try:
                top = _tops(answer["completion_probabilities"][0])
            except (LookupError, TypeError, ValueError) as error:
                raise EngineNonsense(f"/completion gave no logprobs: {answer!r:.300}") from error
            if token in top:
                return top
        return {**top, token: math.nan}


class _Slot:
    """One of llama.cpp's caches, and the tokens that it holds."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.holds: TokenIds = np.empty(0, np.int32)

    def shares(self, prompt: TokenIds) -> int:
        """Returns how many leading tokens of ``prompt`` the cache has."""
        common = min(len(self.holds), len(prompt))
        differs = np.flatnonzero(self.holds[:common] != prompt[:common])
        return int(differs[0]) if len(differs) else common


class _Slots:
    """Slots for as many generations at once; the one that has most of the prompt is taken, the oldest among equals."""

    def __init__(self, count: int) -> None:
        self._free = [_Slot(number) for number in range(count)]
        self._any = asyncio.Semaphore(count)

    @asynccontextmanager
    async def take(self, prompt: TokenIds) -> AsyncIterator[_Slot]:
        async with self._any:
            slot = max(self._free, key=lambda free: free.shares(prompt))
            self._free.remove(slot)
            try:
                yield slot
            finally:
                self._free.append(slot)


def _parameters(sampling: Sampling, context: int, step: int, left: int) -> dict[str, Any]:
    return {
        "n_predict": step,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": max(sampling.top_k, 0),
        "min_p": sampling.min_p,
        "typical_p": 1.0,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
        "repeat_penalty": sampling.repetition_penalty,
        "repeat_last_n": context,  # penalties look at everything, as they do in vLLM
        # each call seeds its sampler anew: with one seed for all, they would all draw the same numbers
        "seed": -1 if sampling.seed is None else (sampling.seed * 65_537 + left) % (2**32 - 1),
        "ignore_eos": sampling.ignore_eos,
        "logit_bias": [[token, bias] for token, bias in sampling.logit_bias.items()],
        "samplers": ["penalties", "top_k", "top_p", "min_p", "temperature"],
        "n_probs": max(1, sampling.top_logprobs),
        "post_sampling_probs": False,
        "return_tokens": True,
        "cache_prompt": True,
        "stream": False,
    }


def _tops(told: Any) -> dict[int, float]:
    """The sampled token and its alternatives, by id."""
    return {int(told["id"]): float(told["logprob"])} | {int(t["id"]): float(t["logprob"]) for t in told["top_logprobs"]}


def _best(top: dict[int, float], count: int) -> dict[int, float]:
    return dict(sorted(top.items(), key=lambda item: -item[1])[:count])


def _ends_inside_character(text: bytes) -> bool:
    """Returns True if llama.cpp holds text back: it ends in the first bytes of a UTF-8 character (``validate_utf8`` in
    its ``tools/server/server-common.cpp``)."""
    for back in range(1, min(4, len(text)) + 1):
        byte = text[-back]
        needs = 2 if byte & 0xE0 == 0xC0 else 3 if byte & 0xF0 == 0xE0 else 4 if byte & 0xF8 == 0xF0 else 0
        if needs > back:
            return True
    return False
