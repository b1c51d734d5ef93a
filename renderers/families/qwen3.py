"""Qwen3: ChatML with thinking.

Sources: the templates of Qwen/Qwen3-0.6B, Qwen3-4B-Instruct-2507, Qwen3-4B-Thinking-2507 and Qwen3-VL-8B-Instruct.
Qwen3-Next-80B-A3B has the files of the two of 2507; to text, Qwen3-VL-Thinking does what Thinking-2507 does.
"""

from collections.abc import Iterator
from typing import Any

from tickertape.renderers.families.chatml import HERMES, ChatML
from tickertape.renderers.format import History, Place
from tickertape.renderers.messages import Message
from tickertape.renderers.parsing import ResponseFormat
from tickertape.renderers.pieces import Piece, markup, output
from tickertape.renderers.reasoning import TaggedReasoning
from tickertape.renderers.tokenizer import TokenizerLike

THINK = TaggedReasoning()
NO_THOUGHT = markup("<think>\n\n</think>\n\n")


def thinking_shown(rendered: str) -> dict[str, Any]:
    """The option that a prompt shows which ends in an empty thought: the model is not to think."""
    return {"enable_thinking": False} if rendered.rstrip().endswith(THINK.close) else {}


def is_own_query(role: str, text: str) -> bool:
    """Returns True if a message is a user's own, and no tool result in a user's turn."""
    is_result = text.startswith("<tool_response>") and text.endswith("</tool_response>")
    return role == "user" and not is_result


class Qwen3Instruct2507(ChatML):
    """Qwen3 without thinking."""

    name = "qwen3-instruct-2507"

    def __init__(self, tokenizer: TokenizerLike, *, history: History | str = History.EXACT) -> None:
        super().__init__(tokenizer, history=history)


class Qwen3VLInstruct(Qwen3Instruct2507):
    """The same for text, but that its template leaves out every system message that is not the first."""

    name = "qwen3-vl-instruct"

    def turn(self, place: Place) -> Iterator[Piece]:
        return iter(()) if place.message.role == "system" and not place.exact else super().turn(place)


class Qwen3(Qwen3Instruct2507):
    """The hybrid models: they think unless asked otherwise; the template shows earlier exchanges without thoughts."""

    name = "qwen3"
    response = ResponseFormat(reasoning=THINK, tool_calls=HERMES)
    opens_thought = False
    """True if the prompt always holds the opening tag."""

    def __init__(
        self, tokenizer: TokenizerLike, *, enable_thinking: bool = True, history: History | str = History.EXACT
    ) -> None:
        super().__init__(tokenizer, history=history)
        self.enable_thinking = enable_thinking

    @classmethod
    def options_shown(cls, rendered: str) -> dict[str, Any]:
        return thinking_shown(rendered)

    def is_query(self, message: Message) -> bool:
        return is_own_query(message.role, message.text)

    def said(self, place: Place) -> Iterator[Piece]:
        message = place.message
        reasoning, text = message.reasoning, message.text
        if reasoning is None:
            reasoning, text = THINK.split(text)
        if place.exact and not self.enable_thinking:
            yield NO_THOUGHT  # the prompt had it
        has_text = bool(text)
        if self._shows_thought(place, reasoning):
            yield from THINK.write((reasoning or "").strip("\n"), opened=self.opens_thought)
            text = text.lstrip("\n")
        yield output(text)
        # Newlines alone count as words in the template, though it does not print them.
        yield from self.calls_after(message, bool(text) if place.exact else has_text)

    def _shows_thought(self, place: Place, reasoning: str | None) -> bool:
        if place.exact:
            return reasoning is not None
        return place.is_running and bool(place.is_last or reasoning)

    def generation_prompt(self) -> Iterator[Piece]:
        yield self.header("assistant")
        if not self.enable_thinking:
            yield NO_THOUGHT


class Qwen3Thinking2507(Qwen3):
    """Qwen3 that always thinks: its prompt opens the thought."""

    name = "qwen3-thinking-2507"
    response = ResponseFormat(reasoning=THINK, tool_calls=HERMES, starts_in_reasoning=True)
    opens_thought = True

    def __init__(self, tokenizer: TokenizerLike, *, history: History | str = History.EXACT) -> None:
        super().__init__(tokenizer, history=history)

    def _shows_thought(self, place: Place, reasoning: str | None) -> bool:
        return place.exact or super()._shows_thought(place, reasoning)

    def generation_prompt(self) -> Iterator[Piece]:
        yield self.header("assistant")
        yield markup(THINK.open + "\n")
