"""Answers of vLLM, read into chunks. Shapes were recorded from vLLM 0.32, streamed, on both endpoints.

A stop token is among the sampled ones and has its logprob. ``-9999.0`` is how vLLM spells minus infinity and, on the
lean endpoint, NaN and a logprob that is missing altogether: for a sampled token it is read as NaN, for an alternative
as one that cannot be sampled, which is left out. ``/v1/completions`` spells NaN as null.
"""

import base64
import io
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, Literal, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

from tickertape.clients.engines.answers import best, logprob, logprobs, padded, version_spans
from tickertape.clients.engines.engine import Chunk, Feature, Sampling, Scored
from tickertape.clients.engines.errors import EngineError, EngineNonsense, EngineUnavailable
from tickertape.clients.engines.http import refusal
from tickertape.clients.engines.vllm.requests import COMPLETIONS, GENERATE

_TOKEN_ID = "token_id:"  # noqa: S105  (how vLLM spells a token with return_tokens_as_token_ids)

LogprobsT = TypeVar("LogprobsT")

# The fields of an event that are read; the others are passed over while it is decoded, which halves what it costs.


class PromptTokensDetails(msgspec.Struct):
    """Of :class:`Usage`."""

    cached_tokens: int | None = None


class Usage(msgspec.Struct):
    """Counts of what was read and sampled, in the last event but ``[DONE]``."""

    prompt_tokens_details: PromptTokensDetails | None = None


class CompletionLogprobs(msgspec.Struct):
    """Logprobs on :data:`COMPLETIONS`."""

    token_logprobs: list[float | None]


class CompletionTopLogprobs(CompletionLogprobs):
    """The same, where alternatives were asked for."""

    top_logprobs: list[dict[str, float | None] | None] | None = None


class TokenLogprob(msgspec.Struct):
    """A token on :data:`GENERATE`."""

    token_id: int
    logprob: float | None


class TokenTopLogprobs(TokenLogprob):
    """The same, where alternatives were asked for."""

    top_logprobs: list[TokenLogprob] | None = None


TokenT = TypeVar("TokenT", bound=TokenLogprob)


class GenerateLogprobs(msgspec.Struct, Generic[TokenT]):
    """Logprobs on :data:`GENERATE`."""

    content: list[TokenT]


class Choice(msgspec.Struct, Generic[LogprobsT]):
    """Some tokens."""

    token_ids: list[int]
    finish_reason: Literal["stop", "length", "abort"] | None
    logprobs: LogprobsT | None = None
    stop_reason: int | str | None = None
    weight_versions: list[dict[str, Any]] | None = None
    routed_experts: str | None = None
    sampling_mask: list[list[int]] | None = None


class Event(msgspec.Struct, Generic[LogprobsT]):
    """One server-sent event: tokens, usage, or an error."""

    choices: list[Choice[LogprobsT]] | None = None
    usage: Usage | None = None
    error: dict[str, Any] | None = None

    def only_choice(self) -> Choice[LogprobsT] | None:
        """Returns the choice, if there is one.

        Raises:
            ValueError: there are several, or it is no answer at all.
        """
        if self.choices is None or len(self.choices) > 1:
            raise ValueError("choices that were not asked for, or none")
        return self.choices[0] if self.choices else None


