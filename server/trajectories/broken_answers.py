"""Answers with calls that no client can run, as clients send them back.

Whoever gets a call with broken arguments, or of a tool that there is not, rarely repeats it as it was: it comes back as
``{}``, repaired, renamed, wrapped in an object of the client's own, or not at all. It is the same conversation, and the
model goes on from what it really wrote. So such an answer is known by its place, after the very conversation that it
answered, by its text, and by its other calls; anything may stand for those that could not be run.
"""

from dataclasses import dataclass
from typing import Any

from tickertape.renderers.messages import Message, ToolCall, as_messages
from tickertape.renderers.prompt import CallStatus
from tickertape.server.trajectories.normalising import MatchPolicy
from tickertape.server.trajectories.turn import Turn


@dataclass(frozen=True, slots=True)
class BrokenAnswer:
    """An answer of which a call could not be run."""

    context_digest: bytes
    """Of the conversation up to and including it."""
    message: Message
    """As the client got it."""
    sound: frozenset[int]
    """Which of its calls are as they should be."""

    def is_echoed_by(self, sent: Message, policy: MatchPolicy, index: int) -> bool:
        """Returns True if a message is this answer, as far as a client could be expected to repeat it."""
        told, kept = policy(self.message, index), policy(sent, index)
        if told is None or kept is None or told.text != kept.text:
            return False
        kept_calls = {(call.name, call.arguments_json) for call in kept.tool_calls}
        wanted = [told.tool_calls[k] for k in self.sound]
        return len(kept.tool_calls) <= len(told.tool_calls) and all(
            (call.name, call.arguments_json) in kept_calls for call in wanted
        )


def broken_answer(turn: Turn) -> BrokenAnswer | None:
    """A turn's answer, if one of its calls could not be run."""
    if all(call["status"] == CallStatus.OK for call in turn.calls) or not turn.response:
        return None
    (message,) = as_messages([turn.response])
    offered = {tool["function"]["name"] for tool in turn.tools or ()}
    sound = frozenset(k for k, call in enumerate(message.tool_calls) if _can_be_run(call, offered))
    if len(sound) == len(message.tool_calls):
        return None
    return BrokenAnswer(turn.context_digest, message, sound)


def _can_be_run(call: ToolCall, offered: set[str]) -> bool:
    value: Any = call.arguments_value
    return call.name in offered and isinstance(value, dict)
