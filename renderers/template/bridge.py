"""The bridge of a format that is known by its template alone.

What follows an assistant's last word (the turn's close, new messages, the generation prompt) is read off synthetic
conversations: an assistant turn ends in a marker, and whatever the template puts after the marker is the continuation.
It is proven only if it is the same after different histories, with the words that the template looks for among them;
else the bridge is refused, with the reason.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import takewhile
from typing import Any, NamedTuple

from tickertape.renderers.errors import BridgeRefused, RenderError
from tickertape.renderers.messages import Message, ToolCall
from tickertape.renderers.template.quoting import unescape
from tickertape.renderers.template.switches import A_TOOL, Switch, switches, usual_opening, usual_openings
from tickertape.renderers.template.turn_close import close_of_call

Tools = Sequence[Mapping[str, Any]] | None
Render = Callable[[Sequence[Message], Tools, bool], str]

#: Last characters of a private-use area; quoting and attribution stay below them.
_MARKER_AT = 0xFFFD
_RESULT_AT = 0xFFFC
_PLANE = 0xF0000
_HISTORIES: tuple[tuple[Message, ...], ...] = (
    (Message("user", "Hello."),),
    (Message("user", "Good day."), Message("assistant", "What can I do?"), Message("user", "Look it up.")),
    (Message("system", "Be brief."), Message("user", "Hello again.")),
)


class _Known(NamedTuple):
    """The ways in which a template opens an assistant's turn."""

    usual: str | None
    """The generation prompt after a user message, where it can be derived."""
    switches: list[Switch]
    openings: tuple[str, ...]
    """Every way in which a prompt ends; none where that cannot be derived."""


class Derivation:
    """Derives continuations from ``render(messages, tools, generation_prompt) -> text``.

    Args:
        render: the template.
        looked_for: words that the template looks for, and that messages can hold.
        stops: texts of the model's stop tokens.
    """

    def __init__(self, render: Render, looked_for: Collection[str], stops: Sequence[str]) -> None:
        self._render = render
        self._looked_for = looked_for
        self._stops = stops

    @cached_property
    def generation_prompt(self) -> str:
        """Returns what the template adds for ``add_generation_prompt``; empty where it adds nothing at the end."""
        return self._known.usual or ""

    @cached_property
    def close(self) -> str:
        """Returns what the template puts after an assistant's last word, at the end of a conversation."""
        return self._behind_answer()

    @cached_property
    def close_of_call(self) -> str:
        """Returns what the template puts between a tool call and its result; empty where that cannot be derived."""
        marker = chr(_PLANE + _MARKER_AT)
        asked = _HISTORIES[0]
        called = Message("assistant", "", tool_calls=(ToolCall("f", {"value": marker}, "call00000"),))
        result = Message("tool", "Done.", tool_call_id="call00000", name="f")
        try:
            return self._after_call([*asked, called], [result], None, _PLANE).partition(result.text)[0]
        except (RenderError, BridgeRefused):
            return ""

    def continuation(
        self,
        messages: Sequence[Message],
        tools: Tools,
        calls: Sequence[ToolCall],
        plane: int,
        *,
        prompt_end: str,
        wrote: str,
    ) -> str:
        """The text between an assistant's last word and its next first one.

        Args:
            messages: the new messages, quoted.
            tools: the offered tools, quoted.
            calls: the tool calls that the assistant turn made, as far as they are known, quoted.
            plane: the private-use area that they are quoted in.
            prompt_end: the last words of the prompt that the turn was sampled from; empty where they are not known.
            wrote: the sampled turn's words.

        Raises:
            BridgeRefused: the text depends on earlier messages, or the template cannot express the synthetic turn.
        """

        def after(number: int, history: Sequence[Message]) -> str:
            return self._after_turn(number, history, messages, tools, calls, plane)

        usual = _proven(after, _HISTORIES)
        known = self._known_with_tools if tools else self._known
        if prompt_end and known.openings and not prompt_end.endswith(known.openings):
            raise BridgeRefused(f"the prompt ends as no prompt of this template does: …{prompt_end[-40:]!r}")
        if not known.switches:
            return usual
        written = next((s.word for s in known.switches if s.role == "assistant" and s.word in wrote), None)
        if written is not None:
            raise BridgeRefused(f"the turn itself holds {written!r}, on which the template switches")
        ways = [(Switch("", "", (), known.usual), usual)]
        ways += [(switch, _proven(after, [switch.history])) for switch in known.switches]
        if len({text for _, text in ways}) > 1:
            ways = _as_the_prompt_shows(ways, prompt_end)
        first = ways[0][1]
        for switch, text in ways:
            if text != first:
                raise BridgeRefused(
                    f"{switch.word!r} in an earlier message would change it: {_difference(first, text)}"
                )
        return first

    @cached_property
    def _known(self) -> "_Known":
        return self._find_switches(None)

    @cached_property
    def _known_with_tools(self) -> "_Known":
        return self._find_switches([A_TOOL])

    def _find_switches(self, tools: Tools) -> "_Known":
        def render(messages: Sequence[Message], generation_prompt: bool) -> str:
            return self._render(messages, tools, generation_prompt)

        found = switches(render, self._looked_for)
        openings = [*usual_openings(render), *(switch.opening for switch in found)]
        told = tuple(text for text in openings if text)
        return _Known(usual_opening(render), found, told if "" not in openings else ())

    def _behind_answer(self, *then: Message) -> str:
        marker = chr(_PLANE + _MARKER_AT)
        for tools in (None, [A_TOOL]):  # some templates render nothing without tools
            try:
                return _after(marker, self._render([*_HISTORIES[0], Message("assistant", marker), *then], tools, False))
            except (RenderError, BridgeRefused):
                continue
        return ""

    @cached_property
    def close_before_user(self) -> str:
        """Returns what the template puts after an assistant's last word where a user message follows."""
        return self._behind_answer(Message("user", "Go on."))

    def _after_turn(
        self,
        number: int,
        history: Sequence[Message],
        messages: Sequence[Message],
        tools: Tools,
        calls: Sequence[ToolCall],
        plane: int,
    ) -> str:
        marker = chr(plane + _MARKER_AT)
        results = list(takewhile(lambda message: message.role == "tool", messages))
        if not results:
            said = Message("assistant", marker)
            return _after(marker, unescape(self._render([*history, said, *messages], tools, True), plane))
        made = _calls_for(results, calls, number, marker)
        return self._after_call([*history, Message("assistant", "", tool_calls=made)], messages, tools, plane)

    def _after_call(self, called: Sequence[Message], messages: Sequence[Message], tools: Tools, plane: int) -> str:
        """Returns what follows a call: of what the template puts after its last argument, that which the model does not
        sample itself."""
        marker, result_marker = chr(plane + _MARKER_AT), chr(plane + _RESULT_AT)

        def behind(new: Sequence[Message], generation_prompt: bool) -> str:
            return _after(marker, unescape(self._render([*called, *new], tools, generation_prompt), plane))

        followed = behind(messages, True)
        gap, printed, _ = behind([replace(messages[0], content=result_marker), *messages[1:]], True).partition(
            result_marker
        )
        if not printed or not followed.startswith(gap):
            raise BridgeRefused("where the template puts a tool's result depends on its words")
        try:
            alone = behind([], False)
        except (RenderError, BridgeRefused):  # a call without a result
            alone = ""
        at = close_of_call(gap, alone, self.close_before_user, self.close, self.generation_prompt, self._stops)
        if at is None:
            raise BridgeRefused(f"where a turn with a tool call ends cannot be told: {gap!r}")
        return followed[at:]


