"""Google's schemas → JSON Schema.

Google writes a subset of OpenAPI 3.0: types in capitals, ``nullable``, whole numbers as texts; its SDK writes
names with underscores.
"""

from typing import Any

from pydantic.alias_generators import to_camel

_COUNTS = ("minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties")
_DROPPED = ("nullable", "propertyOrdering", "example")


def json_schema(given: Any) -> Any:
    """The same as JSON Schema; what is that already stays as it is."""
    if isinstance(given, list):
        return [json_schema(each) for each in given]
    if not isinstance(given, dict):
        return given
    named = {key if key.startswith("$") else to_camel(key): value for key, value in given.items()}
    schema = {key: _value(key, value) for key, value in named.items() if key not in _DROPPED}
    if given.get("nullable") is True and isinstance(schema.get("type"), str):
        schema["type"] = [schema["type"], "null"]
    return schema


def _value(key: str, value: Any) -> Any:
    if key == "type" and isinstance(value, str):
        return value.lower()
    if key in _COUNTS and isinstance(value, str) and value.isdecimal():
        return int(value)
    if key in ("properties", "$defs", "defs") and isinstance(value, dict):  # whose keys are names
        return {name: json_schema(each) for name, each in value.items()}
    return json_schema(value) if key in ("items", "anyOf", "prefixItems", "additionalProperties") else value
