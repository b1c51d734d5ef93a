"""The verbs of a renderer, written once for all families.

A kind of renderer says what a conversation looks like in pieces (:class:`~tickertape.renderers.format.Format` for the
known families, :class:`~tickertape.renderers.template.renderer.TemplateRenderer` for any other model); the verbs make
prompts, bridges, parsed messages and training weights of that.
"""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import chain, repeat
from typing import Any

from tickertape.renderers.draft import UNPADDED
from tickertape.renderers.encoder import Encoder
from tickertape.renderers.errors import BridgeRefused, RenderError
from tickertape.renderers.messages import Message, MessageLike, Tool, ToolCall, as_messages
from tickertape.renderers.parsing import ResponseFormat, StreamParser
from tickertape.renderers.pieces import Kind, Piece, Placed, output_markup, place
from tickertape.renderers.prompt import ParsedResponse, Prompt
from tickertape.renderers.reasoning import ThoughtAt
from tickertape.renderers.supervised import TrainOn, supervised_weights
from tickertape.renderers.tokenizer import Tokenizer, TokenizerLike, as_ids
from tickertape.renderers.tool_calls.offered import Offered

#: So many tokens of a bridge the model may have sampled after its stop token.
_LONGEST_OVERLAP = 16
#: So many tokens at the end of a prompt show whether it opens a thought.
_PROMPT_END = 16


