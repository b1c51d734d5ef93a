"""``{"name": …, "parameters": {…}}`` with no tag around it: Llama 3.1 to 3.3.

A call is the answer's first word. Several stand one after the other, with a semicolon or white space between them.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tickertape.renderers.draft import Draft
from tickertape.renderers.json_text import closes_object, copy_json, is_object, json_string
from tickertape.renderers.messages import ToolCall
from tickertape.renderers.pieces import Piece, output_markup, output_value
from tickertape.renderers.prompt import CallStatus
from tickertape.renderers.shape import CallsShape, Json
from tickertape.renderers.source import Reading, Source, viable_beginnings
from tickertape.renderers.tool_calls.offered import Offered
from tickertape.renderers.tool_calls.syntax import CallSyntax, read_verbatim

_COLON, _COMMA = (r"\s*", ":", r"\s*"), (r"\s*", ",", r"\s*")
#: Llama 3.1 8B likes to write the kind of tool as well.
_KIND = (*'"type"', *_COLON, *'"function"', *_COMMA)
_NAME = (*'"name"', *_COLON, '"', r"(?:[^\"\\]|\\.)*", r'\\?"', *_COMMA)
_STARTS = tuple((r"[\s;]*", r"\{", r"\s*", *kind, *_NAME) for kind in ((), _KIND))
_HEAD = re.compile(
    r'[\s;]*\{\s*(?:"type"\s*:\s*"function"\s*,\s*)?"name"\s*:\s*("(?:[^"\\]|\\.)+")\s*,\s*'
    r'"(?:parameters|arguments)"\s*:\s*(?=[^\s])',
    re.DOTALL,
)
_VIABLE = viable_beginnings(
    *((*start, *f'"{key}"', *_COLON) for start in _STARTS for key in ("parameters", "arguments"))
)


@dataclass(frozen=True)
class BareJson(CallSyntax):
    """A JSON object at the start of the content; ``tag`` is the token that may announce one later on."""

    tag: str = "<|python_tag|>"
    separator: str = "; "
    padding: str = ""

    @property
    def opens(self) -> tuple[str, ...]:
        return (self.tag,)

    @property
    def tags(self) -> tuple[str, ...]:
        return (self.tag,)

    def write(self, calls: Sequence[ToolCall]) -> Iterator[Piece]:
        for k, call in enumerate(calls):
            yield output_markup((self.separator if k else "") + '{"name": "')
            yield output_value(call.name)
            yield output_markup('", "parameters": ')
            yield output_value(call.arguments_json)
            yield output_markup("}")

    def shape(self, name: str, parameters: Mapping[str, Any]) -> CallsShape:
        call = (f'{{"name": "{name}", "parameters": ', Json(parameters), "}")
        return CallsShape(call, between=self.separator)

    def read_bare(self, source: Source, draft: Draft, offered: Offered) -> Reading[bool]:  # noqa: ARG002
        source.start_record()
        return (yield from self._read_call("", source, draft))

    def read(self, opening: str, source: Source, draft: Draft, offered: Offered) -> Reading[None]:
        source.start_record()
        if not (yield from self._read_call(opening, source, draft)):  # a program for the interpreter
            yield from read_verbatim(CallStatus.MALFORMED, source, draft, source.marks(*self.tags), "", opening=opening)
            return
        while (yield from self.read_bare(source, draft, offered)):
            pass

    def _read_call(self, opening: str, source: Source, draft: Draft) -> Reading[bool]:
        """Reads a call; returns True if there was something that began like one."""
        marks = source.marks(*self.tags)
        head = yield from source.head(_HEAD, _VIABLE, marks)
        if head is None:
            return False
        name = json_string(head.group(1))
        if name and source.text.startswith("{"):
            yield from self._read_arguments(name, opening, source, draft)
        else:
            status, already = CallStatus.MALFORMED, head.group()
            yield from read_verbatim(status, source, draft, marks, "", opening=opening, already=already)
        return True

    def _read_arguments(self, name: str, opening: str, source: Source, draft: Draft) -> Reading[None]:
        marks = source.marks(*self.tags)
        draft.open_call(name)
        complete = yield from copy_json(source, draft.argue, marks)
        behind: list[str] = []
        closed = complete and (yield from copy_json(source, behind.append, marks, depth=1))
        well_formed = is_object(draft.arguments) and closes_object("".join(behind))
        status = CallStatus.OK if well_formed else CallStatus.INVALID_JSON
        draft.close_call(status if closed else CallStatus.UNCLOSED, opening + source.recorded())
