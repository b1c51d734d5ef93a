"""gpt-oss: harmony, messages with channels and recipients. What a sampled answer becomes says
:mod:`tickertape.renderers.harmony`.

Sources: the chat templates of openai/gpt-oss-120b, openai/gpt-oss-safeguard-20b and unsloth/gpt-oss-20b.

As the templates cannot say everything that the model does, ``history="exact"`` also has

* every call of a message, where the templates show the first only;
* words before a call as a preamble (``commentary``), where the templates show them as ``analysis``, or refuse them
  beside a thought;
* system messages after the first, as further developer messages, where the templates leave them out;
* ``<|return|>`` after every final answer, as it was sampled; where an answer was cut off, its bridge closes it with
  ``<|end|>``, as the model knows it from history;
* calls to built-in tools (``browser.search``, ``python``) addressed to these, where the templates put ``functions.``
  before any name.
"""

import json
import re
from collections.abc import Iterator, Sequence
from datetime import date
from typing import Any

from tickertape.renderers.errors import RenderError
from tickertape.renderers.families.gpt_oss_tools import BUILT_IN_TOOLS
from tickertape.renderers.format import Format, History, Place
from tickertape.renderers.harmony import Harmony, body_of
from tickertape.renderers.messages import Message, Tool, ToolCall
from tickertape.renderers.pieces import Piece, content, markup, output_markup, output_value
from tickertape.renderers.tokenizer import TokenizerLike
from tickertape.renderers.typescript import declaration

_ANALYSIS, _PREAMBLE, _FINAL = (f"<|channel|>{name}<|message|>" for name in ("analysis", "commentary", "final"))
_END = output_markup("<|end|>")


