"""OpenAI plain completions ⇄ turns: a prompt of text or token ids, and text or token ids back.

Fields: openai-python 3.x, ``types/completion_create_params.py``; vLLM's extensions are at the end.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import Field

from tickertape.renderers.draft import ContentDelta
from tickertape.renderers.tokenizer import Tokenizer
from tickertape.server.dialects.chat.answers import finish_reason, usage
from tickertape.server.dialects.chat.schema import StreamOptions
from tickertape.server.dialects.events import comment, event
from tickertape.server.dialects.reading import (
    PADDED,
    Fields,
    Refused,
    extras,
    openai_sampling,
    read_fields,
    read_object,
    recorded_fields,
    refuse,
    unmet,
)
from tickertape.server.errors import InvalidRequest, ProxyError, openai_error
from tickertape.server.trajectories.turn import Turn
from tickertape.server.turns.request import ToolChoice, TurnRequest, TurnResult
from tickertape.server.turns.stream_buffer import Sampled

DIALECT = "completions"

_RECORDED = ("user",)
_REFUSED: Refused = {
    "echo": ((False,), "the prompt is not echoed: with return_token_ids=true its ids are told"),
    "suffix": (("",), "text cannot be inserted before a suffix"),
    "add_special_tokens": ((False,), "nothing is added to a prompt: write its first tokens out, and send false"),
}
#: OpenAI's default.
_MAX_TOKENS = 16


class CompletionRequest(Fields):
    model: str
    prompt: str | list[int] | list[str] | list[list[int]]
    max_tokens: int | None = Field(None, ge=1)
    temperature: float | None = Field(None, ge=0, le=2, allow_inf_nan=False)
    top_p: float | None = Field(None, gt=0, le=1)
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    stop: str | list[str] | None = None
    logit_bias: dict[str, float] | None = None
    logprobs: int | None = Field(None, ge=0, le=20)
    n: int | None = Field(None, ge=1, le=128)
    best_of: int | None = Field(None, ge=1)
    echo: bool | None = None
    suffix: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: str | None = None
    # vLLM's extensions
    top_k: int | None = Field(None, ge=-1)
    min_p: float | None = Field(None, ge=0, le=1)
    repetition_penalty: float | None = Field(None, gt=0, le=2)
    min_tokens: int | None = Field(None, ge=0)
    ignore_eos: bool | None = None
    stop_token_ids: list[int] | None = None
    add_special_tokens: bool | None = None
    return_token_ids: bool | None = None


def read_request(body: bytes) -> TurnRequest:
    """A request's JSON as a request for a turn.

    Raises:
        InvalidRequest: it is not JSON, a field has the wrong type or value, or a field cannot be honoured.
    """
    asked = read_fields(CompletionRequest, read_object(body))
    refuse(asked, _REFUSED)
    if asked.best_of is not None and asked.best_of != (asked.n or 1):
        raise InvalidRequest("best_of cannot be more than n: all completions are given", param="best_of")
    if asked.stream_options is not None and not asked.stream:
        raise InvalidRequest("stream_options needs stream=true", param="stream_options")
    options = asked.stream_options
    return TurnRequest(
        dialect=DIALECT,
        model=asked.model,
        prompt=_prompt(asked.prompt),
        n=asked.n or 1,
        tool_choice=ToolChoice(reads_calls=False),
        sampling=openai_sampling(asked, top_logprobs=asked.logprobs, bias=asked.logit_bias),
        max_tokens=asked.max_tokens or _MAX_TOKENS,
        wants_tokens=asked.logprobs is not None or bool(asked.return_token_ids),
        stream=bool(asked.stream),
        options={
            "include_usage": bool(options and options.include_usage),
            "logprobs": asked.logprobs is not None,
            "token_ids": bool(asked.return_token_ids),
        },
        fields=recorded_fields(asked, _RECORDED),
        ignored=list(_outside_protocol(asked)),
    )


def _prompt(given: Any) -> str | list[int]:
    """The one prompt, which clients may send in a list."""
    is_one = isinstance(given, str) or all(isinstance(each, int) for each in given)
    prompts = [given] if is_one else given
    if len(prompts) != 1:
        raise InvalidRequest(f"one prompt a request, not {len(prompts)}: send a request for each", param="prompt")
    only: str | list[int] = prompts[0]
    return only


def _outside_protocol(asked: CompletionRequest) -> Iterator[str]:
    yield from extras(asked)
    if asked.stream_options is not None:
        yield from extras(asked.stream_options, "stream_options.")
        yield from unmet(asked.stream_options, PADDED, "stream_options.")


def write_error(error: ProxyError) -> dict[str, Any]:
    """OpenAI's error shape."""
    return openai_error(error)


