"""SmolLM3: ChatML with thinking, which words of the system message switch on and off.

Source: the template of HuggingFaceTB/SmolLM3-3B, and the one that llama.cpp has in its place (``SmolLM3Undated``).
"""

import re
from collections.abc import Iterator, Sequence
from copy import copy
from datetime import date
from typing import Any

from tickertape.renderers.errors import BridgeRefused
from tickertape.renderers.families.chatml import HERMES, ChatML
from tickertape.renderers.families.qwen3 import thinking_shown
from tickertape.renderers.format import History, Place
from tickertape.renderers.messages import Message, Tool
from tickertape.renderers.parsing import ResponseFormat
from tickertape.renderers.pieces import Piece, Placed, content, markup, output
from tickertape.renderers.reasoning import TaggedReasoning
from tickertape.renderers.tokenizer import TokenizerLike

THINK = TaggedReasoning(around_close=("\n", "\n"))
_NO_THOUGHT = markup("<think>\n\n</think>\n")
_NAME = "You are a helpful AI assistant named SmolLM, trained by Hugging Face."
_HOW_TO_THINK = (
    " Your role as an assistant involves thoroughly exploring questions through a systematic thinking process "
    "before providing the final precise and accurate solutions. This requires engaging in a comprehensive cycle "
    "of analysis, summarizing, exploration, reassessment, reflection, backtracking, and iteration to develop "
    "well-considered thinking process. Please structure your response into two main sections: Thought and "
    "Solution using the specified format: <think> Thought section </think> Solution section. In the Thought "
    "section, detail your reasoning process in steps. Each step should include detailed considerations such as "
    "analysing questions, summarizing relevant findings, brainstorming new ideas, verifying the accuracy of the "
    "current steps, refining any errors, and revisiting previous steps. In the Solution section, based on various"
    " attempts, explorations, and reflections from the Thought section, systematically present the final solution"
    " that you deem correct. The Solution section should be logical, accurate, and concise and detail necessary "
    "steps needed to reach the conclusion."
)
_TOOLS = (
    "### Tools\n\nYou may call one or more functions to assist with the user query.\nYou are provided with function "
    "signatures within <tools></tools> XML tags:\n\n<tools>\n"
)
_INSTRUCTIONS = (
    "</tools>\n\nFor each function call, return a json object with function name and arguments within "
    '<tool_call></tool_call> XML tags:\n<tool_call>\n{"name": <function-name>, "arguments": <args-json-object>}\n'
    "</tool_call>\n\n"
)


class SmolLM3(ChatML):
    """The template shows neither tool calls nor thoughts nor later system messages; ``history="exact"`` shows them.
    It closes the system message only where that offers tools."""

    name = "smollm3"
    response = ResponseFormat(reasoning=THINK, tool_calls=HERMES)
    is_dated = True
    """True if the system message has a date; ``/system_override`` then replaces all of it."""

    def __init__(
        self,
        tokenizer: TokenizerLike,
        *,
        enable_thinking: bool = True,
        today: str | None = None,
        history: History | str = History.EXACT,
    ) -> None:
        """``today`` (``17 January 2026``) is the day of rendering unless it is given."""
        super().__init__(tokenizer, history=history)
        self.enable_thinking = enable_thinking
        self.today = today

    @classmethod
    def options_shown(cls, rendered: str) -> dict[str, Any]:
        dated = re.search(r"\nToday Date: (.*)\n", rendered)
        return thinking_shown(rendered) | ({"today": dated.group(1)} if dated else {})

    # Words of the system message switch thinking for a whole conversation: a copy of this renderer writes it.

    def _switched(self, thinks: bool) -> "SmolLM3":
        switched = copy(self)
        switched.enable_thinking = thinks
        return switched

    def _conversation(
        self, messages: list[Message], tools: Sequence[Tool] | None, *, generation_prompt: bool
    ) -> Iterator[Placed]:
        words = messages[0].text if messages and messages[0].role in ("system", "developer") else ""
        thinks = "/no_think" not in words and ("/think" in words or self.enable_thinking)
        switched = self._switched(thinks)
        return super(SmolLM3, switched)._conversation(messages, tools, generation_prompt=generation_prompt)

    def _continuation(
        self,
        prompt_ids: Sequence[int],
        completion_ids: Sequence[int],
        messages: list[Message],
        tools: Sequence[Tool] | None,
        call_ids: Sequence[str | None],
    ) -> Iterator[Placed]:
        if not prompt_ids:
            raise BridgeRefused("whether this conversation thinks is seen by how its prompt ends, which is not given")
        thinks = not self.tokenizer.decode(list(prompt_ids[-32:])).endswith(_NO_THOUGHT.text)
        switched = self._switched(thinks)
        return super(SmolLM3, switched)._continuation(prompt_ids, completion_ids, messages, tools, call_ids)

    def start(self, system: Message | None, tools: Sequence[Tool]) -> Iterator[Piece]:
        text = system.text if system is not None else ""
        words = text.replace("/no_think", "").replace("/think", "").rstrip()
        yield self.header("system")
        if self.is_dated and "/system_override" in text:
            yield content(words.replace("/system_override", "").rstrip())
            yield self.end()
            return
        yield markup("## Metadata\n\nKnowledge Cutoff Date: June 2025\n")
        if self.is_dated:
            yield markup(f"Today Date: {self.today or date.today().strftime('%d %B %Y')}\n")
        mode, default = ("/think", _NAME + _HOW_TO_THINK) if self.enable_thinking else ("/no_think", _NAME)
        yield markup(f"Reasoning Mode: {mode}\n\n## Custom Instructions\n\n")
        yield content(words) if words else markup(default)
        yield markup("\n\n")
        if tools:
            yield markup(_TOOLS)
            yield content("".join(f"{dict(tool)}\n" for tool in tools))
            yield markup(_INSTRUCTIONS)
        if tools or not self.is_dated:
            yield self.end()

    def turn(self, place: Place) -> Iterator[Piece]:
        return iter(()) if place.message.role == "system" and not place.exact else super().turn(place)

    def result(self, place: Place) -> Iterator[Piece]:
        yield self.header("user")
        yield content(place.message.text)
        yield self.end()

    def said(self, place: Place) -> Iterator[Piece]:
        message, text = place.message, place.message.text.lstrip("\n")
        if not self.enable_thinking:
            yield _NO_THOUGHT  # the prompt had it
        if place.exact and message.reasoning is not None:
            yield from THINK.write(message.reasoning.strip("\n"))
        yield output(text)
        if place.exact:
            yield from self.calls_after(message, bool(text))

    def generation_prompt(self) -> Iterator[Piece]:
        yield self.header("assistant")
        if not self.enable_thinking:
            yield _NO_THOUGHT


class SmolLM3Undated(SmolLM3):
    """The template of llama.cpp, which says no date, shows no tools and always closes the system message."""

    name = "smollm3-undated"
    is_dated = False
