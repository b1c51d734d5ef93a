"""Nemotron 3: ChatML with thinking; tools and calls as Qwen3-Coder has them.

Sources: the templates of nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16, unsloth/NVIDIA-Nemotron-3-Nano-4B, Nemotron 3
Super and Ultra (as trl-internal-testing/tiny-NemotronHForCausalLM has them) and nvidia/Nemotron-Cascade-2-30B-A3B.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from tickertape.renderers.draft import Padding
from tickertape.renderers.families.qwen3_coder import Qwen3Coder, coder_calls
from tickertape.renderers.format import History, Place
from tickertape.renderers.messages import Message, Tool
from tickertape.renderers.parsing import ResponseFormat
from tickertape.renderers.pieces import Piece, content, markup, output, output_markup
from tickertape.renderers.reasoning import TaggedReasoning
from tickertape.renderers.tokenizer import TokenizerLike
from tickertape.renderers.tool_calls.elements import python_or_json

THINK = TaggedReasoning()
NO_THOUGHT = markup(THINK.open + THINK.close)  # a prompt's: no turn with thinking can begin so
CALLS = coder_calls(python_or_json)


class Nemotron3(Qwen3Coder):
    """Nano and Super."""

    name = "nemotron-3"
    runs_without_query = True
    response = ResponseFormat(reasoning=replace(THINK, around_close=("\n", "\n")), tool_calls=CALLS, behind_calls="\n")
    around_close = ("\n", "\n")
    """Before the tag that closes a thought, and between it and the content."""
    strips_before_calls = True
    """True if content beside calls of earlier exchanges is stripped."""

    def __init__(
        self,
        tokenizer: TokenizerLike,
        *,
        enable_thinking: bool = True,
        truncate_history_thinking: bool = True,
        low_effort: bool = False,
        default_system: str = "",
        history: History | str = History.EXACT,
    ) -> None:
        """``truncate_history_thinking`` says whether ``history="template"`` leaves thoughts of earlier exchanges out.
        Super's ``low_effort`` asks for less thought with a note after a question: the template's after the last one,
        which is moved when another follows; ``history="exact"`` lets it stay after each."""
        self.response = replace(self.response, starts_in_reasoning=enable_thinking)
        super().__init__(tokenizer, history=history)
        self.default_system = default_system
        self.enable_thinking = enable_thinking
        self.truncate_history_thinking = truncate_history_thinking
        self.note = "\n\n{reasoning effort: low}" if low_effort else ""

    def start(self, system: Message | None, tools: Sequence[Tool]) -> Iterator[Piece]:
        words = content(system.text) if system is not None else markup(self.default_system or "")
        yield self.header("system")
        yield words
        if tools:
            yield from self.offer([_in_order(tool) for tool in tools], lead_in="\n\n" if words.text else "")
        yield self.end()

    def turn(self, place: Place) -> Iterator[Piece]:
        pieces = list(super().turn(place))
        if place.message.role == "user" and (place.exact or place.index == place.last_query):
            pieces.insert(-1, markup(self.note))
        yield from pieces

    def said(self, place: Place) -> Iterator[Piece]:
        message, text, reasoning = place.message, place.message.text, self.thought(place)
        shown = place.exact or place.is_running or not self.truncate_history_thinking
        before_close, opening = self.around_close if reasoning is not None else ("", "")
        if reasoning is not None and shown:
            yield (markup if self.enable_thinking else output_markup)(THINK.open + "\n")
            yield output(reasoning)
            yield output_markup(before_close + THINK.close)
        elif not shown or not _is_tagged(text):
            yield NO_THOUGHT
            text = text.split(THINK.close)[-1]
        if message.tool_calls and not shown:
            opening, text = "", text.strip() if self.strips_before_calls else text
        elif not place.exact:
            text = text.rstrip()
        yield output_markup(opening if text else "")
        yield output(text)
        if message.tool_calls:
            yield output_markup("\n")
            yield from self.calls(message)
            yield output_markup(self.response.behind_calls)

    def thought(self, place: Place) -> str | None:
        """Returns what was thought, ``None`` where nothing was, or where it is part of the content, as agents send it
        that know no other place."""
        reasoning = place.message.reasoning
        if (reasoning or "").strip():
            return reasoning
        if not place.exact or _is_tagged(place.message.text):
            return None
        return reasoning or "" if self.enable_thinking else reasoning  # an opened thought was closed at once

    def generation_prompt(self) -> Iterator[Piece]:
        yield from super().generation_prompt()
        yield markup(THINK.open + "\n") if self.enable_thinking else NO_THOUGHT


class Nemotron3Ultra(Nemotron3):
    """Nothing but the thought's own newlines stands around what closes it."""

    name = "nemotron-3-ultra"
    response = ResponseFormat(
        reasoning=replace(THINK, around_close=("", "")),
        tool_calls=CALLS,
        behind_calls="\n",
        padding=Padding(thought="", after_thought=""),
    )
    around_close = ("", "")
    strips_before_calls = False

    def __init__(
        self,
        tokenizer: TokenizerLike,
        *,
        enable_thinking: bool = True,
        truncate_history_thinking: bool = True,
        medium_effort: bool = False,
        default_system: str = "",
        history: History | str = History.EXACT,
    ) -> None:
        """``medium_effort`` is to Ultra what ``low_effort`` is to Super."""
        super().__init__(
            tokenizer,
            enable_thinking=enable_thinking,
            truncate_history_thinking=truncate_history_thinking,
            default_system=default_system,
            history=history,
        )
        self.note = "\n\n{reasoning effort: efficient}" if medium_effort else ""


def _is_tagged(text: str) -> bool:
    return THINK.open in text or THINK.close in text


def _in_order(tool: Tool) -> Mapping[str, Any]:
    """A function whose schema's keys stand as this format shows them: values to choose from first, and last which
    parameters are required."""
    function: Mapping[str, Any] = tool.get("function", tool)
    parameters = function.get("parameters")
    if not isinstance(parameters, Mapping):
        return function
    required = {key: value for key, value in parameters.items() if key == "required"}
    ordered = {key: value for key, value in parameters.items() if key != "required"} | required
    if isinstance(properties := parameters.get("properties"), Mapping):
        ordered["properties"] = {name: _enum_first(schema) for name, schema in properties.items()}
    return {**function, "parameters": ordered}


def _enum_first(schema: Any) -> Any:
    return {"enum": schema["enum"], **schema} if isinstance(schema, Mapping) and "enum" in schema else schema
