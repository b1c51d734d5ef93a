"""GLM: a turn has no close of its own, the marker of the next role is its stop token.

Sources: the templates of zai-org/GLM-4.5-Air, unsloth/GLM-4.5-Air and GLM-4.6 (alike), GLM-4.7-Flash and zai-org/GLM-5
(alike), zai-org/GLM-5.1, zai-org/GLM-5.2.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import takewhile

from tickertape.renderers.draft import UNPADDED, Padding
from tickertape.renderers.format import Format, History, Place
from tickertape.renderers.messages import Message, Tool
from tickertape.renderers.parsing import ResponseFormat
from tickertape.renderers.pieces import Piece, content, markup, output, output_markup
from tickertape.renderers.reasoning import TaggedReasoning
from tickertape.renderers.tokenizer import TokenizerLike
from tickertape.renderers.tool_calls.elements import Elements

THINK = TaggedReasoning(around_close=("", ""))
ROLES = {"system": "<|system|>", "user": "<|user|>", "assistant": "<|assistant|>", "tool": "<|observation|>"}
SILENT = "/nothink"
RUN_ON = Elements(
    name_open="<tool_call>", name_close="", end="</tool_call>", line="", padding="", value_pad="",
    key_open="<arg_key>", key_close="</arg_key>", value_open="<arg_value>", value_close="</arg_value>",
)  # fmt: skip
ARGUMENTS = (f"<arg_{part}>{{arg-{part}-{k}}}</arg_{part}>" for k in (1, 2) for part in ("key", "value"))
CALL_SHOWN = ("{function-name}", *ARGUMENTS, "...", "</tool_call>")


class Glm45(Format):
    """GLM-4.5 and 4.6: every part on a line of its own."""

    name = "glm-4.5"
    markers = ("[gMASK]", "<sop>", *ROLES.values())
    stop_tokens = ("<|user|>", "<|observation|>", "<|endoftext|>")
    runs_without_query = True
    response = ResponseFormat(
        reasoning=THINK,
        tool_calls=replace(RUN_ON, line="\n", between="\n", padding="\n"),
        padding=Padding(lead_in="\n", thought="", after_thought="\n", before_calls="\n", after_call="\n"),
    )
    line = "\n"
    """Before each part of a message."""
    thought_opened = ""
    """The part of the thought that the prompt of a turn with thinking holds."""
    no_thought = "<think></think>"
    """The text that stands in a thought's place, and in the prompt of a turn without thinking."""

    def __init__(
        self, tokenizer: TokenizerLike, *, enable_thinking: bool = True, history: History | str = History.EXACT
    ) -> None:
        super().__init__(tokenizer, history=history)
        self.enable_thinking = enable_thinking
        opened = enable_thinking and bool(self.thought_opened)
        self.response_format = replace(self.response_format, starts_in_reasoning=opened)

    def start(self, system: Message | None, tools: Sequence[Tool]) -> Iterator[Piece]:
        yield markup("[gMASK]<sop>")
        if tools:
            yield from self.tools(tools)
        if system is not None:
            yield markup(ROLES["system"] + self.line)
            yield content(system.text)

    def tools(self, tools: Sequence[Tool]) -> Iterator[Piece]:
        yield markup(
            "<|system|>\n# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
            "You are provided with function signatures within <tools></tools> XML tags:\n<tools>\n"
        )
        for tool in tools:
            yield content(json.dumps(self.tool(tool), ensure_ascii=False) + "\n")
        yield markup(
            "</tools>\n\nFor each function call, output the function name and arguments within the following XML "
            "format:\n<tool_call>" + self.line.join(CALL_SHOWN)
        )

    def tool(self, tool: Tool) -> Tool:
        """A tool as it is shown."""
        return tool

    def turn(self, place: Place) -> Iterator[Piece]:
        message = place.message
        if not self._stands_already(place):
            yield markup(ROLES[message.role])
        if message.role == "assistant":
            yield from self.said(place)
            if stop := self._stop(place):
                yield output_markup(stop)
        elif message.role == "tool":
            yield markup(f"{self.line}<tool_response>{self.line}")
            yield content(message.text)
            yield markup(f"{self.line}</tool_response>")
        else:
            yield markup(self.line)
            yield from self.asked(message) if message.role == "user" else [content(message.text)]

    def asked(self, message: Message) -> Iterator[Piece]:
        """A user's words."""
        if self.enable_thinking:
            yield content(message.text)
        else:
            yield content(message.text.removesuffix(SILENT))
            yield markup(SILENT)

    def _stop(self, place: Place) -> str | None:
        """The token that an assistant's turn ends on: results of its calls come next, or the user. The template has it
        only where they do come."""
        if place.exact:
            return ROLES["tool" if place.message.tool_calls else "user"]
        return next((ROLES[role] for role in ("user", "tool") if place.neighbour_has_role(+1, role)), None)

    def _stands_already(self, place: Place) -> bool:
        """Returns True if the role's marker is there: the turn before ended on it, or it is for several results."""
        role = place.message.role
        if place.neighbour_has_role(-1, "assistant"):
            return self._stop(replace(place, index=place.index - 1)) == ROLES[role]
        return role == "tool" and place.neighbour_has_role(-1, "tool")

    def said(self, place: Place) -> Iterator[Piece]:
        """Pieces of an assistant message between its marker and its stop token."""
        reasoning, text = self.thought(place)
        if reasoning is not None:
            yield (markup if self.response_format.starts_in_reasoning else output_markup)(self.line + THINK.open)
            yield output(reasoning)
            yield output_markup(THINK.close)
        else:
            is_prompted = self.thought_opened or not self.enable_thinking
            yield (markup if is_prompted else output_markup)(self.line + self.no_thought)
        if text := text if place.exact else text.strip():
            yield output_markup(self.line)
            yield output(text)
        if place.message.tool_calls:
            yield output_markup(self.line)
            yield from self.calls(place.message)

    def thought(self, place: Place) -> tuple[str | None, str]:
        """Reasoning that is shown, ``None`` where there is none, and content."""
        reasoning, text = place.message.reasoning, place.message.text
        if reasoning is None:
            reasoning, text = THINK.split(text)
        if place.exact:
            is_opened = self.response_format.starts_in_reasoning
            return "" if reasoning is None and is_opened else reasoning, text
        return reasoning.strip() if reasoning and self.shows_thought(place) else None, text

    def shows_thought(self, place: Place) -> bool:
        """Returns True if the template shows a thought of this message."""
        return place.is_running

    def generation_prompt(self) -> Iterator[Piece]:
        opening = self.thought_opened if self.enable_thinking else self.line + self.no_thought
        yield markup(ROLES["assistant"] + opening)


