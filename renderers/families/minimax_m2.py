"""MiniMax M2: thoughts before every answer, calls as nested elements in one section.

Sources: the templates of MiniMaxAI/MiniMax-M2, -M2.1, -M2.5 and -M2.7, and of unsloth/MiniMax-M2, which differ in the
system message that they add.
"""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from tickertape.renderers.draft import Padding
from tickertape.renderers.errors import RenderError
from tickertape.renderers.format import Format, History, Place, system_shown
from tickertape.renderers.messages import Message, Tool
from tickertape.renderers.parsing import ResponseFormat
from tickertape.renderers.pieces import Piece, content, markup, output, output_markup
from tickertape.renderers.reasoning import TaggedReasoning
from tickertape.renderers.tokenizer import TokenizerLike
from tickertape.renderers.tool_calls.elements import Elements
from tickertape.renderers.tool_calls.section import Section

THINK = TaggedReasoning()
OPEN, CLOSE = "<minimax:tool_call>", "</minimax:tool_call>"
INVOKE = Elements(
    name_open='<invoke name="', name_close='">', end="</invoke>", value_pad="", enclosing=(OPEN, CLOSE),
    key_open='<parameter name="', key_close='">', value_close="</parameter>",
)  # fmt: skip
CALL_SHOWN = (
    f'{OPEN}\n<invoke name="tool-name-1">\n<parameter name="param-key-1">param-value-1</parameter>\n'
    f'<parameter name="param-key-2">param-value-2</parameter>\n...\n</invoke>\n{CLOSE}'
)
ROLES = {"system": "]~b]system", "user": "]~b]user", "assistant": "]~b]ai", "tool": "]~b]tool"}


class MiniMaxM2(Format):
    name = "minimax-m2"
    markers = ("]~!b[", "]~b]", "[e~[")
    stop_tokens = ("[e~[",)
    close = (output_markup("[e~["), markup("\n"))
    runs_without_query = True
    response = ResponseFormat(
        reasoning=THINK,
        tool_calls=Section(OPEN, CLOSE, INVOKE, line="\n"),
        padding=Padding(before_calls="\n"),
        starts_in_reasoning=True,
    )

    def __init__(
        self,
        tokenizer: TokenizerLike,
        *,
        default_system: str = (
            "You are MiniMax-M2, a helpful AI assistant built by MiniMax. Knowledge cutoff: 2025-06."
        ),
        history: History | str = History.EXACT,
    ) -> None:
        """``default_system`` is what the format says where a conversation brings no system message of its own."""
        super().__init__(tokenizer, history=history)
        self.default_system = default_system

    @classmethod
    def options_shown(cls, rendered: str) -> dict[str, Any]:
        return system_shown(rendered, "]~!b[]~b]system\n", "[e~[\n]~b]user\n")

    def check(self, messages: Sequence[Message]) -> None:
        called = False
        for message in messages:
            if message.role == "tool" and not called:
                raise RenderError("a tool result needs an assistant message with tool calls before it")
            called = bool(message.tool_calls) if message.role == "assistant" else called

    def start(self, system: Message | None, tools: Sequence[Tool]) -> Iterator[Piece]:
        yield markup("]~!b[]~b]system\n")
        yield content(system.text) if system is not None and system.text else markup(self.default_system)
        if tools:
            yield markup(
                "\n\n# Tools\nYou may call one or more tools to assist with the user query.\n"
                "Here are the tools available in JSONSchema format:\n\n<tools>\n"
            )
            for tool in tools:
                yield markup("<tool>")
                yield content(json.dumps(tool.get("function", tool), ensure_ascii=False))
                yield markup("</tool>\n")
            yield markup(
                "</tools>\n\nWhen making tool calls, use XML format to invoke tools and pass parameters:\n\n"
                + CALL_SHOWN
            )
        yield markup("[e~[\n")

    def turn(self, place: Place) -> Iterator[Piece]:
        message = place.message
        if message.role == "tool":
            yield from self.result(place)
            return
        if message.role == "system" and not place.exact:
            return  # the template drops system messages that are not the first, without a word
        yield markup(ROLES[message.role] + "\n")
        if message.role == "assistant":
            yield from self.said(place)
            yield from self.close
        else:
            yield content(message.text)
            yield markup("[e~[\n")

    def said(self, place: Place) -> Iterator[Piece]:
        """Pieces of an assistant message between its marker and its close."""
        reasoning, text = place.message.reasoning, place.message.text
        if reasoning is None and THINK.close in text:
            reasoning, text = THINK.split(text)
            text = text.strip("\n")
        if place.exact or (reasoning and place.is_running):
            yield markup(THINK.open + "\n")  # the prompt's
            yield output(reasoning or "")
            yield output_markup("\n" + THINK.close + "\n\n")
        yield output(text)
        if place.message.tool_calls:
            yield output_markup("\n")
            yield from self.calls(place.message)

    def result(self, place: Place) -> Iterator[Piece]:
        """One tool result; neighbouring results share one turn."""
        if not place.neighbour_has_role(-1, "tool"):
            yield markup(ROLES["tool"])
        yield markup("\n<response>")
        yield content(place.message.text)
        yield markup("</response>")
        if not place.neighbour_has_role(+1, "tool"):
            yield markup("[e~[\n")

    def generation_prompt(self) -> Iterator[Piece]:
        yield markup(ROLES["assistant"] + "\n" + THINK.open + "\n")
