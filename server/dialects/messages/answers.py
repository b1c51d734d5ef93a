"""Turns → Anthropic's Messages: as a stream of events, and complete, which is the stream folded.

Source: anthropic-sdk-python 2.x, ``types/raw_message_stream_event.py`` and ``types/message.py``.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, TypeAlias

import orjson

from tickertape.renderers.draft import CallDelta, ContentDelta, Delta, ReasoningDelta
from tickertape.renderers.tokenizer import Tokenizer
from tickertape.server.dialects.events import event
from tickertape.server.dialects.invalid_json import object_text
from tickertape.server.errors import ContextLengthExceeded, ProxyError
from tickertape.server.trajectories.turn import Turn
from tickertape.server.turns.request import TurnRequest, TurnResult
from tickertape.server.turns.stream_buffer import Sampled

Event: TypeAlias = dict[str, Any]

_ERROR_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}


def write_response(request: TurnRequest, results: Sequence[TurnResult], _tokenizer: Tokenizer) -> dict[str, Any]:
    """The result of a request's turn as a ``message`` object."""
    (result,) = results
    blocks = _Blocks.of(request, result.turn)
    return _folded([_start(result.turn), *blocks.tell(result.parts), *blocks.finish(), *_end(result)])


def write_count(count: int) -> dict[str, Any]:
    """The number of a prompt's tokens."""
    return {"input_tokens": count}


def write_error(error: ProxyError) -> dict[str, Any]:
    """Anthropic's error shape."""
    usual = "invalid_request_error" if error.status < 500 else "api_error"
    details = {"error_code": error.code, "param": error.param}
    described: dict[str, Any] = {"type": _ERROR_TYPES.get(error.status, usual), "message": _words(error)}
    if any(details.values()):
        described["details"] = details
    return {"type": "error", "error": described}


def _words(error: ProxyError) -> str:
    """Returns the error's text, in which clients know an overflow by Anthropic's wording."""
    if not isinstance(error, ContextLengthExceeded):
        return error.message
    if error.prompt is None:
        return f"prompt is too long: {error.message}"
    n_tokens, most = error.prompt
    return f"prompt is too long: {n_tokens} tokens > {most} maximum"


def stream_writer(request: TurnRequest, _tokenizer: Tokenizer) -> "MessageStream":
    """Writes an answer as Anthropic's events."""
    return MessageStream(request)


class MessageStream:
    """``message_start``, then each block's start, deltas and stop, then ``message_delta`` with why it ended, and
    ``message_stop``."""

    def __init__(self, request: TurnRequest) -> None:
        self._request = request

    def open(self, turns: Sequence[Turn]) -> bytes:
        (turn,) = turns
        self._blocks = _Blocks.of(self._request, turn)
        return _written([_start(turn)])

    def write(self, news: Sequence[Sampled]) -> bytes:
        return b"".join(_written(self._blocks.tell(sampled.deltas)) for sampled in news)

    def close(self, results: Sequence[TurnResult]) -> bytes:
        (result,) = results
        return _written([*self._blocks.finish(), *_end(result)])

    def fail(self, error: ProxyError) -> bytes:
        return event(write_error(error), "error")

    def heartbeat(self) -> bytes:
        return event({"type": "ping"}, "ping")