class Glm47(Glm45):
    """GLM-4.7 and 5: no lines, and the prompt opens the thought."""

    name = "glm-4.7"
    response = ResponseFormat(reasoning=THINK, tool_calls=RUN_ON, padding=UNPADDED)
    line = ""
    thought_opened = THINK.open
    no_thought = THINK.close

    def __init__(
        self,
        tokenizer: TokenizerLike,
        *,
        enable_thinking: bool = True,
        clear_thinking: bool = True,
        history: History | str = History.EXACT,
    ) -> None:
        """``clear_thinking`` says whether ``history="template"`` leaves thoughts of earlier exchanges out."""
        super().__init__(tokenizer, enable_thinking=enable_thinking, history=history)
        self.clear_thinking = clear_thinking

    def asked(self, message: Message) -> Iterator[Piece]:
        yield content(message.text)

    def shows_thought(self, place: Place) -> bool:
        return place.is_running or not self.clear_thinking


class Glm51(Glm47):
    """GLM-5.1: a turn with thinking shows its thought, empty or not, and as it is."""

    name = "glm-5.1"

    def tools(self, tools: Sequence[Tool]) -> Iterator[Piece]:
        now = [tool for tool in tools if not tool.get("function", tool).get("defer_loading")]
        yield from super().tools(now)

    def tool(self, tool: Tool) -> Tool:
        return {key: value for key, value in tool.get("function", tool).items() if key not in _NOT_SHOWN}

    def thought(self, place: Place) -> tuple[str | None, str]:
        reasoning, text = place.message.reasoning, place.message.text
        if reasoning is None and THINK.close in text:
            parts = text.split(THINK.close)
            reasoning, text = parts[0].split(THINK.open)[-1], parts[-1]
        if reasoning is None and self.is_thoughtful(place):
            reasoning = ""
        return reasoning if place.exact or self.shows_thought(place) else None, text

    def is_thoughtful(self, place: Place) -> bool:
        """Returns True if a message without a thought stands where others have one."""
        if place.exact or place.is_running:
            return self.enable_thinking
        asked = max((k for k in range(place.index) if place.messages[k].role == "user"), default=None)
        exchange = takewhile(lambda m: m.role != "user", place.messages[asked + 1 :] if asked is not None else ())
        return any(message.role == "assistant" and message.reasoning is not None for message in exchange)


class Glm52(Glm51):
    """GLM-5.2, whose prompt says how hard to think."""

    name = "glm-5.2"
    no_thought = "<think></think>"

    def __init__(
        self,
        tokenizer: TokenizerLike,
        *,
        enable_thinking: bool = True,
        clear_thinking: bool = True,
        reasoning_effort: str = "max",
        history: History | str = History.EXACT,
    ) -> None:
        """``reasoning_effort`` is ``"high"`` or, like anything else, ``"max"``."""
        super().__init__(tokenizer, enable_thinking=enable_thinking, clear_thinking=clear_thinking, history=history)
        self.effort = "High" if reasoning_effort == "high" else "Max"

    def start(self, system: Message | None, tools: Sequence[Tool]) -> Iterator[Piece]:
        beginning, *rest = super().start(system, tools)
        yield beginning
        if self.enable_thinking:
            yield markup(f"<|system|>Reasoning Effort: {self.effort}")
        yield from rest


_NOT_SHOWN = ("defer_loading", "strict")
