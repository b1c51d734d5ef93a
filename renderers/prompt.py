"""The results of rendering and parsing."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

from tickertape.renderers.messages import Message, ToolCall
from tickertape.renderers.pieces import Kind

#: ``(message, kind, n_tokens)``: so many tokens of one message and kind. The message is an index into those that were
#: rendered; -1 for tokens of none of them (the generation prompt, or what stood there before a bridge).
Span: TypeAlias = tuple[int, Kind, int]


@dataclass(frozen=True, slots=True)
class Prompt:
    """Token ids, and where each comes from."""

    token_ids: list[int] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)
    """Runs over ``token_ids``; no two neighbours are alike, and none is empty."""

    def __len__(self) -> int:
        return len(self.token_ids)

    @property
    def messages(self) -> list[int]:
        """For each token the index of its message, or -1."""
        return [message for message, _, n_tokens in self.spans for _ in range(n_tokens)]

    @property
    def kinds(self) -> list[Kind]:
        """For each token its kind."""
        return [kind for _, kind, n_tokens in self.spans for _ in range(n_tokens)]

    def add(self, token_ids: Sequence[int], message: int, kind: Kind) -> None:
        """Appends tokens of one message and kind."""
        self.token_ids.extend(token_ids)
        self.add_span(message, kind, len(token_ids))

    def add_span(self, message: int, kind: Kind, n_tokens: int) -> None:
        """Says where the next tokens come from."""
        if self.spans and self.spans[-1][:2] == (message, kind):
            n_tokens += self.spans.pop()[2]
        if n_tokens:
            self.spans.append((message, kind, n_tokens))

    def extend(self, other: "Prompt") -> None:
        """Appends another prompt."""
        self.token_ids.extend(other.token_ids)
        for span in other.spans:
            self.add_span(*span)

    def behind(self, start: int) -> "Prompt":
        """The prompt from token ``start`` on."""
        rest = Prompt(self.token_ids[start:])
        at = 0
        for message, kind, n_tokens in self.spans:
            at += n_tokens
            rest.add_span(message, kind, max(0, min(n_tokens, at - start)))
        return rest


class CallStatus(StrEnum):
    """The outcome of reading a tool call that the model wrote."""

    OK = "ok"
    REPAIRED = "repaired"
    """Not quite as the format has it, but only one call can be meant, which it was taken for."""
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
    """True if the model closed its turn with a stop token."""
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
