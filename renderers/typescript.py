"""Tools as TypeScript declarations, as gpt-oss reads them.

Source: the chat template of openai/gpt-oss-120b, white space and all.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tickertape.renderers.messages import Tool


def declaration(tool: Tool) -> str:
    """``type f = (_: {…}) => any;`` with the descriptions as comments. Where the template refuses a tool because it has
    no description, this one has no comment."""
    function: Mapping[str, Any] = tool.get("function", tool)
    parameters = function.get("parameters") or {}
    described = f"// {function['description']}\n" if function.get("description") is not None else ""
    lines = [
        _parameter(name, spec, parameters.get("required") or ())
        for name, spec in (parameters.get("properties") or {}).items()
    ]
    given = "_: {\n" + "".join(lines) + "}" if lines else ""
    return f"{described}type {function['name']} = ({given}) => any;\n\n"


def _parameter(name: str, spec: Any, required: Sequence[str]) -> str:
    described = f"// {spec['description']}\n" if _of(spec, "description") else ""
    return f"{described}{name}{'' if name in required else '?'}: {_type(spec)}{_default(spec)},\n"


def _default(spec: Any) -> str:
    if not isinstance(spec, Mapping) or "default" not in spec:
        return ""
    if spec.get("enum"):
        return f", // default: {spec['default']}"
    if spec.get("oneOf"):
        return f"// default: {spec['default']}"
    return f", // default: {_json(spec['default'])}"


def _type(spec: Any) -> str:
    kind, null = _of(spec, "type"), " | null" if _of(spec, "nullable") else ""
    if kind == "array":
        return _array(spec["items"]) + null if spec.get("items") else "any[]" + null
    if isinstance(kind, list) and kind:
        return " | ".join(map(str, kind))
    if variants := _of(spec, "oneOf"):
        return _one_of(variants)
    if kind == "string":
        return '"' + '" | "'.join(map(str, spec["enum"])) + '"' if spec.get("enum") else "string" + null
    if kind == "object":
        return _object(spec["properties"], spec.get("required") or ()) if spec.get("properties") else "object"
    return {"number": "number", "integer": "number", "boolean": "boolean"}.get(str(kind), "any")


def _array(items: Any) -> str:
    inner = "string" if _of(items, "type") == "string" else _type(items)
    return "any[]" if inner == "object | object" or len(inner) > 50 else inner + "[]"


def _one_of(variants: Sequence[Any]) -> str:
    if len(variants) > 1 and any(_of(variant, "type") == "object" for variant in variants):
        return "any"
    return " | \n".join(_type(variant) + _comments(variant) for variant in variants)


def _comments(variant: Any) -> str:
    described = f"// {variant['description']}" if _of(variant, "description") else ""
    if isinstance(variant, Mapping) and "default" in variant:
        described += f"{' ' * 20}// default: {_json(variant['default'])}"
    return described


def _object(properties: Mapping[str, Any], required: Sequence[str]) -> str:
    fields = (
        f"{name}{'' if name in required else '?'}: \n{' ' * 16}{_type(spec)}" for name, spec in properties.items()
    )
    return "{\n" + ", ".join(fields) + "}"


def _of(spec: Any, key: str) -> Any:
    return spec.get(key) if isinstance(spec, Mapping) else None


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
