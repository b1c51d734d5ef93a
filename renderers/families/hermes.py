"""Hermes 2 Pro and Hermes 3: ChatML on Llama 3, with tools as Python signatures.

Sources: the templates of NousResearch/Hermes-2-Pro-Llama-3-8B and Hermes-3-Llama-3.1-8B, each of which has one for
conversations with tools (``tool_use``) and one for all others.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tickertape.renderers.errors import RenderError
from tickertape.renderers.families.chatml import ChatML
from tickertape.renderers.format import History, Place
from tickertape.renderers.messages import Message, Tool
from tickertape.renderers.pieces import Piece, content, markup, output
from tickertape.renderers.tokenizer import TokenizerLike

_PYTHON_TYPES = {"string": "str", "number": "float", "integer": "int", "boolean": "bool"}


class Hermes2Pro(ChatML):
    """Hermes 2 Pro: where tools are offered, they are the first system message, and an own system message is the
    second."""

    name = "hermes-2-pro"

    def __init__(
        self, tokenizer: TokenizerLike, *, default_system: str | None = None, history: History | str = History.EXACT
    ) -> None:
        super().__init__(tokenizer, default_system=default_system, history=history)
        if "bos_token" not in self.tokenizer.special_tokens:
            raise RenderError(f"{self.name} needs a bos_token, which {self.tokenizer.name} does not have")

    def start(self, system: Message | None, tools: Sequence[Tool]) -> Iterator[Piece]:
        yield markup(self.tokenizer.special_tokens["bos_token"])
        if not tools:
            yield from super().start(system, tools)
            return
        yield self.header("system")
        yield from self.offer(tools, lead_in="")
        yield self.end()
        if system is not None:
            yield from super().start(system, ())

    def offer(self, tools: Sequence[Tool], lead_in: str) -> Iterator[Piece]:
        yield markup(
            lead_in + "You are a function calling AI model. You are provided with function signatures within "
            "<tools></tools> XML tags. You may call one or more functions to assist with the user query. Don't make "
            "assumptions about what values to plug into functions. Here are the available tools: <tools> "
        )
        yield content("\n".join(_declaration(tool.get("function", tool)) for tool in tools))
        yield markup(
            " </tools>Use the following pydantic model json schema for each tool call you will make: "
            '{"properties": {"name": {"title": "Name", "type": "string"}, "arguments": {"title": "Arguments", '
            '"type": "object"}}, "required": ["name", "arguments"], "title": "FunctionCall", "type": "object"}}\n'
            "For each function call return a json object with function name and arguments within "
            "<tool_call></tool_call> XML tags as follows:\n<tool_call>\n"
            '{"name": <function-name>, "arguments": <args-dict>}\n</tool_call>'
        )

    def said(self, place: Place) -> Iterator[Piece]:
        """The template leaves out words beside a call."""
        message = place.message
        text = message.text if place.exact or not message.tool_calls else ""
        yield output(text)
        yield from self.calls_after(message, bool(text))

    def result(self, place: Place) -> Iterator[Piece]:
        """The template closes no differently after the last message of all; there the model reads no newline, so
        ``history="exact"`` writes none wherever a result stands."""
        is_followed = place.neighbour_has_role(+1, "tool")
        if not place.neighbour_has_role(-1, "tool"):
            yield self.header("tool")
        yield markup("<tool_response>\n")
        yield content(place.message.text)
        yield markup("\n</tool_response>")
        if is_followed or not (place.exact or place.is_last):
            yield markup("\n")
        if not is_followed:
            yield markup("<|im_end|>")


class Hermes3(Hermes2Pro):
    """Hermes 2 Pro with a system message for conversations that bring neither one nor tools."""

    name = "hermes-3"

    def __init__(
        self,
        tokenizer: TokenizerLike,
        *,
        default_system: str | None = "You are a helpful assistant.",
        history: History | str = History.EXACT,
    ) -> None:
        super().__init__(tokenizer, default_system=default_system, history=history)


def _declaration(function: Mapping[str, Any]) -> str:
    """A function as Hermes 2 Pro declares it: a Python signature inside JSON, neither quite."""
    if missing := {"name", "description", "parameters"} - function.keys():
        raise RenderError(f"this format needs {', '.join(sorted(missing))} of the tool {function.get('name')!r}")
    name, parameters = function["name"], _mapping(function["parameters"])
    properties = _mapping(parameters.get("properties"))
    types = {key: _python_type(schema) for key, schema in properties.items()}
    returned = _mapping(function.get("return"))
    text = f'{{"type": "function", "function": {{"name": "{name}", "description": "{name}('
    text += ", ".join(f"{key}: {kind}" for key, kind in types.items()) + ")"
    text += f" -> {_python_type(returned)}" if returned else ""
    text += f" - {function['description']}\n\n" + ("    Args:\n" if properties else "")
    for key, schema in properties.items():
        text += f"        {key}({types[key]}): {str(_mapping(schema).get('description', '')).strip()}"
    if "description" in returned:
        text += f"\n    Returns:\n        {returned['description']}"
    shown = json.dumps(parameters, ensure_ascii=False) if properties else "{}"
    return f'{text}", "parameters": {shown}}}'


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _python_type(schema: Any) -> str:
    kind = _mapping(schema).get("type")
    if isinstance(kind, list):
        return f"Union[{','.join(_python_type({'type': one}) for one in kind)}]"
    if kind is None:
        return "Union[]"
    if kind == "array":
        return "list[Union[]]"  # the template looks for the items in the wrong place
    if kind == "object":
        inner = schema.get("additionalProperties")
        return "dict" if inner is None else f"dict[str, {_python_type(inner)}]"
    if kind not in _PYTHON_TYPES:
        raise RenderError(f"this format has no name for the type {kind!r}")
    return _PYTHON_TYPES[kind]
