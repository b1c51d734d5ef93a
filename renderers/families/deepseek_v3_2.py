"""DeepSeek V3.2 and V4: tools on offer, calls in DSML, a thought before each answer.

Sources: llama.cpp's templates for deepseek-ai/DeepSeek-V3.2 and DeepSeek-V4, whose own hub pages have none.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import ClassVar

from tickertape.renderers.draft import Padding
from tickertape.renderers.families.deepseek_v3 import ASSISTANT, BEGIN, END, USER
from tickertape.renderers.families.deepseek_v3_1 import TIGHT_THINK as THINK
from tickertape.renderers.families.deepseek_v3_1 import tight_thought
from tickertape.renderers.families.systems_first import SystemsFirst
from tickertape.renderers.format import History, Place
from tickertape.renderers.messages import Message, Tool
from tickertape.renderers.parsing import ResponseFormat
from tickertape.renderers.pieces import Piece, content, markup, output, output_markup
from tickertape.renderers.tokenizer import TokenizerLike
from tickertape.renderers.tool_calls.dsml import Dsml
from tickertape.renderers.tool_calls.section import Section

_PADDING = Padding(thought="", after_thought="", before_calls="\n\n", after_call="")
_EXAMPLE = """<｜DSML｜{section}>
<｜DSML｜invoke name="${kind}_NAME">
<｜DSML｜parameter name="$PARAMETER_NAME" string="true|false">$PARAMETER_VALUE</｜DSML｜parameter>
...
</｜DSML｜invoke>
<｜DSML｜invoke name="${kind}_NAME2">
...
</｜DSML｜invoke>
</｜DSML｜{section}>
"""


def dsml_response(section: str, without_parameters: str = "") -> ResponseFormat:
    """Answers with calls in a section of that name; ``without_parameters`` stands in a call that has none."""
    dsml = Dsml(without_parameters=without_parameters)
    calls = Section(f"<｜DSML｜{section}>", f"</｜DSML｜{section}>", dsml, line="\n")
    return ResponseFormat(reasoning=THINK, tool_calls=calls, padding=_PADDING)


class DeepSeekV32(SystemsFirst):
    name = "deepseek-v3.2"
    markers = (BEGIN, END, USER, ASSISTANT)
    stop_tokens = (END,)
    close = (output_markup(END),)
    preamble = (markup(BEGIN),)
    response = dsml_response("function_calls")
    no_thought: ClassVar[str] = "<think></think>"
    """The prompt's words to a model that is not to think."""
    tools_header: ClassVar[str] = (
        "## Tools\n\nYou have access to a set of tools you can use to answer the user's question.\nYou can "
        'invoke functions by writing a "<｜DSML｜function_calls>" block like the following as part of your reply to '
        "the user:\n"
        + _EXAMPLE.format(section="function_calls", kind="FUNCTION")
        + "\nString and scalar parameters should be specified as is without any escaping or quotes, while lists "
        'and objects should use JSON format. The "string" attribute should be set to "true" for string type parameters '
        'and "false" for other types (numbers, booleans, arrays, objects).\n\nIf the thinking_mode is enabled, then '
        "after function results you should strongly consider outputting a thinking block. Here is an example:\n\n"
        "<｜DSML｜function_calls>\n...\n</｜DSML｜function_calls>\n\n<function_results>\n...\n</function_results>\n\n"
        "<think>...thinking about results</think>\n\nHere are the functions available in JSONSchema format:\n"
        "<functions>\n"
    )
    tools_footer: ClassVar[str] = "</functions>\n"

    def __init__(
        self, tokenizer: TokenizerLike, *, thinking: bool = False, history: History | str = History.EXACT
    ) -> None:
        super().__init__(tokenizer, history=history)
        self.thinking = thinking
        self.response_format = replace(self.response_format, starts_in_reasoning=thinking)

    def offer(self, systems: Sequence[Message], tools: Sequence[Tool]) -> Iterator[Piece]:
        if tools:
            yield markup(("\n\n" if self.parts_tools_from(systems) else "") + self.tools_header)
            for tool in tools:
                yield content(json.dumps(tool["function"], ensure_ascii=False))
                yield markup("\n")
            yield markup(self.tools_footer)

    def parts_tools_from(self, systems: Sequence[Message]) -> bool:
        """Returns True if anything stands before the tools."""
        return len(systems) > 1 or any(message.text for message in systems)

    def header(self, last: Message | None) -> str | None:
        """Returns what opens an answer to the message ``last``, but for the thought."""
        if last is None or last.role == "assistant":
            return None
        return "\n\n" if last.role == "tool" else ASSISTANT

    def generation_prompt(self) -> Iterator[Piece]:
        yield markup(ASSISTANT + (THINK.open if self.thinking else self.no_thought))

    def generation_prompt_after(self, last: Message | None) -> Iterator[Piece]:
        header = self.header(last)
        if header is not None:
            yield markup(header + (THINK.open if self.thinking else self.no_thought))

    def turn(self, place: Place) -> Iterator[Piece]:
        if place.message.role == "assistant":
            yield from self.answer(place)
        elif place.message.role == "tool":
            yield from self.result(place)
        else:
            yield from self.question(place)

    def question(self, place: Place) -> Iterable[Piece]:
        yield markup(USER)
        yield content(place.message.text)

    def result(self, place: Place) -> Iterator[Piece]:
        """A tool's result; neighbouring ones share a section."""
        yield markup(("" if place.neighbour_has_role(-1, "tool") else "\n\n<function_results>") + "\n<result>")
        yield content(place.message.text)
        yield markup("</result>" + ("" if place.neighbour_has_role(+1, "tool") else "\n</function_results>"))

    def answer(self, place: Place) -> Iterator[Piece]:
        message = place.message
        last = place.messages[place.index - 1] if place.index else None
        if place.exact:
            prompted = tuple(self.generation_prompt_after(last))
            yield from prompted
            yield from tight_thought(message, opened=self.thinking and bool(prompted))
        else:
            yield from self.thought_in_template(place, self.header(last))
        yield output(message.text)
        if message.tool_calls:
            yield output_markup("\n\n")
            yield from self.calls(message)
        yield from self.close

    def thought_in_template(self, place: Place, header: str | None) -> Iterator[Piece]:
        """The header and the thought of an answer as the template shows them: both or neither."""
        if header is not None:
            thinks = self.thinking and self.keeps_thought(place)
            yield markup(header + (THINK.open if thinks else ""))
            yield output(place.message.reasoning or "" if thinks else "")
            yield (output_markup if thinks else markup)(THINK.close)

    def keeps_thought(self, place: Place) -> bool:
        """Returns True if the template shows a message's thought."""
        return place.is_running


