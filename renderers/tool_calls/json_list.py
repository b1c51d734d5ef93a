"""``[TOOL_CALLS] [{"name": …, "arguments": {…}, "id": …}, …]``: Mistral up to tokenizer version 7, and its like.

The model writes the call's id after the arguments, and a stream names a call by its id; so a call is sent when it is
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
from tickertape.renderers.source import Marks, Reading, Source, viable_beginnings
from tickertape.renderers.tool_calls.json_in_tags import call_of
from tickertape.renderers.tool_calls.offered import Offered
from tickertape.renderers.tool_calls.syntax import CallSyntax, read_verbatim, say_call

#: The ids that Mistral's templates accept.
CALL_ID = Matching("[a-zA-Z0-9]{9}")

_HEAD = re.compile(r"\s*\[?\s*(?=\{)")
_VIABLE_HEAD = viable_beginnings((r"\s*", r"\[?", r"\s*", r"\{"))
_BARE_HEAD = re.compile(r'\s*\[\s*(?=\{\s*"name"\s*:)')
_VIABLE_BARE_HEAD = viable_beginnings((r"\s*", r"\[", r"\s*", r"\{", r"\s*", *'"name"', r"\s*", ":"))
_WHITE_SPACE = re.compile(r"\s*")
_NEXT = re.compile(r"\s*(?:,\s*(?=\{)|\])")
_VIABLE_NEXT = viable_beginnings((r"\s*", ",", r"\s*", r"\{"), (r"\s*", r"\]"))


@dataclass(frozen=True)
class JsonList(CallSyntax):
    """A JSON list of objects after one tag, or between two; without any, at the start of the content."""

    open: str = "[TOOL_CALLS]"
    close: str = ""
    name_key: str = "name"
    arguments_key: str = "arguments"
    has_ids: bool = False
    """True if the model gives its calls ids of nine letters and digits."""
    space: str = ""
    """Between the tag and the list."""
    padding: str = ""
    streams_arguments: ClassVar[bool] = False

    @property
    def opens(self) -> tuple[str, ...]:
        return (self.open,) if self.open else ()

    @property
    def tags(self) -> tuple[str, ...]:
        return tuple(tag for tag in (self.open, self.close) if tag)

    def write(self, calls: Sequence[ToolCall]) -> Iterator[Piece]:
        for k, call in enumerate(calls):
            yield output_markup((", " if k else f"{self.open}{self.space}[") + f'{{"{self.name_key}": ')
            yield output_value(json.dumps(call.name, ensure_ascii=False))
            yield output_markup(f', "{self.arguments_key}": ')
            yield output_value(call.arguments_json)
            if call.id is not None and self.has_ids:
                yield output_markup(', "id": ')
                yield output_value(json.dumps(call.id, ensure_ascii=False))
            yield output_markup("}")
        yield output_markup(f"]{self.close}")

    def shape(self, name: str, parameters: Mapping[str, Any]) -> CallsShape:
        end = (', "id": "', CALL_ID, '"}') if self.has_ids else ("}",)
        call = (f'{{"{self.name_key}": "{name}", "{self.arguments_key}": ', Json(parameters), *end)
        return CallsShape(call, before=f"{self.open}{self.space}[", between=", ", after=f"]{self.close}")

    def read_bare(self, source: Source, draft: Draft, offered: Offered) -> Reading[bool]:  # noqa: ARG002
        source.start_record()
        if self.open or (yield from source.head(_BARE_HEAD, _VIABLE_BARE_HEAD, source.marks())) is None:
            return False
        yield from self._read_calls("", source, draft, source.marks())
        return True

    def read(self, opening: str, source: Source, draft: Draft, offered: Offered) -> Reading[None]:  # noqa: ARG002
        marks = source.marks(*self.tags)
        source.start_record()
        if (yield from source.head(_HEAD, _VIABLE_HEAD, marks)) is None:
            cut = source.is_last and _VIABLE_HEAD.match(source.text)
            status = CallStatus.UNCLOSED if cut else CallStatus.MALFORMED
            yield from read_verbatim(status, source, draft, marks, self.close, opening=opening)
            return
        yield from self._read_calls(opening, source, draft, marks)

    def _read_calls(self, opening: str, source: Source, draft: Draft, marks: Marks) -> Reading[None]:
        goes_on = True
        while goes_on:
            written: list[str] = []
            complete = yield from copy_json(source, written.append, marks)
            behind = (yield from source.head(_NEXT, _VIABLE_NEXT, marks)) if complete else None
            goes_on = behind is not None and not behind.group().endswith("]")
            if self.close and not goes_on and (yield from source.before(source.marks(self.close), _WHITE_SPACE)):
                source.take_tag(self.close)
            self._tell("".join(written), opening + source.recorded(), draft, closed=behind is not None)
            opening = ""
            source.start_record()

    def _tell(self, written: str, raw: str, draft: Draft, *, closed: bool) -> None:
        """Passes on one call of the list."""
        status, call = self._call_of(written)
        say_call(draft, call, status if closed else CallStatus.UNCLOSED, raw)

    def _call_of(self, written: str) -> tuple[CallStatus, ToolCall | None]:
        try:
            value = strict_json(written)
        except ValueError:
            return CallStatus.INVALID_JSON, None
        call_id = value.pop("id", None)
        call = call_of({"name": value.pop(self.name_key, None), **value}, (self.arguments_key,))
        if call is None:
            return CallStatus.MALFORMED, None
        return CallStatus.OK, replace(call, id=call_id if isinstance(call_id, str) else None)
