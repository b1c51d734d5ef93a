"""The bridge of a format that is known by its template alone.

What follows an assistant's last word (the turn's close, new messages, the generation prompt) is read off synthetic
conversations: an assistant turn ends in a marker, and whatever the template puts behind the marker is the continuation.
It is proven only if it is the same after different histories; else the bridge is refused, with the reason.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from itertools import takewhile
from typing import Any

from tickertape.renderers.errors import BridgeRefused, RenderError
from tickertape.renderers.messages import Message, ToolCall

Render = Callable[[Sequence[Message], Sequence[Mapping[str, Any]] | None, bool], str]

#: Last character of a private-use area; quoting and attribution stay below it.
_MARKER_AT = 0xFFFD
_MARKER = chr(0xF0000 + _MARKER_AT)
_HISTORIES: tuple[tuple[Message, ...], ...] = (
    (Message("user", "Hello."),),
    (Message("user", "Good day."), Message("assistant", "What can I do?"), Message("user", "Look it up.")),
    (Message("system", "Be brief."), Message("user", "Hello again.")),
)


class Derivation:
    """Derives continuations from ``render(messages, tools, generation_prompt) -> text``."""

    def __init__(self, render: Render) -> None:
        self._render = render

    @cached_property
    def generation_prompt(self) -> str:
        """What the template adds for ``add_generation_prompt``; empty where it adds nothing at the end."""
        try:
            without = self._render(_HISTORIES[0], None, False)
            with_prompt = self._render(_HISTORIES[0], None, True)
        except RenderError:
            return ""
        return with_prompt.removeprefix(without) if with_prompt.startswith(without) else ""

    @cached_property
    def close(self) -> str:
        """What the template puts behind an assistant's last word, at the end of a conversation."""
        try:
            return _after(_MARKER, self._render([*_HISTORIES[0], Message("assistant", _MARKER)], None, False))
        except (RenderError, BridgeRefused):
            return ""

    def continuation(
        self,
        messages: Sequence[Message],
        tools: Sequence[Mapping[str, Any]] | None,
        calls: Sequence[ToolCall],
        plane: int,
    ) -> str:
        """The text between an assistant's last word and its next first one.

        Args:
            messages: the new messages, quoted.
            tools: the offered tools, quoted.
            calls: the tool calls that the assistant turn made, as far as they are known, quoted.
            plane: the private-use area that they are quoted in.

        Raises:
            BridgeRefused: the text depends on earlier messages, or the template cannot express the synthetic turn.
        """
        results = list(takewhile(lambda message: message.role == "tool", messages))
        marker = chr(plane + _MARKER_AT)
        found: dict[str, int] = {}
        refusal = ""
        for number, history in enumerate(_HISTORIES):
            try:
                text = self._after_turn(history, messages, tools, _calls_for(results, calls, number, marker), marker)
            except RenderError as error:
                refusal = str(error)
                continue
            found.setdefault(text, 0)
            found[text] += 1
        if len(found) > 1:
            first, second, *_ = found
            raise BridgeRefused(
                f"what follows an assistant turn depends on earlier messages: {_difference(first, second)}"
            )
        if sum(found.values()) < 2:
            raise BridgeRefused(f"the template renders too few synthetic conversations to prove a bridge: {refusal}")
        return next(iter(found))

    def _after_turn(
        self,
        history: Sequence[Message],
        messages: Sequence[Message],
        tools: Sequence[Mapping[str, Any]] | None,
        calls: Sequence[ToolCall],
        marker: str,
    ) -> str:
        if not calls:
            said = Message("assistant", marker)
            return _after(marker, self._render([*history, said, *messages], tools, True))
        called = Message("assistant", "", tool_calls=tuple(calls))
        alone = _after(marker, self._render([*history, called], tools, False))
        followed = _after(marker, self._render([*history, called, *messages], tools, True))
        if not followed.startswith(alone):
            raise BridgeRefused(f"a turn with a tool call is rendered differently once results follow: {alone!r}")
        if not alone.endswith(self.close):
            raise BridgeRefused(f"a turn with a tool call closes with {alone!r}, one without with {self.close!r}")
        return self.close + followed[len(alone) :]


def _calls_for(results: Sequence[Message], calls: Sequence[ToolCall], number: int, marker: str) -> list[ToolCall]:
    """Synthetic calls that the results answer, the marker in the last one's arguments. Names that are not known differ
    from history to history, so that a continuation which depends on them is found out."""
    made = []
    for k, result in enumerate(results):
        known = calls[k].name if k < len(calls) else result.name
        value = marker if k == len(results) - 1 else "x"
        made.append(ToolCall(known or f"look_up_{number}", {"value": value}, result.tool_call_id or f"call0000{k}"))
    return made


def _after(marker: str, text: str) -> str:
    if marker not in text:
        raise BridgeRefused("the template does not print what an assistant turn says")
    return text.rpartition(marker)[2]


def _difference(first: str, second: str) -> str:
    at = next((k for k, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), min(len(first), len(second)))
    return f"…{first[max(0, at - 20) : at + 40]!r} or …{second[max(0, at - 20) : at + 40]!r}"
