"""Words in earlier messages that change how a template goes on.

``/no_think`` in a system message closes every later thought in advance; ``<|think_off|>`` does for another model. A
bridge does not see earlier messages, only the prompt that they led to. So each word that a template looks for is tried:
where it changes what follows an assistant turn it is a switch, and the generation prompt that it leads to is how a
prompt shows that it is on.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from tickertape.renderers.errors import RenderError
from tickertape.renderers.messages import Message, ToolCall

#: Renders messages, with or without a generation prompt.
RenderPlain = Callable[[Sequence[Message], bool], str]

_NEXT = Message("user", "And then?")
_WORDS = "certainly"


#: Offered where tools are: only that there are any is of interest.
A_TOOL: Mapping[str, Any] = {
    "type": "function",
    "function": {"name": "f", "description": "", "parameters": {"type": "object", "properties": {}}},
}


class Switch(NamedTuple):
    """A word that an earlier message may hold."""

    word: str
    role: str
    """Of the message that holds it."""
    history: tuple[Message, ...]
    """Messages with the word in one of them."""
    opening: str | None
    """The generation prompt after that history, where it can be derived."""


def switches(render: RenderPlain, words: Collection[str]) -> list[Switch]:
    """Those of the words that change what follows a later turn, in each place where they do."""
    found = []
    for role, history_with in _PLACES.items():
        try:
            usual = _follow_up(render, history_with("Be brief."))
        except RenderError:
            continue
        for word in sorted(words):
            history = history_with(f"Be brief. {word}")
            try:
                follow_up = _follow_up(render, history)
            except RenderError:  # a conversation with the word cannot be, so none is bridged
                continue
            if follow_up != usual:
                found.append(Switch(word, role, history, opening(render, history)))
    return found


def opening(render: RenderPlain, messages: Sequence[Message]) -> str | None:
    """Returns what the template adds after the messages for a generation prompt; ``None`` where it cannot be
    derived."""
    try:
        without, prompt = render(messages, False), render(messages, True)
    except RenderError:
        return None
    return prompt.removeprefix(without) if prompt.startswith(without) else None


def usual_opening(render: RenderPlain) -> str | None:
    """Returns the generation prompt after a user message."""
    return opening(render, [Message("user", "Hello.")])


def usual_openings(render: RenderPlain) -> Iterator[str | None]:
    """Yields the generation prompts after a message of each role that a prompt may end in."""
    asked = Message("user", "Hello.")
    called = Message("assistant", "", tool_calls=(ToolCall("f", {"x": 1}, "call00000"),))
    yield usual_opening(render)
    yield opening(render, [Message("system", "Be brief."), asked])
    yield opening(render, [asked, called, Message("tool", "Done.", tool_call_id="call00000", name="f")])


def _in_system(words: str) -> tuple[Message, ...]:
    return Message("system", words), Message("user", "Hello.")


def _in_user(words: str) -> tuple[Message, ...]:
    return (Message("user", words),)


def _in_assistant(words: str) -> tuple[Message, ...]:
    return Message("user", "Hello."), Message("assistant", words), Message("user", "Go on.")


_PLACES = {"system": _in_system, "user": _in_user, "assistant": _in_assistant}


def _follow_up(render: RenderPlain, history: Sequence[Message]) -> str:
    """Returns what stands after an assistant's words after the history, up to the next generation prompt."""
    return render([*history, Message("assistant", _WORDS), _NEXT], True).rpartition(_WORDS)[2]
