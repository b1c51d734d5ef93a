"""Calls inside a section: ``<｜tool▁calls▁begin｜>…<｜tool▁calls▁end｜>``."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tickertape.renderers.draft import Draft
from tickertape.renderers.messages import ToolCall
from tickertape.renderers.pieces import Piece, output_markup
from tickertape.renderers.prompt import CallStatus
from tickertape.renderers.shape import CallsShape
from tickertape.renderers.source import Reading, Source
from tickertape.renderers.tool_calls.offered import Offered
from tickertape.renderers.tool_calls.syntax import CallSyntax, read_verbatim

_WHITE_SPACE = re.compile(r"\s*")


@dataclass(frozen=True)
class Section(CallSyntax):
    """Calls of another syntax between two tags: all of a message together, or each in a section of its own."""

    open: str
    close: str
    call: CallSyntax
    line: str = ""
    """After ``open`` and before ``close``."""
    each: bool = False
    """True if every call has a section of its own."""
    padding: str = ""

    @property
    def opens(self) -> tuple[str, ...]:
        return (self.open, *self.call.opens)

    @property
    def tags(self) -> tuple[str, ...]:
        return (self.open, self.close, *self.call.tags)

    def write(self, calls: Sequence[ToolCall]) -> Iterator[Piece]:
        groups = [[call] for call in calls] if self.each else [calls] if calls else []
        for k, group in enumerate(groups):
            yield output_markup((self.padding if k else "") + self.open + self.line)
            yield from self.call.write(group)
            yield output_markup(self.line + self.close)

    def shape(self, name: str, parameters: Mapping[str, Any]) -> CallsShape | None:
        inner = self.call.shape(name, parameters)
        if inner is None:
            return None
        before, after = self.open + self.line + inner.before, inner.after + self.line + self.close
        if not self.each:
            return replace(inner, before=before, after=after)
        return CallsShape((before, *inner.call, after), between=self.padding)

    def read(self, opening: str, source: Source, draft: Draft, offered: Offered) -> Reading[None]:
        """White space between the calls is the format's; other words there are content."""
        marks = source.marks(self.close, self.open, *self.call.opens)
        if opening != self.open:  # the section's own tag was left out; the one that closes it may be there
            yield from self.call.read(opening, source, draft, offered)
            if (found := (yield from source.before(marks, _WHITE_SPACE))) and found[1] == self.close:
                source.take_tag(self.close)
            return
        source.start_record()
        n_read = 0
        if opening != self.open:  # the section's own tag was left out
            yield from self.call.read(opening, source, draft, offered)
            n_read = 1
        while True:
            found = yield from source.before(marks, _WHITE_SPACE)
            if n_read == 0 and (found is None or found[1] not in self.call.opens):
                white_space = found[0] if found else ""
                yield from read_verbatim(
                    CallStatus.MALFORMED, source, draft, marks, self.close, opening=opening, already=white_space
                )
                return
            tag = found[1] if found else (yield from source.copy_until(marks, draft.say))
            if tag is None or tag == self.open:
                return
            source.take_tag(tag)
            if tag == self.close:
                return
            yield from self.call.read(tag, source, draft, offered)
            n_read += 1
