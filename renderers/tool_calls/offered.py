"""The tools that were offered, as parsing asks for them: names, and the types of their parameters."""

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

from tickertape.renderers.json_text import strict_json
from tickertape.renderers.messages import Tool

_JSON_TYPE_NAMES = {
    "str": "string", "text": "string", "varchar": "string", "char": "string", "enum": "string",
    "int": "integer", "long": "integer", "float": "number", "double": "number", "num": "number",
    "bool": "boolean", "dict": "object", "map": "object", "list": "array", "tuple": "array", "none": "null",
}  # fmt: skip


class Offered:
    """Looks into the tools of a request, OpenAI's shape.

    Args:
        tools: the tools; ``None`` where they are not known, so that nothing can be checked.
    """

    def __init__(self, tools: Sequence[Tool] | None) -> None:
        self._tools = tools

    @cached_property
    def names(self) -> frozenset[str] | None:
        """Names of the tools; ``None`` where they are not known."""
        return None if self._tools is None else frozenset(self._parameters)

    @cached_property
    def _parameters(self) -> dict[str, Mapping[str, Any]]:
        functions = [tool.get("function", tool) for tool in self._tools or ()]
        return {str(f["name"]): _properties(f.get("parameters")) for f in functions}

    def types(self, tool: str, parameter: str) -> frozenset[str]:
        """JSON types that a parameter may have; empty where nothing is known of it."""
        schema = self._parameters.get(tool, {}).get(parameter)
        return frozenset(_types(schema)) if isinstance(schema, Mapping) else frozenset()

    def json_of(self, tool: str, parameter: str, written: str) -> str:
        """JSON text for a value that a model wrote without saying its type.

        The schema decides: text where only text is allowed; else the number, truth value, null, list or object that is
        spelled, in JSON's or Python's way; what fits no type of the schema stays text.
        """
        types = self.types(tool, parameter)
        if types == {"string"}:
            return json.dumps(written, ensure_ascii=False)
        value = _spelled(written.strip())
        if value is _NOTHING or (types and not _fits(value, types)):
            return json.dumps(written, ensure_ascii=False)
        return written.strip() if _is_json(written) else json.dumps(value, ensure_ascii=False)

    def is_text(self, tool: str, parameter: str) -> bool:
        """Whether a parameter can be nothing but text, so that its value is certain while it is being written."""
        return self.types(tool, parameter) == {"string"}


_NOTHING = object()
_PYTHON_WORDS = {"True": True, "False": False, "None": None}


def _spelled(text: str) -> Any:
    if text in _PYTHON_WORDS:
        return _PYTHON_WORDS[text]
    try:
        return strict_json(text)
    except ValueError:
        return _NOTHING


def _is_json(text: str) -> bool:
    return text.strip() not in _PYTHON_WORDS


def _fits(value: Any, types: Iterable[str]) -> bool:
    return any(
        {
            "null": value is None,
            "boolean": isinstance(value, bool),
            "integer": isinstance(value, int) and not isinstance(value, bool),
            "number": isinstance(value, int | float) and not isinstance(value, bool),
            "object": isinstance(value, dict),
            "array": isinstance(value, list),
            "string": isinstance(value, str),
        }.get(name, True)
        for name in types
    )


def _properties(schema: Any) -> Mapping[str, Any]:
    properties = schema.get("properties") if isinstance(schema, Mapping) else None
    return properties if isinstance(properties, Mapping) else {}


def _types(schema: Mapping[str, Any]) -> Iterable[str]:
    """Type names that a schema allows, unions and alternatives included."""
    declared = schema.get("type")
    for name in [declared] if isinstance(declared, str) else declared or ():
        yield _JSON_TYPE_NAMES.get(str(name).lower(), str(name).lower())
    for key in ("anyOf", "oneOf", "allOf"):
        for alternative in schema.get(key) or ():
            if isinstance(alternative, Mapping):
                yield from _types(alternative)
    if declared is None and isinstance(schema.get("enum"), list):
        yield from (_type_of(value) for value in schema["enum"])


def _type_of(value: Any) -> str:
    names = ("null", "boolean", "integer", "number", "object", "array", "string")
    return next(name for name in names if _fits(value, [name]))
