"""Gemma 4's declarations of tools: schemas in the notation of its calls, keys in order, type names in capitals.

What the template makes of schemas that it was not written for (several types in a list, no type at all) is followed.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tickertape.renderers.messages import Tool
from tickertape.renderers.pieces import Piece, content, markup
from tickertape.renderers.tool_calls.gemma_calls import in_order, written

_KEYWORDS = ("description", "type", "properties", "required", "nullable")


def declaration(tool: Tool) -> Iterator[Piece]:
    """One tool."""
    function = tool["function"]
    yield markup("<|tool>declaration:")
    yield content(str(function["name"]))
    yield markup("{description:")
    yield from _text(function.get("description", ""))
    if parameters := function.get("parameters"):
        yield markup(",parameters:{")
        if properties := parameters.get("properties"):
            yield markup("properties:{")
            yield from _properties(properties)
            yield markup("},")
        if required := parameters.get("required"):
            yield from _names("required:[", required)
            yield markup(",")
        if kind := parameters.get("type"):
            yield markup("type:")
            yield from _text(str(kind).upper())
            yield markup("}")
    if "response" in function:
        yield from _response(function["response"])
    yield markup("}<tool|>")


def _response(response: Mapping[str, Any]) -> Iterator[Piece]:
    yield markup(",response:{")
    if response.get("description"):
        yield markup("description:")
        yield from _text(response["description"])
        yield markup(",")
    if _kind(response) == "OBJECT":
        yield markup("type:")
        yield from _text("OBJECT")
        yield markup("}")


def _properties(properties: Mapping[str, Any], left_out: Sequence[str] = ()) -> Iterator[Piece]:
    shown = [(key, schema) for key, schema in in_order(properties) if key not in left_out]
    for k, (key, schema) in enumerate(shown):
        yield markup("," if k else "")
        yield content(key)
        yield markup(":{")
        for part in _schema(schema if isinstance(schema, Mapping) else {}):
            yield from part
            yield markup(",")
        yield markup("type:")
        yield from _text(_kind(schema))
        yield markup("}")


def _schema(schema: Mapping[str, Any]) -> Iterator[Iterator[Piece]]:
    """The parts of a parameter's schema in front of its type."""
    kind, items, properties = _kind(schema), schema.get("items"), schema.get("properties")
    if schema.get("description"):
        yield _field("description:", _text(schema["description"]))
    if kind == "STRING" and schema.get("enum"):
        yield _field("enum:", written(schema["enum"], markup, content, quoted_keys=True))
    if kind == "ARRAY" and items and isinstance(items, Mapping):
        yield _items(items)
    if schema.get("nullable"):
        yield _field("nullable:true")
    if kind == "OBJECT":
        is_whole = isinstance(properties, Mapping)
        inner = _properties(properties or {}) if is_whole else _properties(schema, left_out=_KEYWORDS)
        yield _field("properties:{", inner, markup("}"))
        if schema.get("required"):
            yield _names("required:[", schema["required"])


def _items(items: Mapping[str, Any]) -> Iterator[Piece]:
    yield markup("items:{")
    for k, (key, value) in enumerate((key, value) for key, value in in_order(items) if value is not None):
        yield markup("," if k else "")
        if key == "properties":
            yield from _field("properties:{", _properties(value) if isinstance(value, Mapping) else (), markup("}"))
        elif key == "required":
            yield from _names("required:[", value)
        elif key == "type":
            kinds = value.upper() if isinstance(value, str) else [str(one).upper() for one in value]
            yield from _field("type:", written(kinds, markup, content))
        else:
            yield content(key)
            yield from _field(":", written(value, markup, content, quoted_keys=True))
    yield markup("}")


def _field(name: str, pieces: Iterator[Piece] | Sequence[Piece] = (), end: Piece | None = None) -> Iterator[Piece]:
    yield markup(name)
    yield from pieces
    if end:
        yield end


def _names(opening: str, names: Sequence[Any]) -> Iterator[Piece]:
    yield markup(opening)
    for k, name in enumerate(names):
        yield markup("," if k else "")
        yield from _text(name)
    yield markup("]")


def _kind(schema: Any) -> str:
    return str(schema.get("type", "")).upper() if isinstance(schema, Mapping) else ""


def _text(value: Any) -> Iterator[Piece]:
    return written(str(value), markup, content)
