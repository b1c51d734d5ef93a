"""A message while it is being read, and the deltas that tell of its growth.

All deltas together are the message (STREAM): what is not certain to stay, such as a newline that belongs to the format
if a tool call follows it, is held until it is.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import TypeAlias

from tickertape.renderers.messages import Message, ToolCall
from tickertape.renderers.prompt import CallStatus, ParsedCall


@dataclass(frozen=True, slots=True)
class ContentDelta:
    """More content."""

    text: str


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    """More reasoning."""

    text: str


@dataclass(frozen=True, slots=True)
class CallDelta:
    """A new tool call (``name`` is set), or more of its arguments."""

    index: int
    """Of the call in the message."""
    arguments: str = ""
    """More of the arguments' JSON text."""
    name: str | None = None
    id: str | None = None
    """The call's id, where the model itself writes one."""


Delta: TypeAlias = ContentDelta | ReasoningDelta | CallDelta


@dataclass(frozen=True, slots=True)
class Padding:
    """White space that a format puts around the parts of a message, and that is none of their own."""

    lead_in: str = ""
    """Characters stripped from the beginning of the answer, be it a thought or content."""
    thought: str = "\n"
    """Characters stripped from both ends of the reasoning."""
    after_thought: str = "\n"
    """Characters stripped between a thought and the content."""
    before_calls: str = "\n"
    """Stands between the content and the first call."""
    after_call: str = "\n"
    """Stands between two calls, and after the last."""
    lead: str = ""
    """Stands in front of the content."""


#: Of a format that puts no white space anywhere.
UNPADDED = Padding(thought="", after_thought="", before_calls="", after_call="")


class Draft:
    """Gathers a message from what a format's reader finds.

    Args:
        padding: the format's own white space.
        tool_names: the tools that were offered; ``None`` leaves names unchecked.
    """

    def __init__(self, padding: Padding, tool_names: Collection[str] | None = None) -> None:
        self._padding = padding
        self._deltas: list[Delta] = []
        self._content: list[str] = []
        self._reasoning: list[str] = []
        self._has_thought = False
        self._held_thought = ""
        self._held = ""
        """The end of the content, as far as it may be a call's padding."""
        self._lead_in = padding.lead_in
        """Characters that are padding as long as nothing else has come."""
        self._to_drop = padding.lead
        self._breaks_line = False
        self._breaks_thought = False
        self._open_call = ToolCall("", "")
        self._arguments: list[str] = []
        self._n_calls = 0
        self._tool_names = tool_names
        self.calls: list[ParsedCall] = []
        self.in_thought = False
        """True if what was read last stands inside a thought."""

    def take_deltas(self) -> list[Delta]:
        """Returns what has become certain since this was last asked."""
        deltas, self._deltas = self._deltas, []
        return deltas

    @property
    def has_content(self) -> bool:
        """Returns True if anything was said yet."""
        return bool(self._content or self._held)

    def begin_part(self) -> None:
        """Begins a line of its own with what is thought or said from here on."""
        self._breaks_line = self._breaks_thought = True

    # Reasoning.

    def open_thought(self) -> None:
        if self._has_thought:  # one after the other, not glued together
            self.begin_part()
        self.in_thought = True
        self._lead_in = "" if self.has_content else self._padding.after_thought
        self._has_thought = True

    def close_thought(self) -> None:
        self.in_thought = False

    def think(self, text: str) -> None:
        """More of an open thought."""
        text = self._held_thought + text
        if self._breaks_thought and text and self._reasoning:
            text = "\n" + text
        self._breaks_thought = self._breaks_thought and not text
        if not self._reasoning:
            text = text.lstrip(self._padding.thought) if self._padding.thought else text
        said = text.rstrip(self._padding.thought) if self._padding.thought else text
        self._held_thought = text[len(said) :]
        if said:
            self._reasoning.append(said)
            self._deltas.append(ReasoningDelta(said))

    # Content.

    def say(self, text: str) -> None:
        """More content."""
        if self._lead_in:
            text = text.lstrip(self._lead_in)
            if not text:
                return
            self._lead_in = ""
        while self._to_drop and text:
            self._to_drop, text = (self._to_drop[1:], text[1:]) if text[0] == self._to_drop[0] else ("", text)
        text = self._held + text
        held = self._held_back(text)
        self._held = text[len(text) - held :]
        self._emit_content(text[: len(text) - held])

    def say_verbatim(self, text: str) -> None:
        """Content that is to stay as it is: a call that cannot be read."""
        self._lead_in, self._to_drop = "", ""
        self._emit_content(self._held + text)
        self._held = ""

    def _emit_content(self, text: str) -> None:
        if not text:
            return
        if self._breaks_line and self._content:
            text = "\n" + text
        self._breaks_line = False
        self._content.append(text)
        self._deltas.append(ContentDelta(text))

    def _held_back(self, text: str) -> int:
        padding = self._padding.before_calls
        if not text.endswith(tuple(padding)):
            return 0
        return next((k for k in range(len(padding), 0, -1) if text.endswith(padding[:k])), 0)

    # Tool calls.

    def open_call(self, name: str, call_id: str | None = None) -> None:
        """A call whose name is certain; its arguments follow."""
        self._drop_padding()
        self._open_call, self._arguments = ToolCall(name, "", call_id), []
        self._deltas.append(CallDelta(self._n_calls, name=name, id=call_id))
        self._n_calls += 1

    @property
    def arguments(self) -> str:
        """The arguments of the open call, as far as they have come."""
        return "".join(self._arguments)

    def argue(self, text: str) -> None:
        """More of the open call's arguments, as JSON text."""
        if text:
            self._arguments.append(text)
            self._deltas.append(CallDelta(self._n_calls - 1, arguments=text))

    def close_call(self, status: CallStatus, raw: str, *, built_in: bool = False) -> None:
        """Ends the open call; ``raw`` is its text, from the opening tag to the closing one. A ``built_in`` tool
        need not be among those that were offered."""
        call = replace(self._open_call, arguments=self.arguments)
        is_known = built_in or self._tool_names is None or call.name in self._tool_names
        if status in (CallStatus.OK, CallStatus.REPAIRED) and not is_known:
            status = CallStatus.UNKNOWN_TOOL
        self.calls.append(ParsedCall(status, raw, call))
        self._to_drop, self._breaks_line = self._padding.after_call, True

    def note_unreadable(self, status: CallStatus, raw: str) -> None:
        """Notes a call that cannot be read, whose text :meth:`say_verbatim` got."""
        self.calls.append(ParsedCall(status, raw, None))

    def _drop_padding(self) -> None:
        self._held = ""
        self._lead_in = ""

    def finish(self) -> None:
        """No call follows any more, so nothing is padding."""
        self._emit_content(self._held)
        self._held = ""

    def message(self) -> Message:
        return Message(
            role="assistant",
            content="".join(self._content),
            reasoning="".join(self._reasoning) if self._has_thought else None,
            tool_calls=tuple(parsed.call for parsed in self.calls if parsed.call is not None),
        )
