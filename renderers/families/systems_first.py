"""The common part of formats that show all system messages at the start, wherever they stand: DeepSeek's."""

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import ClassVar

from tickertape.renderers.errors import BridgeRefused, RenderError
from tickertape.renderers.format import Format, History, Place
from tickertape.renderers.messages import Message, Tool
from tickertape.renderers.pieces import Piece, Placed, content, markup, place


class SystemsFirst(Format):
    """System messages are gathered at the start; the other messages follow as if there had been none between them."""

    preamble: tuple[Piece, ...] = ()
    """Begins the conversation."""
    gathers_systems: ClassVar[bool] = True
    """True if all are gathered; in a variant of the format, later ones stand where they are."""
    shows_last_system_only: ClassVar[bool] = False
    """True if the template drops all system messages but the last."""

    @abstractmethod
    def offer(self, systems: Sequence[Message], tools: Sequence[Tool]) -> Iterable[Piece]:
        """Pieces that offer tools, after the system messages."""

    def start(self, system: Message | None, tools: Sequence[Tool]) -> Iterator[Piece]:
        systems = [] if system is None else [(0, system)]
        return (piece for _, piece in self._start(systems, tools))

    def _start(self, systems: Sequence[tuple[int, Message]], tools: Sequence[Tool]) -> Iterator[Placed]:
        yield from place(-1, self.preamble)
        for k, (index, message) in enumerate(systems):
            if k:
                yield index, markup("\n\n")
            yield index, content(message.text)
        yield from place(-1, self.offer([message for _, message in systems], tools))

    def _conversation(
        self, messages: list[Message], tools: Sequence[Tool] | None, *, generation_prompt: bool
    ) -> Iterator[Placed]:
        if not self.gathers_systems:
            yield from super()._conversation(messages, tools, generation_prompt=generation_prompt)
            return
        if not messages:
            raise RenderError("there are no messages to render")
        messages = [self._known_role(message) for message in messages]
        self.check(messages)
        systems = [(k, message) for k, message in enumerate(messages) if message.role == "system"]
        drops = self.shows_last_system_only and self.history is History.TEMPLATE
        yield from self._start(systems[-1:] if drops else systems, tools or ())
        others = [k for k, message in enumerate(messages) if message.role != "system"]
        rest = [messages[k] for k in others]
        nowhere = Place(rest, 0, -1, self.history is History.EXACT)
        start = replace(nowhere, generation_prompt=generation_prompt, tools=tools or ())
        for index, piece in self._turns(start):
            yield others[index], piece
        if generation_prompt:
            yield from place(-1, self.generation_prompt_after(rest[-1] if rest else None))

    def _continuation(
        self,
        prompt_ids: Sequence[int],
        completion_ids: Sequence[int],
        messages: list[Message],
        tools: Sequence[Tool] | None,
        call_ids: Sequence[str | None],
    ) -> Iterator[Placed]:
        if self.gathers_systems and any(self._known_role(message).role == "system" for message in messages):
            raise BridgeRefused("a new system message would stand at the start of the conversation")
        return super()._continuation(prompt_ids, completion_ids, messages, tools, call_ids)
