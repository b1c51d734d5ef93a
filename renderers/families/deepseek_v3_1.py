"""DeepSeek V3.1: thinks or not as it is asked to, calls as ``name<｜tool▁sep｜>{…}``.

Source: the template of deepseek-ai/DeepSeek-V3.1-Terminus. It shows no tools on offer and no thought of earlier turns,
and after a tool's result it opens nothing: the model goes on without thinking.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import ClassVar

from tickertape.renderers.draft import UNPADDED
from tickertape.renderers.families.deepseek_v3 import ASSISTANT, BEGIN, END, USER
from tickertape.renderers.families.systems_first import SystemsFirst
from tickertape.renderers.format import History, Place
from tickertape.renderers.messages import Message, Tool
from tickertape.renderers.parsing import ResponseFormat
from tickertape.renderers.pieces import Piece, content, markup, output, output_markup
from tickertape.renderers.reasoning import TaggedReasoning
from tickertape.renderers.tokenizer import TokenizerLike
from tickertape.renderers.tool_calls.named_json import NamedJson
from tickertape.renderers.tool_calls.section import Section

#: Thoughts in the formats that put no white space around them.
TIGHT_THINK = TaggedReasoning(around_close=("", ""))


class DeepSeekV31(SystemsFirst):
    name = "deepseek-v3.1"
    markers = (BEGIN, END, USER, ASSISTANT)
    stop_tokens = (END,)
    close = (output_markup(END),)
    preamble = (markup(BEGIN),)
    response = ResponseFormat(
        reasoning=TIGHT_THINK,
        tool_calls=Section(
            "<｜tool▁calls▁begin｜>",
            "<｜tool▁calls▁end｜>",
            NamedJson("<｜tool▁call▁begin｜>", "<｜tool▁sep｜>", "<｜tool▁call▁end｜>"),
        ),
        padding=UNPADDED,
    )
    no_thought: ClassVar[str] = "</think>"

    def __init__(
        self, tokenizer: TokenizerLike, *, thinking: bool = False, history: History | str = History.EXACT
    ) -> None:
        super().__init__(tokenizer, history=history)
        self.thinking = thinking
        self.response_format = replace(self.response_format, starts_in_reasoning=thinking)

    def offer(self, systems: Sequence[Message], tools: Sequence[Tool]) -> tuple[Piece, ...]:  # noqa: ARG002
        return ()

    def generation_prompt(self) -> Iterator[Piece]:
        yield markup(ASSISTANT + (TIGHT_THINK.open if self.thinking else self.no_thought))

    def generation_prompt_after(self, last: Message | None) -> Iterator[Piece]:
        if last is not None and last.role == "user":
            yield from self.generation_prompt()

    def turn(self, place: Place) -> Iterator[Piece]:
        message = place.message
        if message.role == "assistant":
            yield from self.answer_as_sampled(place) if place.exact else self.answer_in_template(place)
            yield from self.calls(message)
            yield from self.close
        else:
            is_result = message.role == "tool"
            yield markup("<｜tool▁output▁begin｜>" if is_result else USER)
            yield content(message.text)
            yield markup("<｜tool▁output▁end｜>" if is_result else "")

    def answer_as_sampled(self, place: Place) -> Iterator[Piece]:
        opens = place.neighbour_has_role(-1, "user")
        if opens:
            yield from self.generation_prompt()
        yield from tight_thought(place.message, opened=opens and self.thinking)
        yield output(place.message.text)

    def answer_in_template(self, place: Place) -> Iterator[Piece]:
        message = place.message
        if place.neighbour_has_role(-1, "user"):
            yield markup(ASSISTANT + self.no_thought)
        keeps = message.tool_calls or place.neighbour_has_role(-1, "tool")
        yield output(message.text if keeps else message.text.split(TIGHT_THINK.close, 1)[-1])


def tight_thought(message: Message, *, opened: bool) -> Iterator[Piece]:
    """The thought as it is sampled: where the prompt has ``opened`` one, at least its end."""
    if not opened and message.reasoning is None:
        return
    yield output_markup("" if opened else TIGHT_THINK.open)
    yield output(message.reasoning or "")
    yield output_markup(TIGHT_THINK.close)


class DeepSeekV31EmptyThought(DeepSeekV31):
    """With llama.cpp's version of the template, which shows an empty thought where there is none."""

    name = "deepseek-v3.1-empty-thought"
    no_thought = "<think></think>"
