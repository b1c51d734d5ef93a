"""Mistral: ``[INST]…[/INST]answer</s>``; tools stand before the last question, so a template moves them at every turn.

The names are those of Mistral's tokenizer versions. Sources: the templates of mistralai/Mistral-7B-Instruct-v0.3 (v3),
Mistral-Nemo-Instruct-2407 (v3-tekken), Mistral-Small-24B-Instruct-2501 and -3.1-24B-Instruct-2503 (v7, which show no
tools; those are written as in mistral-common's ``InstructTokenizerV7``), Mistral-Small-3.2-24B-Instruct-2506 (v11).
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from tickertape.renderers.draft import UNPADDED
from tickertape.renderers.errors import RenderError
from tickertape.renderers.format import Format, History, Place
from tickertape.renderers.messages import Message, Tool
from tickertape.renderers.parsing import ResponseFormat
from tickertape.renderers.pieces import Piece, content, markup, output, output_markup
from tickertape.renderers.tokenizer import TokenizerLike
from tickertape.renderers.tool_calls.json_list import JsonList
from tickertape.renderers.tool_calls.mistral_calls import MistralCalls


class MistralV3Tekken(Format):
    """Nemo and Ministral 8B: the system message stands in a question; calls are a JSON list."""

    name = "mistral-v3-tekken"
    markers: tuple[str, ...] = ("<s>", "</s>", "[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[TOOL_CALLS]")
    stop_tokens = ("</s>",)
    close = (output_markup("</s>"),)
    response = ResponseFormat(tool_calls=JsonList(has_ids=True), padding=UNPADDED)
    space = ""
    """After a tag, where the tokenizer is SentencePiece's."""

    def check_turns(self, start: Place) -> None:
        turns = start.messages[start.index :]
        check_call_ids(turns)
        asked = start.first is None and turns[0].role == "tool"  # the assistant's turn in front made calls
        alternating = [m for m in turns if m.role != "tool" and not m.tool_calls]
        if any((m.role == "user") != (k % 2 == 0) for k, m in enumerate(alternating, start=int(asked))):
            raise RenderError("behind a leading system message, user and assistant must alternate, but for tool calls")
        self.check_roles(turns)

    def check_roles(self, turns: Sequence[Message]) -> None:
        """Refuses roles that have no place in the format."""
        if any(message.role == "system" for message in turns):
            raise RenderError(f"{self.name} can show a system message at the start only")

    def start(self, system: Message | None, tools: Sequence[Tool]) -> Iterator[Piece]:  # noqa: ARG002
        yield markup("<s>")

    def turn(self, place: Place) -> Iterator[Piece]:
        message = place.message
        if message.role == "user":
            if place.tools and _shows_tools(place):
                yield from self.shown_tools(place.tools)
            yield markup("[INST]" + self.space)
            yield from self.system_in_question(place)
            yield content(message.text)
            yield markup("[/INST]")
        elif message.role == "assistant":
            yield from self.said(place)
            yield from self.close
        else:
            yield from self.result(message)

    def system_in_question(self, place: Place) -> Iterator[Piece]:
        """The system message, in the last question, if that is the last message of all."""
        if place.system and (is_first_user(place) if place.exact else place.is_last):
            yield content(place.system.text)
            yield markup("\n\n")

    def said(self, place: Place) -> Iterator[Piece]:
        """An assistant's words and calls; the template drops words beside calls."""
        message = place.message
        if not message.tool_calls or (place.exact and message.text):
            yield output_markup(self.space)
            yield output(message.text.strip() if self.space and not place.exact else message.text)
        yield from self.calls(message)

    def shown_tools(self, tools: Sequence[Tool]) -> Iterator[Piece]:
        """The tools, of which text is printed as it is, not as JSON."""
        yield markup(f"[AVAILABLE_TOOLS]{self.space}[")
        for k, tool in enumerate(tools):
            yield markup(", " if k else "")
            yield content(_as_printed(tool["function"]))
        yield markup("][/AVAILABLE_TOOLS]")

    def result(self, message: Message) -> Iterator[Piece]:
        """One tool result."""
        yield markup(f'[TOOL_RESULTS]{self.space}{{"content": ')
        yield content(message.text)
        yield markup(', "call_id": "')
        yield content(message.tool_call_id or "")
        yield markup('"}[/TOOL_RESULTS]')

    def generation_prompt(self) -> Iterator[Piece]:
        yield from ()


