"""Tool-call syntaxes: how a model writes a call, and how the text is read back.

A syntax never raises on what a model wrote: a call that cannot be read keeps its raw text and says why.
"""

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol

from tickertape.renderers.messages import ToolCall
from tickertape.renderers.prompt import CallStatus


class CallSyntax(Protocol):
    """One way to write a tool call between an opening and a closing tag."""

    @property
    def open(self) -> str:
        """The opening tag."""

    @property
    def close(self) -> str:
        """The closing tag."""

    def read(self, body: str) -> tuple[CallStatus, ToolCall | None]:
        """The call in the text between the tags; status ``OK``, ``INVALID_JSON`` or ``MALFORMED``."""

    def write(self, call: ToolCall) -> Iterator[str]:
        """The call as text, tags included: in turn the format's own text and the caller's."""


@dataclass(frozen=True, slots=True)
class JsonInTags:
    """``<tool_call>\\n{"name": …, "arguments": {…}}\\n</tool_call>``: Hermes, Qwen2.5, Qwen3 and many more."""

    open: str = "<tool_call>"
    close: str = "</tool_call>"

    def write(self, call: ToolCall) -> Iterator[str]:
        yield f'{self.open}\n{{"name": "'
        yield call.name
        yield '", "arguments": '
        yield call.arguments_json
        yield f"}}\n{self.close}"

    def read(self, body: str) -> tuple[CallStatus, ToolCall | None]:
        try:
            value = strict_json(body)
        except ValueError:
            return CallStatus.INVALID_JSON, None
        if not isinstance(value, dict) or not isinstance(value.get("name"), str) or not value["name"]:
            return CallStatus.MALFORMED, None
        arguments = _arguments_text(body, value)
        if arguments is None:
            return CallStatus.MALFORMED, None
        return CallStatus.OK, ToolCall(value["name"], arguments)


_NAME_THEN_ARGUMENTS = re.compile(r'\s*\{\s*"name"\s*:\s*"(?:[^"\\]|\\.)*"\s*,\s*"arguments"\s*:\s*', re.DOTALL)


def _arguments_text(body: str, value: dict[str, Any]) -> str | None:
    """The arguments as JSON text, exactly as sampled where they stand in the usual place; ``None``: not an object."""
    if "arguments" not in value and len(value) > 1:  # under another name: not ours to guess
        return None
    arguments = value.get("arguments", {})
    if isinstance(arguments, str):  # an object written as a JSON string
        try:
            return arguments if isinstance(strict_json(arguments), dict) else None
        except ValueError:
            return None
    if not isinstance(arguments, dict):
        return None
    if match := _NAME_THEN_ARGUMENTS.match(body):
        first, end = json.JSONDecoder().raw_decode(body, match.end())
        if body[end:].strip() == "}" and first == arguments:
            return body[match.end() : end]
    return json.dumps(arguments, ensure_ascii=False)


def strict_json(text: str) -> Any:
    """JSON that can be sent on: no ``NaN``, no number beyond a float, no half of a surrogate pair.

    Raises:
        ValueError: it is none, or is nested too deeply to be read.
    """
    try:
        value = json.loads(text, parse_constant=_refuse_constant, parse_float=_finite)
        if "\\ud" in text.lower():
            json.dumps(value, ensure_ascii=False).encode()  # UnicodeEncodeError, a ValueError, for half a pair
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    return value


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"{text} is too large")
    return number


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
