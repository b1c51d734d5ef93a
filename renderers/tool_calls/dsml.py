"""``<｜DSML｜invoke name="f">``, with parameters that say whether they are text: DeepSeek V3.2 and V4."""

import json
from dataclasses import dataclass
from typing import Any

from tickertape.renderers.json_text import strict_json
from tickertape.renderers.tool_calls.elements import Elements
from tickertape.renderers.tool_calls.offered import Offered


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

    def json_of(self, attribute: str, tool: str, key: str, written: str, offered: Offered) -> str:
        """What is no JSON although it should be is typed by the schema, as if nothing had been said of its type."""
        try:
            strict_json(written)
        except ValueError:
            return offered.json_of(tool, key, written)
        return written.strip() if attribute == "false" else json.dumps(written, ensure_ascii=False)

    def is_text(self, attribute: str, tool: str, key: str, offered: Offered) -> bool:  # noqa: ARG002
        return attribute == "true"
