"""A name, a separator, and the arguments as JSON: DeepSeek V3 and V3.1, Kimi K2, Mistral."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from tickertape.renderers.draft import Draft
from tickertape.renderers.json_text import copy_json, is_object
from tickertape.renderers.messages import ToolCall
from tickertape.renderers.pieces import Piece, output_markup, output_value
from tickertape.renderers.prompt import CallStatus
from tickertape.renderers.shape import CallsShape, Json, Matching, Shape
from tickertape.renderers.source import Reading, Source
from tickertape.renderers.tool_calls.offered import Offered
from tickertape.renderers.tool_calls.syntax import CallSyntax, read_verbatim


class Named(NamedTuple):
    """The name of a call."""

    name: str
    id: str | None = None
    status: CallStatus = CallStatus.OK
    """The status that says if it had to be repaired."""


@dataclass(frozen=True)
class NamedJson(CallSyntax):
    """``<｜tool▁call▁begin｜>name<｜tool▁sep｜>{…}<｜tool▁call▁end｜>``."""

    open: str
    separator: str
    """The tag between the name and the arguments."""
    close: str | None
    """The tag that closes a call; ``None`` where it just ends."""
    before_arguments: str = ""
    """Text between the separator and the arguments, such as the opening of a code block."""
    after_arguments: str = ""
    padding: str = ""
    viable_head: re.Pattern[str] = re.compile(r"\s*[\w.:/-]{0,256}\s*")
    """The pattern of what may stand before the separator while a call is still possible; anything else is prose."""

    @property
    def opens(self) -> tuple[str, ...]:
        return (self.open,)

    @property
    def tags(self) -> tuple[str, ...]:
        return (self.open, self.separator) if self.close is None else (self.open, self.separator, self.close)

    def named(self, head: str, offered: Offered) -> Named | None:  # noqa: ARG002
        """Returns what stands before the separator; ``None`` where there is no name. Formats that write more than the
        name there say how it is read."""
        name = head.strip()
        return Named(name) if name else None

    @property
    def behind_head(self) -> str:
        """Returns what stands between the head and the arguments, but for ``before_arguments``."""
        return self.separator

    def head(self, call: ToolCall) -> Iterator[Piece]:
        """Yields what begins a call: its name, and whatever the format writes with it."""
        yield output_value(call.name)

    def head_shape(self, name: str) -> Shape:
        """Returns what :meth:`head` writes for the tool ``name``."""
        return (name,)

    def shape(self, name: str, parameters: Mapping[str, Any]) -> CallsShape:
        lead = self.behind_head + self.before_arguments
        end = self.after_arguments + (self.close or "")
        call = (self.open, *self.head_shape(name), lead, Json(parameters), end)
        return CallsShape(call, between=self.padding)

    def write(self, calls: Sequence[ToolCall]) -> Iterator[Piece]:
        for k, call in enumerate(calls):
            yield output_markup((self.padding if k else "") + self.open)
            yield from self.head(call)
            yield output_markup(self.behind_head + self.before_arguments)
            yield output_value(call.arguments_json)
            yield output_markup(self.after_arguments + (self.close or ""))

    def read(self, opening: str, source: Source, draft: Draft, offered: Offered) -> Reading[None]:
        source.start_record()
        named = yield from self._read_name(source, offered)
        if named:
            draft.open_call(named.name, named.id)
            yield from self._read_arguments(opening, source, draft, well=named.status)
        else:
            close, already = self.close or "", source.recorded()
            marks = source.marks(self.open, close)
            is_cut = source.is_last and self.viable_head.fullmatch(source.text)
            status = CallStatus.UNCLOSED if is_cut else CallStatus.MALFORMED
            yield from read_verbatim(status, source, draft, marks, close, opening=opening, already=already)

    def _read_name(self, source: Source, offered: Offered) -> Reading[Named | None]:
        """Name and id, all up to the arguments consumed; ``None`` where there is no name. Where there is no separator
        in front of the arguments, what stands before them is the name."""
        found = yield from source.before(source.marks(*self.tags, "{"), self.viable_head)
        head, tag = found or ("", "")
        named = self.named(head, offered) if tag in (self.separator, "{") else None
        if named and tag == self.separator:
            source.take_tag(self.separator)
        elif named:
            named = named._replace(status=CallStatus.REPAIRED)
        return named

    def _read_arguments(self, opening: str, source: Source, draft: Draft, *, well: CallStatus) -> Reading[None]:
        marks = source.marks(*self.tags)
        yield from source.head(_BEFORE_OBJECT, _MAYBE_BEFORE_OBJECT, marks)
        complete = False
        if source.text.startswith("{"):
            complete = yield from copy_json(source, draft.argue, marks)
        behind: list[str] = []
        tag = None
        if self.close is not None or not complete:
            tag = yield from source.copy_until(marks, behind.append if complete else draft.argue)
        closed = complete if self.close is None else tag == self.close
        if tag is not None and tag == self.close:
            source.take_tag(tag)
        well_formed = is_object(draft.arguments) and "".join(behind).strip() in ("", self.after_arguments.strip())
        status = well if well_formed else CallStatus.INVALID_JSON
        draft.close_call(status if closed else CallStatus.UNCLOSED, opening + source.recorded())


@dataclass(frozen=True)
class IdentifiedJson(NamedJson):
    """An id that holds the name, ``functions.name:0``, where others have the name alone: Kimi K2."""

    def named(self, head: str, offered: Offered) -> Named | None:
        """An id that is spelled otherwise, ``functions_name_0``, is of the one offered tool that it can be of."""
        given = head.strip()
        found = _IDENTIFIER.fullmatch(given)
        if found is None:
            return None
        if offered.names is None or found[1] in offered.names:
            return Named(found[1], given)
        meant = [name for name in offered.names if re.fullmatch(_NEAR_IDENTIFIER.format(re.escape(name)), given)]
        return Named(meant[0], given, CallStatus.REPAIRED) if len(meant) == 1 else Named(found[1], given)

    def head(self, call: ToolCall) -> Iterator[Piece]:
        yield output_value(call.id or f"functions.{call.name}:0")

    def head_shape(self, name: str) -> Shape:
        return (f"functions.{name}:", Matching("[0-9]{1,4}"))  # calls are counted through the conversation


@dataclass(frozen=True)
class FencedJson(NamedJson):
    """``function``, the separator, then the name and the arguments as a block of code: DeepSeek V3 and R1."""

    kind: str = "function"
    before_arguments: str = "\n```json\n"
    after_arguments: str = "\n```"

    @property
    def behind_head(self) -> str:
        return ""

    def head(self, call: ToolCall) -> Iterator[Piece]:
        yield output_markup(self.kind + self.separator)
        yield output_value(call.name)

    def head_shape(self, name: str) -> Shape:
        return (self.kind + self.separator + name,)

    def _read_name(self, source: Source, offered: Offered) -> Reading[Named | None]:
        kind = yield from super()._read_name(source, offered)  # which is always the same
        if not kind or kind.status is not CallStatus.OK:
            return None
        found = yield from source.head(_FENCED_NAME, _MAYBE_FENCED_NAME, source.marks(*self.tags))
        return Named(found[1]) if found else None


_NEAR_IDENTIFIER = r"(?:functions?[._:])?{}(?:[._:-]?\d+)?"
_IDENTIFIER = re.compile(r"(?:functions\.)?(.+?)(?::\d+)?")
_FENCED_NAME = re.compile(r"\s*([\w.:/-]{1,256})(?=[ \t]*[\n`{])")
_MAYBE_FENCED_NAME = re.compile(r"\s*[\w.:/-]{0,256}[ \t]*(?:[\n`{]|\Z)")

#: White space, or the opening of a code block, before the arguments.
_BEFORE_OBJECT = re.compile(r"\s*(?:```(?:json)?\s*)?(?=\{)")
_MAYBE_BEFORE_OBJECT = re.compile(r"\s*(?:`{0,3}(?:j(?:s(?:on?)?)?)?\s*)?(?:\{|\Z)")
