"""ChatML: ``<|im_start|>role\\n…<|im_end|>\\n``, with tools in the Hermes format.

Source: the chat templates of HuggingFaceTB/SmolLM2-135M-Instruct and Qwen/Qwen2.5-7B-Instruct. SmolLM2's template has
no tools; they are written as Qwen2.5 writes them, which is what ChatML models are commonly tuned on.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from tickertape.renderers.format import Format, History, Place, system_shown
from tickertape.renderers.messages import Message, Tool
from tickertape.renderers.parsing import ResponseFormat
from tickertape.renderers.pieces import Piece, content, markup, output, output_markup
from tickertape.renderers.tokenizer import TokenizerLike
from tickertape.renderers.tool_calls.json_in_tags import JsonInTags

HERMES = JsonInTags()


class ChatML(Format):
    name = "chatml"
    markers: tuple[str, ...] = ("<|im_start|>", "<|im_end|>")
    stop_tokens: tuple[str, ...] = ("<|im_end|>", "<|endoftext|>")
    close: tuple[Piece, ...] = (output_markup("<|im_end|>"), markup("\n"))
    response = ResponseFormat(tool_calls=HERMES)

    def __init__(
        self, tokenizer: TokenizerLike, *, default_system: str | None = None, history: History | str = History.EXACT
    ) -> None:
        """``default_system`` is what the format says where a conversation brings no system message of its own."""
        super().__init__(tokenizer, history=history)
        self.default_system = default_system

    @classmethod
    def options_shown(cls, rendered: str) -> dict[str, Any]:
        return system_shown(rendered, "<|im_start|>system\n", "<|im_end|>\n<|im_start|>user\n")

    def header(self, role: str) -> Piece:
        """Returns what opens a turn."""
        return markup(f"<|im_start|>{role}\n")

    def end(self) -> Piece:
        """Returns what closes a turn that is no assistant's."""
        return markup("".join(piece.text for piece in self.close))

    def start(self, system: Message | None, tools: Sequence[Tool]) -> Iterator[Piece]:
        default = self.default_words(tools)
        has_words = system is not None or default is not None
        if not has_words and not tools:
            return
        yield self.header("system")
        yield content(system.text) if system is not None else markup(default or "")
        if tools:
            yield from self.offer(tools, lead_in="\n\n" if has_words else "")
        yield self.end()

    def default_words(self, tools: Sequence[Tool]) -> str | None:  # noqa: ARG002
        """The system message of a conversation that brings none."""
        return self.default_system

    def offer(self, tools: Sequence[Tool], lead_in: str) -> Iterator[Piece]:
        """The instructions that offer tools, after the system message's words."""
        return hermes_tools(tools, lead_in)

    def turn(self, place: Place) -> Iterator[Piece]:
        message = place.message
        if message.role == "tool":
            yield from self.result(place)
            return
        yield self.header(message.role)
        if message.role == "assistant":
            yield from self.said(place)
            yield from self.close
        else:
            yield content(self.words(message))
            yield self.end()

    def words(self, message: Message) -> str:
        """A message's content as this format shows it."""
        return message.text

    def result(self, place: Place) -> Iterator[Piece]:
        """Pieces of a tool result; neighbouring results share one user turn."""
        yield markup("\n") if place.neighbour_has_role(-1, "tool") else self.header("user")
        yield markup("<tool_response>\n")
        yield content(self.words(place.message))
        yield markup("\n</tool_response>")
        if not place.neighbour_has_role(+1, "tool"):
            yield self.end()

    def said(self, place: Place) -> Iterator[Piece]:
        """Pieces of an assistant message between header and close."""
        text = self.words(place.message)
        yield output(text)
        yield from self.calls_after(place.message, bool(text))

    def calls_after(self, message: Message, has_text: bool) -> Iterator[Piece]:
        """The tool calls, set off from the words before them."""
        if message.tool_calls and has_text:
            yield output_markup(self.response.padding.before_calls)
        yield from self.calls(message)

    def generation_prompt(self) -> Iterator[Piece]:
        yield self.header("assistant")


def hermes_tools(
    tools: Sequence[Tool], lead_in: str, *, preface: str = "", name: str = "<function-name>"
) -> Iterator[Piece]:
    """The instructions that offer tools, at the end of the system message."""
    yield markup(
        f"{lead_in}# Tools\n\n{preface}You may call one or more functions to assist with the user query.\n\n"
        "You are provided with function signatures within <tools></tools> XML tags:\n<tools>"
    )
    for tool in tools:
        yield markup("\n")
        yield content(json.dumps(tool, ensure_ascii=False))
    yield markup(
        "\n</tools>\n\nFor each function call, return a json object with function name and arguments within "
        f'<tool_call></tool_call> XML tags:\n<tool_call>\n{{"name": {name}, "arguments": <args-json-object>}}\n'
        "</tool_call>"
    )


def with_json_arguments(message: Message) -> Message:
    """The message with arguments as templates print them that serialise the values themselves."""
    calls = (replace(c, arguments=json.dumps(c.arguments_value, ensure_ascii=False)) for c in message.tool_calls)
    return replace(message, tool_calls=tuple(calls))
