"""Kimi K2: ``<|im_user|>user<|im_middle|>…<|im_end|>``, calls with ids of the model's own making.

Sources: the templates of moonshotai/Kimi-K2-Instruct, Kimi-K2-Instruct-0905, Kimi-K2-Thinking, Kimi-K2.5, Kimi-K2.6,
Kimi-K2.7-Code and Kimi-Linear-48B-A3B-Instruct; for tools, what :mod:`tickertape.renderers.kimi_tools` names.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import ClassVar

from tickertape.renderers.draft import UNPADDED
from tickertape.renderers.families.deepseek_v3_1 import TIGHT_THINK as THINK
from tickertape.renderers.families.deepseek_v3_1 import tight_thought
from tickertape.renderers.format import Format, History, Place
from tickertape.renderers.kimi_tools import sorted_deeply, typescript
from tickertape.renderers.messages import Message, Tool
from tickertape.renderers.parsing import ResponseFormat
from tickertape.renderers.pieces import Piece, content, markup, output, output_markup
from tickertape.renderers.tokenizer import TokenizerLike
from tickertape.renderers.tool_calls.named_json import IdentifiedJson
from tickertape.renderers.tool_calls.section import Section

_CALLS = Section(
    "<|tool_calls_section_begin|>",
    "<|tool_calls_section_end|>",
    IdentifiedJson("<|tool_call_begin|>", "<|tool_call_argument_begin|>", "<|tool_call_end|>"),
)
_NO_THOUGHT = markup(THINK.open + THINK.close)
_MARKERS = {"user": "<|im_user|>", "assistant": "<|im_assistant|>"}


class KimiK2(Format):
    name = "kimi-k2"
    markers = ("<|im_system|>", "<|im_user|>", "<|im_assistant|>", "<|im_middle|>", "<|im_end|>")
    stop_tokens = ("<|im_end|>", "[EOS]", "[EOT]")
    close = (output_markup("<|im_end|>"),)
    response = ResponseFormat(tool_calls=_CALLS, padding=UNPADDED)
    default_system: ClassVar[str | None] = "You are Kimi, an AI assistant created by Moonshot AI."
    behind_default: ClassVar[str] = "\n"

    def start(self, system: Message | None, tools: Sequence[Tool]) -> Iterator[Piece]:
        if tools:
            yield markup("<|im_system|>tool_declare<|im_middle|>")
            yield content(self.declared(tools))
            yield markup("<|im_end|>")
        if system is not None:
            yield from _turn("system", system)
        elif self.default_system is not None:
            yield markup(f"<|im_system|>system<|im_middle|>{self.default_system}<|im_end|>{self.behind_default}")

    def declared(self, tools: Sequence[Tool]) -> str:
        """The tools as the model reads them."""
        return json.dumps(sorted_deeply(tools), ensure_ascii=False, separators=(",", ":"))

    def _known_role(self, message: Message) -> Message:
        return message  # a role is but a word to this format

    def generation_prompt(self) -> Iterator[Piece]:
        yield markup("<|im_assistant|>assistant<|im_middle|>")

    def turn(self, place: Place) -> Iterator[Piece]:
        message = place.message
        if message.role == "assistant":
            yield from _header("assistant", message)
            yield from self.said(place)
            yield from self.calls(_identified(place))
            yield from self.close
        else:
            yield from _turn(message.role, message)

    def said(self, place: Place) -> Iterator[Piece]:
        """Pieces of an assistant message between header and calls."""
        yield output(place.message.text)


def _header(role: str, message: Message) -> Iterator[Piece]:
    yield markup(_MARKERS.get(role, "<|im_system|>"))
    yield content(message.name or role)
    yield markup("<|im_middle|>")


def _turn(role: str, message: Message) -> Iterator[Piece]:
    yield from _header(role, message)
    if role == "tool":
        yield markup("## Return of ")
        yield content(message.tool_call_id or "")
        yield markup("\n")
    yield content(message.text)
    yield markup("<|im_end|>")


def _identified(place: Place) -> Message:
    """The message with an id for each call; the model counts its calls through the conversation."""
    n_calls = sum(len(message.tool_calls) for message in place.messages[: place.index])
    numbered = enumerate(place.message.tool_calls, start=n_calls)
    calls = (replace(call, id=call.id or f"functions.{call.name}:{k}") for k, call in numbered)
    return replace(place.message, tool_calls=tuple(calls))


class KimiLinear(KimiK2):
    name = "kimi-linear"
    default_system = None


class KimiK2Thinking(KimiK2):
    """Its template shows the thoughts after the last answer without calls, earlier ones empty."""

    name = "kimi-k2-thinking"
    response = ResponseFormat(reasoning=THINK, tool_calls=_CALLS, padding=UNPADDED)
    behind_default = ""
    thought_opening: Piece = output_markup(THINK.open)
    """Sampled, or in later models the prompt's."""

    def said(self, place: Place) -> Iterator[Piece]:
        keeps = place.exact or self.keeps_thought(place)
        yield self.thought_opening
        yield output(place.message.reasoning or "" if keeps else "")
        yield output_markup(THINK.close)
        yield output(place.message.text)

    def keeps_thought(self, place: Place) -> bool:
        """Returns True if the template shows a message's thought."""
        later = place.messages[place.index :]
        return not any(message.role == "assistant" and not message.tool_calls for message in later)


class KimiK25(KimiK2Thinking):
    """K2.5 and K2.6: think unless asked otherwise; the prompt opens the thought."""

    name = "kimi-k2.5"
    default_system = None
    thought_opening = markup(THINK.open)

    def __init__(
        self,
        tokenizer: TokenizerLike,
        *,
        thinking: bool = True,
        preserve_thinking: bool = False,
        history: History | str = History.EXACT,
    ) -> None:
        """``preserve_thinking`` makes K2.6's template show every thought; K2.5's knows nothing of it."""
        super().__init__(tokenizer, history=history)
        self.thinking = thinking
        self.preserve_thinking = preserve_thinking
        self.response_format = replace(self.response_format, starts_in_reasoning=thinking)

    def declared(self, tools: Sequence[Tool]) -> str:
        return typescript(tools) or super().declared(tools)

    def generation_prompt(self) -> Iterator[Piece]:
        yield from super().generation_prompt()
        yield self.thought_opening if self.thinking else _NO_THOUGHT

    def said(self, place: Place) -> Iterator[Piece]:
        if self.thinking or not place.exact:
            yield from super().said(place)
        else:
            yield _NO_THOUGHT  # the prompt had it
            yield from tight_thought(place.message, opened=False)
            yield output(place.message.text)

    def keeps_thought(self, place: Place) -> bool:
        return self.preserve_thinking or (self.thinking and super().keeps_thought(place))


class KimiK27Code(KimiK25):
    """Always thinks; its template shows every thought."""

    name = "kimi-k2.7-code"

    def __init__(self, tokenizer: TokenizerLike, *, history: History | str = History.EXACT) -> None:
        super().__init__(tokenizer, preserve_thinking=True, history=history)