class Renderer(ABC):
    """Messages to token ids and back, for one model. Pure functions over lists; safe to share between threads."""

    name: str
    tokenizer: Tokenizer
    encoder: Encoder
    response_format: ResponseFormat
    seam: Kind | None = None
    """The kind of words that no token reaches into from before, in whole conversations: :attr:`Kind.OUTPUT` where they
    are rendered as they were sampled."""

    def __init__(self, tokenizer: TokenizerLike, *, tags: Sequence[str] = ()) -> None:
        self.tokenizer = Tokenizer.load(tokenizer)
        self.encoder = Encoder(self.tokenizer, tags)

    @cached_property
    def client_options(self) -> Mapping[str, Any]:
        """Options of the format that a request may set, by name, and their types: a family's own, but not how it treats
        histories."""
        parameters = inspect.signature(type(self)).parameters.values()
        own = {each.name: each.annotation for each in parameters if each.kind is each.KEYWORD_ONLY}
        own.pop("history", None)
        return own

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
        self,
        prompt_ids: Sequence[int],
        completion_ids: Sequence[int],
        messages: list[Message],
        tools: Sequence[Tool] | None,
        call_ids: Sequence[str | None],
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
        pieces = self._conversation(as_messages(messages), tools, generation_prompt=True)
        return self.encoder.encode(pieces, split_before=self.seam)

    def build_conversation(self, messages: Iterable[MessageLike], tools: Sequence[Tool] | None = None) -> Prompt:
        """Renders whole messages to token ids, with nothing opened after the last one. Raises as
        :meth:`build_generation_prompt`."""
        pieces = self._conversation(as_messages(messages), tools, generation_prompt=False)
        return self.encoder.encode(pieces, split_before=self.seam)

    def bridge_suffix(
        self,
        completion_ids: Sequence[int],
        new_messages: Iterable[MessageLike],
        tools: Sequence[Tool] | None = None,
        *,
        prompt_ids: Sequence[int] = (),
        call_ids: Sequence[str | None] = (),
    ) -> Prompt:
        """Returns what must be appended to a completion so that the next turn can be sampled: the turn's close as far
        as the model did not sample it itself, the new messages, the generation prompt. Indices count ``new_messages``.

        Args:
            completion_ids: what the model sampled.
            new_messages: what follows.
            tools: the tools that are offered.
            prompt_ids: what the completion was sampled from, or its last hundreds of tokens. A chat template may be
                switched by earlier messages; how the prompt ends shows it. Without them such a template is refused.
            call_ids: under which the completion's tool calls, in order, are answered; models sample none. Without them
                results answer the calls in order.

        Raises:
            BridgeRefused: that this extends the turn exactly cannot be proven.
            RenderError, ValueError: as :meth:`build_generation_prompt`.
        """
        completion_ids, prompt_ids = as_ids(completion_ids), as_ids(prompt_ids)
        messages = as_messages(new_messages)
        if not messages:
            raise BridgeRefused("there is no new message to answer")
        continuation = self._continuation(prompt_ids, completion_ids, messages, tools, call_ids)
        suffix = self.encoder.encode(continuation, continues=True)
        stops = self.get_stop_sequences()
        if not set(stops).isdisjoint(suffix.token_ids[: (n_there := _overlap(completion_ids, suffix))]):
            return suffix.behind(n_there)
        is_closed = bool(completion_ids) and completion_ids[-1] in stops
        if not is_closed and self._ends_in_thought(prompt_ids, completion_ids):
            unfinished = output_markup(self.response_format.unfinished_close)
            closed = self.encoder.encode(place(-1, [unfinished]), continues=True)
            closed.extend(suffix)
            return closed
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
            suffix = self.bridge_suffix(completion_ids, new_messages, tools, prompt_ids=prompt_ids)
        except BridgeRefused:
            return None
        bridged = Prompt()
        bridged.add(as_ids(prompt_ids), -1, Kind.SCAFFOLD)
        bridged.add(as_ids(completion_ids), -1, Kind.SAMPLED)
        bridged.extend(suffix)
        return bridged

    def parse_response(
        self,
        token_ids: Sequence[int],
        tools: Sequence[Tool] | None = None,
        *,
        read_calls: bool = True,
        prompt_ids: Sequence[int] | None = None,
    ) -> ParsedResponse:
        """Sampled token ids to a message. Never raises on what a model wrote; see :class:`ParsedResponse`.

        Args:
            token_ids: the completion, stop token included where it was sampled.
            tools: the tools that were offered; with ``None``, names of called tools are not checked.
            read_calls: ``False`` leaves tool calls as the text that they are written in.
            prompt_ids: what the completion was sampled from, or the last tokens of it: whether a thought was opened for
                the model, which in some formats it is only after a user message. ``None`` supposes the usual prompt.
        """
        parser = self.stream_parser(tools, read_calls=read_calls, prompt_ids=prompt_ids)
        parser.feed(token_ids)
        parser.finish()
        return parser.response()

    def stream_parser(
        self,
        tools: Sequence[Tool] | None = None,
        *,
        read_calls: bool = True,
        prompt_ids: Sequence[int] | None = None,
    ) -> StreamParser:
        """Returns a parser that does what :meth:`parse_response` does, while the completion is sampled: feed ids in any
        chunks, get deltas. Arguments as there."""
        response_format = self.response_format if read_calls else self.response_format.without_calls()
        if prompt_ids is not None and response_format.reasoning:
            opened = self.thought_at(prompt_ids) is ThoughtAt.INSIDE
            response_format = replace(response_format, starts_in_reasoning=opened)
        return StreamParser(self.tokenizer, response_format, Offered(tools))

    def text_parser(self) -> StreamParser:
        """Reads a completion as plain text: no reasoning and no calls in it."""
        plain = ResponseFormat(stop_ids=tuple(self.get_stop_sequences()), padding=UNPADDED)
        return StreamParser(self.tokenizer, plain, Offered(None))

    def thought_at(self, prompt_ids: Sequence[int]) -> ThoughtAt:
        """Returns what a prompt, or the last tokens of it, leaves of a thought to the model."""
        reasoning = self.response_format.reasoning
        if reasoning is None:
            return ThoughtAt.BEFORE if self.response_format.thinks else ThoughtAt.BEHIND
        ending = self.tokenizer.decode(as_ids(prompt_ids[-_PROMPT_END:])).rstrip()
        if ending.endswith((reasoning.open + reasoning.label).rstrip()):
            return ThoughtAt.INSIDE
        return ThoughtAt.BEHIND if ending.endswith(reasoning.close.rstrip()) else ThoughtAt.BEFORE

    def get_stop_sequences(self) -> list[int]:
        """Token ids that end an assistant turn, the usual one first."""
        return list(self.response_format.stop_ids)

    def build_supervised_example(
        self,
        messages: Iterable[MessageLike],
        tools: Sequence[Tool] | None = None,
        train_on: TrainOn | Sequence[bool] = TrainOn.LAST_ASSISTANT_MESSAGE,
    ) -> tuple[list[int], list[float]]:
        """Token ids and one loss weight for each, for supervised fine-tuning.

        Weight 1.0 stands on what the model would have sampled, its stop token included; what its prompt would have
        held (role header, a thought opened for it, the separator after the stop token) weighs 0.0.

        Args:
            messages: the conversation.
            tools: the tools that were offered.
            train_on: which messages are trained, or a flag for each message.

        Raises:
            RenderError: as :meth:`build_generation_prompt`; or a chat template rewrites the messages, so that it is
                not known whose its tokens are.
            ValueError: a message is malformed, or there are not as many flags as messages.
        """
        given = as_messages(messages)
        prompt = self.encoder.encode(
            self._conversation(given, tools, generation_prompt=False), split_before=Kind.OUTPUT
        )
        if train_on is not TrainOn.ALL_TOKENS and {message for message, _, _ in prompt.spans} == {-1}:
            raise RenderError("the chat template rewrites these messages: which tokens come from which cannot be told")
        opening = self.encoder.encode(place(-1, self._generation_prompt()), continues=True).token_ids
        return prompt.token_ids, supervised_weights(prompt, given, opening, train_on)

    def _sampled_calls(
        self, prompt_ids: Sequence[int], completion_ids: Sequence[int], call_ids: Sequence[str | None]
    ) -> tuple[ToolCall, ...]:
        """The tool calls of a completion, under the ids that they got."""
        calls = self.parse_response(completion_ids, prompt_ids=prompt_ids or None).tool_calls
        ids = chain(call_ids, repeat(None))
        return tuple(replace(call, id=known or call.id) for call, known in zip(calls, ids, strict=False))

    def _ends_in_thought(self, prompt_ids: Sequence[int], completion_ids: Sequence[int]) -> bool:
        parser = self.stream_parser(prompt_ids=prompt_ids or None)
        parser.feed(completion_ids)
        parser.finish()
        return parser.in_thought


def _overlap(completion_ids: Sequence[int], suffix: Prompt) -> int:
    """Counts the tokens at the beginning of a bridge that the model sampled already: its stop token, and what it wrote
    after that as the format has it."""
    longest = min(_LONGEST_OVERLAP, len(suffix), len(completion_ids))
    ends = (n for n in range(longest, 0, -1) if list(completion_ids[-n:]) == suffix.token_ids[:n])
    return next(ends, 0)