def write_response(request: TurnRequest, results: Sequence[TurnResult], tokenizer: Tokenizer) -> dict[str, Any]:
    """The results as a ``text_completion`` object, a choice each."""
    choices = [
        _choice(
            request,
            tokenizer,
            Sampled(k, [], result.turn.completion.tolist(), result.turn.logprobs.tolist(), result.top_logprobs or []),
            result.message.text,
            finish=finish_reason(result),
            prompt_ids=result.prompt_ids.tolist(),
        )
        for k, result in enumerate(results)
    ]
    return {**_head(results[0].turn), "choices": choices, "usage": usage(results)}


def stream_writer(request: TurnRequest, tokenizer: Tokenizer) -> "CompletionStream":
    """Writes an answer as ``text_completion`` events."""
    return CompletionStream(request, tokenizer)


class CompletionStream:
    """Pieces of text, then why it ended, for each choice; then the usage if it was asked for, and ``[DONE]``."""

    def __init__(self, request: TurnRequest, tokenizer: Tokenizer) -> None:
        self._request = request
        self._tokenizer = tokenizer
        self._wants_usage = bool(request.options.get("include_usage"))
        self._head: dict[str, Any] = {}
        self._offsets: dict[int, int] = {}

    def open(self, turns: Sequence[Turn]) -> bytes:
        self._head = _head(turns[0])
        return b""

    def write(self, news: Sequence[Sampled]) -> bytes:
        return b"".join(self._chunk(sampled) for sampled in news)

    def close(self, results: Sequence[TurnResult]) -> bytes:
        chunks = [self._chunk(Sampled(k), finish_reason(result)) for k, result in enumerate(results)]
        if self._wants_usage:
            chunks.append(event({**self._head, "choices": [], "usage": usage(results)}))
        return b"".join([*chunks, b"data: [DONE]\n\n"])

    def fail(self, error: ProxyError) -> bytes:
        return event(write_error(error)) + b"data: [DONE]\n\n"

    def heartbeat(self) -> bytes:
        return comment("the engine is at work")

    def _chunk(self, sampled: Sampled, finish: str | None = None) -> bytes:
        text = "".join(delta.text for delta in sampled.deltas if isinstance(delta, ContentDelta))
        offset = self._offsets.get(sampled.choice, 0)
        self._offsets[sampled.choice] = offset + len(text)
        choice = _choice(self._request, self._tokenizer, sampled, text, finish=finish, offset=offset)
        return event({**self._head, "choices": [choice], **({"usage": None} if self._wants_usage else {})})


def _choice(
    request: TurnRequest,
    tokenizer: Tokenizer,
    sampled: Sampled,
    text: str,
    *,
    finish: str | None,
    offset: int = 0,
    prompt_ids: list[int] | None = None,
) -> dict[str, Any]:
    choice: dict[str, Any] = {"index": sampled.choice, "text": text, "logprobs": None, "finish_reason": finish}
    if request.options["logprobs"] and sampled.token_ids:
        choice["logprobs"] = _logprobs(sampled, tokenizer, offset)
    if request.options["token_ids"]:
        choice["token_ids"] = sampled.token_ids
        if prompt_ids is not None:
            choice["prompt_token_ids"] = prompt_ids
    return choice


def _logprobs(sampled: Sampled, tokenizer: Tokenizer, offset: int) -> dict[str, Any]:
    """The legacy shape: lists, a place for each token."""
    tokens = [tokenizer.token_bytes(token).decode(errors="replace") for token in sampled.token_ids]
    offsets = []
    for token in tokens:
        offsets.append(offset)
        offset += len(token)
    tops = [
        {tokenizer.token_bytes(token).decode(errors="replace"): value for token, value in top.items()}
        for top in sampled.tops
    ]
    known = [None if value != value else value for value in sampled.logprobs]  # NaN is not itself
    return {"tokens": tokens, "token_logprobs": known, "top_logprobs": tops or None, "text_offset": offsets}


def _head(turn: Turn) -> dict[str, Any]:
    return {
        "id": f"cmpl-{turn.id}",
        "object": "text_completion",
        "created": int(turn.created_at),
        "model": turn.model,
    }
