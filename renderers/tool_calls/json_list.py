"""``[TOOL_CALLS] [{"name": …, "arguments": {…}, "id": …}, …]``: Mistral up to tokenizer version 7.

The model writes the call's id behind the arguments, and a stream names a call by its id; so a call is told when it is
all there.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from tickertape.renderers.draft import Draft
from tickertape.renderers.json_text import copy_json, strict_json
from tickertape.renderers.messages import ToolCall
from tickertape.renderers.pieces import Piece, output_markup, output_value
from tickertape.renderers.prompt import CallStatus
from tickertape.renderers.shape import CallsShape, Json, Matching
from tickertape.renderers.source import Reading, Source, viable_beginnings
from tickertape.renderers.tool_calls.json_in_tags import call_of
from tickertape.renderers.tool_calls.offered import Offered
from tickertape.renderers.tool_calls.syntax import CallSyntax, read_verbatim

#: The ids that Mistral's templates accept.
CALL_ID = Matching("[a-zA-Z0-9]{9}")

_HEAD = re.compile(r"\s*\[?\s*(?=\{)")
_VIABLE_HEAD = viable_beginnings((r"\s*", r"\[?", r"\s*", r"\{"))
_NEXT = re.compile(r"\s*(?:,\s*(?=\{)|\])")
_VIABLE_NEXT = viable_beginnings((r"\s*", ",", r"\s*", r"\{"), (r"\s*", r"\]"))


@dataclass(frozen=True)
class JsonList(CallSyntax):
    """A JSON list of objects behind one tag."""

    open: str = "[TOOL_CALLS]"
    space: str = ""
    """Between the tag and the list."""
    padding: str = ""
    streams_arguments: ClassVar[bool] = False

    @property
    def opens(self) -> tuple[str, ...]:
        return (self.open,)

    @property
    def tags(self) -> tuple[str, ...]:
        return (self.open,)

    def write(self, calls: Sequence[ToolCall]) -> Iterator[Piece]:
        for k, call in enumerate(calls):
            yield output_markup((", " if k else f"{self.open}{self.space}[") + '{"name": ')
            yield output_value(json.dumps(call.name, ensure_ascii=False))
            yield output_markup(', "arguments": ')
            yield output_value(call.arguments_json)
            if call.id is not None:
                yield output_markup(', "id": ')
                yield output_value(json.dumps(call.id, ensure_ascii=False))
            yield output_markup("}")
        yield output_markup("]")

    def shape(self, name: str, parameters: Mapping[str, Any]) -> CallsShape:
        call = (f'{{"name": "{name}", "arguments": ', Json(parameters), ', "id": "', CALL_ID, '"}')
        return CallsShape(call, before=f"{self.open}{self.space}[", between=", ", after="]")

    def read(self, opening: str, source: Source, draft: Draft, offered: Offered) -> Reading[None]:  # noqa: ARG002
        marks = source.marks(self.open)
        source.start_record()
        if (yield from source.head(_HEAD, _VIABLE_HEAD, marks)) is None:
            cut = source.is_last and _VIABLE_HEAD.match(source.text)
            status = CallStatus.UNCLOSED if cut else CallStatus.MALFORMED
            yield from read_verbatim(status, source, draft, marks, "", opening=opening)
            return
        goes_on = True
        while goes_on:
            written: list[str] = []
            complete = yield from copy_json(source, written.append, marks)
            behind = (yield from source.head(_NEXT, _VIABLE_NEXT, marks)) if complete else None
            goes_on = behind is not None and not behind.group().endswith("]")
            _tell("".join(written), opening + source.recorded(), draft, closed=behind is not None)
            opening = ""
            source.start_record()


def _tell(written: str, raw: str, draft: Draft, *, closed: bool) -> None:
    """Passes on one call of the list."""
    status, call = _call_of(written)
    if not closed:
        status = CallStatus.UNCLOSED
    if call is None:
        draft.say_verbatim(raw)
        draft.note_unreadable(status, raw)
    else:
        draft.open_call(call.name, call.id)
        draft.argue(call.arguments_json)
        draft.close_call(status, raw)


def _call_of(written: str) -> tuple[CallStatus, ToolCall | None]:
    try:
        value = strict_json(written)
    except ValueError:
        return CallStatus.INVALID_JSON, None
    call_id = value.pop("id", None)
    call = call_of(value, ("arguments",))
    if call is None:
        return CallStatus.MALFORMED, None
    return CallStatus.OK, replace(call, id=call_id if isinstance(call_id, str) else None)
