"""Qwen3-Coder: ChatML without thinking, tools and calls as nested elements.

Sources: the templates of Qwen/Qwen3-Coder-30B-A3B-Instruct and Qwen/Qwen3-Coder-Next.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from tickertape.renderers.draft import Padding
from tickertape.renderers.families.chatml import ChatML
from tickertape.renderers.format import History, Place
from tickertape.renderers.messages import Message, Tool
from tickertape.renderers.parsing import ResponseFormat
from tickertape.renderers.pieces import Piece, content, markup
from tickertape.renderers.tokenizer import TokenizerLike
from tickertape.renderers.tool_calls.elements import Elements, json_or_text, python_or_json
from tickertape.renderers.tool_calls.section import Section

_DEFAULT_SYSTEM = "You are Qwen, a helpful AI assistant that can interact with a computer to solve tasks."
#: How to call a function; Qwen3.5 says it in the same words.
INSTRUCTIONS = (
    "\n\nIf you choose to call a function ONLY reply in the following format with NO suffix:\n\n<tool_call>\n"
    "<function=example_function_name>\n<parameter=example_parameter_1>\nvalue_1\n</parameter>\n"
    "<parameter=example_parameter_2>\nThis is the value for the second parameter\nthat can span\nmultiple lines\n"
    "</parameter>\n</function>\n</tool_call>\n\n<IMPORTANT>\nReminder:\n- Function calls MUST follow the specified "
    "format: an inner <function=...></function> block must be nested within <tool_call></tool_call> XML tags\n"
    "- Required parameters MUST be specified\n- You may provide optional reasoning for your function call in natural "
    "language BEFORE the function call, but NOT after\n- If there is no function call available, answer the question "
    "like normal with your current knowledge and do not tell the user about function calls\n</IMPORTANT>"
)


def coder_calls(value_text: Callable[[Any], str]) -> Section:
    """``<tool_call>\\n<function=f>\\n<parameter=k>\\nv\\n</parameter>\\n</function>\\n</tool_call>`` for each call; the
    templates differ in how they write values."""
    opening, closing = "<tool_call>", "</tool_call>"
    call = Elements(value_text=value_text, enclosing=(opening, closing))
    return Section(opening, closing, call, line="\n", each=True, padding="\n")


#: The newline of the call's own line, and one more.
CODER_PADDING = Padding(before_calls="\n\n")


class Qwen3Coder(ChatML):
    name = "qwen3-coder"
    response = ResponseFormat(tool_calls=coder_calls(python_or_json), padding=CODER_PADDING)
    extra_text: Callable[[Any], str] = staticmethod(python_or_json)
    """The function that writes what else a schema holds."""

    def __init__(self, tokenizer: TokenizerLike, *, history: History | str = History.EXACT) -> None:
        super().__init__(tokenizer, history=history)

    def default_words(self, tools: Sequence[Tool]) -> str | None:
        return _DEFAULT_SYSTEM if tools else None

    def offer(self, tools: Sequence[Tool], lead_in: str) -> Iterator[Piece]:
        yield markup(f"{lead_in}# Tools\n\nYou have access to the following functions:\n\n<tools>")
        for tool in tools:
            yield content("\n" + "\n".join(self._declaration(tool.get("function", tool))))
        yield markup("\n</tools>" + INSTRUCTIONS)

    def _declaration(self, function: Mapping[str, Any]) -> Iterator[str]:
        """Lines that declare one function."""
        parameters = function.get("parameters")
        properties = parameters.get("properties") if isinstance(parameters, Mapping) else None
        yield from ("<function>", f"<name>{function.get('name', '')}</name>")
        yield from _description(function)
        yield "<parameters>"
        for name, schema in properties.items() if isinstance(properties, Mapping) else ():
            yield from ("<parameter>", f"<name>{name}</name>")
            if isinstance(schema, Mapping):
                if "type" in schema:
                    yield f"<type>{schema['type']}</type>"
                yield from _description(schema)
                yield from self._extra(schema, "name", "type", "description")
            yield "</parameter>"
        if isinstance(parameters, Mapping):
            yield from self._extra(parameters, "type", "properties")
        yield "</parameters>"
        yield from self._extra(function, "type", "name", "description", "parameters")
        yield "</function>"

    def _extra(self, schema: Mapping[str, Any], *handled: str) -> Iterator[str]:
        return (f"<{key}>{self.extra_text(value)}</{key}>" for key, value in schema.items() if key not in handled)

    def result(self, place: Place) -> Iterator[Piece]:
        if not place.neighbour_has_role(-1, "tool"):
            yield self.header("user")
        yield markup("<tool_response>\n")
        yield content(place.message.text)
        yield markup("\n</tool_response>\n")
        if not place.neighbour_has_role(+1, "tool"):
            yield self.end()

    def words(self, message: Message) -> str:
        return message.text.strip() if message.tool_calls else message.text


class Qwen3CoderNext(Qwen3Coder):
    """It writes truth values, numbers and null as JSON, not as Python."""

    name = "qwen3-coder-next"
    response = ResponseFormat(tool_calls=coder_calls(json_or_text), padding=CODER_PADDING)
    extra_text = staticmethod(json_or_text)

    def result(self, place: Place) -> Iterator[Piece]:
        return ChatML.result(self, place)


def _description(schema: Mapping[str, Any]) -> Iterator[str]:
    if "description" in schema:
        yield f"<description>{str(schema['description']).strip()}</description>"
