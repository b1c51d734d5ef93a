"""The verbs of a renderer, written once for all families.

A family says what its format looks like (:class:`Format`: pieces for the start of a conversation and for each message,
tags, close, stop tokens); a renderer turns that into prompts, bridges, parsed messages and training weights.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import repeat
from typing import Any

from tickertape.renderers.encoder import Encoder
from tickertape.renderers.errors import BridgeRefused, RenderError
from tickertape.renderers.messages import Message, MessageLike, Tool, as_messages
from tickertape.renderers.parsing import ResponseFormat, ends_in_reasoning, parse
from tickertape.renderers.pieces import Kind, Piece, Placed, output_markup, place
from tickertape.renderers.prompt import ParsedResponse, Prompt
from tickertape.renderers.supervised import TrainOn, supervised_weights
from tickertape.renderers.tokenizer import Tokenizer, TokenizerLike


@dataclass(frozen=True, slots=True)
class Place:
    """Where a message stands while it is rendered."""

    messages: Sequence[Message]
    index: int
    last_query: int
    """Index of the last real user message: what comes after it is the running exchange."""

    @property
    def message(self) -> Message:
        return self.messages[self.index]

    @property
    def is_last(self) -> bool:
        return self.index == len(self.messages) - 1

    def neighbour_has_role(self, offset: int, role: str) -> bool:
        """Whether the message ``offset`` places away exists and has that role."""
        at = self.index + offset
        return 0 <= at < len(self.messages) and self.messages[at].role == role


class Renderer(ABC):
    """Messages to token ids and back, for one model. Pure functions over lists; safe to share between threads."""

    name: str
    tokenizer: Tokenizer
    encoder: Encoder
    response_format: ResponseFormat

    def __init__(self, tokenizer: TokenizerLike, *, tags: Sequence[str] = ()) -> None:
        self.tokenizer = Tokenizer.load(tokenizer)
        self.encoder = Encoder(self.tokenizer, tags)

    # What a kind of renderer provides.

    @abstractmethod
    def _conversation(
        self, messages: list[Message], tools: Sequence[Tool] | None, *, generation_prompt: bool
    ) -> Iterable[Placed]:
        """Pieces of a whole conversation.

        Raises:
            RenderError: the format cannot express it.
        """

    @abstractmethod
    def _generation_prompt(self) -> Iterable[Piece]:
        """Pieces of what comes before the assistant's first sampled token."""

    @abstractmethod
    def _continuation(
        self, completion_ids: Sequence[int], messages: list[Message], tools: Sequence[Tool] | None
    ) -> Iterable[Placed]:
        """Pieces that follow the assistant's last word: the turn's close, the new messages, the generation prompt.

        Raises:
            BridgeRefused: they depend on more than what is known here.
        """

    # The verbs.

    def build_generation_prompt(self, messages: Iterable[MessageLike], tools: Sequence[Tool] | None = None) -> Prompt:
        """Messages to token ids, ending where the assistant starts.

        Raises:
            RenderError: the format cannot express these messages.
            ValueError: a message is malformed.
        """
        return self.encoder.encode(self._conversation(as_messages(messages), tools, generation_prompt=True))

    def build_conversation(self, messages: Iterable[MessageLike], tools: Sequence[Tool] | None = None) -> Prompt:
        """Whole messages to token ids, with nothing opened after the last one. Raises as
        :meth:`build_generation_prompt`."""
        return self.encoder.encode(self._conversation(as_messages(messages), tools, generation_prompt=False))

    def bridge_suffix(
        self, completion_ids: Sequence[int], new_messages: Iterable[MessageLike], tools: Sequence[Tool] | None = None
    ) -> Prompt:
        """What must be appended to a completion so that the next turn can be sampled: the turn's close as far as the
        model did not sample it itself, the new messages, the generation prompt. Indices count ``new_messages``.

        Raises:
            BridgeRefused: that this extends the turn exactly cannot be proven.
            RenderError, ValueError: as :meth:`build_generation_prompt`.
        """
        messages = as_messages(new_messages)
        if not messages:
            raise BridgeRefused("there is no new message to answer")
        suffix = self.encoder.encode(self._continuation(completion_ids, messages, tools), continues=True)
        closed_by = completion_ids[-1] if completion_ids and completion_ids[-1] in self.get_stop_sequences() else None
        if closed_by is not None and suffix.token_ids[:1] == [closed_by]:
            return Prompt(suffix.token_ids[1:], suffix.messages[1:], suffix.kinds[1:])
        if closed_by is None and ends_in_reasoning(self.tokenizer, self.response_format, completion_ids):
            return _concatenate(self._close_thought(), suffix)
        return suffix

    def bridge_to_next_turn(
        self,
        prompt_ids: Sequence[int],
        completion_ids: Sequence[int],
        new_messages: Iterable[MessageLike],
        tools: Sequence[Tool] | None = None,
    ) -> Prompt | None:
        """Extends what the model really read and wrote by new messages (PREFIX).

        ``prompt_ids + completion_ids`` is an exact prefix of the result, whatever the completion holds: a turn cut off
        by a limit is closed, one that ended on another stop token too. ``None`` where that cannot be proven;
        :meth:`bridge_suffix` says why. Tokens of the prefix belong to message -1.
        """
        try:
            suffix = self.bridge_suffix(completion_ids, new_messages, tools)
        except BridgeRefused:
            return None
        read, wrote = len(prompt_ids), len(completion_ids)
        # Long lists grow in place; sums of lists would be allocated anew each time, which takes longer than all else.
        bridged = Prompt([*prompt_ids, *completion_ids], [-1] * (read + wrote), [Kind.SCAFFOLD] * read)
        bridged.kinds.extend(repeat(Kind.SAMPLED, wrote))
        _append(bridged, suffix)
        return bridged

    def parse_response(
        self, token_ids: Sequence[int], tools: Sequence[Tool] | None = None, *, read_calls: bool = True
    ) -> ParsedResponse:
        """Sampled token ids to a message. Never raises on what a model wrote; see :class:`ParsedResponse`.

        Args:
            token_ids: the completion, stop token included where it was sampled.
            tools: the tools that were offered; with ``None``, names of called tools are not checked.
            read_calls: ``False`` leaves tool calls as the text that they are written in.
        """
        names = None if tools is None else {tool_name(tool) for tool in tools}
        response_format = self.response_format if read_calls else replace(self.response_format, tool_calls=None)
        return parse(self.tokenizer, response_format, token_ids, names)

    def get_stop_sequences(self) -> list[int]:
        """Token ids that end an assistant turn, the usual one first."""
        return list(self.response_format.stop_ids)

    def build_supervised_example(
        self,
        messages: Iterable[MessageLike],
        tools: Sequence[Tool] | None = None,
        train_on: TrainOn = TrainOn.LAST_ASSISTANT_MESSAGE,
    ) -> tuple[list[int], list[float]]:
        """Token ids and one loss weight for each, for supervised fine-tuning.

        Weight 1.0 stands on what the model would have sampled, its stop token included; what its prompt would have
        held (role header, a thought opened for it, the separator after the stop token) weighs 0.0.

        Raises:
            RenderError: as :meth:`build_generation_prompt`; or a chat template rewrites the messages, so that it cannot
                be told whose its tokens are.
            ValueError: a message is malformed.
        """
        given = as_messages(messages)
        prompt = self.encoder.encode(
            self._conversation(given, tools, generation_prompt=False), split_before=Kind.OUTPUT
        )
        if train_on is not TrainOn.ALL_TOKENS and set(prompt.messages) == {-1}:
            raise RenderError("the chat template rewrites these messages: which tokens come from which cannot be told")
        opening = self.encoder.encode(place(-1, self._generation_prompt()), continues=True).token_ids
        return prompt.token_ids, supervised_weights(prompt, given, opening, train_on)

    def _close_thought(self) -> Prompt:
        reasoning = self.response_format.reasoning
        if reasoning is None:
            return Prompt()
        return self.encoder.encode(place(-1, [output_markup(reasoning.unfinished_close)]), continues=True)


