"""The form of a model family: a page that describes a format, and holds no logic of its own.

A family states its pieces for the start of a conversation and for each message, its tags, its close, its stop tokens.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import takewhile
from typing import Any

from tickertape.renderers.errors import RenderError
from tickertape.renderers.history import History as History
from tickertape.renderers.messages import Message, Tool, ToolCall
from tickertape.renderers.parsing import ResponseFormat
from tickertape.renderers.pieces import Kind, Piece, Placed, place
from tickertape.renderers.renderer import Renderer
from tickertape.renderers.tokenizer import TokenizerLike


@dataclass(frozen=True, slots=True)
class Place:
    """The place of a message while it is rendered."""

    messages: Sequence[Message]
    index: int
    last_query: int
    """Index of the last real user message: what comes after it is the running exchange."""
    exact: bool
    """True if an assistant message is shown as it was sampled, wherever it stands (``history="exact"``); else it is
    shown as the model's template shows it."""
    earlier_calls: Callable[[], Sequence[ToolCall]] = tuple
    """Tool calls made right before ``messages``: those of the completion that a bridge extends."""
    generation_prompt: bool = True
    """True if an assistant's turn is opened after the last message."""
    tools: Sequence[Tool] = ()
    """The tools that were offered, for formats that show turns differently with them; none in a bridge."""
    first: int | None = None
    """Index of the message after the leading system message; ``None`` in a bridge, whose prompt had both."""

    @property
    def system(self) -> Message | None:
        """The leading system message, for formats that show it inside a turn; ``None`` in a bridge."""
        return self.messages[0] if self.first == 1 else None

    @property
    def is_first(self) -> bool:
        """Returns True if the conversation's first turn stands here."""
        return self.index == self.first

    @property
    def message(self) -> Message:
        return self.messages[self.index]

    @property
    def is_last(self) -> bool:
        return self.index == len(self.messages) - 1

    @property
    def is_running(self) -> bool:
        """Returns True if the message belongs to the running exchange, as templates ask that strip older thoughts."""
        return self.index > self.last_query

    def neighbour_has_role(self, offset: int, role: str) -> bool:
        """Returns True if the message ``offset`` places away exists and has that role."""
        at = self.index + offset
        return 0 <= at < len(self.messages) and self.messages[at].role == role

    def open_calls(self) -> Sequence[ToolCall]:
        """The latest tool calls made before this message."""
        earlier = reversed(self.messages[: self.index])
        return next((message.tool_calls for message in earlier if message.tool_calls), None) or self.earlier_calls()

    def called_name(self) -> str | None:
        """The function whose result this message is: that of the call with its ``tool_call_id``; else the ``name`` it
        bears itself; else, its place among the results is that of its call among the calls. ``None`` where nothing
        was called.

        After a bridge the ids are those that its caller knows; where it knows none, the last two decide.
        """
        message, before = self.message, self.messages[: self.index]
        if message.tool_call_id is not None:
            made = [call for earlier in before for call in earlier.tool_calls if call.id == message.tool_call_id]
            if made := made or [call for call in self.earlier_calls() if call.id == message.tool_call_id]:
                return made[-1].name
        calls = self.open_calls()
        if message.name is not None or not calls:
            return message.name
        since = takewhile(lambda earlier: not earlier.tool_calls, reversed(before))
        number = sum(earlier.role == "tool" for earlier in since)
        return calls[min(number, len(calls) - 1)].name


