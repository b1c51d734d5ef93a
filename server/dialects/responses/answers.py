"""Turns → OpenAI's ``response`` objects: complete, as a stream of events, and again from the tape."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from tickertape.renderers.tokenizer import Tokenizer
from tickertape.server.dialects.chat.answers import token_logprobs
from tickertape.server.dialects.events import comment, event
from tickertape.server.dialects.responses.items import Event, Output
from tickertape.server.dialects.responses.tools import shown_tools
from tickertape.server.errors import ProxyError, openai_error
from tickertape.server.trajectories.turn import Outcome, Turn
from tickertape.server.turns.request import INSTRUCTIONS, TurnRequest, TurnResult
from tickertape.server.turns.stream_buffer import Sampled, whole

ENCRYPTED, LOGPROBS = "reasoning.encrypted_content", "message.output_text.logprobs"

_ID = "resp_"
#: Fields that the answer tells as they were sent, and what it tells where they were not.
_ECHOED: Mapping[str, Any] = {
    "max_output_tokens": None,
    "max_tool_calls": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "prompt_cache_key": None,
    "prompt_cache_retention": None,
    "reasoning": {"effort": None, "summary": None},
    "safety_identifier": None,
    "store": True,
    "temperature": 1.0,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "top_logprobs": 0,
    "top_p": 1.0,
    "user": None,
}
#: What it tells as it is, whatever was wished for.
_FIXED: Mapping[str, Any] = {"service_tier": "default", "truncation": "disabled"}
#: What the pipeline calls after chat's fields.
_PARAMS = {"messages": "input", "response_format": "text.format"}
_STATUS = {
    Outcome.LENGTH: "incomplete",
    Outcome.ABORTED: "failed",
    Outcome.ENGINE_ERROR: "failed",
    Outcome.UNDELIVERED: "cancelled",
}


def response_id(turn_id: str) -> str:
    """The id of the turn's answer."""
    return _ID + turn_id


def turn_id_of(response: str) -> str:
    """The turn that an answer's id is of; empty if it is none of ours."""
    return response.removeprefix(_ID) if response.startswith(_ID) else ""


def write_response(request: TurnRequest, results: Sequence[TurnResult], tokenizer: Tokenizer) -> dict[str, Any]:
    """The result of a request's turn as a ``response`` object."""
    (result,) = results
    return write_result(result, _instructions(request), request.options.get("include", ()), tokenizer)


def write_result(
    result: TurnResult, instructions: str | None, include: Iterable[str], tokenizer: Tokenizer
) -> dict[str, Any]:
    """A turn that is on tape as a ``response`` object.

    Args:
        result: the turn, and what it says.
        instructions: the message that stands in front of the conversation.
        include: what else of the answer is sent.
        tokenizer: the model's.
    """
    include = [*include]
    output = _output(result.turn, include)
    if LOGPROBS in include:
        output.add_logprobs(_logprobs(whole(0, result), tokenizer))
    for delta in result.parts:
        for _ in output.take(delta):
            pass
    for _ in output.finish(cut=_is_cut(result.turn)):
        pass
    return _ended(_frame(result.turn, instructions), result, output)


def write_count(count: int) -> dict[str, Any]:
    """The number of a prompt's tokens."""
    return {"object": "response.input_tokens", "input_tokens": count}


def write_error(error: ProxyError) -> dict[str, Any]:
    """OpenAI's error shape, with this protocol's names of fields."""
    shape = openai_error(error)
    shape["error"]["param"] = _PARAMS.get(error.param or "", error.param)
    return shape


def stream_writer(request: TurnRequest, tokenizer: Tokenizer) -> "ResponsesStream":
    """Writes an answer as ``response.…`` events."""
    return ResponsesStream(request, tokenizer)