class Format(Renderer):
    """A renderer for a known family. A subclass is a page: it states the format and holds no logic of its own."""

    markers: tuple[str, ...] = ()
    """Control tokens without which this format cannot be written."""
    stop_tokens: tuple[str, ...] = ()
    """Stop tokens, the one that closes a turn first; those that the vocabulary lacks are left out."""
    close: tuple[Piece, ...] = ()
    """What closes an assistant turn and leads to the next."""
    response: ResponseFormat = ResponseFormat(stop_ids=())
    """Reasoning and tool-call syntax; stop ids are filled in from ``stop_tokens``."""

    def __init__(self, tokenizer: TokenizerLike) -> None:
        super().__init__(tokenizer, tags=self.response.tags)
        missing = [marker for marker in self.markers if marker not in self.tokenizer.control]
        if missing:
            raise RenderError(
                f"{self.name} needs the control tokens {', '.join(missing)}, which {self.tokenizer.name} does not have"
            )
        own = [self.tokenizer.control[token] for token in self.stop_tokens if token in self.tokenizer.control]
        stop_ids = tuple(dict.fromkeys([*own, *self.tokenizer.stop_ids]))
        self.response_format = ResponseFormat(
            stop_ids, self.response.reasoning, self.response.tool_calls, self.response.starts_in_reasoning
        )

    @abstractmethod
    def start(self, system: Message | None, tools: Sequence[Tool]) -> Iterable[Piece]:
        """Pieces before the first turn: the leading system message, if there is one, and the tools."""

    @abstractmethod
    def turn(self, place: Place) -> Iterable[Piece]:
        """Pieces of one message, its close and separator included."""

    @abstractmethod
    def generation_prompt(self) -> Iterable[Piece]:
        """Pieces that open the assistant's turn."""

    def _conversation(
        self, messages: list[Message], tools: Sequence[Tool] | None, *, generation_prompt: bool
    ) -> Iterator[Placed]:
        if not messages:
            raise RenderError("there are no messages to render")
        messages = [self._known_role(message) for message in messages]
        has_system = messages[0].role == "system"
        yield from place(0 if has_system else -1, self.start(messages[0] if has_system else None, tools or ()))
        yield from self._turns(messages, first=int(has_system), without_query=len(messages) - 1)
        if generation_prompt:
            yield from place(-1, self.generation_prompt())

    def _continuation(
        self,
        completion_ids: Sequence[int],  # noqa: ARG002
        messages: list[Message],
        tools: Sequence[Tool] | None,  # noqa: ARG002
    ) -> Iterator[Placed]:
        yield from place(-1, self.close)
        # New messages without a query carry on an exchange that is running.
        yield from self._turns([self._known_role(message) for message in messages], first=0, without_query=-1)
        yield from place(-1, self.generation_prompt())

    def _generation_prompt(self) -> Iterable[Piece]:
        return self.generation_prompt()

    def _turns(self, messages: list[Message], first: int, without_query: int) -> Iterator[Placed]:
        queries = (k for k in reversed(range(len(messages))) if self.is_query(messages[k]))
        last_query = next(queries, without_query)
        for index in range(first, len(messages)):
            yield from place(index, self.turn(Place(messages, index, last_query)))

    def is_query(self, message: Message) -> bool:
        """Whether a message is a user's own, which starts a new exchange."""
        return message.role == "user"

    def _known_role(self, message: Message) -> Message:
        """``developer`` is a system message to every model that has no such role."""
        if message.role != "developer":
            return message
        return Message("system", message.content, name=message.name)


def tool_name(tool: Tool) -> str:
    """The name of an OpenAI-shaped tool."""
    function: Mapping[str, Any] = tool.get("function", tool)
    return str(function["name"])


def _concatenate(*prompts: Prompt) -> Prompt:
    whole = Prompt()
    for prompt in prompts:
        _append(whole, prompt)
    return whole


def _append(whole: Prompt, prompt: Prompt) -> None:
    whole.token_ids.extend(prompt.token_ids)
    whole.messages.extend(prompt.messages)
    whole.kinds.extend(prompt.kinds)
