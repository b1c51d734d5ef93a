"""``<tool_call>\\n{"name": …, "arguments": {…}}\\n</tool_call>``: Hermes, Qwen2.5, Qwen3 and many more."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from tickertape.renderers.draft import Draft
from tickertape.renderers.json_text import closes_object, copy_json, is_object, json_string, strict_json
from tickertape.renderers.messages import ToolCall
from tickertape.renderers.pieces import Piece, output_markup, output_value
from tickertape.renderers.prompt import CallStatus
from tickertape.renderers.shape import CallsShape, Json
from tickertape.renderers.source import Reading, Source
from tickertape.renderers.tool_calls.offered import Offered
from tickertape.renderers.tool_calls.syntax import CallSyntax, read_verbatim, say_call

_VIABLE = re.compile(r"\s*(?:\{|\Z)")


@dataclass(frozen=True)
class JsonInTags(CallSyntax):
    """A JSON object between two tags."""

    open: str = "<tool_call>"
    close: str = "</tool_call>"
    arguments_key: str = "arguments"
    pad: str = "\n"
    """Between a tag and the object."""
    padding: str = "\n"

    @property
    def opens(self) -> tuple[str, ...]:
        return (self.open,)

    @property
    def tags(self) -> tuple[str, ...]:
        return (self.open, self.close)

    @cached_property
    def _head(self) -> re.Pattern[str]:
        name = r'\s*\{\s*"name"\s*:\s*("(?:[^"\\]|\\.)+")\s*,\s*'
        return re.compile(rf'{name}"{re.escape(self.arguments_key)}"\s*:\s*(?=\{{)', re.DOTALL)

    def write(self, calls: Sequence[ToolCall]) -> Iterator[Piece]:
        for k, call in enumerate(calls):
            yield output_markup(f'{self.padding if k else ""}{self.open}{self.pad}{{"name": "')
            yield output_value(call.name)
            yield output_markup(f'", "{self.arguments_key}": ')
            yield output_value(call.arguments_json)
            yield output_markup(f"}}{self.pad}{self.close}")

    def shape(self, name: str, parameters: Mapping[str, Any]) -> CallsShape:
        head = f'{self.open}{self.pad}{{"name": "{name}", "{self.arguments_key}": '
        return CallsShape((head, Json(parameters), f"}}{self.pad}{self.close}"), between=self.padding)

    def read(self, opening: str, source: Source, draft: Draft, offered: Offered) -> Reading[None]:  # noqa: ARG002
        marks = source.marks(*self.tags)
        source.start_record()
        head = yield from source.head(self._head, _VIABLE, marks)
        name = json_string(head.group(1)) if head else None
        if name:
            yield from self._read_arguments(name, opening, source, draft)
        elif head or not _VIABLE.match(source.text):
            already = head.group() if head else ""
            yield from read_verbatim(
                CallStatus.MALFORMED, source, draft, marks, self.close, opening=opening, already=already
            )
        else:
            yield from self._read_whole(opening, source, draft)

    def _read_arguments(self, name: str, opening: str, source: Source, draft: Draft) -> Reading[None]:
        marks = source.marks(*self.tags)
        draft.open_call(name)
        yield from copy_json(source, draft.argue, marks)
        behind: list[str] = []
        tag = yield from source.copy_until(marks, behind.append)
        if tag == self.close:
            source.take_tag(tag)
        well_formed = is_object(draft.arguments) and closes_object("".join(behind))
        status = CallStatus.OK if well_formed else CallStatus.INVALID_JSON
        draft.close_call(status if tag == self.close else CallStatus.UNCLOSED, opening + source.recorded())

    def _read_whole(self, opening: str, source: Source, draft: Draft) -> Reading[None]:
        """A body in another order than usual, which can be read only when it is all there."""
        parts: list[str] = []
        tag = yield from source.copy_until(source.marks(*self.tags), parts.append)
        body = "".join(parts)
        status, call = self._read_body(body)
        if tag == self.close:
            source.take_tag(tag)
        else:
            status = CallStatus.UNCLOSED
        say_call(draft, call, status, opening + source.recorded())

    def _read_body(self, body: str) -> tuple[CallStatus, ToolCall | None]:
        try:
            value = strict_json(body)
        except ValueError:
            return CallStatus.INVALID_JSON, None
        call = call_of(value, (self.arguments_key,))
        return (CallStatus.MALFORMED, None) if call is None else (CallStatus.OK, call)


def call_of(value: Any, arguments_keys: Sequence[str]) -> ToolCall | None:
    """The call that a JSON value describes: a name, and an object of arguments (or one written as a JSON string, or
    none at all)."""
    if not isinstance(value, dict) or not isinstance(value.get("name"), str) or not value["name"]:
        return None
    key = next((key for key in arguments_keys if key in value), None)
    if key is None:
        return ToolCall(value["name"], "{}") if len(value) == 1 else None  # under another name: not ours to guess
    arguments = value[key]
    if isinstance(arguments, str):
        return ToolCall(value["name"], arguments) if is_object(arguments) else None
    return ToolCall(value["name"], json.dumps(arguments, ensure_ascii=False)) if isinstance(arguments, dict) else None
