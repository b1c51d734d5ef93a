"""Turns → OpenAI chat completions: complete, and as a stream of chunks."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

from tickertape.renderers.draft import CallDelta, ContentDelta, Delta, ReasoningDelta
from tickertape.renderers.tokenizer import Tokenizer
from tickertape.server.dialects.events import comment, event
from tickertape.server.errors import ProxyError, openai_error
from tickertape.server.trajectories.turn import Turn
from tickertape.server.turns.request import TurnRequest, TurnResult
from tickertape.server.turns.stream_buffer import Sampled


def write_response(request: TurnRequest, results: Sequence[TurnResult], tokenizer: Tokenizer) -> dict[str, Any]:
    """The results of one request's turns as a ``chat.completion`` object, a choice each."""
    choices = [
        {
            "index": index,
            "message": result.turn.response,
            "logprobs": _logprobs_of(result, tokenizer) if request.options["logprobs"] else None,
            "finish_reason": finish_reason(result),
            **({"token_ids": result.turn.completion.tolist()} if request.options["token_ids"] else {}),
        }
        for index, result in enumerate(results)
    ]
    answer = {**_head(results[0].turn, "chat.completion"), "choices": choices, "usage": usage(results)}
    return answer | ({"prompt_token_ids": results[0].prompt_ids.tolist()} if request.options["token_ids"] else {})


def write_error(error: ProxyError) -> dict[str, Any]:
    """OpenAI's error shape."""
    return openai_error(error)


def stream_writer(request: TurnRequest, tokenizer: Tokenizer) -> "ChatStream":
    """Writes an answer as ``chat.completion.chunk`` events."""
    return ChatStream(request, tokenizer)


class ChatStream:
    """A role, then deltas, then why it ended, for each choice; then the usage if it was asked for, and ``[DONE]``."""

    def __init__(self, request: TurnRequest, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._wants_logprobs = request.options["logprobs"]
        self._wants_ids = request.options["token_ids"]
        self._wants_usage = bool(request.options.get("include_usage"))
        self._head: dict[str, Any] = {}
        self._has_top_logprobs = bool(request.sampling.top_logprobs)

    def open(self, turns: Sequence[Turn]) -> bytes:
        self._head = _head(turns[0], "chat.completion.chunk")
        opening = {"role": "assistant", "content": "", "refusal": None}
        return b"".join(self._chunk(index, opening) for index in range(len(turns)))

    def write(self, news: Sequence[Sampled]) -> bytes:
        return b"".join(chunk for sampled in news for chunk in self._chunks(sampled))

    def close(self, results: Sequence[TurnResult]) -> bytes:
        chunks = [
            self._chunk(
                k, {}, finish=finish_reason(result), prompt_ids=result.prompt_ids.tolist() if self._wants_ids else None
            )
            for k, result in enumerate(results)
        ]
        if self._wants_usage:
            chunks.append(event({**self._head, "choices": [], "usage": usage(results)}))
        return b"".join([*chunks, _DONE])

    def fail(self, error: ProxyError) -> bytes:
        return event(write_error(error)) + _DONE

    def heartbeat(self) -> bytes:
        return comment("the engine is at work")

    def _chunks(self, sampled: Sampled) -> Iterable[bytes]:
        """The first chunk has the ids and logprobs of all tokens that were sampled meanwhile."""
        logprobs = None
        if self._wants_logprobs and sampled.token_ids:
            tops = sampled.tops if self._has_top_logprobs else None
            logprobs = _logprobs(sampled.token_ids, sampled.logprobs, tops, self._tokenizer)
        ids = sampled.token_ids if self._wants_ids else None
        deltas = [_delta(delta) for delta in sampled.deltas] or ([{}] if logprobs or ids else [])
        for number, delta in enumerate(deltas):
            first = number == 0
            yield self._chunk(sampled.choice, delta, logprobs=logprobs if first else None, ids=ids if first else None)

    def _chunk(
        self,
        index: int,
        delta: dict[str, Any],
        *,
        logprobs: dict[str, Any] | None = None,
        finish: str | None = None,
        ids: list[int] | None = None,
        prompt_ids: list[int] | None = None,
    ) -> bytes:
        choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
        if ids is not None:
            choice["token_ids"] = ids
        chunk = {**self._head, "choices": [choice], **({"usage": None} if self._wants_usage else {})}
        return event(chunk if prompt_ids is None else {**chunk, "prompt_token_ids": prompt_ids})


_DONE = b"data: [DONE]\n\n"


def _delta(delta: Delta) -> dict[str, Any]:
    match delta:
        case ContentDelta(text):
            return {"content": text}
        case ReasoningDelta(text):
            return {"reasoning_content": text}
        case CallDelta(index, arguments, None):
            return {"tool_calls": [{"index": index, "function": {"arguments": arguments}}]}
        case CallDelta(index, arguments, name, call_id):
            function = {"name": name, "arguments": arguments}
            return {"tool_calls": [{"index": index, "id": call_id, "type": "function", "function": function}]}


def _head(turn: Turn, kind: str) -> dict[str, Any]:
    return {"id": f"chatcmpl-{turn.id}", "object": kind, "created": int(turn.created_at), "model": turn.model}


def usage(results: Sequence[TurnResult]) -> dict[str, Any]:
    prompt_tokens = len(results[0].prompt_ids)
    sampled = sum(len(result.turn.completion) for result in results)
    usage: dict[str, Any] = {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": sampled,
        "total_tokens": prompt_tokens + sampled,
    }
    cached = results[0].turn.usage.get("cached_tokens")
    return usage if cached is None else {**usage, "prompt_tokens_details": {"cached_tokens": cached}}


def finish_reason(result: TurnResult) -> str:
    """OpenAI's word. Calls with broken arguments are calls too: their text is the client's to refuse."""
    if result.turn.outcome == "length":
        return "length"
    return "tool_calls" if result.message.tool_calls else "stop"


def _logprobs_of(result: TurnResult, tokenizer: Tokenizer) -> dict[str, Any]:
    turn = result.turn
    return _logprobs(turn.completion.tolist(), turn.logprobs.tolist(), result.top_logprobs, tokenizer)


def _logprobs(
    token_ids: Sequence[int], logprobs: Sequence[float], tops: Sequence[dict[int, float]] | None, tokenizer: Tokenizer
) -> dict[str, Any]:
    return {"content": token_logprobs(token_ids, logprobs, tops, tokenizer), "refusal": None}


def token_logprobs(
    token_ids: Sequence[int], logprobs: Sequence[float], tops: Sequence[dict[int, float]] | None, tokenizer: Tokenizer
) -> list[dict[str, Any]]:
    """OpenAI's logprobs, a token each."""

    def entry(token_id: int, logprob: float) -> dict[str, Any]:
        text = tokenizer.token_bytes(token_id)
        return {"token": text.decode(errors="replace"), "logprob": logprob_number(logprob), "bytes": list(text)}

    return [
        {**entry(token_id, logprob), "top_logprobs": [entry(i, value) for i, value in top.items()]}
        for token_id, logprob, top in zip(token_ids, logprobs, tops or [{}] * len(token_ids), strict=True)
    ]


def logprob_number(logprob: float) -> float:
    """Returns a logprob as JSON can hold it: -9999.0 where the engine gave none, as OpenAI's documentation has it."""
    return -9999.0 if math.isnan(logprob) else float(logprob)
