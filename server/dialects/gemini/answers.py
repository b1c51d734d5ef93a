"""Turns → Gemini's ``GenerateContentResponse``: complete, and as a stream of them.

Source: ``google/genai/types.py`` of google-genai 3.x.
"""

import base64
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import orjson

from tickertape.renderers.draft import CallDelta, ContentDelta, Delta, ReasoningDelta
from tickertape.renderers.tokenizer import Tokenizer
from tickertape.server.dialects.chat.answers import logprob_number
from tickertape.server.dialects.events import comment, event
from tickertape.server.dialects.invalid_json import object_text
from tickertape.server.errors import ContextLengthExceeded, ProxyError
from tickertape.server.trajectories.turn import Turn
from tickertape.server.turns.request import TurnRequest, TurnResult
from tickertape.server.turns.stream_buffer import Sampled, whole

_STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ABORTED",
    413: "INVALID_ARGUMENT",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_METHODS = ("generateContent", "streamGenerateContent", "countTokens")
#: What the pipeline calls after chat's fields.
_PARAMS = {"messages": "contents", "tool_choice": "toolConfig.functionCallingConfig"}


def write_response(request: TurnRequest, results: Sequence[TurnResult], tokenizer: Tokenizer) -> dict[str, Any]:
    """The results of one request's turns, a candidate each."""
    candidates = []
    for k, result in enumerate(results):
        parts = _Parts(result.turn, tells_thoughts=request.options["tells_thoughts"])
        told = [*parts.tell(result.parts), *parts.finish()]
        candidate = _candidate(k, told, finish=_finish_reason(result))
        if request.options["logprobs"]:
            candidate["logprobsResult"] = _logprobs(whole(k, result), tokenizer)
        candidates.append(candidate)
    return {**_head(results[0].turn), "candidates": candidates, "usageMetadata": _usage(results)}


def write_count(count: int) -> dict[str, Any]:
    """The number of a prompt's tokens."""
    return {"totalTokens": count}


def write_model(name: str, max_context: int) -> dict[str, Any]:
    """A model that is served, as lists tell it."""
    return {
        "name": f"models/{name}",
        "displayName": name,
        "inputTokenLimit": max_context,
        "outputTokenLimit": max_context,
        "supportedGenerationMethods": list(_METHODS),
    }


def write_error(error: ProxyError) -> dict[str, Any]:
    """Google's error shape, with this server's code as the reason."""
    param = _PARAMS.get(error.param or "", error.param)
    reason = {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": error.code,
        "domain": "tickertape",
        "metadata": {} if param is None else {"param": param},
    }
    usual = "INVALID_ARGUMENT" if error.status < 500 else "INTERNAL"
    status = _STATUSES.get(error.status, usual)
    return {"error": {"code": error.status, "message": _words(error), "status": status, "details": [reason]}}


def _words(error: ProxyError) -> str:
    """Returns the error's text, in which clients know an overflow by Google's wording."""
    if not isinstance(error, ContextLengthExceeded) or error.prompt is None:
        return error.message
    n_tokens, most = error.prompt
    return f"The input token count ({n_tokens}) exceeds the maximum number of tokens allowed ({most})."


