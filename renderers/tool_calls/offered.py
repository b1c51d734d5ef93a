"""The tools that were offered, as parsing asks for them: names, and the types of their parameters."""

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

from tickertape.renderers.json_text import strict_json
from tickertape.renderers.messages import Tool
from tickertape.renderers.tool_calls.python_text import json_of_python

_JSON_TYPES = ("string", "integer", "number", "boolean", "array", "object", "null")
#: Names that are no JSON types, as tools declare them all the same.
_OTHER_NAMES = {
    "str": "string", "text": "string", "varchar": "string", "char": "string", "enum": "string",
    "int": "integer", "long": "integer", "float": "number", "double": "number", "num": "number",
    "bool": "boolean", "dict": "object", "map": "object", "list": "array", "tuple": "array", "none": "null",
}  # fmt: skip

#: JSON's words, which some models write in capitals where a schema asks for one (``TRUE``).
_WORDS = ("true", "false", "null")

#: References are followed only so far: a schema may refer to itself.
_DEEPEST_REFERENCE = 8


class Value(NamedTuple):
    """A value that a model wrote."""

    json: str
    """Its JSON text."""
    repaired: bool = False
    """True if it was spelled as neither JSON nor Python has it."""


class Offered:
    """Looks into the tools of a request, OpenAI's shape.

    Args:
        tools: the tools; ``None`` where they are not known, so that nothing can be checked.
    """

    def __init__(self, tools: Sequence[Tool] | None) -> None:
        self._tools = tools
        self._types: dict[tuple[str, str], frozenset[str]] = {}

    @cached_property
    def names(self) -> frozenset[str] | None:
        """Names of the tools; ``None`` where they are not known."""
        return None if self._tools is None else frozenset(self._parameters)

    @cached_property
    def _parameters(self) -> dict[str, Mapping[str, Any]]:
        functions = [tool.get("function", tool) for tool in self._tools or ()]
        return {str(f["name"]): _mapping(f.get("parameters")) for f in functions}

    def types(self, tool: str, parameter: str) -> frozenset[str]:
        """JSON types that a parameter may have; empty where nothing is known of it."""
        known = self._types.get((tool, parameter))
        if known is None:
            schema = self._parameters.get(tool, {})
            declared = _mapping(schema.get("properties")).get(parameter)
            known = self._types[tool, parameter] = frozenset(_types(declared, schema))
        return known

    def json_of(self, tool: str, parameter: str, written: str) -> Value:
        """Returns what a value is that a model wrote without saying its type, and text without quotes.

        The schema decides: text where only text is allowed; else the number, truth value, null, list or object that is
        spelled, in JSON's or Python's way; what fits no type of the schema is text.
        """
        types = self.types(tool, parameter)
        found = None if types == {"string"} else _spelled(written.strip(), types)
        return found or Value(json.dumps(written, ensure_ascii=False))

    def is_text(self, tool: str, parameter: str) -> bool:
        """Returns True if a parameter can be nothing but text, so that its value is certain while it is being
        written."""
        return self.types(tool, parameter) == {"string"}


#: For formats that write text and other values apart: no schema decides.
UNTYPED = Offered(None)


def _spelled(text: str, types: frozenset[str]) -> Value | None:
    """The value of one of the ``types`` (any, where there are none) that ``text`` spells, but for text itself, whose
    quotes would be its own."""
    word = text.lower() if types and text.lower() in _WORDS else None
    for spelling in (text, json_of_python(text), word):
        if spelling is None:
            continue
        try:
            value = strict_json(spelling)
        except ValueError:
            continue
        if not isinstance(value, str) and (not types or not types.isdisjoint(_types_of(value))):
            return Value(spelling, repaired=spelling is word)
    return None


def _types_of(value: Any) -> tuple[str, ...]:
    """Names of the JSON types that a value has; a whole number is an integer however it is written."""
    match value:
        case None:
            return ("null",)
        case bool():
            return ("boolean",)
        case int():
            return ("integer", "number")
        case float():
            return ("integer", "number") if value.is_integer() else ("number",)
        case str():
            return ("string",)
        case list():
            return ("array",)
    return ("object",)


def _types(schema: Any, root: Mapping[str, Any], depth: int = 0) -> Iterator[str]:
    """Type names that a schema allows, unions, alternatives and references included."""
    if not isinstance(schema, Mapping) or depth > _DEEPEST_REFERENCE:
        return
    declared = schema.get("type")
    for name in [declared] if isinstance(declared, str) else declared or ():
        known = _OTHER_NAMES.get(str(name).lower(), str(name).lower())
        yield from [known] if known in _JSON_TYPES else _JSON_TYPES
    if schema.get("nullable") is True:
        yield "null"
    for key in ("anyOf", "oneOf", "allOf"):
        for alternative in schema.get(key) or ():
            yield from _types(alternative, root, depth + 1)
    if isinstance(schema.get("$ref"), str):
        yield from _types(_referred(schema["$ref"], root), root, depth + 1)
    if declared is None:
        listed = schema.get("enum")
        for value in listed if isinstance(listed, list) else [schema["const"]] if "const" in schema else []:
            yield _types_of(value)[0]
        yield from ["object"] * ("properties" in schema) + ["array"] * ("items" in schema)


def _referred(reference: str, root: Mapping[str, Any]) -> Any:
    """The schema at ``#/$defs/Name``; ``None`` where there is none."""
    found: Any = root
    for step in reference.removeprefix("#/").split("/") if reference.startswith("#/") else ():
        found = _mapping(found).get(step)
    return found if found is not root else None


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