def _proven(after: Callable[[int, Sequence[Message]], str], histories: Sequence[Sequence[Message]]) -> str:
    """The text that follows after all the histories, of which one may be beyond the template.

    Raises:
        BridgeRefused: the texts differ, or there are too few.
    """
    found: list[str] = []
    refusal = ""
    for number, history in enumerate(histories):
        try:
            found.append(after(number, history))
        except RenderError as error:
            refusal = str(error)
    if len(set(found)) > 1:
        first, second, *_ = dict.fromkeys(found)
        raise BridgeRefused(f"what follows an assistant turn depends on earlier messages: {_difference(first, second)}")
    if len(found) < min(2, len(histories)):
        raise BridgeRefused(f"the template renders too few synthetic conversations to prove a bridge: {refusal}")
    return found[0]


def _as_the_prompt_shows(ways: list[tuple[Switch, str]], prompt_end: str) -> list[tuple[Switch, str]]:
    """Those ways that lead to the generation prompt at the prompt's end; all, where it ends in none."""
    openings = {switch.opening for switch, _ in ways}
    shown = max((text for text in openings if text and prompt_end.endswith(text)), key=len, default=None)
    return [way for way in ways if shown is None or way[0].opening in (shown, None)]


def _calls_for(results: Sequence[Message], calls: Sequence[ToolCall], number: int, marker: str) -> tuple[ToolCall, ...]:
    """Synthetic calls that the results answer, the marker in the last one's arguments. Names that are not known differ
    from history to history, so that a continuation which depends on them is found out."""
    by_id = {call.id: call.name for call in calls if call.id is not None}
    made = []
    for k, result in enumerate(results):
        in_order = calls[k].name if k < len(calls) else result.name
        known = by_id.get(result.tool_call_id, in_order) if result.tool_call_id is not None else in_order
        value = marker if k == len(results) - 1 else "x"
        made.append(ToolCall(known or f"look_up_{number}", {"value": value}, result.tool_call_id or f"call0000{k}"))
    return tuple(made)


def _after(marker: str, text: str) -> str:
    if marker not in text:
        raise BridgeRefused("the template does not print what an assistant turn says")
    return text.rpartition(marker)[2]


def _difference(first: str, second: str) -> str:
    at = next((k for k, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), min(len(first), len(second)))
    return f"…{first[max(0, at - 20) : at + 40]!r} or …{second[max(0, at - 20) : at + 40]!r}"
