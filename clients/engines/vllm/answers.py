"""What vLLM answers, read into chunks. Shapes were recorded from vLLM 0.32, streamed, on both endpoints.

A stop token is among the sampled ones and has its logprob. ``-9999.0`` is how vLLM spells minus infinity and, on the
lean endpoint, NaN and a logprob that is missing altogether: for a sampled token it is read as NaN, for an alternative
as one that cannot be sampled, which is left out. ``/v1/completions`` spells NaN as null.
"""

import base64
import io
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from tickertape.clients.engines.answers import best, logprob, padded, version_spans
from tickertape.clients.engines.engine import Chunk, Feature, Sampling, Scored
from tickertape.clients.engines.errors import EngineError, EngineNonsense, EngineUnavailable
from tickertape.clients.engines.http import refusal
from tickertape.clients.engines.vllm.requests import COMPLETIONS, GENERATE

_TOKEN_ID = "token_id:"  # noqa: S105  (how vLLM spells a token with return_tokens_as_token_ids)


class AnswerReader:
    """Reads the events of one generation.

    Args:
        url: the endpoint's, for messages.
        endpoint: :data:`GENERATE` or :data:`COMPLETIONS`.
        sampling: what was asked.
    """

    def __init__(self, url: str, endpoint: str, sampling: Sampling) -> None:
        self._url = url
        self._logprobs = _generate_logprobs if endpoint == GENERATE else _completions_logprobs
        self._asked = sampling
        self._token_ids: list[int] = []
        self._values: list[float] = []
        self._tops: list[dict[int, float]] = []
        self._n_tokens = 0
        self._finish_reason: str | None = None
        self._stop_reason: int | str | None = None
        self._version_spans: list[tuple[str | None, int]] | None = None
        self._cached_tokens: int | None = None
        self._routed_experts: str | None = None
        self._sampling_mask: list[list[int]] = []
        self.features: set[Feature] = set()
        """What the answer has proven the server to have."""
        self.ended = False
        """Whether all of it has come."""

    def read(self, payloads: Sequence[bytes]) -> Iterator[Chunk]:
        """One chunk for what came together, or none.

        Raises:
            EngineError: what the engine says of itself, an answer that makes no sense, or one that ends too early;
                after the tokens that came before it.
        """
        error: EngineError | None = None
        for payload in payloads:
            try:
                self._take(payload)
            except EngineError as caught:
                error = caught
                break
        if self.ended:
            yield self._last_chunk()
        elif self._token_ids:
            yield self._chunk()
        if error is not None:
            raise error

    def check_ended(self) -> None:
        """Raises unless the whole answer has come."""
        if not self.ended:
            raise EngineUnavailable(f"{self._url} ended its answer after {self._n_tokens} tokens without finishing it")

    def _take(self, payload: bytes) -> None:
        if payload == b"[DONE]":
            self.ended = self._finish_reason is not None
            return self.check_ended()
        try:
            event = orjson.loads(payload)
            if "error" in event:
                code = event["error"].get("code")
                raise refusal(code if isinstance(code, int) else 500, payload, self._url)
            self._take_usage(event.get("usage"))
            for choice in _at_most_one(event["choices"]):
                self._take_choice(choice)
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise EngineNonsense(f"{self._url} answered with {payload[:300]!r}: {error or type(error)}") from error

    def _take_choice(self, choice: dict[str, Any]) -> None:
        """Adds a choice's tokens, all of them or none."""
        token_ids = choice["token_ids"]
        if not isinstance(token_ids, list) or set(map(type, token_ids)) - {int}:
            raise ValueError("token ids that are no integers")
        values, tops = self._logprobs(choice, self._asked.top_logprobs) if token_ids else ([], [])
        if len(values) != len(token_ids):
            raise ValueError(f"{len(token_ids)} token ids and {len(values)} logprobs")
        finish_reason = choice["finish_reason"]
        if finish_reason not in (None, "stop", "length", "abort"):
            raise ValueError(f"the unknown finish_reason {finish_reason!r}")
        if self._finish_reason is not None:
            raise ValueError("more after its finish_reason")
        n_tokens = self._n_tokens + len(token_ids)
        if (spans := choice.get("weight_versions")) is not None:
            self._version_spans = version_spans(spans, n_tokens)
            self.features.add(Feature.VERSIONS)
        self._take_arrays(choice)
        self._token_ids += token_ids
        self._values += values
        self._tops += tops
        self._n_tokens = n_tokens
        self._finish_reason, self._stop_reason = finish_reason, choice.get("stop_reason")

    def _take_usage(self, usage: dict[str, Any] | None) -> None:
        details = usage.get("prompt_tokens_details") if usage else None
        if details and details.get("cached_tokens") is not None:
            self._cached_tokens = int(details["cached_tokens"])
            self.features.add(Feature.CACHED_TOKENS)

    def _take_arrays(self, choice: dict[str, Any]) -> None:
        if (encoded := choice.get("routed_experts")) is not None:
            self.features.add(Feature.ROUTED_EXPERTS)
            self._routed_experts = encoded
        if (kept := choice.get("sampling_mask")) is not None:
            self.features.add(Feature.SAMPLING_MASK)
            self._sampling_mask += kept

    def _chunk(self, **last: Any) -> Chunk:
        chunk = Chunk(self._token_ids, self._values, self._tops if self._asked.top_logprobs else None, **last)
        self._token_ids, self._values, self._tops = [], [], []
        return chunk

    def _last_chunk(self) -> Chunk:
        return self._chunk(
            finish_reason=self._finish_reason,
            stop_reason=self._stop_reason,
            version_spans=self._version_spans,
            cached_tokens=self._cached_tokens,
            token_arrays=self._token_arrays() or None,
        )

    def _token_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Those that were asked for.

        * ``routed_experts``: int[n_read, n_layers, n_experts_per_token], for every token that the model read: the
          prompt and the completion without its last token.
        * ``sampling_mask``: int32[n_tokens, n_widest], the tokens that top-k, top-p and the like left to choose from,
          filled up with -1.
        """
        arrays: dict[str, npt.NDArray[Any]] = {}
        if "routed_experts" in self._asked.token_arrays and self._routed_experts is not None:
            arrays["routed_experts"] = _npy(self._routed_experts, self._url)
        if "sampling_mask" in self._asked.token_arrays and self._sampling_mask:
            arrays["sampling_mask"] = padded(self._sampling_mask)
        return arrays


def scored(answer: Any, forced: Sequence[int] = ()) -> Scored:
    """The one choice of an answer to :func:`~tickertape.clients.engines.vllm.requests.scoring`; ``forced`` are the
    tokens that had to be sampled after the prompt, which belong to the sequence.

    Raises:
        EngineNonsense: a field is missing, or a token has no logprob, or others were sampled.
    """
    try:
        (choice,) = answer["choices"]
        token_ids = [int(token) for token in choice["prompt_token_ids"]]
        _, *told = zip(token_ids, choice["prompt_logprobs"], strict=True)
        logprobs = [math.nan, *(logprob(each[str(token)]["logprob"]) for token, each in told)]
        if forced:
            token_ids += _exactly(forced, choice["token_ids"])
            logprobs += map(logprob, choice["logprobs"]["token_logprobs"])
        return Scored(token_ids, logprobs)
    except (LookupError, TypeError, ValueError) as error:
        raise EngineNonsense(f"{COMPLETIONS} gave no logprobs of the prompt: {error}: {answer!r:.300}") from error


def _exactly(forced: Sequence[int], sampled: list[int]) -> list[int]:
    if sampled != list(forced):
        raise ValueError(f"{sampled} was sampled when {list(forced)} was forced")
    return sampled


def _at_most_one(choices: list[Any]) -> list[Any]:
    if not isinstance(choices, list) or len(choices) > 1:
        raise ValueError("choices that were not asked for")
    return choices


def _completions_logprobs(choice: dict[str, Any], top_logprobs: int) -> tuple[list[float], list[dict[int, float]]]:
    told = choice["logprobs"]
    values = [logprob(value) for value in told["token_logprobs"]]
    if not top_logprobs:
        return values, []
    tops = [
        best(((int(token.removeprefix(_TOKEN_ID)), value) for token, value in (top or {}).items()), top_logprobs)
        for top in told["top_logprobs"]
    ]
    if len(tops) != len(values):
        raise ValueError(f"{len(values)} logprobs and {len(tops)} top_logprobs")
    return values, tops


def _generate_logprobs(choice: dict[str, Any], top_logprobs: int) -> tuple[list[float], list[dict[int, float]]]:
    content = choice["logprobs"]["content"]
    if [each["token_id"] for each in content] != choice["token_ids"]:
        raise ValueError("logprobs of other tokens than those sampled")
    values = [logprob(each["logprob"]) for each in content]
    if not top_logprobs:
        return values, []
    return values, [
        best(((int(top["token_id"]), top["logprob"]) for top in each["top_logprobs"]), top_logprobs) for each in content
    ]


def _npy(encoded: str, url: str) -> npt.NDArray[Any]:
    try:
        array: npt.NDArray[Any] = np.load(io.BytesIO(base64.b64decode(encoded, validate=True)), allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise EngineNonsense(f"{url} gave routed_experts that are no array: {error}") from error
    return array