class DeepSeekV4(DeepSeekV32):
    """Neighbouring user messages and tool results share a user turn."""

    name = "deepseek-v4"
    response = dsml_response("tool_calls")
    no_thought = "</think>"
    tools_header = (
        "## Tools\n\nYou have access to a set of tools to help answer the user's question. You can invoke tools by "
        'writing a "<｜DSML｜tool_calls>" block like the following:\n\n'
        + _EXAMPLE.format(section="tool_calls", kind="TOOL")
        + '\nString parameters should be specified as is and set `string="true"`. For all other types (numbers, '
        'booleans, arrays, objects), pass the value in JSON format and set `string="false"`.\n\nIf thinking_mode is '
        "enabled (triggered by <think>), you MUST output your complete reasoning inside <think>...</think> BEFORE any "
        "tool calls or final response.\n\nOtherwise, output directly after </think> with tool calls or final response."
        "\n\n### Available Tool Schemas\n\n"
    )
    tools_footer = (
        "\nYou MUST strictly follow the above defined tool name and parameter schemas to invoke tool calls.\n"
    )

    def __init__(
        self,
        tokenizer: TokenizerLike,
        *,
        thinking: bool = False,
        drop_thinking: bool = False,
        history: History | str = History.EXACT,
    ) -> None:
        """``drop_thinking`` leaves out thoughts of earlier exchanges, where no tool is involved."""
        super().__init__(tokenizer, thinking=thinking, history=history)
        self.drop_thinking = drop_thinking

    def _known_role(self, message: Message) -> Message:
        return replace(message, role="user") if message.role == "developer" else message

    def is_query(self, message: Message) -> bool:
        return message.role in ("user", "tool")

    def header(self, last: Message | None) -> str | None:  # noqa: ARG002
        return ASSISTANT

    def question(self, place: Place) -> Iterable[Piece]:
        shares = place.neighbour_has_role(-1, "user") or place.neighbour_has_role(-1, "tool")
        yield markup("\n\n" if shares else USER)
        yield content(place.message.text)

    def result(self, place: Place) -> Iterator[Piece]:
        opening, text = self.question(place)
        yield from (opening, markup("<tool_result>"), text, markup("</tool_result>"))

    def keeps_thought(self, place: Place) -> bool:
        if not self.drop_thinking or place.is_running:
            return True
        return any(message.role == "tool" for message in place.messages)
