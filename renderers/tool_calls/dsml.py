"""``<｜DSML｜invoke name="f">``, with parameters that say whether they are text: DeepSeek V3.2 and V4."""

from dataclasses import dataclass
from typing import Any

from tickertape.renderers.json_text import strict_json
from tickertape.renderers.source import Reading, Source
from tickertape.renderers.tool_calls.elements import Elements
from tickertape.renderers.tool_calls.offered import Offered, Value


@dataclass(frozen=True)
class Dsml(Elements):
    """``<｜DSML｜parameter name="k" string="true">v</｜DSML｜parameter>``; ``string="false"`` for JSON."""

    name_open: str = '<｜DSML｜invoke name="'
    name_close: str = '">'
    key_open: str = '<｜DSML｜parameter name="'
    key_close: str = '" string="'
    value_open: str = '">'
    value_close: str = "</｜DSML｜parameter>"
    end: str = "</｜DSML｜invoke>"
    value_pad: str = ""

    def attribute(self, value: Any) -> str:
        return "true" if isinstance(value, str) else "false"

    def json_of(self, attribute: str, tool: str, key: str, written: str, offered: Offered) -> Value:
        """Types by the schema what is no JSON although it should be, as if nothing had been said of its type."""
        try:
            strict_json(written)
        except ValueError:
            return offered.json_of(tool, key, written)
        return Value(written.strip()) if attribute == "false" else offered.json_of(tool, key, written)

    def is_text(self, attribute: str, tool: str, key: str, offered: Offered) -> bool:
        return attribute == "true" or (attribute == "" and offered.is_text(tool, key))

    def _read_key(self, source: Source) -> Reading[tuple[str, str, bool] | None]:
        """Models forget to say whether a value is text; then its schema does."""
        parts: list[str] = []
        tag = yield from source.copy_until(
            source.marks(self.key_close, self.value_open, self.end, *self.enclosing), parts.append
        )
        if tag not in (self.key_close, self.value_open):
            return None
        source.take_tag(tag)
        if tag == self.value_open:
            return "".join(parts), "", True
        attribute = yield from self._text_until(self.value_open, source)
        return None if attribute is None else ("".join(parts), attribute, False)