class Format(Renderer):
    """A renderer for a known family. A subclass is a page: it states the format and holds no logic of its own.

    Args:
        tokenizer: the model's.
        history: ``"exact"`` shows every assistant message as it would have been sampled where it stands, so that whole
            conversations render to what bridging makes of them; ``"template"`` does what the model's template does, for
            instance strip the thoughts of earlier exchanges.

    Raises:
        RenderError: the vocabulary lacks the format's control tokens.
    """

    markers: tuple[str, ...] = ()
    """Control tokens without which this format cannot be written."""
    stop_tokens: tuple[str, ...] = ()
    """Stop tokens, the one that closes a turn first; those that the vocabulary lacks are left out."""
    close: tuple[Piece, ...] = ()
    """The pieces that close an assistant turn and lead to the next."""
    runs_without_query: bool = False
    """True if messages without any user message among them count as the running exchange."""
    closed_by: tuple[str, ...] = ()
    """Tokens after which a turn needs no close, beside those that ``close`` begins with."""
    response: ResponseFormat = ResponseFormat(stop_ids=())
    """Reasoning and tool-call syntax; stop ids are filled in from ``stop_tokens``."""

    def __init__(self, tokenizer: TokenizerLike, *, history: History | str = History.EXACT) -> None:
        super().__init__(tokenizer, tags=self.response.speakable)
        self.history = History(history)
        self.seam = Kind.OUTPUT if self.history is History.EXACT else None
        missing = [marker for marker in self.markers if marker not in self.tokenizer.control]
        if missing:
            raise RenderError(
                f"{self.name} needs the control tokens {', '.join(missing)}, which {self.tokenizer.name} does not have"
            )
        self._closed_by = {self.tokenizer.control.get(token) for token in self.closed_by}
        own = [self.tokenizer.control[token] for token in self.stop_tokens if token in self.tokenizer.control]
        stop_ids = tuple(dict.fromkeys([*own, *self.tokenizer.stop_ids]))
        self.response_format = replace(self.response, stop_ids=stop_ids)

    def check(self, messages: Sequence[Message]) -> None:
        """Refuses whole conversations that the format's template refuses.

        Raises:
            RenderError: it cannot express them.
        """

    def check_turns(self, start: Place) -> None:
        """Refuses what the format's template refuses of the messages from ``start`` on: orders of roles, for instance.
        They are a conversation's, or those after a bridge, in front of which an assistant's turn stands.

        Raises:
            RenderError: it cannot express them.
        """

    @abstractmethod
    def start(self, system: Message | None, tools: Sequence[Tool]) -> Iterable[Piece]:
        """Pieces before the first turn: the leading system message, if there is one, and the tools."""

    @abstractmethod
    def turn(self, place: Place) -> Iterable[Piece]:
        """Pieces of one message, its close and separator included."""

    @abstractmethod
    def generation_prompt(self) -> Iterable[Piece]:
        """Pieces that open the assistant's turn."""

    def generation_prompt_after(self, last: Message | None) -> Iterable[Piece]:  # noqa: ARG002
        """The same, in formats where a turn goes on after some messages."""
        return self.generation_prompt()

    def closing(self, calls: Callable[[], Sequence[ToolCall]]) -> Iterable[Piece]:  # noqa: ARG002
        """Returns what closes a sampled turn, in formats where that depends on the calls in it."""
        return self.close

    @classmethod
    def options_shown(cls, rendered: str) -> dict[str, Any]:  # noqa: ARG003
        """Options that can be read off what the model's own template makes of one question without system message:
        a default system message, a date."""
        return {}

    def _conversation(
        self, messages: list[Message], tools: Sequence[Tool] | None, *, generation_prompt: bool
    ) -> Iterator[Placed]:
        if not messages:
            raise RenderError("there are no messages to render")
        messages = [self._known_role(message) for message in messages]
        self.check(messages)
        first = int(messages[0].role == "system")
        without_query = -1 if self.runs_without_query else len(messages) - 1
        nowhere = Place(messages, first, without_query, self.history is History.EXACT)
        start = replace(nowhere, generation_prompt=generation_prompt, tools=tools or (), first=first)
        self.check_turns(start)
        yield from place(first - 1, self.start(messages[0] if first else None, tools or ()))
        yield from self._turns(start)
        if generation_prompt:
            yield from place(-1, self.generation_prompt_after(messages[-1]))

    def _continuation(
        self,
        prompt_ids: Sequence[int],
        completion_ids: Sequence[int],
        messages: list[Message],
        tools: Sequence[Tool] | None,  # noqa: ARG002
        call_ids: Sequence[str | None],
    ) -> Iterator[Placed]:
        @cache
        def calls() -> Sequence[ToolCall]:
            return self._sampled_calls(prompt_ids, completion_ids, call_ids)

        messages = [self._known_role(message) for message in messages]
        # New messages without a query carry on an exchange that is running.
        start = Place(messages, 0, -1, self.history is History.EXACT, calls)
        self.check_turns(start)
        if not completion_ids or completion_ids[-1] not in self._closed_by:
            yield from place(-1, self.closing(calls))
        yield from self._turns(start)
        yield from place(-1, self.generation_prompt_after(messages[-1]))

    def _generation_prompt(self) -> Iterable[Piece]:
        return self.generation_prompt()

    def _turns(self, start: Place) -> Iterator[Placed]:
        """All turns from ``start`` on; its ``last_query`` holds where no message is a query."""
        messages = start.messages
        queries = (k for k in reversed(range(len(messages))) if self.is_query(messages[k]))
        last_query = next(queries, start.last_query)
        for index in range(start.index, len(messages)):
            yield from place(index, self.turn(replace(start, index=index, last_query=last_query)))

    def is_query(self, message: Message) -> bool:
        """Returns True if a message is a user's own, which starts a new exchange."""
        return message.role == "user"

    def _known_role(self, message: Message) -> Message:
        """``developer`` is a system message to every model that has no such role."""
        if message.role != "developer":
            return message
        return Message("system", message.content, name=message.name)

    def calls(self, message: Message) -> Iterator[Piece]:
        """Pieces of an assistant message's tool calls, in the family's syntax."""
        if message.tool_calls and self.response.tool_calls:
            yield from self.response.tool_calls.write(message.tool_calls)


def system_shown(rendered: str, opening: str, closing: str) -> dict[str, str]:
    """The option ``default_system``, as far as a rendering begins with one between ``opening`` and ``closing``."""
    if not rendered.startswith(opening) or closing not in rendered:
        return {}
    return {"default_system": rendered[len(opening) :].split(closing)[0]}
