"""What rendering and parsing give back."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import groupby

from tickertape.renderers.messages import Message, ToolCall
from tickertape.renderers.pieces import Kind


@dataclass(frozen=True, slots=True)
class Prompt:
    """Token ids with, for each token, the message it comes from and its kind. Three lists of one length."""

    token_ids: list[int] = field(default_factory=list)
    messages: list[int] = field(default_factory=list)
    """Index into the messages that were rendered; -1 for tokens of none of them (the generation prompt, or what stood
    there before a bridge)."""
    kinds: list[Kind] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.token_ids)

    def spans(self) -> Iterator[tuple[int, Kind, int]]:
        """Run lengths: ``(message, kind, n_tokens)`` in order."""
        for (message, kind), run in groupby(zip(self.messages, self.kinds, strict=True)):
            yield message, kind, sum(1 for _ in run)


class CallStatus(StrEnum):
    """What became of a tool call that the model wrote."""

    OK = "ok"
    INVALID_JSON = "invalid_json"
    """The call's body is not JSON."""
    MALFORMED = "malformed"
    """JSON, but not a name with an object of arguments."""
    UNCLOSED = "unclosed"
    """The closing tag never came."""
    UNKNOWN_TOOL = "unknown_tool"
    """Well-formed, but no tool of that name was offered."""


@dataclass(frozen=True, slots=True)
class ParsedCall:
    """One tool call as written, readable or not."""

    status: CallStatus
    raw: str
    """The text from the opening tag to the closing one, both included."""
    call: ToolCall | None
    """The call, where name and arguments could be read; else its raw text stays in the message's content."""


@dataclass(frozen=True, slots=True)
class ParsedResponse:
    """A sampled completion as a message. Nothing of the completion is dropped: what is no part of the message is in
    ``rest``."""

    message: Message
    complete: bool
    """Whether the model closed its turn with a stop token."""
    stop_token: int | None
    """The stop token that closed it."""
    calls: tuple[ParsedCall, ...] = ()
    """Every tool call in order, the unreadable ones too; ``message.tool_calls`` has the readable ones."""
    rest: tuple[int, ...] = ()
    """Token ids that were sampled after the stop token (``ignore_eos``)."""

    @property
    def content(self) -> str:
        return self.message.text

    @property
    def reasoning(self) -> str | None:
        return self.message.reasoning

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        return self.message.tool_calls