class _Blocks:
    """An answer's deltas as events of content blocks. A block ends where another kind of text begins.

    A tool's input is sent when it is complete, so that clients never get what is no JSON object, unless the tool was
    offered with ``eager_input_streaming``: this is Anthropic's own rule.

    Args:
        turn: whose id signs the thoughts.
        eager_tools: tools whose input is sent as it comes.
        omits_thoughts: whether thinking blocks stay empty.
    """

    def __init__(self, turn: Turn, *, eager_tools: Collection[str] = (), omits_thoughts: bool = False) -> None:
        self._signature = turn.id
        self._eager_tools = eager_tools
        self._omits_thoughts = omits_thoughts
        self._index = -1
        self._kind: str | None = None
        """Of the open block."""
        self._is_eager = False
        self._held: list[str] = []
        """The open tool's input, as far as it has come."""

    @classmethod
    def of(cls, request: TurnRequest, turn: Turn) -> "_Blocks":
        options = request.options
        return cls(turn, eager_tools=options["eager_tools"], omits_thoughts=options["omits_thoughts"])

    def tell(self, deltas: Iterable[Delta]) -> Iterator[Event]:
        for delta in deltas:
            match delta:
                case ReasoningDelta(text):
                    yield from self._open_text("thinking", {"thinking": "", "signature": ""})
                    if not self._omits_thoughts:
                        yield self._delta("thinking_delta", "thinking", text)
                case ContentDelta(text):
                    yield from self._open_text("text", {"text": ""})
                    yield self._delta("text_delta", "text", text)
                case CallDelta(name=name):
                    if name is not None:
                        yield from self._open("tool_use", {"id": delta.id, "name": name, "input": {}})
                        self._is_eager = name in self._eager_tools
                    yield from self._argue(delta.arguments)

    def finish(self) -> Iterator[Event]:
        """Closes the open block."""
        if self._kind is None:
            return
        if self._kind == "thinking":
            yield self._delta("signature_delta", "signature", self._signature)
        if self._held and (text := "".join(self._held)):
            yield self._delta("input_json_delta", "partial_json", object_text(text))
        yield {"type": "content_block_stop", "index": self._index}
        self._kind, self._held = None, []

    def _argue(self, text: str) -> Iterator[Event]:
        if not self._is_eager:
            self._held.append(text)
        elif text:
            yield self._delta("input_json_delta", "partial_json", text)

    def _open_text(self, kind: str, fields: dict[str, Any]) -> Iterator[Event]:
        if self._kind != kind:
            yield from self._open(kind, fields)

    def _open(self, kind: str, fields: dict[str, Any]) -> Iterator[Event]:
        yield from self.finish()
        self._kind = kind
        self._index += 1
        yield {"type": "content_block_start", "index": self._index, "content_block": {"type": kind, **fields}}

    def _delta(self, kind: str, field: str, text: str) -> Event:
        return {"type": "content_block_delta", "index": self._index, "delta": {"type": kind, field: text}}


def _start(turn: Turn) -> Event:
    message: dict[str, Any] = {
        "id": f"msg_{turn.id}",
        "type": "message",
        "role": "assistant",
        "model": turn.model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": turn.usage["prompt_tokens"], "output_tokens": 0},
    }
    return {"type": "message_start", "message": message}


def _end(result: TurnResult) -> list[Event]:
    reason, sequence = _stop(result)
    ended = {"stop_reason": reason, "stop_sequence": sequence}
    return [
        {"type": "message_delta", "delta": ended, "usage": _usage(result.turn)},
        {"type": "message_stop"},
    ]


def _stop(result: TurnResult) -> tuple[str, str | None]:
    turn = result.turn
    if turn.outcome == "length":
        return "max_tokens", None
    if isinstance(turn.stop_reason, str):
        return "stop_sequence", turn.stop_reason
    return ("tool_use" if result.message.tool_calls else "end_turn"), None


def _usage(turn: Turn) -> dict[str, int]:
    """Anthropic counts tokens that were read from a cache apart."""
    cached = turn.usage.get("cached_tokens")
    usage = {
        "input_tokens": turn.usage["prompt_tokens"] - (cached or 0),
        "output_tokens": turn.usage["completion_tokens"],
    }
    if cached is None:  # the engine does not say
        return usage
    return {**usage, "cache_creation_input_tokens": 0, "cache_read_input_tokens": cached}


def _folded(events: Iterable[Event]) -> dict[str, Any]:
    """The message that a stream tells of."""
    message: dict[str, Any] = {}
    inputs: dict[int, str] = {}
    for told in events:
        match told:
            case {"type": "message_start"}:
                message = dict(told["message"])
            case {"type": "content_block_start", "content_block": block}:
                message["content"].append(block)
            case {"index": index, "delta": {"partial_json": text}}:
                inputs[index] = inputs.get(index, "") + text
            case {"type": "content_block_delta", "index": index, "delta": {"type": _, **texts}}:
                block = message["content"][index]
                for field, text in texts.items():
                    block[field] += text
            case {"type": "message_delta", "delta": ended, "usage": usage}:
                message |= {**ended, "usage": {**message["usage"], **usage}}
    for index, text in inputs.items():
        message["content"][index]["input"] = orjson.loads(object_text(text))
    return message


def _written(events: Iterable[Event]) -> bytes:
    return b"".join(event(told, told["type"]) for told in events)
