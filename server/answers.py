"""What was sampled, as the message that the client gets and as the one that it will repeat."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from tickertape.renderers.messages import Message
from tickertape.renderers.prompt import CallStatus, ParsedResponse
from tickertape.renderers.renderer import Renderer
from tickertape.server.dialects.request import TurnRequest
from tickertape.server.trajectories.turn import Outcome, TokenIds, Turn


@dataclass(frozen=True, slots=True)
class Read:
    """A completion, read."""

    told: Message
    """What the client is told: of an answer that was cut before and goes on, only what is new."""
    repeated: Message
    """The whole answer, as the client will repeat it in its next request."""


def read_answer(
    turn: Turn, renderer: Renderer, request: TurnRequest, *, answered: TokenIds, prompt_end: Sequence[int]
) -> Read:
    """Parses a turn's completion; sets its calls and its outcome.

    Args:
        turn: the turn.
        renderer: of its template options.
        request: the request; where it goes on with an answer, this answer is its last message.
        answered: what was sampled of that answer before.
        prompt_end: the last tokens of the prompt that the answer began behind.
    """
    completion = turn.completion.tolist()
    read = partial(renderer.parse_response, tools=request.tools, read_calls=request.reads_calls, prompt_ids=prompt_end)
    parsed = read([*answered.tolist(), *completion])
    turn.calls = [{"status": call.status, "raw": call.raw} for call in parsed.calls]
    turn.outcome = _outcome(turn, parsed)
    # A model that writes ids itself is to read them again with the results.
    calls = tuple(replace(call, id=call.id or f"call_{turn.id[:16]}{k:02}") for k, call in enumerate(parsed.tool_calls))
    message = replace(parsed.message, tool_calls=calls)
    if isinstance(turn.stop_reason, str):
        message = _without_stop_string(message, turn.stop_reason)
    if not len(answered):
        return Read(message, message)
    before = read(answered.tolist()).message
    told = replace(
        message, content=_rest(message.content, before.content), reasoning=_rest(message.reasoning, before.reasoning)
    )
    return Read(told, replace(message, content=request.messages[-1].text + (told.content or "")))


def _rest(whole: str | None, before: str | None) -> str | None:
    """What ``whole`` has beyond ``before``."""
    if not whole or not before:
        return whole
    # They part early where the text was cut inside a character, which cannot be taken back.
    pairs = enumerate(zip(whole, before, strict=False))
    common = next((k for k, (new, old) in pairs if new != old), min(len(whole), len(before)))
    return whole[common:] or None


def _outcome(turn: Turn, parsed: ParsedResponse) -> Outcome:
    if turn.finish_reason == "length":
        return Outcome.LENGTH
    if not parsed.calls:
        return Outcome.STOP
    invalid = (CallStatus.INVALID_JSON, CallStatus.MALFORMED)
    readable = any(call.call is not None and call.status not in invalid for call in parsed.calls)
    return Outcome.TOOL_CALLS if readable else Outcome.PARSE_FAILED


def _without_stop_string(message: Message, stop: str) -> Message:
    """The message up to the stop string, which OpenAI's answers leave out. The tape keeps it."""
    if stop in message.text:
        return replace(message, content=message.text[: message.text.rindex(stop)])
    if message.reasoning and stop in message.reasoning:
        return replace(message, reasoning=message.reasoning[: message.reasoning.rindex(stop)])
    return message