class MistralV3(MistralV3Tekken):
    """Mistral 7B v0.3."""

    name = "mistral-v3"
    response = ResponseFormat(tool_calls=JsonList(space=" ", has_ids=True), padding=replace(UNPADDED, lead=" "))
    space = " "


class MistralV7(MistralV3Tekken):
    """Mistral Small 3 and 3.1: system messages have tags."""

    name = "mistral-v7"
    markers = (*MistralV3Tekken.markers, "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[TOOL_CONTENT]")

    def __init__(
        self, tokenizer: TokenizerLike, *, default_system: str | None = None, history: History | str = History.EXACT
    ) -> None:
        """``default_system`` is what the format says where a conversation brings no system message of its own. Each
        model has another, some with today's date in it: :func:`renderer_for` reads it off the model's template."""
        super().__init__(tokenizer, history=history)
        self.default_system = default_system

    @classmethod
    def options_shown(cls, rendered: str) -> dict[str, Any]:
        opening, closing = "<s>[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]"
        return {"default_system": rendered[len(opening) :].split(closing)[0]} if rendered.startswith(opening) else {}

    def check_turns(self, start: Place) -> None:
        check_call_ids(start.messages)

    def start(self, system: Message | None, tools: Sequence[Tool]) -> Iterator[Piece]:
        yield from super().start(system, tools)
        if system is not None:
            yield from self.result(system)
        elif self.default_system is not None:
            yield markup(f"[SYSTEM_PROMPT]{self.default_system}[/SYSTEM_PROMPT]")

    def system_in_question(self, place: Place) -> Iterator[Piece]:  # noqa: ARG002
        yield from ()

    def result(self, message: Message) -> Iterator[Piece]:
        if message.role == "system":
            yield from in_tags("SYSTEM_PROMPT", content(message.text))
        else:
            yield from in_tags("TOOL_RESULTS", *self.result_id(message), content(message.text))

    def result_id(self, message: Message) -> Iterator[Piece]:
        """The id of the call that a result answers."""
        yield content(message.tool_call_id or "")
        yield markup("[TOOL_CONTENT]")


class MistralV11(MistralV7):
    """Mistral Small 3.2: calls are a name, an id, and arguments, each after its tag."""

    name = "mistral-v11"
    markers = (*MistralV7.markers, "[CALL_ID]", "[ARGS]")
    response = ResponseFormat(tool_calls=MistralCalls(), padding=UNPADDED)

    def check_turns(self, start: Place) -> None:
        MistralV3Tekken.check_turns(self, start)

    def check_roles(self, turns: Sequence[Message]) -> None:
        """All roles have a place."""

    def shown_tools(self, tools: Sequence[Tool]) -> Iterator[Piece]:
        yield from in_tags("AVAILABLE_TOOLS", content(json.dumps(list(tools), ensure_ascii=False)))


def check_call_ids(messages: Sequence[Message]) -> None:
    """Refuses call ids that Mistral's models are not used to, as their templates do."""
    ids = [call.id for message in messages for call in message.tool_calls]
    ids += [message.tool_call_id for message in messages if message.role == "tool"]
    if any(call_id is None or len(call_id) != 9 for call_id in ids):
        raise RenderError("tool call ids must be alphanumeric strings of length 9")


def in_tags(name: str, *pieces: Piece) -> Iterator[Piece]:
    """``[NAME]…[/NAME]``."""
    yield markup(f"[{name}]")
    yield from pieces
    yield markup(f"[/{name}]")


def _shows_tools(place: Place) -> bool:
    if place.exact:
        return is_first_user(place)
    last_user = next(message for message in reversed(place.messages) if message.role == "user")
    return place.message == last_user  # by its words, as the template asks


def is_first_user(place: Place) -> bool:
    """Returns True if this is the first user message that is being rendered."""
    return not any(message.role == "user" for message in place.messages[: place.index])


def _as_printed(function: Mapping[str, Any]) -> str:
    fields = (
        f'"{key}": "{value}"' if isinstance(value, str) else f'"{key}": {json.dumps(value, ensure_ascii=False)}'
        for key, value in function.items()
        if key != "return"
    )
    return f'{{"type": "function", "function": {{{", ".join(fields)}}}}}'
