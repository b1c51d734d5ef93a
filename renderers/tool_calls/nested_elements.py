"""``<invoke name="f"><city>Rome</city></invoke>``, each tag after a token of its own: MiniMax M3.

A parameter is an element of its name; an object's fields and a list's items are elements within it. A call is sent when
it is all there: until then an element may turn out to hold others.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from tickertape.renderers.draft import Draft
from tickertape.renderers.messages import ToolCall
from tickertape.renderers.pieces import Piece, output_markup, output_value
from tickertape.renderers.prompt import CallStatus
from tickertape.renderers.source import Reading, Source
from tickertape.renderers.tool_calls.offered import UNTYPED, Offered
from tickertape.renderers.tool_calls.syntax import CallSyntax, read_verbatim

_NAME = re.compile(r'[^"<>{}\n]{0,256}')
_ITEM = "item"


@dataclass(frozen=True)
class NestedElements(CallSyntax):
    """Calls of one message; the section around them is :class:`~tickertape.renderers.tool_calls.section.Section`'s."""

    mark: str = "]<]minimax[>["
    """Stands before each tag."""
    padding: str = "\n"
    enclosing: tuple[str, ...] = ()
    streams_arguments: ClassVar[bool] = False

    @property
    def opens(self) -> tuple[str, ...]:
        return (f'{self.mark}<invoke name="',)

    @property
    def _end(self) -> str:
        return f"{self.mark}</invoke>"

    @property
    def tags(self) -> tuple[str, ...]:
        return (*self.opens, self._end, self.mark)

    def write(self, calls: Sequence[ToolCall]) -> Iterator[Piece]:
        for call in calls:
            yield output_markup(self.opens[0])
            yield output_value(call.name)
            yield output_markup('">')
            yield from self._written(call.arguments_value or {})
            yield output_markup(self._end + "\n")

    def _written(self, value: Any) -> Iterator[Piece]:
        if isinstance(value, Mapping | list):
            entries = value.items() if isinstance(value, Mapping) else ((_ITEM, each) for each in value)
            for key, inner in entries:
                yield output_markup(f"{self.mark}<")
                yield output_value(str(key))
                yield output_markup(">")
                yield from self._written(inner)
                yield output_markup(f"{self.mark}</")
                yield output_value(str(key))
                yield output_markup(">")
        else:
            yield output_value(value if isinstance(value, str) else json.dumps(value))

    def read(self, opening: str, source: Source, draft: Draft, offered: Offered) -> Reading[None]:
        source.start_record()
        ends = source.marks(*self.opens, self._end, *self.enclosing)
        found = yield from source.before(source.marks('">', *self.enclosing), _NAME)
        if not found or not found[0].strip() or found[1] != '">':
            already = source.recorded()
            status = CallStatus.MALFORMED
            yield from read_verbatim(status, source, draft, ends, self._end, opening=opening, already=already)
            return
        source.take_tag('">')
        written: list[str] = []
        tag = yield from source.copy_until(ends, written.append)
        if tag == self._end:
            source.take_tag(tag)
        name = found[0].strip()
        arguments, sound = _Elements("".join(written), self.mark, name, offered).read()
        draft.open_call(name)
        draft.argue(json.dumps(arguments, ensure_ascii=False))
        status = CallStatus.OK if sound else CallStatus.MALFORMED
        draft.close_call(status if tag == self._end else CallStatus.UNCLOSED, opening + source.recorded())


class _Elements:
    """Reads a call's parameters out of their text."""

    def __init__(self, text: str, mark: str, tool: str, offered: Offered) -> None:
        tags = re.compile(re.escape(mark) + r"<(/?)([^<>\s/]{1,256})>")
        self._pieces = tags.split(text)  # text, slash, name, text, …
        self._tool = tool
        self._offered = offered

    def read(self) -> tuple[dict[str, Any], bool]:
        """The arguments, and whether every element was closed, with nothing between them. An element that is closed by
        another's tag is closed."""
        pieces, sound = self._pieces, not self._pieces[0].strip()
        open_: list[tuple[str, list[tuple[str, Any]], str]] = [("", [], "")]  # name, children, text
        for at in range(1, len(pieces), 3):
            slash, name, text = pieces[at : at + 3]
            if not slash:
                open_.append((name, [], text))
                continue
            sound &= len(open_) > 1 and open_[-1][0] == name
            if len(open_) > 1:
                self._close(open_)
            sound &= not text.strip()
        sound &= len(open_) == 1
        while len(open_) > 1:
            self._close(open_)
        return dict(open_[0][1]), sound

    def _close(self, open_: list[tuple[str, list[tuple[str, Any]], str]]) -> None:
        name, children, text = open_.pop()
        if children:
            is_list = all(key == _ITEM for key, _ in children)
            value = [inner for _, inner in children] if is_list else dict(children)
        else:
            known = self._offered if len(open_) == 1 else UNTYPED
            value = json.loads(known.json_of(self._tool, name, text).json)
        open_[-1][1].append((name, value))