class ResponsesStream:
    """The response as it is at the beginning, its items as they come, and the response as it is in the end."""

    def __init__(self, request: TurnRequest, tokenizer: Tokenizer) -> None:
        self._request = request
        self._tokenizer = tokenizer
        self._frame: dict[str, Any] = {}
        self._output = Output("", {}, seals=False)
        self._number = 0

    def open(self, turns: Sequence[Turn]) -> bytes:
        (turn,) = turns
        self._output = _output(turn, self._request.options.get("include", ()))
        self._frame = _frame(turn, _instructions(self._request))
        return self._events(
            {"type": f"response.{kind}", "response": self._frame} for kind in ("created", "in_progress")
        )

    def write(self, news: Sequence[Sampled]) -> bytes:
        return self._events(told for sampled in news for told in self._growth(sampled))

    def close(self, results: Sequence[TurnResult]) -> bytes:
        (result,) = results
        ends = self._events(self._output.finish(cut=_is_cut(result.turn)))
        response = _ended(self._frame, result, self._output)
        return ends + self._events([{"type": f"response.{response['status']}", "response": response}])

    def fail(self, error: ProxyError) -> bytes:
        said = {"code": error.code, "message": error.message, "param": _PARAMS.get(error.param or "", error.param)}
        failed = {"status": "failed", "error": _error(error.status, error.message), "output": self._output.items}
        return self._events(
            [{"type": "error", **said}, {"type": "response.failed", "response": {**self._frame, **failed}}]
        )

    def heartbeat(self) -> bytes:
        return comment("the engine is at work")

    def _growth(self, sampled: Sampled) -> Iterator[Event]:
        if self._request.wants_tokens:
            self._output.add_logprobs(_logprobs(sampled, self._tokenizer))
        for delta in sampled.deltas:
            yield from self._output.take(delta)

    def _events(self, events: Iterable[Event]) -> bytes:
        return b"".join(map(self._event, events))

    def _event(self, told: Event) -> bytes:
        numbered = {**told, "sequence_number": self._number}
        self._number += 1
        return event(numbered, told["type"])


def _output(turn: Turn, include: Iterable[str]) -> Output:
    return Output(turn.id, turn.request_fields.get("tool_forms", {}), seals=ENCRYPTED in include)


def _logprobs(sampled: Sampled, tokenizer: Tokenizer) -> list[dict[str, Any]]:
    return token_logprobs(sampled.token_ids, sampled.logprobs, sampled.tops or None, tokenizer)


def _instructions(request: TurnRequest) -> str | None:
    return request.messages[0].text if request.fields.get(INSTRUCTIONS) else None


def _frame(turn: Turn, instructions: str | None) -> dict[str, Any]:
    """Returns what is known before the first token."""
    fields = turn.request_fields
    return {
        "id": response_id(turn.id),
        "object": "response",
        "created_at": int(turn.created_at),
        "completed_at": None,
        "status": "in_progress",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": instructions,
        "model": turn.model,
        "output": [],
        "tools": shown_tools(turn.tools or (), fields.get("tool_forms", {})),
        "usage": None,
        **{name: fields.get(name, default) for name, default in _ECHOED.items()},
        **_FIXED,
    }


def _ended(frame: Mapping[str, Any], result: TurnResult, output: Output) -> dict[str, Any]:
    turn = result.turn
    status = _STATUS.get(turn.outcome, "completed")
    completed_at = int(turn.created_at + turn.timings.get("total", 0.0)) if status == "completed" else None
    return {
        **frame,
        "completed_at": completed_at,
        "status": status,
        "error": _error(500, turn.error or "the generation was broken off") if status == "failed" else None,
        "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
        "output": output.items,
        "usage": _usage(result),
    }


def _is_cut(turn: Turn) -> bool:
    return turn.outcome in _STATUS


def _error(status: int, message: str) -> dict[str, Any]:
    """Of a response that failed: OpenAI knows no more codes that fit."""
    return {"code": "invalid_prompt" if status < 500 else "server_error", "message": message}


def _usage(result: TurnResult) -> dict[str, Any]:
    prompt, sampled = len(result.prompt_ids), len(result.turn.completion)
    cached = result.turn.usage.get("cached_tokens", 0)
    return {
        "input_tokens": prompt,
        "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": 0},
        "output_tokens": sampled,
        "output_tokens_details": {"reasoning_tokens": result.reasoning_tokens},
        "total_tokens": prompt + sampled,
    }
