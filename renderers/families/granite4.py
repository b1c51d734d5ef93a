"""Granite 4: turns like ChatML's in other markers, calls as Hermes writes them.

Sources: the templates of ibm-granite/granite-4.0 and granite-4.1. Their ``documents`` are not rendered.
"""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from tickertape.renderers.families.chatml import ChatML
from tickertape.renderers.format import History, Place, system_shown
from tickertape.renderers.messages import Message, Tool
from tickertape.renderers.pieces import Piece, content, markup, output_markup
from tickertape.renderers.tokenizer import TokenizerLike


class Granite41(ChatML):
    name = "granite-4.1"
    markers = ("<|start_of_role|>", "<|end_of_role|>", "<|end_of_text|>")
    stop_tokens = ("<|end_of_text|>",)
    close = (output_markup("<|end_of_text|>"), markup("\n"))

    @classmethod
    def options_shown(cls, rendered: str) -> dict[str, Any]:
        closing = "<|end_of_text|>\n<|start_of_role|>user"
        return system_shown(rendered, "<|start_of_role|>system<|end_of_role|>", closing)

    def header(self, role: str) -> Piece:
        return markup(f"<|start_of_role|>{role}<|end_of_role|>")

    def start(self, system: Message | None, tools: Sequence[Tool]) -> Iterator[Piece]:
        words = [] if system is None or not (system.text or tools) else [content(system.text)]
        if not words and not tools and self.default_system:
            words = [markup(self.default_system)]
        if not words and not tools:
            return
        yield self.header("system")
        yield from words
        if tools:
            yield from self.offer(tools, lead_in="\n\n" if words else "")
        yield self.end()

    def result(self, place: Place) -> Iterator[Piece]:
        opening, *rest = super().result(place)
        yield opening
        if not place.neighbour_has_role(-1, "tool"):
            yield markup("\n")
        yield from rest

    def offer(self, tools: Sequence[Tool], lead_in: str) -> Iterator[Piece]:
        yield markup(
            lead_in + "You are a helpful assistant with access to the following tools. You may call one or more tools "
            "to assist with the user query.\n\nYou are provided with function signatures within <tools></tools> XML "
            "tags:\n<tools>"
        )
        for tool in tools:
            yield content("\n" + json.dumps(tool, ensure_ascii=False))
        yield markup(
            "\n</tools>\n\nFor each tool call, return a json object with function name and arguments within "
            '<tool_call></tool_call> XML tags:\n<tool_call>\n{"name": <function-name>, "arguments": '
            "<args-json-object>}\n</tool_call>. If a tool does not exist in the provided list of tools, notify the "
            "user that you do not have the ability to fulfill the request."
        )


class Granite40(Granite41):
    """It has a system message of its own."""

    name = "granite-4.0"

    def __init__(
        self,
        tokenizer: TokenizerLike,
        *,
        default_system: str | None = (
            "You are a helpful assistant. Please ensure responses are professional, accurate, and safe."
        ),
        history: History | str = History.EXACT,
    ) -> None:
        super().__init__(tokenizer, default_system=default_system, history=history)