class GptOss(Format):
    name = "gpt-oss"
    markers = ("<|start|>", "<|end|>", "<|message|>", "<|channel|>", "<|call|>", "<|return|>")
    stop_tokens = ("<|return|>", "<|call|>", "<|endoftext|>")
    close = (_END,)
    closed_by = ("<|return|>", "<|call|>", "<|end|>")
    response = Harmony()
    response_format: Harmony
    after_instructions = "\n\n"
    before_tools = ("", "")
    """Before the tools, without and with instructions."""
    quotes_results = True
    """True if tool results are written as JSON strings."""
    refuses_tagged_content = True
    last_close = "<|return|>"
    """The text with which the template closes an answer that nothing follows."""

    def __init__(
        self,
        tokenizer: TokenizerLike,
        *,
        reasoning_effort: str = "medium",
        model_identity: str = "You are ChatGPT, a large language model trained by OpenAI.",
        builtin_tools: Sequence[str] = (),
        current_date: str | None = None,
        history: History | str = History.EXACT,
    ) -> None:
        """Options as the template's variables; ``current_date`` (``2026-01-17``) is today's unless it is given."""
        super().__init__(tokenizer, history=history)
        self.reasoning_effort, self.model_identity = reasoning_effort, model_identity
        self.builtin_tools, self.current_date = tuple(builtin_tools), current_date
        self.response_format = Harmony(self.response_format.stop_ids, built_in=self.builtin_tools)

    @classmethod
    def options_shown(cls, rendered: str) -> dict[str, Any]:
        dated = re.search(r"\nCurrent date: (.*)\n", rendered)
        return {"current_date": dated.group(1)} if dated else {}

    def start(self, system: Message | None, tools: Sequence[Tool]) -> Iterator[Piece]:
        yield markup("<|start|>system<|message|>")
        yield content(self.model_identity)
        yield markup(f"\nKnowledge cutoff: 2024-06\nCurrent date: {self.current_date or date.today()}\n\nReasoning: ")
        yield content(self.reasoning_effort)
        built_in = "".join(text for name, text in BUILT_IN_TOOLS.items() if name in self.builtin_tools)
        yield markup("\n\n" + ("# Tools\n\n" + built_in if self.builtin_tools else ""))
        yield markup("# Valid channels: analysis, commentary, final. Channel must be included for every message.")
        yield markup("\nCalls to these tools must go to the commentary channel: 'functions'." if tools else "")
        yield markup("<|end|>")
        yield from self.developer(system.text if system else "", tools)

    def developer(self, instructions: str, tools: Sequence[Tool] = ()) -> Iterator[Piece]:
        if not instructions and not tools:
            return
        yield markup("<|start|>developer<|message|>")
        if instructions:
            yield markup("# Instructions\n\n")
            yield content(instructions)
            yield markup(self.after_instructions)
        if tools:
            yield markup(self.before_tools[bool(instructions)])
            yield markup("# Tools\n\n## functions\n\nnamespace functions {\n\n")
            yield content("".join(map(declaration, tools)))
            yield markup("} // namespace functions")
        yield markup("<|end|>")

    def turn(self, place: Place) -> Iterator[Piece]:
        message = place.message
        if message.role == "user":
            yield markup("<|start|>user<|message|>")
            yield content(message.text)
            yield markup("<|end|>")
        elif message.role == "tool":
            yield from self.result(place)
        elif message.role == "assistant":
            for k, pieces in enumerate(self.sampled(message) if place.exact else self.shown(place)):
                yield output_markup("<|start|>assistant") if k else markup("<|start|>assistant")
                yield from pieces
        elif place.exact:
            yield from self.developer(message.text)

    def result(self, place: Place) -> Iterator[Piece]:
        calls = place.open_calls()
        name = place.called_name() if place.exact else calls[0].name if calls else None
        if name is None:
            raise RenderError("a tool result needs a tool call before it, whose function it names")
        built_in = place.exact and self.response_format.has_built_in(name)
        yield markup("<|start|>" if built_in else "<|start|>functions.")
        yield content(name)
        yield markup(f" to=assistant<|channel|>{'analysis' if built_in else 'commentary'}<|message|>")
        text = place.message.text
        yield content(json.dumps(text, ensure_ascii=False) if self.quotes_results and not built_in else text)
        yield markup("<|end|>")

    def sampled(self, message: Message) -> Iterator[Iterator[Piece]]:
        """An assistant message as the model samples it: harmony's messages."""
        if message.reasoning is not None:
            yield _said(_ANALYSIS, message.reasoning)
        if message.tool_calls and message.text:
            yield _said(_PREAMBLE, message.text)
        for call in message.tool_calls:
            yield self.called(call, built_in=self.response_format.has_built_in(call.name))
        if not message.tool_calls:
            yield _said(_FINAL, message.text, output_markup("<|return|>"))

    def called(self, call: ToolCall, *, built_in: bool = False) -> Iterator[Piece]:
        yield output_markup(" to=" if built_in else " to=functions.")
        yield output_value(call.name)
        yield output_markup(f"<|channel|>{'analysis code' if built_in else 'commentary json'}<|message|>")
        yield output_value(body_of(call) if built_in else call.arguments_json)
        yield output_markup("<|call|>")

    def shown(self, place: Place) -> Iterator[Iterator[Piece]]:
        """The same as the template shows it."""
        message = place.message
        self._refuse_tags(message)
        if message.tool_calls:
            if message.text and message.reasoning:
                raise RenderError("the template refuses both content and thinking in a message with tool calls")
            later = place.messages[place.index + 1 :]
            is_answered = any(m.role == "assistant" and not m.tool_calls for m in later)
            if (thought := message.text or message.reasoning) and not is_answered:
                yield _said(_ANALYSIS, thought)
            yield self.called(message.tool_calls[0])
        elif place.is_last and not place.generation_prompt:
            if message.reasoning is not None:
                yield _said(_ANALYSIS, message.reasoning)
            yield _said(_FINAL, message.text, output_markup(self.last_close))
        else:
            yield self.shown_in_history(message)

    def shown_in_history(self, message: Message) -> Iterator[Piece]:
        return _said(_FINAL, message.text, markup("<|end|>"))  # no model samples this close

    def _refuse_tags(self, message: Message) -> None:
        for text in (message.text if self.refuses_tagged_content else "", message.reasoning or ""):
            if _ANALYSIS in text or _FINAL in text:
                raise RenderError("the template refuses <|channel|> tags in an assistant message's text")

    def generation_prompt(self) -> Iterator[Piece]:
        yield markup("<|start|>assistant")


class GptOssSafeguard(GptOss):
    name = "gpt-oss-safeguard"
    after_instructions = ""
    before_tools = ("\n\n", "\n\n")


class GptOssUnsloth(GptOss):
    """Unsloth's template; in history it shows of an answer with a thought the thought alone."""

    name = "gpt-oss-unsloth"
    after_instructions = ""
    before_tools = ("", "\n\n")
    quotes_results = False
    refuses_tagged_content = False
    last_close = "<|end|>"

    def shown_in_history(self, message: Message) -> Iterator[Piece]:
        return super().shown_in_history(message) if message.reasoning is None else _said(_ANALYSIS, message.reasoning)


def _said(header: str, text: str, close: Piece = _END) -> Iterator[Piece]:
    yield output_markup(header)
    yield output_value(text)
    yield close