class GeminiStream:
    """Writes what each candidate has grown by, and in the end why it ended and the usage."""

    def __init__(self, request: TurnRequest, tokenizer: Tokenizer) -> None:
        self._request = request
        self._tokenizer = tokenizer
        self._parts: list[_Parts] = []
        self._head: dict[str, Any] = {}

    def open(self, turns: Sequence[Turn]) -> bytes:
        self._head = _head(turns[0])
        self._parts = [_Parts(turn, tells_thoughts=self._request.options["tells_thoughts"]) for turn in turns]
        return b""

    def write(self, news: Sequence[Sampled]) -> bytes:
        return b"".join(self._growth(sampled) for sampled in news)

    def close(self, results: Sequence[TurnResult]) -> bytes:
        candidates = [
            _candidate(k, parts.finish(), finish=_finish_reason(result))
            for k, (parts, result) in enumerate(zip(self._parts, results, strict=True))
        ]
        return event({**self._head, "candidates": candidates, "usageMetadata": _usage(results)})

    def fail(self, error: ProxyError) -> bytes:
        return event(write_error(error))

    def heartbeat(self) -> bytes:
        return comment("the engine is at work")

    def _growth(self, sampled: Sampled) -> bytes:
        parts = list(self._parts[sampled.choice].tell(sampled.deltas))
        with_logprobs = self._request.options["logprobs"] and sampled.token_ids
        if not parts and not with_logprobs:
            return b""
        candidate = _candidate(sampled.choice, parts)
        if with_logprobs:
            candidate["logprobsResult"] = _logprobs(sampled, self._tokenizer)
        return event({**self._head, "candidates": [candidate]})


class _Parts:
    """An answer's deltas as parts. A call is sent when it is complete.

    Args:
        turn: whose id signs the calls.
        tells_thoughts: whether thoughts are sent.
    """

    def __init__(self, turn: Turn, *, tells_thoughts: bool) -> None:
        self._signature = base64.b64encode(turn.id.encode()).decode()
        self._tells_thoughts = tells_thoughts
        self._call: CallDelta | None = None
        self._arguments: list[str] = []

    def tell(self, deltas: Iterable[Delta]) -> Iterator[dict[str, Any]]:
        for delta in deltas:
            match delta:
                case ContentDelta(text):
                    yield from self.finish()
                    yield {"text": text}
                case ReasoningDelta(text):
                    yield from self.finish()
                    if self._tells_thoughts:
                        yield {"text": text, "thought": True}
                case CallDelta(name=name):
                    if name is not None:
                        yield from self.finish()
                        self._call = delta
                    self._arguments.append(delta.arguments)

    def finish(self) -> list[dict[str, Any]]:
        """Returns the call that is open, complete."""
        call, text = self._call, "".join(self._arguments)
        self._call, self._arguments = None, []
        if call is None:
            return []
        called = {"id": call.id, "name": call.name, "args": orjson.loads(object_text(text or "{}"))}
        return [{"functionCall": called, "thoughtSignature": self._signature}]


def _candidate(index: int, parts: Sequence[dict[str, Any]], finish: str | None = None) -> dict[str, Any]:
    content = {"role": "model", "parts": list(parts)}
    return {"content": content, "index": index, **({} if finish is None else {"finishReason": finish})}


def _head(turn: Turn) -> dict[str, Any]:
    return {"responseId": turn.id, "modelVersion": turn.model}


def _finish_reason(result: TurnResult) -> str:
    return "MAX_TOKENS" if result.turn.outcome == "length" else "STOP"


def _usage(results: Sequence[TurnResult]) -> dict[str, Any]:
    prompt = len(results[0].prompt_ids)
    sampled = sum(len(result.turn.completion) for result in results)
    thought = sum(result.reasoning_tokens for result in results)
    usage = {
        "promptTokenCount": prompt,
        "candidatesTokenCount": sampled - thought,
        "thoughtsTokenCount": thought,
        "totalTokenCount": prompt + sampled,
    }
    cached = results[0].turn.usage.get("cached_tokens")
    return usage if cached is None else {**usage, "cachedContentTokenCount": cached}


def _logprobs(sampled: Sampled, tokenizer: Tokenizer) -> dict[str, Any]:
    def entry(token_id: int, logprob: float) -> dict[str, Any]:
        text = tokenizer.token_bytes(token_id).decode(errors="replace")
        return {"token": text, "tokenId": token_id, "logProbability": logprob_number(logprob)}

    chosen = [entry(token, value) for token, value in zip(sampled.token_ids, sampled.logprobs, strict=True)]
    tops = [{"candidates": [entry(token, value) for token, value in top.items()]} for top in sampled.tops]
    return {"chosenCandidates": chosen, **({"topCandidates": tops} if tops else {})}