def _decoder(logprobs_type: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(Event[logprobs_type])


#: By the endpoint, and by whether alternatives were asked for.
_DECODERS = {
    (COMPLETIONS, False): _decoder(CompletionLogprobs),
    (COMPLETIONS, True): _decoder(CompletionTopLogprobs),
    (GENERATE, False): _decoder(GenerateLogprobs[TokenLogprob]),
    (GENERATE, True): _decoder(GenerateLogprobs[TokenTopLogprobs]),
}


class AnswerReader:
    """Reads the events of one generation.

    Args:
        url: the endpoint's, for messages.
        endpoint: :data:`GENERATE` or :data:`COMPLETIONS`.
        sampling: what was asked.
    """

    def __init__(self, url: str, endpoint: str, sampling: Sampling) -> None:
        self._url = url
        self._decode = _DECODERS[endpoint, sampling.top_logprobs > 0].decode
        self._logprobs: Callable[[Any, int], tuple[list[float], list[dict[int, float]]]]
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
        self._has_begun = False
        self.n_events = 0
        """Events with tokens."""
        self.features: set[Feature] = set()
        """Features that the answer has proven the server to have."""
        self.ended = False
        """True if all of it has come."""

    def read(self, payloads: Sequence[bytes]) -> Iterator[Chunk]:
        """One chunk for what came together, or none.

        Raises:
            EngineError: what the engine says of itself, an answer that makes no sense, or one that ends too early;
                after the tokens that came before it.
        """
        error: EngineError | None = None
        self._has_begun = True
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
        """Raises unless the complete answer has come."""
        if not self._has_begun:
            raise EngineNonsense(f"{self._url} answered without a single event")
        if not self.ended:
            raise EngineUnavailable(f"{self._url} ended its answer after {self._n_tokens} tokens without finishing it")

    def _take(self, payload: bytes) -> None:
        if payload == b"[DONE]":
            self.ended = self._finish_reason is not None
            return self.check_ended()
        try:
            event = self._decode(payload)
            if event.error is not None:
                code = event.error.get("code")
                raise refusal(code if isinstance(code, int) else 500, payload, self._url)
            if event.usage is not None:
                self._take_usage(event.usage)
            if (choice := event.only_choice()) is not None:
                self._take_choice(choice)
        except (msgspec.MsgspecError, LookupError, TypeError, ValueError, AttributeError) as error:
            raise EngineNonsense(f"{self._url} answered with {payload[:300]!r}: {error or type(error)}") from error

    def _take_choice(self, choice: "Choice[Any]") -> None:
        """Adds a choice's tokens, all of them or none."""
        token_ids = choice.token_ids
        values, tops = self._logprobs(choice, self._asked.top_logprobs) if token_ids else ([], [])
        if len(values) != len(token_ids):
            raise ValueError(f"{len(token_ids)} token ids and {len(values)} logprobs")
        if self._finish_reason is not None:
            raise ValueError("more after its finish_reason")
        self.n_events += bool(token_ids)
        n_tokens = self._n_tokens + len(token_ids)
        if choice.weight_versions is not None:
            self._version_spans = version_spans(choice.weight_versions, n_tokens)
            self.features.add(Feature.VERSIONS)
        self._take_arrays(choice)
        self._token_ids += token_ids
        self._values += values
        self._tops += tops
        self._n_tokens = n_tokens
        self._finish_reason, self._stop_reason = choice.finish_reason, choice.stop_reason

    def _take_usage(self, usage: "Usage") -> None:
        details = usage.prompt_tokens_details
        if details is not None and details.cached_tokens is not None:
            self._cached_tokens = details.cached_tokens
            self.features.add(Feature.CACHED_TOKENS)

    def _take_arrays(self, choice: "Choice[Any]") -> None:
        if choice.routed_experts is not None:
            self.features.add(Feature.ROUTED_EXPERTS)
            self._routed_experts = choice.routed_experts
        if choice.sampling_mask is not None:
            self.features.add(Feature.SAMPLING_MASK)
            self._sampling_mask += choice.sampling_mask

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
        values = [math.nan, *(logprob(each[str(token)]["logprob"]) for token, each in told)]
        if forced:
            token_ids += _exactly(forced, choice["token_ids"])
            values += map(logprob, choice["logprobs"]["token_logprobs"])
        return Scored(token_ids, values)
    except (LookupError, TypeError, ValueError) as error:
        raise EngineNonsense(f"{COMPLETIONS} gave no logprobs of the prompt: {error}: {answer!r:.300}") from error


def _exactly(forced: Sequence[int], sampled: list[int]) -> list[int]:
    if sampled != list(forced):
        raise ValueError(f"{sampled} was sampled when {list(forced)} was forced")
    return sampled


def _completions_logprobs(
    choice: "Choice[CompletionTopLogprobs]", top_logprobs: int
) -> tuple[list[float], list[dict[int, float]]]:
    if choice.logprobs is None:
        raise ValueError("no logprobs")
    values = logprobs(choice.logprobs.token_logprobs)
    if not top_logprobs:
        return values, []
    tops = [
        best(((int(token.removeprefix(_TOKEN_ID)), value) for token, value in (top or {}).items()), top_logprobs)
        for top in choice.logprobs.top_logprobs or ()
    ]
    if len(tops) != len(values):
        raise ValueError(f"{len(values)} logprobs and {len(tops)} top_logprobs")
    return values, tops


def _generate_logprobs(
    choice: "Choice[GenerateLogprobs[TokenTopLogprobs]]", top_logprobs: int
) -> tuple[list[float], list[dict[int, float]]]:
    if choice.logprobs is None:
        raise ValueError("no logprobs")
    content = choice.logprobs.content
    if [each.token_id for each in content] != choice.token_ids:
        raise ValueError("logprobs of other tokens than those sampled")
    values = logprobs([each.logprob for each in content])
    if not top_logprobs:
        return values, []
    return values, [
        best(((top.token_id, top.logprob) for top in each.top_logprobs or ()), top_logprobs) for each in content
    ]


def _npy(encoded: str, url: str) -> npt.NDArray[Any]:
    try:
        array: npt.NDArray[Any] = np.load(io.BytesIO(base64.b64decode(encoded, validate=True)), allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise EngineNonsense(f"{url} gave routed_experts that are no array: {error}") from error
    return array
