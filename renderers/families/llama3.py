"""Llama 3: ``<|start_header_id|>role<|end_header_id|>\\n\\n…<|eot_id|>``.

Sources: the templates of meta-llama/Meta-Llama-3-8B-Instruct, Llama-3.1-8B-Instruct, Llama-3.2-3B-Instruct and
Llama-3.3-70B-Instruct.
"""

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from tickertape.renderers.draft import Padding
from tickertape.renderers.errors import RenderError
from tickertape.renderers.format import Format, History, Place
from tickertape.renderers.messages import Message, Tool
from tickertape.renderers.parsing import ResponseFormat
from tickertape.renderers.pieces import Piece, content, markup, output, output_markup
from tickertape.renderers.tokenizer import TokenizerLike
from tickertape.renderers.tool_calls.bare_json import BareJson

BARE = BareJson()
_CALL_FORMAT = (
    'Respond in the format {"name": function name, "parameters": dictionary of argument name and its value}.'
    "Do not use variables.\n\n"
)
_IN_USER_MESSAGE = (
    "Given the following functions, please respond with a JSON for a function call with its proper arguments that best "
    "answers the given prompt.\n\n"
)
_IN_SYSTEM_MESSAGE = (
    "You have access to the following functions. To call a function, please respond with JSON for a function call."
)


class Llama3(Format):
    """Llama 3.0, which knows no tools: they are refused, as are calls and results."""

    name = "llama3"
    markers = ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
    stop_tokens: tuple[str, ...] = ("<|eot_id|>", "<|end_of_text|>")
    close = (output_markup("<|eot_id|>"),)

    def check_turns(self, start: Place) -> None:
        if start.tools or any(message.role == "tool" or message.tool_calls for message in start.messages):
            raise RenderError(f"{self.name} has no tools, no tool calls and no tool results")

    def start(self, system: Message | None, tools: Sequence[Tool]) -> Iterator[Piece]:  # noqa: ARG002
        yield markup("<|begin_of_text|>")
        if system:
            yield from _said_by("system", content(system.text.strip()))

    def turn(self, place: Place) -> Iterator[Piece]:
        message = place.message
        if message.role == "assistant":
            yield from self.generation_prompt()
            yield from self.said(place)
            yield from self.close
        else:
            yield from _said_by(message.role, content(message.text.strip()))

    def said(self, place: Place) -> Iterator[Piece]:
        """Pieces of an assistant message between header and close."""
        text = place.message.text
        yield output(text if place.exact else text.strip())

    def generation_prompt(self) -> Iterator[Piece]:
        yield markup("<|start_header_id|>assistant<|end_header_id|>\n\n")


class Llama31(Llama3):
    """Llama 3.1, 3.2 and 3.3: a dated system message, tools in the first user message, calls as bare JSON."""

    name = "llama3.1"
    stop_tokens = ("<|eot_id|>", "<|eom_id|>", "<|end_of_text|>")
    response = ResponseFormat(tool_calls=BARE, padding=Padding(before_calls="", after_call=""))

    def __init__(
        self,
        tokenizer: TokenizerLike,
        *,
        date_string: str = "26 Jul 2024",
        tools_in_user_message: bool = True,
        history: History | str = History.EXACT,
    ) -> None:
        """``date_string`` is what the system message calls today; the template of 3.2 and 3.3 would say the day on
        which it is rendered, so that no prompt could be made again. Without ``tools_in_user_message``, the system
        message shows the tools."""
        super().__init__(tokenizer, history=history)
        self.date_string = date_string
        self.tools_in_user_message = tools_in_user_message

    @classmethod
    def options_shown(cls, rendered: str) -> dict[str, Any]:
        date = re.search(r"\nToday Date: (.*)\n\n", rendered)
        return {"date_string": date[1]} if date else {}

    def check_turns(self, start: Place) -> None:
        if start.tools and self.tools_in_user_message and start.index == len(start.messages):
            raise RenderError(f"{self.name} shows tools in the first user message, and there is none")
        if any(len(message.tool_calls) > 1 for message in start.messages):
            raise RenderError(f"{self.name} can show one tool call in a message, not several")

    def start(self, system: Message | None, tools: Sequence[Tool]) -> Iterator[Piece]:
        yield markup("<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n")
        if tools:
            yield markup("Environment: ipython\n")
        yield markup(f"Cutting Knowledge Date: December 2023\nToday Date: {self.date_string}\n\n")
        if tools and not self.tools_in_user_message:
            yield markup(_IN_SYSTEM_MESSAGE + _CALL_FORMAT)
            yield from _shown(tools)
        if system:
            yield content(system.text.strip())
        yield markup("<|eot_id|>")

    def turn(self, place: Place) -> Iterator[Piece]:
        message = place.message
        if place.is_first and place.tools and self.tools_in_user_message:  # whoever says it, the user does
            pieces = (markup(_IN_USER_MESSAGE + _CALL_FORMAT), *_shown(place.tools), content(message.text.strip()))
            yield from _said_by("user", *pieces)
        elif message.role == "tool":
            yield from _said_by("ipython", content(json.dumps(message.text, ensure_ascii=False)))
        else:
            yield from super().turn(place)

    def said(self, place: Place) -> Iterator[Piece]:
        """The template drops the words beside a call; a model that says some announces the call by a tag."""
        message = place.message
        if not message.tool_calls or (place.exact and message.text):
            yield from super().said(place)
        if message.tool_calls and place.exact and message.text:
            yield output_markup(BARE.tag)
        yield from self.calls(message)


def _said_by(role: str, *pieces: Piece) -> Iterator[Piece]:
    yield markup(f"<|start_header_id|>{role}<|end_header_id|>\n\n")
    yield from pieces
    yield markup("<|eot_id|>")


def _shown(tools: Sequence[Tool]) -> Iterator[Piece]:
    for tool in tools:
        yield content(json.dumps(tool, ensure_ascii=False, indent=4))
        yield markup("\n\n")
