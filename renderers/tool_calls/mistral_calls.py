"""``[TOOL_CALLS]name[CALL_ID]id[ARGS]{…}``: Mistral from tokenizer version 11 on; version 13 has no ids."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from tickertape.renderers.messages import ToolCall
from tickertape.renderers.pieces import Piece, output_markup, output_value
from tickertape.renderers.shape import Shape
from tickertape.renderers.tool_calls.json_list import CALL_ID
from tickertape.renderers.tool_calls.named_json import Named, NamedJson
from tickertape.renderers.tool_calls.offered import Offered

_ID = "[CALL_ID]"


@dataclass(frozen=True)
class MistralCalls(NamedJson):
    """A name and its arguments after tags, and perhaps an id between them."""

    open: str = "[TOOL_CALLS]"
    separator: str = "[ARGS]"
    close: str | None = None
    viable_head: re.Pattern[str] = re.compile(r"\s*[\w.:/\[\]-]{0,256}\s*")
    has_ids: bool = True

    def head(self, call: ToolCall) -> Iterator[Piece]:
        yield output_value(call.name)
        if self.has_ids:
            yield output_markup(_ID)
            yield output_value(call.id or "")

    def head_shape(self, name: str) -> Shape:
        return (name + _ID, CALL_ID) if self.has_ids else (name,)

    def named(self, head: str, offered: Offered) -> Named | None:  # noqa: ARG002
        name, _, call_id = (part.strip() for part in head.partition(_ID))
        return Named(name, call_id or None) if name else None
