"""Qwen3.5 and Qwen3.6: thinking as in Qwen3, which the prompt always opens, and calls as in Qwen3-Coder.

Sources: the templates of Qwen/Qwen3.5-0.8B, Qwen3.5-4B and Qwen3.6-35B-A3B, of which the smallest model's differs from
the others in that it thinks only if it is asked to (``enable_thinking=True``).
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from tickertape.renderers.errors import RenderError
from tickertape.renderers.families.chatml import ChatML
from tickertape.renderers.families.qwen3 import NO_THOUGHT, THINK, is_own_query, thinking_shown
from tickertape.renderers.families.qwen3_coder import CODER_PADDING, INSTRUCTIONS, coder_calls
from tickertape.renderers.format import History, Place
from tickertape.renderers.messages import Message, Tool
from tickertape.renderers.parsing import ResponseFormat
from tickertape.renderers.pieces import Piece, content, markup, output
from tickertape.renderers.tokenizer import TokenizerLike
from tickertape.renderers.tool_calls.elements import json_or_text, python_or_json


class Qwen35(ChatML):
    name = "qwen3.5"
    response = ResponseFormat(reasoning=THINK, tool_calls=coder_calls(python_or_json), padding=CODER_PADDING)

    def __init__(
        self, tokenizer: TokenizerLike, *, enable_thinking: bool = True, history: History | str = History.EXACT
    ) -> None:
        self.enable_thinking = enable_thinking
        self.response = replace(self.response, starts_in_reasoning=enable_thinking)
        super().__init__(tokenizer, history=history)

    @classmethod
    def options_shown(cls, rendered: str) -> dict[str, Any]:
        return thinking_shown(rendered)

    def check(self, messages: Sequence[Message]) -> None:
        if not any(self.is_query(message) for message in messages):
            raise RenderError("this format needs a user message")

    def is_query(self, message: Message) -> bool:
        return is_own_query(message.role, message.text.strip())

    def start(self, system: Message | None, tools: Sequence[Tool]) -> Iterator[Piece]:
        if system is None and not tools:
            return
        yield self.header("system")
        text = system.text.strip() if system is not None else ""
        if tools:
            yield markup("# Tools\n\nYou have access to the following functions:\n\n<tools>")
            for tool in tools:
                yield content("\n" + json.dumps(tool, ensure_ascii=False))
            yield markup("\n</tools>" + INSTRUCTIONS + ("\n\n" if text else ""))
        yield content(text)
        yield self.end()

    def turn(self, place: Place) -> Iterator[Piece]:
        if place.message.role == "system":
            raise RenderError("in this format a system message can only be the first")
        return super().turn(place)

    def words(self, message: Message) -> str:
        return message.text.strip()

    def said(self, place: Place) -> Iterator[Piece]:
        reasoning, text = place.message.reasoning, self.words(place.message)
        if reasoning is None:
            reasoning, text = THINK.split(text)
        thought = (reasoning or "").strip()
        if place.exact and not self.enable_thinking:
            yield NO_THOUGHT  # the prompt had it
            if thought:
                yield from THINK.write(thought)
        elif place.exact or self.shows_thought(place):
            yield from THINK.write(thought, opened=True)
        yield output(text)
        yield from self.calls_after(place.message, bool(text))

    def shows_thought(self, place: Place) -> bool:
        """Returns True if the template shows what was thought."""
        return place.is_running

    def generation_prompt(self) -> Iterator[Piece]:
        yield self.header("assistant")
        yield markup(THINK.open + "\n") if self.enable_thinking else NO_THOUGHT


class Qwen36(Qwen35):
    """It can show what was thought in earlier exchanges, and writes truth values, numbers and null as JSON."""

    name = "qwen3.6"
    response = ResponseFormat(reasoning=THINK, tool_calls=coder_calls(json_or_text), padding=CODER_PADDING)

    def __init__(
        self,
        tokenizer: TokenizerLike,
        *,
        enable_thinking: bool = True,
        preserve_thinking: bool = False,
        history: History | str = History.EXACT,
    ) -> None:
        super().__init__(tokenizer, enable_thinking=enable_thinking, history=history)
        self.preserve_thinking = preserve_thinking

    def shows_thought(self, place: Place) -> bool:
        return self.preserve_thinking or place.is_running
