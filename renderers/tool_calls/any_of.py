"""Calls in one of several ways, as a model is free to write them: Llama 4 as JSON, or as Python between two tags."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tickertape.renderers.draft import Draft
from tickertape.renderers.messages import ToolCall
from tickertape.renderers.pieces import Piece
from tickertape.renderers.source import Reading, Source
from tickertape.renderers.tool_calls.offered import Offered
from tickertape.renderers.tool_calls.syntax import CallSyntax


@dataclass(frozen=True)
class AnyOf(CallSyntax):
    """Syntaxes that need no tag, at the start of the content or after one of ``announcing``, which say no more."""

    announcing: tuple[str, ...]
    ways: tuple[CallSyntax, ...]
    """The first is what is written."""
    padding: str = ""

    @property
    def opens(self) -> tuple[str, ...]:
        return self.announcing

    @property
    def tags(self) -> tuple[str, ...]:
        return self.announcing

    def write(self, calls: Sequence[ToolCall]) -> Iterator[Piece]:
        return self.ways[0].write(calls)

    def read_bare(self, source: Source, draft: Draft, offered: Offered) -> Reading[bool]:
        for way in self.ways:
            if (yield from way.read_bare(source, draft, offered)):
                return True
        return False

    def read(self, opening: str, source: Source, draft: Draft, offered: Offered) -> Reading[None]:  # noqa: ARG002
        yield from self.read_bare(source, draft, offered)
